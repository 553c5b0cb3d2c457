"""Reading a VM's files on all cores: hashing their chunks, and making frames of them.

A file is read in segments of a few MiB, only where it has data. Segments are worked on side by side; their results come
back in file order, with a bounded number underway, so memory does not grow with the file. zstd and SHA-256 release the
interpreter's lock, and each thread keeps its contexts and buffers.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import mmap
import os
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

import zstandard

from s3reg.client import platform
from s3reg.client.effort import Effort
from s3reg.client.platform import DIRECT_BLOCK
from s3reg.errors import ChunkDamaged, FileChanged
from s3reg.model.chunks import DIGEST_BYTES, HOLE, chunk_digest, is_zero

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from s3reg.client.reuse import Column

Item = TypeVar("Item")
Result = TypeVar("Result")

SEGMENT = 4 * 1024**2
"""Bytes that a thread reads and works on at once; a chunk at least."""


FOR_THE_DISK = 2
"""Threads more than cores: some of them wait for the disk."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One chunk, compressed."""

    position: int
    digest: bytes
    data: bytes
    raw: int
    """Bytes of the chunk."""


class Compressor(Protocol):
    """Makes one frame of a chunk. Used by one thread."""

    def compress(self, data: memoryview, /) -> bytes:
        """The frame, which says how long the chunk is."""
        ...


def zstd(level: int) -> Compressor:
    """The compressor of every push."""
    return zstandard.ZstdCompressor(level=level, write_content_size=True)


class _Bench(threading.local):
    """What one thread keeps: contexts are costly to make and may not be shared."""

    def __init__(self, compressor: Callable[[int], Compressor], effort: Effort) -> None:
        self._compressor = functools.cache(compressor)
        self._effort = effort
        self._decompressor = zstandard.ZstdDecompressor()
        # On whole pages: what is read past the system's cache must lie so.
        self._segment = mmap.mmap(-1, SEGMENT)

    def read(self, file: OpenFile, first: int, length: int) -> memoryview:
        """Exactly `length` bytes from offset `first`; shorter only at the file's end. They stay until the next read."""
        if len(self._segment) < length:
            self._segment = mmap.mmap(-1, length)
        view = memoryview(self._segment)[:length]
        return view[: file.read_into(view, first)]

    def frame(self, position: int, part: memoryview, *, proof: bool) -> Frame:
        """The frame of a chunk, and the digest of what it holds.

        With `proof` the digest is that of what the frame decodes to, and that is compared with the chunk: as much is
        proved as by hashing both, for one hash less.
        """
        data = self._compressor(self._effort.level).compress(part)
        if not proof:
            return Frame(position, chunk_digest(part), data, len(part))
        return Frame(position, chunk_digest(self._proven(data, part)), data, len(part))

    def _proven(self, frame: bytes, part: memoryview) -> bytes:
        """What the frame holds, which is the chunk, and nothing behind it."""
        with contextlib.suppress(zstandard.ZstdError):
            # What it claims is looked at first: so much is allocated.
            if zstandard.frame_content_size(frame) == len(part):
                raw = self._decompressor.decompress(frame, allow_extra_data=False)
                if raw == part.tobytes():
                    return raw
        raise ChunkDamaged(what="a file", reason="it did not survive compression: this machine's memory is suspect")


