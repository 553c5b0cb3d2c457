"""Preparing a file that is pulled: what an earlier try left, what the node holds already, and what must be fetched.

The best local base is cloned where the file system can share blocks: chunks that it has at the same place cost nothing.
Other chunks that the library holds anywhere are copied, verified on the way; the rest is left for the network. The file is
always a private one in the staging folder: nothing that a VM uses is written to.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3reg.client import platform
from s3reg.client.reuse import column_of
from s3reg.client.scan import runs_of
from s3reg.model.chunks import DIGEST_BYTES, HOLE, chunk_digest, chunk_length

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
    data = [at for at in range(column.count) if column.digest_at(at) != HOLE]
    fd, done = _take_up(path, column, log, crew)
    if fd is None:
        fd, done = _begin(path, column, held)
        log.begin(runs_of(sorted(done), column.chunk_log2))
    lacking = [at for at in data if at not in done]
    copied = _copy_local(fd, column, lacking, held, crew)
    log.note(copied)
    have = done.union(copied)
    local = sum(chunk_length(at, column.size, column.chunk_log2) for at in have)
    advance(local)
    return Filling(fd, [at for at in lacking if at not in have], local)


def _take_up(path: Path, column: Column, log: PullLog, crew: Crew) -> tuple[int | None, set[int]]:
    """What an earlier try left at `path`: open, with the positions that are written and verified."""
    pairs, same_boot = log.read()
    if not pairs or not path.is_file() or path.stat().st_size != column.size:
        return None, set()
    fd = os.open(path, os.O_RDWR)
    claimed = [at for first, count in pairs for at in range(first, min(first + count, column.count))]
    claimed = sorted({at for at in claimed if column.digest_at(at) != HOLE})
    done = set(claimed) if same_boot else set(_verified(fd, column, claimed, crew))
    if not same_boot:
        # Neither a punched hole nor the length of a clone need have survived the power cut.
        _punch_stale(fd, column)
        log.begin(runs_of(sorted(done), column.chunk_log2))
    return fd, done


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
    if base is not None and same and platform.clone(base.path, path):
        fd = os.open(path, os.O_RDWR)
        done = same
        os.ftruncate(fd, column.size)
        _punch(fd, column, base.column)
    else:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        os.ftruncate(fd, column.size)
    return fd, done


def _best(column: Column, held: list[Held]) -> tuple[Held | None, set[int]]:
    best: Held | None = None
    most: set[int] = set()
    for one in held:
        if one.column.chunk_log2 != column.chunk_log2:
            continue
        same = _same_places(column, one.column)
        if len(same) > len(most):
            best, most = one, same
    return best, most


def _same_places(column: Column, other: Column) -> set[int]:
    """Positions where both have the same data."""
    same = set()
    mine, theirs = bytes(column.digests), bytes(other.digests)
    for position in range(min(column.count, other.count)):
        at = position * DIGEST_BYTES
        digest = mine[at : at + DIGEST_BYTES]
        if digest != HOLE and digest == theirs[at : at + DIGEST_BYTES]:
            same.add(position)
    return same


def _punch(fd: int, column: Column, base: Column) -> None:
    """Make holes where the base has data and the file has none."""
    chunk = 1 << column.chunk_log2
    gone = (
        at for at in range(min(column.count, base.count)) if column.digest_at(at) == HOLE and base.digest_at(at) != HOLE
    )
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


def _copy_local(fd: int, column: Column, lacking: list[int], held: list[Held], crew: Crew) -> list[int]:
    """Copy what the library holds elsewhere; the positions that are now written and verified."""
    found = _index(column, lacking, held)
    if not found:
        return []
    sources = {one.path: os.open(one.path, os.O_RDONLY) for one in held}
    chunk_log2 = column.chunk_log2

    def work(position: int) -> int | None:
        source, at = found[position]
        length = chunk_length(position, column.size, chunk_log2)
        data = os.pread(sources[source.path], length, at << chunk_log2)
        if chunk_digest(data) != column.digest_at(position):
            return None
        os.pwrite(fd, data, position << chunk_log2)
        return position

    try:
        return [position for position in crew.in_order(work, sorted(found)) if position is not None]
    finally:
        for source in sources.values():
            os.close(source)


def _index(column: Column, lacking: Iterable[int], held: list[Held]) -> dict[int, tuple[Held, int]]:
    """For each lacking position that some held file has: which, and where."""
    needed: dict[bytes, list[int]] = {}
    for position in lacking:
        needed.setdefault(column.digest_at(position), []).append(position)
    found: dict[int, tuple[Held, int]] = {}
    for one in held:
        if one.column.chunk_log2 != column.chunk_log2:
            continue
        for at in range(one.column.count):
            for position in needed.pop(one.column.digest_at(at), ()):
                found[position] = (one, at)
    return found
