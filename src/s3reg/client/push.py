"""Push: a VM of the library becomes a version of a template.

    open       a session with its bases; or the one that a killed push left
    hash       where there is something to build on: every chunk's digest, unless the ledger knows the file unchanged
    decide     what is stored and what is reused (client/reuse.py)
    store      read, compress, prove, pack, send (client/scan.py, client/packer.py)
    commit     maps, then the version, by the registry

A file whose digest a base has is not read at all: its map is named again. Whatever breaks, repeating the command goes on
with the packs that the store already has.
"""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from s3reg import wire
from s3reg.client import outlook, platform, vmconfig
from s3reg.client.bases import Bases, origins
from s3reg.client.cargo import Cargo
from s3reg.client.library import PUBLISHING
from s3reg.client.outlook import Outlook, Pushed
from s3reg.client.packer import Packer
from s3reg.client.plan import Plan
from s3reg.client.pushlog import Began, PushLog
from s3reg.client.reuse import Shelf, decide
from s3reg.client.scan import Crew
from s3reg.client.tagbook import TagFile
from s3reg.errors import (
    CommitInvalid,
    SessionExpired,
    SessionNotFound,
    TagTaken,
    TemplateNotFound,
)
from s3reg.model import names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3reg.client.cargo import Item
    from s3reg.client.connection import Connection
    from s3reg.client.library import Library, LocalVm
    from s3reg.client.progress import Progress
    from s3reg.model.names import TemplateId


@dataclass(frozen=True, slots=True)
class PushOptions:
    """What a push may be told."""

    tag: str
    description: str = ""
    remote_vm: str | None = None
    """Push as the next version of this template, whatever the VM's own id and name."""
    force: bool = False
    """Replace the version that has the tag."""
    same_name: bool = False
    """Let two templates carry one name."""
    domain: str | None = None
    """Of a new template; None: the registry chooses."""
    bases: tuple[str, ...] = ()
    """Templates whose newest version to build on, by name or id."""
    proof: bool = True
    """Decode and hash every frame again before it is sent."""


def push(connection: Connection, library: Library, vm: LocalVm, options: PushOptions, progress: Progress) -> Pushed:
    """Push `vm` under `options.tag`.

    Raises NameInvalid, VmRunning, FileChanged, TagTaken, NameTaken, DiskFull, and whatever the registry or the line to it
    raise.
    """
    with library.lock(f"push-{vm.id}", wait=False), loading(connection, library, vm, options, progress) as one:
        # With --remote-vm, several VMs may be on their way to one template: they would share a log.
        other = library.lock(f"push-{one.template}", wait=False) if one.template != vm.id else contextlib.nullcontext()
        with other:
            return one.run()


def foresee(connection: Connection, library: Library, vm: LocalVm, options: PushOptions, progress: Progress) -> Outlook:
    """What `push` with these arguments would send now. It hashes what `push` would hash, or store; it opens no session.

    Raises TagTaken, VmRunning, FileChanged, NameInvalid, and whatever the registry or the line to it raise.
    """
    with loading(connection, library, vm, options, progress) as one:
        return one.foresee()


@contextlib.contextmanager
def loading(
    connection: Connection,
    library: Library,
    vm: LocalVm,
    options: PushOptions,
    progress: Progress,
    *,
    kind: Callable[..., Push] | None = None,
) -> Iterator[Push]:
    """The push of `vm`, or one of another kind, ready to run. Raises VmRunning, NameInvalid."""
    library.check_stopped(vm)
    tag, description = names.tag(options.tag), names.description(options.description)
    options = replace(options, tag=tag, description=description)
    if options.domain is not None:
        names.domain(options.domain)
    crew = Crew()
    cargo = Cargo(crew, library.ledger, progress, proof=options.proof)
    try:
        with platform.refusals_named(library.root):
            yield (kind or Push)(connection, library, vm, options=options, progress=progress, cargo=cargo)
    finally:
        # In this order: nobody reads a file any more that is closed, or another that has its number by then.
        crew.close()
        cargo.close()


