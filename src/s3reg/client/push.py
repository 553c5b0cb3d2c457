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

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from s3reg import wire
from s3reg.client import vmconfig
from s3reg.client.packer import Packer
from s3reg.client.pushlog import Began, PushLog
from s3reg.client.reuse import Column, Shelf, column_of, decide
from s3reg.client.scan import Crew, OpenFile, frames, hash_file, runs_of, segments
from s3reg.errors import (
    ConfigInvalid,
    RecordDamaged,
    SessionExpired,
    SessionNotFound,
    TagTaken,
    TemplateNotFound,
)
from s3reg.model import maps, names
from s3reg.model.chunks import CHUNK_LOG2
from s3reg.model.template import INLINE_BYTES, INLINE_BYTES_IN_ALL, Role, bytes_digest

if TYPE_CHECKING:
    from s3reg.client.connection import Connection
    from s3reg.client.library import Library, LocalFile, LocalVm
    from s3reg.client.progress import Progress
    from s3reg.model.maps import FileMap
    from s3reg.model.names import Digest, TemplateId
    from s3reg.model.packs import PackRef


MOST_ORIGINS = 4
"""Local versions that are offered as bases: each costs the reading of its maps."""


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
    bases: tuple[str, ...] = ()
    """Templates whose newest version to build on, by name or id."""
    proof: bool = True
    """Decode and hash every frame again before it is sent."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push came to."""

    answer: wire.CommitAnswer
    stored_raw: int
    """Bytes of the chunks that were stored, before compression."""
    sent: int
    """Bytes that went to the store: packs and maps."""
    already: bool = False
    """An earlier, killed run of this push had been committed."""


@dataclass(slots=True)
class _Item:
    """A file on its way into the version."""

    file: LocalFile
    name: str
    size: int
    digest: Digest | None = None
    inline: bytes | None = None
    opened: OpenFile | None = None
    column: Column | None = None
    map: wire.MapLink | None = None
    map_bytes: bytes | None = field(default=None, repr=False)

    def entry(self) -> wire.FileEntry:
        """As the commit names it."""
        assert self.digest is not None
        link = None if self.map is None else wire.MapLink(self.map.sid, self.map.sha256, self.map.size)
        return wire.FileEntry(
            name=self.name,
            role=self.file.role.value,
            size=self.size,
            digest=self.digest,
            drive=self.file.drive,
            parent=self.file.parent,
            inline=self.inline,
            map=link,
        )


def push(connection: Connection, library: Library, vm: LocalVm, options: PushOptions, progress: Progress) -> Pushed:
    """Push `vm` under `options.tag`.

    Raises VmRunning, FileChanged, TagTaken, NameTaken, and whatever the registry or the line to it raise.
    """
    library.check_stopped(vm)
    names.tag(options.tag)
    with library.lock(f"push-{vm.id}", wait=False):
        crew = Crew()
        try:
            return _Push(connection, library, vm, options=options, progress=progress, crew=crew).run()
        finally:
            crew.close()


