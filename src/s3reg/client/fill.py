"""Preparing a file that is pulled: what an earlier try left, what the node holds already, and what must be fetched.

The best local base is cloned where the file system can share blocks: chunks that it has at the same place cost nothing.
Other chunks that the library holds anywhere are copied, verified on the way; the rest is left for the network. The file is
always a private one in the staging folder: nothing that a VM uses is written to.
"""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from s3reg.client import platform
from s3reg.client.ledger import Print
from s3reg.client.reuse import column_of
from s3reg.client.scan import SEGMENT, OpenFile, runs_of
from s3reg.client.sources import choose, claims, data_bytes
from s3reg.client.target import SideBySide, Target
from s3reg.model.chunks import HOLE, chunk_digest, chunk_length

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from s3reg.client.pulllog import PullLog
    from s3reg.client.reuse import Column
    from s3reg.client.scan import Crew
    from s3reg.client.sources import Held, Sources
    from s3reg.model.maps import FileMap


class _Mine(threading.local):
    """What one thread keeps."""

    def __init__(self) -> None:
        self.beside = SideBySide()


@dataclass(slots=True)
class Filling:
    """A staged file, open, and where the rest of it comes from."""

    target: Target
    file_map: FileMap
    column: Column
    sources: Sources
    missing: list[int]
    """Positions to fetch, in order."""
    staged: int
    """Bytes that an earlier try left, holes not counted."""
    local: int
    """Bytes taken from other files of this node, holes not counted."""

    @property
    def data(self) -> int:
        """Bytes of the whole file, holes not counted."""
        return data_bytes(self.column, self.sources.there) + self.sources.to_write(self.column)

    def copy(self, crew: Crew, advance: Callable[[int], None]) -> None:
        """Copy what this node holds elsewhere; `advance` is told all bytes that need not be fetched."""
        advance(self.staged + self.local)
        copied = set()
        for positions in _copy(self.target, self.column, self.sources.copies, crew):
            copied.update(positions)
            count = data_bytes(self.column, positions)
            self.local += count
            advance(count)
        # What is not as recorded is fetched.
        self.missing = sorted({*self.missing, *self.sources.copies} - copied)

    def lacking(self) -> int:
        """Bytes that are yet to be written, going by the journal."""
        noted = claims(self.column, self.target.log.read()[0])
        return data_bytes(self.column, {*self.sources.copies, *self.sources.missing} - noted)

    def close(self) -> None:
        """Close the file."""
        self.target.close()


def begin(path: Path, file_map: FileMap, held: list[Held], log: PullLog, *, crew: Crew) -> Filling:
    """Make or take up the staged file at `path`. None of its data is written yet: a clone shares it."""
    column = column_of(file_map)
    with contextlib.ExitStack() as unless_done:
        fd, staged = _take_up(path, column, log, crew)
        if fd is not None:
            unless_done.callback(os.close, fd)
        else:
            # Before there is a file: what an earlier one of this name had must not vouch for the new one.
            log.begin(())
            path.unlink(missing_ok=True)
        sources = choose(column, held, staged, lambda base: cloned(base, path))
        if fd is None:
            fd = _begin(path, column, sources.base)
            unless_done.callback(os.close, fd)
            log.begin(runs_of(sorted(sources.there), column.chunk_log2))
        direct = platform.open_direct(path)
        unless_done.pop_all()
    target = Target(path.name, fd, column.chunk_log2, log, direct)
    there = data_bytes(column, sources.there)
    earlier, shared = (0, there) if staged is None else (there, 0)
    return Filling(target, file_map, column, sources, sources.missing, earlier, shared)


def unopened(path: Path, column: Column, log: PullLog) -> Target:
    """The target that the staged file at `path` would be, for whoever only counts."""
    return Target(path.name, -1, column.chunk_log2, log)


def claimed_at(path: Path, column: Column, log: PullLog) -> tuple[set[int] | None, bool]:
    """The positions that an earlier try claims to have left at `path`, None if it left nothing; whether in this boot."""
    pairs, same_boot = log.read()
    if not pairs or not path.is_file() or path.stat().st_size != column.size:
        return None, same_boot
    return claims(column, pairs), same_boot


def _take_up(path: Path, column: Column, log: PullLog, crew: Crew) -> tuple[int | None, set[int] | None]:
    """What an earlier try left at `path`, if anything: open, with the positions that are written and verified."""
    claimed, same_boot = claimed_at(path, column, log)
    if claimed is None:
        return None, None
    with contextlib.ExitStack() as unless_done:
        fd = os.open(path, os.O_RDWR)
        unless_done.callback(os.close, fd)
        if not same_boot:
            claimed = set(_verified(fd, column, sorted(claimed), crew))
            # Neither a punched hole nor the length of a clone need have survived the power cut.
            _punch_stale(fd, column)
            log.begin(runs_of(sorted(claimed), column.chunk_log2))
        unless_done.pop_all()
    return fd, claimed


def _verified(fd: int, column: Column, claimed: list[int], crew: Crew) -> Iterator[int]:
    """Those of the claimed positions whose bytes are really there."""

    def work(span: tuple[int, int]) -> list[int]:
        first, count = span
        return [at for at in range(first, first + count) if _chunk(fd, column, at) is not None]

    for found in crew.in_order(work, runs_of(claimed, column.chunk_log2)):
        yield from found


