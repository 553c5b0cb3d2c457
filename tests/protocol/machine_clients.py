"""The machine with s3reg's own node: some of the pushes and pulls are real ones, over HTTP, from and into libraries."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from protocol.machine import Replica, Under
from protocol.machine_drawn import IDS, TAG, VM, WHICH, How, pick
from protocol.machine_rules import RegistryBesideModel
from protocol.machine_troubles import Trouble
from registry import material
from s3reg.api import create_app
from s3reg.client.connection import Access, Connection
from s3reg.client.library import Library
from s3reg.client.progress import Silent
from s3reg.client.pull import PullOptions, pull
from s3reg.client.push import PushOptions, push
from s3reg.model import format as fmt
from s3reg.model.format_access import SIGNING_KEY
from s3reg.registry import Limits, Registry
from s3reg.settings import Settings
from sites import serving

if TYPE_CHECKING:
    from protocol.machine_model import Row
    from protocol.machine_node import Push, Vm
    from s3reg.model.names import TemplateId
    from s3reg.model.template import Head

TROUBLE = st.none() | st.builds(Trouble, st.sampled_from(["fails", "unheard"]), st.integers(1, 30), st.just(True))
"""A client repeats by itself what a replica that lives tells it to."""


class Served(Registry):
    """What is noted of calls is none of this machine's: a thread would write it between two steps."""

    def note(self, by: str, said: dict[str, Any]) -> bool:
        return True


class RegistryBesideModelAndClients(RegistryBesideModel):
    """Nodes: one library of each template to push from, one to pull into."""

    def start(self, keeps: tuple[int, int]) -> None:
        super().start(keeps)
        self.stack = contextlib.ExitStack()
        self.served = Replica(self.store, Limits(trash_seconds=keeps[0]), self.clock, Served)
        app = create_app(Settings(store=str(self.folder / "store")), self.store)
        app.extensions["s3reg"]._registry = self.served.registry
        self.line = self.stack.enter_context(
            contextlib.closing(Connection(Access(self.stack.enter_context(serving(app))), pause=lambda *_: None))
        )
        self.pushing: Push | None = None
        self.libraries = self.folder / "libraries"

    def teardown(self) -> None:
        with self.stack:
            super().teardown()

    @rule(which=WHICH, tag=TAG, vm=VM, force=st.booleans(), trouble=TROUBLE)
    def push_from_a_library(self, *, which: int, tag: str, vm: Vm, force: bool, trouble: Trouble | None) -> None:
        self.step()
        template = pick(IDS, which)
        one = self._new(template, tag, vm, force=force)
        # Never the same twice: a client that finds its own version under the tag says so, and has done nothing.
        one.vm = replace(vm, note=self.clock.now, called=one.name)
        library = self._written(template, one.vm)
        options = PushOptions(tag=tag, description=one.description, force=force)
        self.opening, self.pushing = True, one
        self.replicas.insert(0, self.served)
        try:
            self.attempt(
                "client: push",
                lambda _: push(self.line, library, library.find(template), options, Silent()),
                lambda: self._place_refused(one),
                How(trouble),
            )
        finally:
            self.replicas.pop(0)
            self.pushing = None

    @precondition(lambda self: self.model.shown())
    @rule(which=WHICH, trouble=TROUBLE)
    def pull_into_a_library(self, *, which: int, trouble: Trouble | None) -> None:
        """What it has of the template's other versions is built on."""
        self.step()
        id_, row = pick(self.model.shown(), which)
        library = Library(self.libraries / "pulls" / id_)
        self.replicas.insert(0, self.served)
        try:
            self.attempt(
                "client: pull",
                lambda _: pull(self.line, library, id_, PullOptions(tag=row.tag, force=True, durable=False), Silent()),
                set,
                How(trouble),
            )
        finally:
            self.replicas.pop(0)
        self._check_library(library, id_, row)

    def _written(self, template: TemplateId, vm: Vm) -> Library:
        library = Library(self.libraries / template)
        library.create()
        folder = library.vm_lib / template
        folder.mkdir(exist_ok=True)
        for name, data in vm.files().items():
            ((library.img_lib if name.startswith("disk") else folder) / name).write_bytes(data)
        return library

    def _check_library(self, library: Library, id_: str, row: Row) -> None:
        files = library.find(id_).files
        assert {file.name: file.path.read_bytes() for file in files} == row.vm.files()

    def _strange(self, operation: str, id_: str, head: Head) -> None:
        """The client's own: its session is known to nobody else."""
        one = self.pushing
        if one is None or operation not in {entry.id for entry in (*head.versions, *head.removed)}:
            super()._strange(operation, id_, head)
            return
        under = self.pushes.setdefault(operation, Under(None, self.clock.now, self.clock.now, gone=True))
        self._visible(under, one, operation, head, frozenset(material.needed_by(self.store, one.template, operation)))
        self.counts["client: pushed"] += 1

    def besides(self) -> set[str]:
        marks = {fmt.pull_key(id_, row.id) for id_, row in self.model.shown()}
        return {SIGNING_KEY} | marks
