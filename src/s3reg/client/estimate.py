"""What a pull receives and writes, counted by the decisions that the pull itself makes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3reg.client.fetch import Wanted, group, ranges
from s3reg.client.fill import claimed_at, unopened
from s3reg.client.reuse import column_of
from s3reg.client.sources import choose, data_bytes
from s3reg.errors import RoomMissing
from s3reg.model.chunks import chunk_length

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from s3reg.client.fetch import Range
    from s3reg.client.pulllog import PullLog
    from s3reg.client.reuse import Column
    from s3reg.client.sources import Held, Sources
    from s3reg.client.target import Target
    from s3reg.model.maps import FileMap
    from s3reg.model.packs import PackRef
    from s3reg.wire import FileEntry


BLOCK = 4096
"""Bytes that file systems hand out at once: every file ends in the middle of one."""


@dataclass(frozen=True, slots=True)
class FileEstimate:
    """What becomes of one file of the version, in bytes."""

    name: str
    role: str
    size: int
    receive: int = 0
    """Over the line: its map, and its share of the ranges, gaps between frames included."""
    write: int = 0
    """Of data that takes up room here."""
    local: int = 0
    """Of data that other files of this machine have: shared with them, or copied."""
    staged: int = 0
    """Of data that an earlier, interrupted pull brought."""
    kept: bool = False
    """It is in the library as it is to be."""
    room: int = 0
    """Of the disk's blocks, all that it takes up once it is here: its data, not its holes, and its map."""
    needed: int = 0
    """Of these, what has yet to be found on the disk: neither kept, nor staged, nor shared."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a pull would do now, if nothing fails."""

    template: str
    name: str
    tag: str
    already: bool
    """Nothing at all: everything is there."""
    files: tuple[FileEstimate, ...]
    free: int
    """Bytes that may still be written where the library lies."""

    @property
    def size(self) -> int:
        """Bytes of the version's files."""
        return sum(file.size for file in self.files)

    @property
    def receive(self) -> int:
        """Bytes of maps and packs that come over the line; the registry's own small answers are not counted."""
        return sum(file.receive for file in self.files)

    @property
    def write(self) -> int:
        """Bytes of data that are written."""
        return sum(file.write for file in self.files)

    @property
    def local(self) -> int:
        """Bytes of data that this machine has already, in other files or in those that stay."""
        return sum(file.size if file.kept else file.local for file in self.files)

    @property
    def staged(self) -> int:
        """Bytes of data that an earlier, interrupted pull brought."""
        return sum(file.staged for file in self.files)

    @property
    def room(self) -> int:
        """Bytes that the version takes up on the disk once it is here."""
        return sum(file.room for file in self.files)

    @property
    def needed(self) -> int:
        """Bytes of these that must be free now. What the pull replaces goes only once all is here: it frees nothing."""
        return sum(file.needed for file in self.files)


@dataclass(frozen=True, slots=True)
class DownloadSize:
    """What a pull would cost. The first two as whoever looks after a disk counts: a pull fits if `size - cached` is free."""

    size: int
    """Bytes that the version takes up on the disk."""
    cached: int
    """Of these, bytes that need not be written: kept, staged by an interrupted pull, or shared with what is here."""
    to_fetch: int
    """Bytes over the line, exactly, if nothing fails."""
    name: str
    """The template's."""
    already: bool
    """Everything is there: there is nothing to pull."""


@dataclass(frozen=True, slots=True)
class Row:
    """A file of the version that is counted."""

    entry: FileEntry
    foreseen: Foreseen | None
    """None: there is nothing to fetch."""
    kept: bool
    """It stays as it is."""
    data: int
    """Bytes of it that are no holes."""


def reads(files: Iterable[tuple[FileMap, Iterable[int], Target]]) -> Iterator[Range]:
    """The ranges that bring each file's missing positions.

    Packs in the order in which the files name them: neighbours on disk are written about the same time.
    """
    return ranges(group(chunk for file in files for chunk in _wanted(*file)))