class _Push:
    """One push under way: what it knows so far."""

    def __init__(
        self,
        connection: Connection,
        library: Library,
        vm: LocalVm,
        *,
        options: PushOptions,
        progress: Progress,
        crew: Crew,
    ) -> None:
        self.connection = connection
        self.vm = vm
        self.options = options
        self.progress = progress
        self.crew = crew
        self.library = library
        self.ledger = library.ledger
        self.shelf = Shelf()
        self.chunk_log2 = CHUNK_LOG2
        self.base_maps: dict[str, FileMap] = {}
        """Maps of the bases that were read, by their SHA-256."""
        self.base_bytes: dict[str, bytes] = {}
        self.template, self.name, self.config = self._target()
        self.log = PushLog(library.own / "push" / f"{self.template}.jsonl")

    def run(self) -> Pushed:
        """All of it."""
        began = self.log.read(self.shelf)
        if began is not None and began.registry != self.connection.url:
            began, self.shelf = None, Shelf()
        items = self._items()
        try:
            try:
                session = self._session(began)
            except TagTaken:
                done = self._committed_earlier(began, items)
                if done is None:
                    raise
                return done
            return self._transfer(session, items)
        finally:
            for item in items:
                if item.opened is not None:
                    item.opened.close()

    # --- What and where to ------------------------------------------------------------------------------------------

    def _target(self) -> tuple[TemplateId, str, bytes]:
        """The template's id and name, and the config as it travels."""
        if self.options.remote_vm is None:
            return self.vm.id, self.vm.name, self.vm.config
        answer = self.connection.call("GET", f"{wire.PREFIX}/template", query={"ref": self.options.remote_vm})
        found: wire.TemplateEntry = wire.read(wire.TemplateEntrySchema, answer)
        template = names.template_id(found.id)
        return template, found.name, vmconfig.rewritten(self.vm.config, uuid=template, name=found.name)

    def _items(self) -> list[_Item]:
        """The VM's files, small ones read, others opened."""
        items, room = [], INLINE_BYTES_IN_ALL
        for file in self.vm.files:
            if file.role is Role.CONFIG:
                items.append(_inline(file, self._config_name(file.name), self.config))
                room -= len(self.config)
                continue
            size = file.path.stat().st_size
            if size <= min(INLINE_BYTES, room):
                items.append(_inline(file, file.name, file.path.read_bytes()))
                room -= size
            else:
                opened = OpenFile(file.path)
                items.append(_Item(file, file.name, opened.size, opened=opened))
        if not any(item.file.role is Role.CONFIG for item in items):
            raise ConfigInvalid(file=self.vm.name, reason="the VM has none")
        return items

    def _config_name(self, name: str) -> str:
        """The older generation names a config after its VM."""
        return f"{self.template}.yaml" if name == f"{self.vm.id}.yaml" else name

    # --- The session ------------------------------------------------------------------------------------------------

    def _session(self, began: Began | None) -> wire.SessionAnswer:
        """The session that a killed push left, if it is still open, or a new one."""
        if began is not None:
            path = f"{wire.PREFIX}/sessions/{began.session}/bases"
            try:
                wanted = wire.write(wire.BasesRequest(tuple([*self._newest(), *self._bases()][: wire.MOST_BASES])))
                answer: wire.SessionAnswer = wire.read(
                    wire.SessionAnswerSchema, self.connection.call("POST", path, wanted)
                )
            except (SessionExpired, SessionNotFound):
                self.shelf = Shelf()
            else:
                self.progress.note("going on where an earlier push was interrupted")
                return answer
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
        answer = wire.read(
            wire.SessionAnswerSchema, self.connection.call("POST", f"{wire.PREFIX}/sessions", wire.write(request))
        )
        self.log.begin(Began(self.connection.url, answer.session, answer.version))
        return answer

    def _newest(self) -> list[wire.VersionRef]:
        """The template's newest version, which a new session would build on by itself."""
        try:
            answer = self.connection.call("GET", f"{wire.PREFIX}/template", query={"ref": self.template})
        except TemplateNotFound:
            return []
        template: wire.TemplateEntry = wire.read(wire.TemplateEntrySchema, answer)
        return [wire.VersionRef(template.id, version.id) for version in template.versions[-1:]]

    def _bases(self) -> list[wire.VersionRef]:
        """Versions to build on besides the template's newest: what this library's VM came from, and what was asked for."""
        found: dict[wire.VersionRef, None] = {}
        for ref in self.options.bases:
            answer = self.connection.call("GET", f"{wire.PREFIX}/template", query={"ref": ref})
            template: wire.TemplateEntry = wire.read(wire.TemplateEntrySchema, answer)
            if template.versions:
                found[wire.VersionRef(template.id, template.versions[-1].id)] = None
        found.update(dict.fromkeys(self._origins()))
        return list(found)[: wire.MOST_BASES]

    def _origins(self) -> list[wire.VersionRef]:
        """The versions of this node that share most files with the VM, as those were when they were recorded last."""
        records = [self.ledger.record_of(file.path) for file in self.vm.files]
        mine = {record.digest for record in records if record is not None and record.digest is not None}
        ranked = []
        for template in self.ledger.templates():
            for tag in self.ledger.tags(template).values():
                shared = len(mine & set(tag.files.values()))
                if shared:
                    ranked.append((shared, template == self.vm.id, wire.VersionRef(template, tag.version)))
        ranked.sort(key=lambda row: row[:2], reverse=True)
        return [ref for _, _, ref in ranked[:MOST_ORIGINS]]

    def _committed_earlier(self, began: Began | None, items: list[_Item]) -> Pushed | None:
        """The answer of a killed run of this very push whose commit had landed, if the tag is its, and the bytes too."""
        if began is None:
            return None
        answer = self.connection.call("GET", f"{wire.PREFIX}/template", query={"ref": self.template})
        template: wire.TemplateEntry = wire.read(wire.TemplateEntrySchema, answer)
        version = next((v for v in template.versions if v.id == began.version and v.tag == self.options.tag), None)
        if version is None:
            return None
        self._hash([item for item in items if item.opened is not None])
        if {(i.name, i.digest) for i in items} != {(f.name, f.digest) for f in version.files}:
            return None
        committed = wire.CommitAnswer(
            template.id, template.name, version.id, version.number, version.tag, version.size, 0
        )
        self._remember(committed, items)
        return Pushed(committed, 0, 0, already=True)

    # --- The transfer -----------------------------------------------------------------------------------------------

    def _transfer(self, session: wire.SessionAnswer, items: list[_Item]) -> Pushed:
        self.chunk_log2 = session.chunk_log2
        packer = Packer(self.connection, names.session_id(session.session), self.shelf, self.log, self.progress.advance)
        try:
            big = [item for item in items if item.opened is not None]
            self._place(session, big)
            stored = self._store(packer, big)
            packer.flush()
            self._send_maps(packer, session, big)
            committed = self._commit(session, items)
            self._remember(committed, items)
            return Pushed(committed, stored, packer.sent)
        finally:
            packer.close()

    def _place(self, session: wire.SessionAnswer, big: list[_Item]) -> None:
        """Find what need not be stored: files that a base has, then chunks."""
        base_files = {file.digest: file for base in session.bases for file in base.files if file.map is not None}
        for item in big:
            assert item.opened is not None
            item.digest = self.ledger.known(item.file.path)
            self._take_whole(item, base_files)
        rest = [item for item in big if item.map is None]
        if not rest:
            return
        self._read_base_maps(session)
        if self.shelf.chunks:
            self._hash(rest)
            for item in rest:
                self._take_whole(item, base_files)
            columns = [item.column for item in rest if item.map is None and item.column is not None]
            decide(columns, self.shelf, self._untouched(big))

    def _take_whole(self, item: _Item, base_files: dict[str, wire.FileEntry]) -> None:
        found = base_files.get(item.digest) if item.digest is not None else None
        if found is not None and found.size == item.size:
            item.map = found.map

    def _untouched(self, big: list[_Item]) -> dict[PackRef, int]:
        live: dict[PackRef, int] = {}
        for item in big:
            if item.map is not None and item.map.sha256 in self.base_maps:
                for pack, used in self.base_maps[item.map.sha256].live_bytes().items():
                    live[pack] = live.get(pack, 0) + used
        return live

    def _read_base_maps(self, session: wire.SessionAnswer) -> None:
        for base in session.bases:
            for file in base.files:
                if file.map is None or file.map.sha256 in self.base_maps or file.map.url is None:
                    continue
                data = self.connection.read(file.map.url)
                if hashlib.sha256(data).hexdigest() != file.map.sha256:
                    raise RecordDamaged(what=f"the map of {file.name}", reason="its bytes are not what its name says")
                file_map = maps.decode(data, size=file.size, digest=names.digest(file.digest))
                self.base_maps[file.map.sha256], self.base_bytes[file.map.sha256] = file_map, data
                if file_map.chunk_log2 == self.chunk_log2:
                    self.shelf.add_base(file_map, session.damaged)

    def _hash(self, items: list[_Item]) -> None:
        """Give every item its column and digest; unread where the ledger knows the file unchanged."""
        unread: list[_Item] = []
        for item in items:
            known = item.digest or self.ledger.known(item.file.path)
            file_map = self.ledger.map_of(known, item.size) if known is not None else None
            if file_map is not None and file_map.chunk_log2 == self.chunk_log2:
                item.digest, item.column = known, column_of(file_map)
            else:
                unread.append(item)
        self.progress.start("hashing", sum(item.size for item in unread))
        for item in unread:
            assert item.opened is not None
            item.column = Column(item.size, self.chunk_log2)
            hash_file(self.crew, item.opened, item.column, self.progress.advance)
            item.digest = item.column.file_digest()
        self.progress.finish()

    def _store(self, packer: Packer, big: list[_Item]) -> int:
        """Send the chunks that lie nowhere yet; the bytes that they have."""
        todo = [item for item in big if item.map is None]
        plans: list[tuple[_Item, Column, list[tuple[int, int]] | None]] = []
        total = 0
        for item in todo:
            assert item.opened is not None
            if item.column is None:
                item.column = Column(item.size, self.chunk_log2)
                plans.append((item, item.column, None))
                total += sum(n << self.chunk_log2 for _, n in segments(item.opened, self.chunk_log2))
            else:
                positions = item.column.unplaced()
                plans.append((item, item.column, list(runs_of(positions, item.column.chunk_log2))))
                total += len(positions) << item.column.chunk_log2
        self.progress.start("sending", total)
        stored = sum(self._store_file(packer, *plan) for plan in plans)
        packer.flush()
        self.progress.finish()
        return stored

    def _store_file(self, packer: Packer, item: _Item, column: Column, spans: list[tuple[int, int]] | None) -> int:
        assert item.opened is not None
        stored = 0
        work = spans if spans is not None else segments(item.opened, column.chunk_log2)
        for made in frames(self.crew, item.opened, column, work, proof=self.options.proof):
            for frame in made:
                column.set_digests(frame.position, frame.digest)
                column.put(frame.position, packer.add(frame))
                stored += frame.raw
        return stored

    def _send_maps(self, packer: Packer, session: wire.SessionAnswer, big: list[_Item]) -> None:
        table = self.shelf.complete()
        for item in big:
            if item.map is not None:
                item.map_bytes = self.base_bytes.get(item.map.sha256)
            elif item.column is not None:
                item.digest = item.column.file_digest()
                item.map_bytes = maps.encode(item.column.file_map(table))
                sha256, size = packer.send_map(item.map_bytes)
                item.map = wire.MapLink(session.session, sha256, size)

    def _commit(self, session: wire.SessionAnswer, items: list[_Item]) -> wire.CommitAnswer:
        request = wire.CommitRequest(
            tag=self.options.tag,
            name=self.name,
            files=tuple(item.entry() for item in items),
            description=self.options.description,
            arch=self.vm.arch,
            force=self.options.force,
            same_name=self.options.same_name,
        )
        path = f"{wire.PREFIX}/sessions/{session.session}/commit"
        answer: Any = wire.read(wire.CommitAnswerSchema, self.connection.call("POST", path, wire.write(request)))
        assert isinstance(answer, wire.CommitAnswer)
        return answer

    def _remember(self, committed: wire.CommitAnswer, items: list[_Item]) -> None:
        """Note in the ledger what the files are, so that the next push need not read them."""
        for item in items:
            if item.opened is not None and item.digest is not None:
                self.ledger.record(
                    item.file.path,
                    names.digest(item.digest),
                    item.map_bytes,
                    parent=item.file.parent,
                    seen=item.opened.seen,
                )
        if committed.template == self.vm.id:
            digests = {item.name: item.digest for item in items if item.digest is not None}
            version = names.version_id(committed.version)
            self.ledger.set_tag(self.vm.id, committed.tag, version, committed.name, digests)
        self.log.forget()


def _inline(file: LocalFile, name: str, data: bytes) -> _Item:
    return _Item(file, name, len(data), digest=bytes_digest(data), inline=data)
