"""What the campaign's operations find: a store with templates, trash and pushes under way, and the libraries of two nodes.

It is made once; each operation prepares a copy of it, and each run plays on a copy of that. Libraries are copied by links,
so that records of how their files look hold on.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import machines
from campaign.port_site import PATIENT, Site
from machines import KIB, Machine
from s3reg import wire
from s3reg.client.packer import Packer
from s3reg.client.progress import Silent
from s3reg.client.pull import Pulled, PullOptions, pull
from s3reg.client.push import Pushed, PushOptions, push
from s3reg.registry import Registry, scrub
from s3reg.store import together
from s3reg.store.files import FilesStore
from s3reg.wire import trash as messages

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from s3reg.client.library import Library

T = TypeVar("T")
PACK_BYTES = 300 * KIB
"""So that little data lies in several packs."""
STORE, BAKER, RUNNER = "store", "baker", "runner"
DAY = 24 * 3600
LIBRARIES = (BAKER, RUNNER)
MAIN, OTHER, NEW = "main", "other", "new"
"""The VMs, by name: two that were pushed, and one that was not."""


@dataclass
class Hand:
    """Who does an operation: somebody at a node, or beside the store; at the second try with what the first one left."""

    site: Site
    machines: dict[str, Machine]
    tries: int = PATIENT
    operation: str = field(default_factory=lambda: secrets.token_hex(16))
    told: dict[str, Any] = field(default_factory=dict)
    """What an operation needs to know of what was prepared, or of its first try."""

    def once(self, look: Callable[[], T]) -> T:
        """What a command asks for once it has looked, and asks for again where nobody answered."""
        if self.operation not in self.told:
            self.told[self.operation] = look()
        found: T = self.told[self.operation]
        return found

    def library(self, name: str) -> Library:
        """A node's library."""
        return self.site.library(name)

    def push(self, machine: str, tag: str, *, library: str = BAKER, **more: Any) -> Pushed:
        """Push a VM."""
        place = self.library(library)
        with self.site.line(tries=self.tries) as line:
            vm = place.find(self.machines[machine].id)
            return push(line, place, vm, PushOptions(tag=tag, **more), Silent())

    def pull(self, machine: str, tag: str, *, library: str = RUNNER, **more: Any) -> Pulled:
        """Pull a VM."""
        with self.site.line(tries=self.tries) as line:
            found = self.machines[machine].id
            return pull(line, self.library(library), found, PullOptions(tag=tag, **more), Silent())

    def ask(self, schema: type[wire.Message], path: str, body: Any) -> Any:
        """A call of the native API."""
        with self.site.line(tries=self.tries) as line:
            return line.ask(schema, "POST", wire.PREFIX + path, wire.write(body))

    def template(self, machine: str) -> wire.TemplateEntry:
        """A template with its versions: what most commands ask for first."""
        with self.site.line(tries=self.tries) as line:
            query = {"ref": self.machines[machine].id}
            found: wire.TemplateEntry = line.ask(
                wire.TemplateEntrySchema, "GET", f"{wire.PREFIX}/template", query=query
            )
            return found

    def trash(self, machine: str) -> tuple[messages.TrashEntry, ...]:
        """What lies in a template's trash."""
        with self.site.line(tries=self.tries) as line:
            query = {"ref": self.machines[machine].id}
            return tuple(line.ask(messages.TrashAnswerSchema, "GET", f"{wire.PREFIX}/trash", query=query).entries)


def in_small(patch: pytest.MonkeyPatch) -> None:
    """Let pushes fill packs of `PACK_BYTES`, and a registry make its calls one after the other: the same in every run."""
    patch.setitem(Packer.__init__.__kwdefaults__, "pack_bytes", PACK_BYTES)
    patch.setattr(together, "READERS", 1)
    patch.setattr(scrub, "READERS", 1)


def make(folder: Path) -> dict[str, Machine]:
    """The world, and its VMs.

    MAIN has v1 and v2, and its VM has changed since; the runner pulled v1. OTHER has o1 and o2, and o3 lies in its trash.
    """
    FilesStore(folder / STORE)
    Registry(FilesStore(folder / STORE)).prepare()
    library = folder / BAKER
    sizes = {MAIN: (700 * KIB, 300 * KIB), OTHER: (400 * KIB,), NEW: (600 * KIB,)}
    found = {
        name: _named(
            machines.make(library, sizes=size, state_size=300 * KIB * (name == MAIN), name=name, seed=seed), seed
        )
        for seed, (name, size) in enumerate(sizes.items())
    }
    hand = Hand(Site(folder / STORE), found)
    for tag in ("v1", "v2"):
        hand.push(MAIN, tag)
        machines.scatter(found[MAIN].disk(), 6, seed=int(tag[1:]))
    hand.pull(MAIN, "v1")
    for tag in ("o1", "o2", "o3"):
        hand.push(OTHER, tag)
        machines.scatter(found[OTHER].disk(), 3, seed=int(tag[1:]))
    hand.ask(wire.RevertedSchema, "/revert", wire.Revert(hand.operation, found[OTHER].id, tag="o3"))
    return found


def _named(machine: Machine, number: int) -> Machine:
    """The VM under an id that is the same in every run: heads are read in their order."""
    before, machine.id = machine.folder, f"00000000-0000-4000-8000-{number:012}"
    before.rename(machine.folder)
    machine.write_config()
    return machine


def copied(source: Path, target: Path) -> None:
    """A copy of a world."""
    target.mkdir(parents=True)
    for folder in source.iterdir():
        if folder.name not in LIBRARIES:
            shutil.copytree(folder, target / folder.name)
            continue
        for part in folder.iterdir():
            plain = part.name == ".s3reg"
            shutil.copytree(part, target / folder.name / part.name, copy_function=shutil.copy2 if plain else os.link)


def aged(folder: Path, seconds: float) -> None:
    """Let all below this folder of a store have been written so much earlier."""
    for path in folder.rglob("*"):
        if path.is_file():
            then = min(path.stat().st_mtime, time.time()) - seconds
            os.utime(path, (then, then))