class Push:
    """One push under way: what it knows so far."""

    def __init__(
        self,
        connection: Connection,
        library: Library,
        vm: LocalVm,
        *,
        options: PushOptions,
        progress: Progress,
        cargo: Cargo,
    ) -> None:
        self.connection = connection
        self.library = library
        self.ledger = library.ledger
        self.vm = vm
        self.options = options
        self.progress = progress
        self.cargo = cargo
        self.shelf = Shelf()
        self.template, self.name, self.config = self._target()
        self.log = PushLog(library.own / "push" / f"{self.template}.jsonl")

    def run(self) -> Pushed:
        """All of it."""
        began = self._began()
        self.cargo.load(self.vm.files, config=self.config, config_name=self._config_name())
        earlier = None if began is None else self._committed(began.version)
        if earlier is not None:
            if self._is_mine(earlier[1]):
                return self._already(*earlier)
            # Its session takes no more: what there is to push now begins anew.
            began, self.shelf = None, Shelf()
        try:
            session, resumed = self._session(began)
        except TagTaken:
            there = self._there()
            if there is None:
                raise
            return self._already(*there)
        try:
            return self._transfer(session, resumed=resumed)
        except (SessionExpired, SessionNotFound, CommitInvalid):
            # A session that once tried to commit other files takes no more, and one that lacks a pack which the store said
            # it had would lack it again; without it, the next push succeeds.
            self.log.forget()
            raise

    def _began(self) -> Began | None:
        """The push to this registry that was killed, if any; what it stored is on the shelf."""
        began = self.log.read(self.shelf)
        if began is not None and began.registry != self.connection.url:
            began, self.shelf = None, Shelf()
        return began

    def _target(self) -> tuple[TemplateId, str, bytes]:
        """The template's id and name, and the config as it travels."""
        if self.options.remote_vm is None:
            return self.vm.id, self.vm.name, self.vm.config
        found = self._describe(self.options.remote_vm)
        template = names.template_id(found.id)
        return template, found.name, vmconfig.rewritten(self.vm.config, uuid=template, name=found.name)

    def _config_name(self) -> str:
        """The older generation names a config after its VM."""
        name = self.vm.config_name
        return f"{self.template}.yaml" if name == f"{self.vm.id}.yaml" else name

    def _describe(self, ref: str) -> wire.TemplateEntry:
        path = f"{wire.PREFIX}/template"
        found: wire.TemplateEntry = self.connection.ask(wire.TemplateEntrySchema, "GET", path, query={"ref": ref})
        return found

    # --- The session -------------------------------------------------------------------------------------------------

    def _session(self, began: Began | None) -> tuple[wire.SessionAnswer, bool]:
        """The session that a killed push left, if it is still open, or a new one; and whether it is the former."""
        if began is not None:
            with contextlib.suppress(SessionExpired, SessionNotFound):
                answer = self._resume(began)
                if self.options.domain in {None, answer.domain}:
                    self.progress.note("going on where an earlier push was interrupted")
                    return answer, True
            self.shelf = Shelf()
        request = wire.OpenRequest(
            template=self.template,
            name=self.name,
            tag=self.options.tag,
            arch=self.vm.arch,
            force=self.options.force,
            same_name=self.options.same_name,
            domain=self.options.domain,
            bases=tuple(self._bases()),
        )
        answer = self._session_call("/sessions", wire.write(request))
        self.log.begin(Began(self.connection.url, answer.session, answer.version))
        return answer, False

    def _resume(self, began: Began) -> wire.SessionAnswer:
        bases = [*self._newest(), *self._bases()][: wire.MOST_BASES]
        return self._session_call(f"/sessions/{began.session}/bases", wire.write(wire.BasesRequest(tuple(bases))))

    def _session_call(self, path: str, body: dict[str, object]) -> wire.SessionAnswer:
        answer: wire.SessionAnswer = self.connection.ask(wire.SessionAnswerSchema, "POST", wire.PREFIX + path, body)
        return answer

    def _again(self, session: wire.SessionAnswer, base: wire.BaseEntry) -> tuple[wire.BaseEntry, ...]:
        """The base with fresh links."""
        again = wire.BasesRequest((wire.VersionRef(base.template, base.version),))
        return self._session_call(f"/sessions/{session.session}/bases", wire.write(again)).bases

    def _newest(self) -> list[wire.VersionRef]:
        """The template's newest version, which a new session would build on by itself."""
        try:
            template = self._describe(self.template)
        except TemplateNotFound:
            return []
        return [wire.VersionRef(template.id, version.id) for version in template.versions[-1:]]

    def _bases(self) -> list[wire.VersionRef]:
        """Versions to build on besides the template's newest: what was asked for, and what the VM's files came from."""
        found: dict[wire.VersionRef, None] = {}
        for ref in self.options.bases:
            template = self._describe(ref)
            found.update({wire.VersionRef(template.id, version.id): None for version in template.versions[-1:]})
        found.update(dict.fromkeys(origins(self.ledger, self.vm)))
        return list(found)[: wire.MOST_BASES]

    # --- A dry run ---------------------------------------------------------------------------------------------------

    def foresee(self) -> Outlook:
        """What `run` would send, as far as that can be told without a session."""
        began = self._began()
        self.cargo.load(self.vm.files, config=self.config, config_name=self._config_name())
        self._check_tag(None if began is None else began.version)
        wanted = dict.fromkeys([*self._newest(), *self._bases()])
        bases = Bases(self.connection, tuple(base for ref in wanted for base in self._planned(ref)), (), self._planned)
        self.cargo.hash(self._place(bases))
        return Outlook(self.template, self.name, self.options.tag, *outlook.count(self.cargo.items, self.shelf))

    def _check_tag(self, mine: str | None) -> None:
        """Raise TagTaken if the tag is a version's, unless it was to be so: by force, or by an earlier run of this push."""
        with contextlib.suppress(TemplateNotFound):
            template = self._describe(self.template)
            taken = any(one.tag == self.options.tag and one.id != mine for one in template.versions)
            if taken and not self.options.force and self._there() is None:
                raise TagTaken(template=template.name, tag=self.options.tag)

    def _planned(self, version: wire.VersionRef | wire.BaseEntry) -> tuple[wire.BaseEntry, ...]:
        """A version as a base, as a pull of it would be told; none if it is gone: a session leaves it out too."""
        found = self._listed(version.template, lambda one: one.id == version.version)
        if found is None:
            return ()
        answer = Plan(self.connection, found[0].id, None, found[1].number).answer
        return (wire.BaseEntry(answer.template, answer.version, answer.files),)

    # --- An earlier run ---------------------------------------------------------------------------------------------

    def _committed(self, version: str) -> tuple[wire.TemplateEntry, wire.VersionEntry] | None:
        """The template and its version of this id; None if it was not committed, or was removed since."""
        return self._listed(self.template, lambda one: one.id == version)

    def _there(self) -> tuple[wire.TemplateEntry, wire.VersionEntry] | None:
        """The template and the version that is pushed now, if it is there already under its tag.

        A run that was killed after its end leaves no log. Nor is anything read to find out: that run noted what it pushed.
        """
        found = self._listed(self.template, lambda one: one.tag == self.options.tag)
        return found if found is not None and self._is_mine(found[1], unread=True) else None

    def _listed(
        self, ref: str, wanted: Callable[[wire.VersionEntry], bool]
    ) -> tuple[wire.TemplateEntry, wire.VersionEntry] | None:
        try:
            template = self._describe(ref)
        except TemplateNotFound:
            return None
        return next(((template, one) for one in template.versions if wanted(one)), None)

    def _is_mine(self, version: wire.VersionEntry, *, unread: bool = False) -> bool:
        """Whether it has the tag, the description and the files that are pushed now; `unread`: as far as is recorded."""
        if (version.tag, version.description) != (self.options.tag, self.options.description):
            return False
        self.cargo.recognise()
        if not unread:
            self.cargo.hash([item for item in self.cargo.large if item.digest is None])
        return {(i.name, i.digest) for i in self.cargo.items} == {(f.name, f.digest) for f in version.files}

    def _already(self, template: wire.TemplateEntry, version: wire.VersionEntry) -> Pushed:
        committed = wire.CommitAnswer(
            template.id, template.name, version.id, version.number, version.tag, version.size, 0
        )
        self._remember(committed)
        return Pushed(committed, 0, 0, already=True)

    # --- The transfer ------------------------------------------------------------------------------------------------

    def _transfer(self, session: wire.SessionAnswer, *, resumed: bool) -> Pushed:
        self.cargo.chunk_log2 = session.chunk_log2
        packer = Packer(
            self.connection,
            names.session_id(session.session),
            self.shelf,
            self.log,
            self.progress.advance,
            effort=self.cargo.effort,
        )
        try:
            bases = Bases(self.connection, session.bases, session.damaged, functools.partial(self._again, session))
            self._place(bases)
            self.cargo.store(packer)
            self.cargo.send_maps(packer, session.session, self.shelf.complete(), bases.map_bytes)
            committed = self._commit(session)
            if resumed:
                self._check_mine(committed)
            self._remember(committed)
            return Pushed(committed, packer.stored, packer.sent)
        finally:
            packer.close()

    def _place(self, bases: Bases) -> list[Item]:
        """Find what need not be stored, files that a base has, then chunks; the files of which something may have to be."""
        self.cargo.recognise()
        rest = self.cargo.take_whole(bases.sound_files())
        if not rest:
            return []
        bases.fill(self.shelf, self.cargo.chunk_log2)
        # Once more, now that the maps were read: what could not be had is nothing to stand on.
        sound = bases.sound_files()
        rest = self.cargo.take_whole(sound)
        if not self.shelf.chunks:
            return rest
        self.cargo.hash(rest)
        rest = self.cargo.take_whole(sound)
        kept = {pack for item in self.cargo.large if item.map is not None for pack in bases.packs_of(item.map)}
        decide([item.column for item in rest if item.column is not None], self.shelf, kept)
        return rest

    def _request(self) -> wire.CommitRequest:
        return wire.CommitRequest(
            tag=self.options.tag,
            name=self.name,
            files=tuple(item.entry() for item in self.cargo.items),
            description=self.options.description,
            arch=self.vm.arch,
            force=self.options.force,
            same_name=self.options.same_name,
        )

    def _commit(self, session: wire.SessionAnswer) -> wire.CommitAnswer:
        path = f"{wire.PREFIX}/sessions/{session.session}/commit"
        answer: wire.CommitAnswer = self.connection.ask(
            wire.CommitAnswerSchema, "POST", path, wire.write(self._request())
        )
        return answer

    def _check_mine(self, committed: wire.CommitAnswer) -> None:
        """Raise SessionNotFound unless the version is what was pushed just now.

        The registry answers the commit of a session that is committed with what was committed: that may be what an
        earlier run, of which nobody heard the end, had sent before the VM changed.
        """
        found = self._committed(committed.version)
        if found is None or not self._is_mine(found[1]):
            raise SessionNotFound(session=committed.version)

    def _remember(self, committed: wire.CommitAnswer) -> None:
        """Note what this node now has. With --remote-vm, the local VM stays another one than the template."""
        self.cargo.remember()
        if committed.template == self.vm.id:
            version = names.version_id(committed.version)
            members = [TagFile(i.name, i.file.role, i.digest) for i in self.cargo.items if i.digest is not None]
            with self.library.lock(PUBLISHING, wait=True):
                self.cargo.keep_beside()
                self.ledger.set_tag(self.vm.id, committed.tag, version, committed.name, members)
        self.log.forget()