@dataclass(frozen=True, slots=True)
class Foreseen:
    """A file that would be fetched, and from where its data would come."""

    file_map: FileMap
    column: Column
    sources: Sources
    target: Target
    resumed: bool
    """An earlier try left something."""
    of_map: int
    """Bytes of the map that come over the line."""

    def told(self, entry: FileEntry, of_packs: int) -> FileEstimate:
        """In bytes."""
        there = data_bytes(self.column, self.sources.there)
        write = self.sources.to_write(self.column)
        of_map = 0 if entry.map is None else entry.map.size
        return FileEstimate(
            entry.name,
            entry.role,
            entry.size,
            receive=self.of_map + of_packs,
            write=write,
            local=data_bytes(self.column, self.sources.copies) + (0 if self.resumed else there),
            staged=there if self.resumed else 0,
            room=_blocks(there + write) + _blocks(of_map),
            # A map that came over the line is kept.
            needed=_blocks(write) + (_blocks(of_map) if self.of_map else 0),
        )


def foresee(
    file_map: FileMap, path: Path, log: PullLog, held: list[Held], *, of_map: int, cloned: Callable[[Held], bool]
) -> Foreseen:
    """What `fill.begin` with these arguments would come to, what is claimed being there."""
    column = column_of(file_map)
    staged, _ = claimed_at(path, column, log)
    sources = choose(column, held, staged, cloned)
    return Foreseen(file_map, column, sources, unopened(path, column, log), staged is not None, of_map)


def count(rows: list[Row]) -> tuple[FileEstimate, ...]:
    """The version's files, each with what becomes of it."""
    shares = _shares(
        reads((f.file_map, f.sources.missing, f.target) for f in (row.foreseen for row in rows) if f is not None)
    )
    return tuple(
        _told(row) if row.foreseen is None else row.foreseen.told(row.entry, shares[row.foreseen.target])
        for row in rows
    )


def data_of(file_map: FileMap) -> int:
    """Bytes of the file that are no holes."""
    chunk = 1 << file_map.chunk_log2
    short = -file_map.size % chunk if file_map.runs and file_map.runs[-1].pack is not None else 0
    return len(file_map.lengths) * chunk - short


def _told(row: Row) -> FileEstimate:
    """A file that stays, or that came with the plan."""
    entry = row.entry
    room = _blocks(row.data) + (0 if entry.map is None else _blocks(entry.map.size))
    if row.kept:
        return FileEstimate(entry.name, entry.role, entry.size, kept=True, room=room)
    return FileEstimate(entry.name, entry.role, entry.size, write=entry.size, room=room, needed=room)


def _blocks(count: int) -> int:
    """Bytes of the disk that so many bytes take up."""
    return -(-count // BLOCK) * BLOCK


def _shares(read: Iterable[Range]) -> Counter[Target]:
    """The bytes of the ranges by the file that wants them. What several want counts for the first."""
    found: Counter[Target] = Counter()
    for part in read:
        end = part.first
        for chunk in part.wanted:
            reach = max(end, chunk.offset + chunk.length)
            found[chunk.file] += reach - end
            end = reach
    return found


def check_room(folder: Path, needed: int, free: int) -> None:
    """Raise RoomMissing, with what is missing, if not so many bytes are free. Said at once, not after an hour."""
    if needed > free:
        raise RoomMissing(folder=str(folder), needed=needed, free=free, missing=needed - free)


def _wanted(file_map: FileMap, missing: Iterable[int], target: Target) -> Iterator[tuple[PackRef, Wanted]]:
    positions = set(missing)
    for chunk in file_map.chunks():
        if chunk.position in positions:
            raw = chunk_length(chunk.position, file_map.size, file_map.chunk_log2)
            yield chunk.pack, Wanted(chunk.offset, chunk.length, chunk.digest, raw, target, chunk.position)
