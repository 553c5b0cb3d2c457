"""Kills a sweep at each of its calls of the store, before it and behind it: `python dying_sweeps.py FOLDER`.

Each sweep runs in a fork of its own over a copy of one store, and ends as by kill -9. Whatever a head names must be there;
and the sweep that follows must come to what one that was left in peace comes to. Prints the number of deaths. It is a
program of its own because a fork wants a process without threads.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from faults import Call, Wrapped
from registry import material
from registry.material import BASE, OTHER, Pusher
from s3reg.model import format as fmt
from s3reg.registry import Limits, Registry
from s3reg.store.files import FilesStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3reg.store import ObjectStore

T = TypeVar("T")
LIMITS = Limits(event_seconds=0, idle_seconds=-1)
"""Whatever may go, goes."""


class Dies(Wrapped):
    """Its process dies at its n-th call, before that is applied or `behind` it."""

    def __init__(self, store: ObjectStore, n: int, *, behind: bool) -> None:
        super().__init__(store)
        self._calls, self._n, self._behind = itertools.count(1), n, behind

    def _call(self, call: Call, act: Callable[[], T]) -> T:
        dying = next(self._calls) == self._n
        if dying and not self._behind:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return act()
        finally:
            if dying:
                os.kill(os.getpid(), signal.SIGKILL)


def opened(folder: Path) -> FilesStore:
    return FilesStore(folder, secret=bytes(32))


def make(folder: Path) -> None:
    """A store with a version that stays, one in the trash, one that nobody names, a push left alone, and an event."""
    store = opened(folder)
    registry = Registry(store, clock=lambda: 1e9)
    registry.prepare()
    node = Pusher(registry, store)
    node.push(BASE, "v1")
    node.push(BASE, "v2", words="cd")
    registry.revert(node.asker, BASE, operation="0" * 32)
    node.push(OTHER, "v1", words="xyz", name="other")
    material.purge(store, OTHER)
    node.files(node.open(BASE, "v3").session, "qr")
    store.put(fmt.pull_key(OTHER, "c" * 32), b"")
    registry.note("jo", {"deed": "push"})
    registry.finish(60)


def left(folder: Path) -> dict[str, object]:
    """What a store holds: heads by what they say, all else by key; not what a dead sweep leaves for a day."""
    store = opened(folder)
    passing = (fmt.MARKERS, fmt.CHECK, fmt.SWEPT_KEY, fmt.HEADS)
    there = {stat.key: None for stat in store.list("") if not stat.key.startswith(passing)}
    return {**there, **{head.id: replace(head, gen=0, operations=()) for head in material.heads(store)}}


def killed(folder: Path, n: int, *, behind: bool) -> bool:
    """Whether a sweep of the store was killed at its n-th call; else it came to its end."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            Registry(Dies(opened(folder), n, behind=behind), limits=LIMITS).sweep()
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in {0, -signal.SIGKILL}, f"call {n}: ended with {status}"
    return status != 0


def died(folder: Path, n: int, *, behind: bool, wanted: dict[str, object]) -> bool:
    """Whether a sweep was killed at its n-th call; what it left is what it should be, and so is what the next one leaves."""
    copy = folder / f"{n}-{behind}"
    shutil.copytree(folder / "made", copy)
    if not killed(copy, n, behind=behind):
        return False
    material.check_sound(opened(copy))
    Registry(opened(copy), limits=LIMITS).sweep()
    material.check_sound(opened(copy))
    assert left(copy) == wanted, f"call {n}"
    shutil.rmtree(copy)
    return True


def main(folder: Path) -> None:
    made, whole = folder / "made", folder / "whole"
    make(made)
    shutil.copytree(made, whole)
    Registry(opened(whole), limits=LIMITS).sweep()
    wanted, deaths = left(whole), 0
    while all(died(folder, deaths // 2 + 1, behind=behind, wanted=wanted) for behind in (False, True)):
        deaths += 2
    sys.stdout.write(f"{deaths}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