def _chunk(fd: int, column: Column, position: int) -> bytes | None:
    """The chunk's bytes if they have the column's digest."""
    data = os.pread(fd, chunk_length(position, column.size, column.chunk_log2), position << column.chunk_log2)
    return data if chunk_digest(data) == column.digest_at(position) else None


def _begin(path: Path, column: Column, base: Held | None) -> int:
    """The new file, open: the clone of the base that is there, made to fit, or an empty one."""
    if base is None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        os.ftruncate(fd, column.size)
        return fd
    fd = os.open(path, os.O_RDWR)
    os.ftruncate(fd, column.size)
    _punch(fd, column, base.column)
    return fd


def cloned(base: Held, path: Path) -> bool:
    """Whether `path` is now a clone of the base as it was recorded; else there is nothing."""
    try:
        if base.seen is None or not platform.clone(base.path, path):
            return False
        if Print.of(base.path.stat()) == base.seen:
            return True
    except (FileNotFoundError, PermissionError):
        # It went, or may not be read: then it is no base.
        pass
    # A VM was started on it, or it was replaced, since it was compared with its record.
    path.unlink(missing_ok=True)
    return False


def _punch(fd: int, column: Column, base: Column) -> None:
    """Make holes where the base has data and the file has none."""
    chunk = 1 << column.chunk_log2
    pairs = zip(column.digest_list(), base.digest_list(), strict=False)
    gone = (at for at, (mine, theirs) in enumerate(pairs) if mine == HOLE != theirs)
    for first, count in runs_of(gone, column.chunk_log2):
        start = first * chunk
        platform.punch_hole(fd, start, min(count * chunk, column.size - start))


def _punch_stale(fd: int, column: Column) -> None:
    """Make holes where the file has data and should have none, whatever was there."""
    chunk = 1 << column.chunk_log2
    for start, end in platform.data_extents(fd, column.size):
        gone = (at for at in range(start // chunk, -(-end // chunk)) if column.digest_at(at) == HOLE)
        for first, count in runs_of(gone, column.chunk_log2):
            platform.punch_hole(fd, first * chunk, min(count * chunk, column.size - first * chunk))


def _copy(target: Target, column: Column, found: dict[int, tuple[Held, int]], crew: Crew) -> Iterator[list[int]]:
    """Copy chunks from where they were found; positions as they are written, verified and noted, some at a time."""
    mine = _Mine()
    with contextlib.ExitStack() as opened:
        files = _open_sources({source.path for source, _ in found.values()}, opened)

        def work(run: _Run) -> list[int]:
            mine.beside.drop()
            return _copy_run(run, target, column, mine.beside)

        yield from crew.in_order(work, _runs(found, files, max(1, SEGMENT >> column.chunk_log2)))


class _Run(NamedTuple):
    """Neighbouring chunks that are neighbours in another file too."""

    file: OpenFile
    at: int
    """Position of the first in that file."""
    position: int
    chunks: int


def _runs(found: dict[int, tuple[Held, int]], files: dict[Path, OpenFile], most: int) -> Iterator[_Run]:
    """What was found, as runs of `most` chunks at most, in order."""
    run: _Run | None = None
    for position in sorted(found):
        source, at = found[position]
        file = files.get(source.path)
        if file is None:
            continue
        if run is not None and _follows(run, file, at, position) and run.chunks < most:
            run = run._replace(chunks=run.chunks + 1)
            continue
        if run is not None:
            yield run
        run = _Run(file, at, position, 1)
    if run is not None:
        yield run


def _follows(run: _Run, file: OpenFile, at: int, position: int) -> bool:
    return run.file is file and at - run.at == position - run.position == run.chunks


def _copy_run(run: _Run, target: Target, column: Column, beside: SideBySide) -> list[int]:
    """Copy a run in one go; where one of its chunks is not what was recorded, each by itself. Positions of what is there."""
    lengths = [chunk_length(run.position + n, column.size, column.chunk_log2) for n in range(run.chunks)]
    beside.make_room(target, run.position, sum(lengths))
    room = beside.room(sum(lengths))
    # A file that became shorter leaves something else there, which has another digest.
    run.file.read_into(room, run.at << column.chunk_log2)
    start = 0
    for n, length in enumerate(lengths):
        if chunk_digest(room[start : start + length]) != column.digest_at(run.position + n):
            return _copy_singly(run, target, column, beside) if run.chunks > 1 else []
        start += length
    beside.laid(sum(lengths), run.chunks)
    beside.flush()
    return list(range(run.position, run.position + run.chunks))


def _copy_singly(run: _Run, target: Target, column: Column, beside: SideBySide) -> list[int]:
    singles = (_Run(run.file, run.at + n, run.position + n, 1) for n in range(run.chunks))
    return [position for single in singles for position in _copy_run(single, target, column, beside)]


def _open_sources(paths: Iterable[Path], opened: contextlib.ExitStack) -> dict[Path, OpenFile]:
    """Those of the files that can be read, open until `opened` ends. One that went since it was looked at is no source."""
    sources = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError, PermissionError):
            sources[path] = opened.enter_context(OpenFile(path))
    return sources
