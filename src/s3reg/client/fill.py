"""Preparing a file that is pulled: what an earlier try left, what the node holds already, and what must be fetched.

The best local base is cloned where the file system can share blocks: chunks that it has at the same place cost nothing.
Other chunks that the library holds anywhere are copied, verified on the way; the rest is left for the network. The file is
always a private one in the staging folder: nothing that a VM uses is written to.
"""

from __future__ import annotations

import contextlib
import operator
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3reg.client import platform
from s3reg.client.fetch import Target
from s3reg.client.ledger import Print
from s3reg.client.reuse import column_of
from s3reg.client.scan import SEGMENT, runs_of
from s3reg.model.chunks import HOLE, chunk_digest, chunk_length

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from s3reg.client.pulllog import PullLog
    from s3reg.client.reuse import Column
    from s3reg.client.scan import Crew
    from s3reg.model.maps import FileMap


@dataclass(frozen=True, slots=True)
class Held:
    """A local file that is as it was recorded, and the digests of its chunks."""

    path: Path
    column: Column
    seen: Print | None = None
    """How the file looks while the record holds. Without it nothing is cloned: nobody could tell that it changed since."""


@dataclass(slots=True)
class Filling:
    """A staged file, open, and what it still lacks."""

    fd: int
    missing: list[int]
    """Positions to fetch, in order."""
    local: int
    """Bytes taken from this node, holes not counted."""

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)


def prepare(
    path: Path, file_map: FileMap, held: list[Held], log: PullLog, *, crew: Crew, advance: Callable[[int], None]
) -> Filling:
    """Make or take up the staged file at `path`; `advance` is told the bytes that need not be fetched."""
    column = column_of(file_map)
    data = [at for at, digest in enumerate(column.digest_list()) if digest != HOLE]
    with contextlib.ExitStack() as unless_done:
        fd, done = _take_up(path, column, log, crew)
        if fd is None:
            # Before there is a file: what an earlier one of this name had must not vouch for the new one.
            log.begin(())
            fd, done = _begin(path, column, held)
            unless_done.callback(os.close, fd)
            log.begin(runs_of(sorted(done), column.chunk_log2))
        else:
            unless_done.callback(os.close, fd)
        local = _bytes(column, done)
        advance(local)
        lacking = [at for at in data if at not in done]
        copied = set()
        for positions in _copy_local(Target(path.name, fd, column.chunk_log2, log), column, lacking, held, crew):
            copied.update(positions)
            count = _bytes(column, positions)
            local += count
            advance(count)
        unless_done.pop_all()
    return Filling(fd, [at for at in lacking if at not in copied], local)


def _bytes(column: Column, positions: Iterable[int]) -> int:
    return sum(chunk_length(at, column.size, column.chunk_log2) for at in positions)


def _take_up(path: Path, column: Column, log: PullLog, crew: Crew) -> tuple[int | None, set[int]]:
    """What an earlier try left at `path`: open, with the positions that are written and verified."""
    pairs, same_boot = log.read()
    if not pairs or not path.is_file() or path.stat().st_size != column.size:
        return None, set()
    digests = column.digest_list()
    claimed = {at for first, count in pairs for at in range(first, min(first + count, column.count))}
    claimed = {at for at in claimed if digests[at] != HOLE}
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


def _begin(path: Path, column: Column, held: list[Held]) -> tuple[int, set[int]]:
    """A new file: a clone of the best base where there is one and the file system can; else empty."""
    path.unlink(missing_ok=True)
    done: set[int] = set()
    base, same = _best(column, held)
    if base is not None and _cloned(base, path):
        fd = os.open(path, os.O_RDWR)
        done = same
        os.ftruncate(fd, column.size)
        _punch(fd, column, base.column)
    else:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        os.ftruncate(fd, column.size)
    return fd, done


def _cloned(base: Held, path: Path) -> bool:
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


def _best(column: Column, held: list[Held]) -> tuple[Held | None, set[int]]:
    """The held file that has most of the column's data at the same places, and these."""
    # A hole is nothing that a base could have: None equals no digest.
    wanted = [None if digest == HOLE else digest for digest in column.digest_list()]
    counts = [
        sum(map(operator.eq, wanted, one.column.digest_list())) if one.column.chunk_log2 == column.chunk_log2 else 0
        for one in held
    ]
    if not any(counts):
        return None, set()
    best = held[counts.index(max(counts))]
    pairs = zip(wanted, best.column.digest_list(), strict=False)
    return best, {at for at, (mine, theirs) in enumerate(pairs) if mine == theirs}


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


def _copy_local(
    target: Target, column: Column, lacking: list[int], held: list[Held], crew: Crew
) -> Iterator[list[int]]:
    """Copy what the library holds elsewhere; positions as they are written, verified and noted, some at a time."""
    found = _index(column, lacking, held)
    chunk_log2 = column.chunk_log2
    with contextlib.ExitStack() as opened:
        sources = _open_sources({source.path for source, _ in found.values()}, opened)
        order = [position for position in sorted(found) if found[position][0].path in sources]

        def work(positions: list[int]) -> list[int]:
            copied = []
            for position in positions:
                source, at = found[position]
                length = chunk_length(position, column.size, chunk_log2)
                data = os.pread(sources[source.path], length, at << chunk_log2)
                if chunk_digest(data) == column.digest_at(position):
                    target.write(position, memoryview(data))
                    copied.append(position)
            target.log.note(copied)
            return copied

        most = max(1, SEGMENT >> chunk_log2)
        yield from crew.in_order(work, (order[at : at + most] for at in range(0, len(order), most)))


def _open_sources(paths: Iterable[Path], opened: contextlib.ExitStack) -> dict[Path, int]:
    """Those of the files that can be read, open until `opened` ends. One that went since it was looked at is no source."""
    sources = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError, PermissionError):
            sources[path] = os.open(path, os.O_RDONLY)
            opened.callback(os.close, sources[path])
    return sources


def _index(column: Column, lacking: Iterable[int], held: list[Held]) -> dict[int, tuple[Held, int]]:
    """For each lacking position that some held file has: which, and where."""
    digests = column.digest_list()
    needed: dict[bytes, list[int]] = {}
    for position in lacking:
        needed.setdefault(digests[position], []).append(position)
    found: dict[int, tuple[Held, int]] = {}
    for one in held:
        if not needed:
            break
        if one.column.chunk_log2 != column.chunk_log2:
            continue
        for at, digest in enumerate(one.column.digest_list()):
            if digest in needed:
                found.update(dict.fromkeys(needed.pop(digest), (one, at)))
    return found
