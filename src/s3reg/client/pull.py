"""Pull: a version of a template comes into the library, byte for byte.

    plan       one call: every file, its map and packs, with signed links
    keep       files that the library has with the same digest
    prepare    what an earlier try left; a clone of the best local base; chunks held elsewhere (client/fill.py)
    fetch      the rest, by ranges of packs, each chunk verified before it is written (client/fetch.py)
    publish    everything durable, then visible: images first, the VM's folder last (client/staging.py)

Whatever breaks, repeating the command goes on with what is there.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from s3reg import wire
from s3reg.client import platform
from s3reg.client.fetch import Fetcher, Range, Wanted, group, ranges, read
from s3reg.client.fill import Filling, begin
from s3reg.client.library import LAYERS
from s3reg.client.plan import Plan
from s3reg.client.pulllog import PullLog
from s3reg.client.reuse import Column, column_of
from s3reg.client.scan import Crew, OpenFile, hash_file
from s3reg.client.sources import Held
from s3reg.client.staging import StagedFile, Staging, recover
from s3reg.errors import (
    ChunkDamaged,
    DiskFull,
    FileChanged,
    LocalNameTaken,
    RecordDamaged,
    S3regError,
)
from s3reg.model import maps, names
from s3reg.model.chunks import CHUNK_LOG2, chunk_length
from s3reg.model.template import Role, bytes_digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from s3reg.client.connection import Connection
    from s3reg.client.library import Library
    from s3reg.client.progress import Progress
    from s3reg.model.maps import FileMap
    from s3reg.model.names import Digest
    from s3reg.model.packs import PackRef

MOST_HELD = 16
"""Local files that are looked through for chunks; each costs the reading of its map."""


@dataclass(frozen=True, slots=True)
class PullOptions:
    """What a pull may be told."""

    tag: str | None = None
    """None: the newest version."""
    number: int | None = None
    force: bool = False
    """Discard local changes."""
    same_name: bool = False
    """Let two local VMs carry one name."""
    shrink: bool = False
    """Afterwards, remove the files of the template's other versions."""
    durable: bool = True
    """Make everything durable before it is shown; a throw-away node need not."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """What a pull came to."""

    template: str
    name: str
    tag: str
    already: bool
    """Everything was there before."""
    size: int
    """Bytes of the version's files."""
    received: int
    """Bytes that came over the line."""
    local: int
    """Bytes of chunks that this node had already."""


@dataclass(frozen=True, slots=True)
class DownloadSize:
    """What a pull would cost."""

    size: int
    """Bytes of the version's images and states."""
    cached: int
    """Of these, bytes of files that the library has."""
    to_fetch: int
    """Bytes over the line, at most: before chunks that the library holds elsewhere are taken off."""


def pull(connection: Connection, library: Library, ref: str, options: PullOptions, progress: Progress) -> Pulled:
    """Bring the version asked for into the library.

    Raises LocalChanges, FileTaken, LocalNameTaken, VmRunning, DiskFull, and whatever the registry or the line to it raise.
    """
    library.create()
    plan = Plan(connection, ref, options.tag, options.number)
    with platform.refusals_named(library.root), library.lock(f"pull-{plan.answer.template}", wait=True):
        recover(library)
        crew = Crew()
        try:
            return _Pull(connection, library, plan, options=options, progress=progress, crew=crew).run()
        finally:
            crew.close()


def download_size(
    connection: Connection, library: Library, ref: str, tag: str | None = None, number: int | None = None
) -> DownloadSize:
    """What a pull of this version would cost now."""
    answer = Plan(connection, ref, tag, number).answer
    layers = [file for file in answer.files if file.role in {Role.IMAGE.value, Role.STATE.value}]
    held = [file for file in layers if _in_place(library, answer, file)]
    size, cached = sum(file.size for file in layers), sum(file.size for file in held)
    live = sum(pack.live for pack in answer.packs)
    return DownloadSize(size, cached, 0 if size == cached else live)


@dataclass(slots=True)
class _Item:
    """A file on its way into the library."""

    entry: wire.FileEntry
    role: Role
    path: Path
    """Where it is staged."""
    file_map: FileMap | None = None
    map_bytes: bytes | None = field(default=None, repr=False)
    filling: Filling | None = None
    log: PullLog | None = None

    @property
    def digest(self) -> Digest:
        """The file's digest."""
        return names.digest(self.entry.digest)