class Crew:
    """The threads that hash and compress: one a core, and some that wait for the disk."""

    def __init__(self, workers: int | None = None, *, compressor: Callable[[int], Compressor] = zstd) -> None:
        self.workers = workers or (os.cpu_count() or 1) + FOR_THE_DISK
        self.effort = Effort()
        """How hard they compress."""
        self.bench = _Bench(compressor, self.effort)
        """What each of the threads has of its own."""
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="crew")

    def close(self) -> None:
        """Let what is underway end and drop the rest."""
        self._pool.shutdown(cancel_futures=True)

    def in_order(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """`work` of each item, in the order of the items, a few ahead of whoever asks.

        When it ends, early or not, none of them is underway any more: what they work on may be closed.
        """
        rest = iter(items)
        underway: deque[Future[Result]] = deque()
        try:
            for item in itertools.islice(rest, 2 * self.workers):
                underway.append(self._pool.submit(work, item))
            while underway:
                result = underway[0].result()
                underway.popleft()
                underway.extend(self._pool.submit(work, item) for item in itertools.islice(rest, 1))
                yield result
        finally:
            wait([future for future in underway if not future.cancel()])


class OpenFile:
    """A file being pushed: read at offsets, and watched for changes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY)
        self._direct = platform.open_direct(path, os.O_RDONLY)
        self.seen = os.fstat(self.fd)
        """How it looked before anything was read."""
        self.size = self.seen.st_size

    def read_into(self, view: memoryview, at: int) -> int:
        """Fill `view` from offset `at`; how many bytes there were before the end of the file. Both lie on whole pages.

        What the system's cache has not comes past it: a disk is larger than the cache, and would drive out of it whatever
        else the machine needs, at the price of a copy.
        """
        done, whole = 0, min(len(view), max(0, self.size - at)) // DIRECT_BLOCK * DIRECT_BLOCK
        if self._direct is not None and whole and not platform.is_cached(self.fd, at, whole):
            done = platform.read_direct(self._direct, view[:whole], at)
        while done < len(view):
            count = os.preadv(self.fd, [view[done:]], at + done)
            if not count:
                break
            done += count
        return done

    def check_unchanged(self) -> None:
        """Raise FileChanged if size or time are not what they were at first, or another file took its place."""
        try:
            same = _print(os.fstat(self.fd)) == _print(self.path.stat()) == _print(self.seen)
        except FileNotFoundError:
            same = False
        if not same:
            raise FileChanged(file=self.path.name)

    def close(self) -> None:
        """Close it."""
        os.close(self.fd)
        if self._direct is not None:
            os.close(self._direct)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _print(seen: os.stat_result) -> tuple[int, int, int]:
    return seen.st_size, seen.st_mtime_ns, seen.st_ino


def hash_file(crew: Crew, file: OpenFile, column: Column, advance: Callable[[int], None]) -> None:
    """Fill `column` with the digests of the file's chunks; `advance` is told the bytes passed, holes included."""
    chunk = 1 << column.chunk_log2

    def work(span: tuple[int, int]) -> tuple[int, bytes]:
        first, count = span
        data = crew.bench.read(file, first * chunk, min(count * chunk, file.size - first * chunk))
        parts = (data[at : at + chunk] for at in range(0, len(data), chunk))
        return first, b"".join(HOLE if is_zero(part) else chunk_digest(part) for part in parts)

    passed = 0
    for first, digests in crew.in_order(work, segments(file, column.chunk_log2)):
        column.set_digests(first, digests)
        reached = min(file.size, (first + len(digests) // DIGEST_BYTES) * chunk)
        advance(reached - passed)
        passed = reached
    advance(file.size - passed)
    file.check_unchanged()


def segments(file: OpenFile, chunk_log2: int) -> Iterator[tuple[int, int]]:
    """Where the file has data: (first chunk, number of chunks), a segment at most each, in order, no chunk twice."""
    most, following = max(1, SEGMENT >> chunk_log2), 0
    for start, end in platform.data_extents(file.fd, file.size):
        first, last = max(following, start >> chunk_log2), -(-end >> chunk_log2)
        while first < last:
            count = min(most, last - first)
            yield first, count
            first += count
        following = max(following, last)


def frames(
    crew: Crew, file: OpenFile, column: Column, spans: Iterable[tuple[int, int]], *, proof: bool = True
) -> Iterator[list[Frame]]:
    """The frames of the chunks in `spans`, in order, a list a span; chunks of zeros and placed ones are left out.

    Digests that `column` knows already must come out again, else FileChanged; others are noted in it. With `proof`, each
    frame is decoded and hashed again: a bit that flipped in memory must not become everybody's base.
    """
    chunk = 1 << column.chunk_log2

    def work(span: tuple[int, int]) -> list[Frame]:
        first, count = span
        data = crew.bench.read(file, first * chunk, min(count * chunk, file.size - first * chunk))
        made = []
        for position in range(first, first + count):
            part = data[(position - first) * chunk : (position - first + 1) * chunk]
            known = column.digest_at(position)
            if known == HOLE and is_zero(part):
                continue
            frame = crew.bench.frame(position, part, proof=proof)
            if known not in {HOLE, frame.digest}:
                raise FileChanged(file=file.path.name)
            made.append(frame)
        return made

    yield from crew.in_order(work, spans)
    file.check_unchanged()


def runs_of(positions: Iterable[int], chunk_log2: int) -> Iterator[tuple[int, int]]:
    """Neighbouring positions as (first, count), a segment at most each."""
    most = max(1, SEGMENT >> chunk_log2)
    first = count = 0
    for position in positions:
        if count and position == first + count and count < most:
            count += 1
            continue
        if count:
            yield first, count
        first, count = position, 1
    if count:
        yield first, count