class _Pull:
    """One pull under way."""

    def __init__(
        self,
        connection: Connection,
        library: Library,
        plan: Plan,
        *,
        options: PullOptions,
        progress: Progress,
        crew: Crew,
    ) -> None:
        self.connection = connection
        self.library = library
        self.plan = plan
        self.answer = plan.answer
        self.options = options
        self.progress = progress
        self.crew = crew
        self.template = names.template_id(self.answer.template)
        self.version = names.version_id(self.answer.version)
        self.staging = Staging(library, self.template, self.version)
        # Every file of the version asks for much the same ones.
        self._column = functools.lru_cache(MOST_HELD)(self._read_column)

    def run(self) -> Pulled:
        """All of it."""
        answer = self.answer
        if self._current() and all(_in_place(self.library, answer, file) for file in answer.files):
            return self._result(already=True, received=0, local=0)
        self._check_name()
        have = self.staging.check(self._staged([]), name=answer.name, force=self.options.force, same=self._same)
        items = [self._item(file) for file in answer.files if not (Role(file.role) in LAYERS and file.name in have)]
        try:
            received, local = self._fill(items)
            self._check_inline(items)
            if self.options.durable:
                self._sync(items)
        finally:
            for item in items:
                if item.filling is not None:
                    item.filling.close()
        self._publish(items)
        self._report()
        return self._result(already=False, received=received, local=local)

    def _staged(self, items: list[_Item]) -> list[StagedFile]:
        """The version's files, with the maps of those that were fetched."""
        fetched = {(item.entry.name, item.role): item.map_bytes for item in items}
        return [
            StagedFile(
                file.name,
                Role(file.role),
                file.size,
                names.digest(file.digest),
                file.parent,
                map_bytes=fetched.get((file.name, Role(file.role))),
            )
            for file in self.answer.files
        ]

    def _check_name(self) -> None:
        """Two VMs of one name in a library are a trap for whoever starts one by its name."""
        others = [vm.id for vm in self.library.vms() if vm.name == self.answer.name and vm.id != self.template]
        if others and not self.options.same_name:
            raise LocalNameTaken(name=self.answer.name, ids=", ".join(others))

    def _same(self, path: Path, file: StagedFile) -> bool:
        """Whether a file that no record vouches for has the right bytes all the same."""
        try:
            with OpenFile(path) as opened:
                column = Column(opened.size, CHUNK_LOG2)
                hash_file(self.crew, opened, column, lambda _: None)
                return column.file_digest() == file.digest
        except FileChanged:
            return False

    def _current(self) -> bool:
        return self.library.ledger.current(self.template) == self.answer.tag

    def _result(self, *, already: bool, received: int, local: int) -> Pulled:
        answer = self.answer
        size = sum(file.size for file in answer.files)
        return Pulled(answer.template, answer.name, answer.tag, already, size, received, local)

    # --- Bytes ------------------------------------------------------------------------------------------------------

    def _item(self, entry: wire.FileEntry) -> _Item:
        role = Role(entry.role)
        item = _Item(entry, role, self.staging.path(entry.name, role))
        if entry.inline is not None:
            item.path.write_bytes(entry.inline)
        elif entry.map is None or entry.map.url is None:
            raise RecordDamaged(what=f"the plan's file {entry.name}", reason="it has neither bytes nor a map")
        else:
            item.map_bytes = self._read_map(entry.map)
            item.file_map = maps.decode(item.map_bytes, size=entry.size, digest=item.digest)
            # A file has its own journal even if another one has the same bytes: what is written of one is not of the other.
            item.log = PullLog(self.staging.folder / "journals" / item.role.value / entry.name, item.digest)
        return item

    def _read_map(self, link: wire.MapLink) -> bytes:
        data = read(self.connection, self.plan, link)
        if hashlib.sha256(data).hexdigest() != link.sha256:
            raise ChunkDamaged(what=f"map {link.sha256}", reason="its bytes are not what its name says")
        return data

    def _fill(self, items: list[_Item]) -> tuple[int, int]:
        """Fill every staged file; bytes that came over the line, and bytes that the node had."""
        big = [item for item in items if item.file_map is not None]
        self._check_room(big)
        self.progress.start("pulling", sum(_data_bytes(item) for item in big))
        wanted: list[tuple[PackRef, Wanted]] = []
        local = 0
        for item in big:
            assert item.file_map is not None
            assert item.log is not None
            held = self._held(item)
            item.filling = begin(item.path, item.file_map, held, item.log, crew=self.crew)
            item.filling.copy(self.crew, self.progress.advance)
            local += item.filling.local
            wanted += _wanted(item)
        fetcher = Fetcher(self.connection, self.plan, self.progress.advance)
        fetcher.run(self._in_file_order(wanted))
        self.progress.finish()
        return fetcher.received, local

    def _in_file_order(self, wanted: list[tuple[PackRef, Wanted]]) -> Iterator[Range]:
        """Packs in the order in which the files name them: neighbours on disk are written about the same time."""
        return ranges(group(wanted))

    def _held(self, item: _Item) -> list[Held]:
        """Local files to build on: this file as it was, the template's others, then the rest of the library."""
        ledger = self.library.ledger
        mine = {digest for tag in ledger.tags(self.template).values() for digest in tag.files.values()}
        found = sorted(ledger.held(), key=lambda row: (row[0].name != item.entry.name, row[1] not in mine, -row[2]))
        held = []
        for path, digest, size in found[:MOST_HELD]:
            column, record = self._column(digest, size), ledger.record_of(path)
            if column is not None and record is not None and record.digest == digest:
                held.append(Held(path, column, record.seen))
        return held

    def _read_column(self, digest: Digest, size: int) -> Column | None:
        file_map = self.library.ledger.map_of(digest, size)
        return None if file_map is None else column_of(file_map)

    def _check_room(self, big: list[_Item]) -> None:
        """Say at once that the disk is too small, not after an hour."""
        there = sum(item.path.stat().st_blocks * 512 for item in big if item.path.exists())
        needed = max(0, sum(_data_bytes(item) for item in big) - there)
        free = platform.free_bytes(self.library.root)
        if needed > free and not self._can_share(big):
            raise DiskFull(folder=str(self.library.root), needed=needed, free=free)

    def _can_share(self, big: list[_Item]) -> bool:
        """Whether a clone may make the estimate too high: then only trying tells."""
        return any(True for _ in self.library.ledger.held()) and bool(big)

    def _check_inline(self, items: list[_Item]) -> None:
        for item in items:
            if item.entry.inline is not None and bytes_digest(item.entry.inline) != item.digest:
                raise ChunkDamaged(what=item.entry.name, reason="its bytes do not have its digest")

    def _sync(self, items: list[_Item]) -> None:
        self.progress.note("making it durable")
        for item in items:
            if item.filling is not None:
                platform.sync(item.filling.target.fd)

    # --- The library ------------------------------------------------------------------------------------------------

    def _publish(self, items: list[_Item]) -> None:
        self.staging.publish(
            self._staged(items),
            name=self.answer.name,
            tag=self.answer.tag,
            force=self.options.force,
            same=self._same,
            durable=self.options.durable,
        )
        if self.options.shrink:
            self.progress.note(f"{self.library.shrink(self.template)} bytes of other tags removed")

    def _report(self) -> None:
        """Tell the registry, which keeps the time of the last pull; it is no reason to fail."""
        body = wire.write(wire.VersionRef(self.template, self.version))
        try:
            self.connection.call("POST", f"{wire.PREFIX}/pulls", body)
        except S3regError:
            self.progress.note("the registry could not note this pull")


def _in_place(library: Library, answer: wire.PlanAnswer, file: wire.FileEntry) -> bool:
    """Whether the library's file of this name is as it was recorded, with this digest."""
    path = library.path_of(file.name, Role(file.role), names.template_id(answer.template))
    return library.ledger.known(path) == file.digest


def _data_bytes(item: _Item) -> int:
    assert item.file_map is not None
    return min(item.entry.size, len(item.file_map.lengths) << item.file_map.chunk_log2)


def _wanted(item: _Item) -> Iterator[tuple[PackRef, Wanted]]:
    assert item.file_map is not None
    assert item.filling is not None
    missing, target = set(item.filling.missing), item.filling.target
    chunk_log2 = item.file_map.chunk_log2
    for chunk in item.file_map.chunks():
        if chunk.position in missing:
            raw = chunk_length(chunk.position, item.entry.size, chunk_log2)
            yield (
                chunk.pack,
                Wanted(chunk.offset, chunk.length, chunk.digest, raw, target, chunk.position),
            )
