"""Fetching chunks: which ranges of which packs, and bringing them into files, verified, side by side.

Chunks are asked for by pack, in the order in which they lie there. Neighbours become one range; a gap of up to 512 KiB is
read over, since a request costs more. Each worker reads a range, decodes each frame into no more bytes than its chunk has,
checks the digest, and only then writes the chunk at its final offset and notes it in the journal.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict, deque
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import zstandard

from s3reg.errors import ChunkDamaged, LinkRefused
from s3reg.model.chunks import chunk_digest
from s3reg.model.packs import LARGEST_CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from s3reg.client.connection import Connection
    from s3reg.client.pulllog import PullLog
    from s3reg.model.packs import PackRef
    from s3reg.wire import MapLink

RANGE_BYTES = 8 * 1024**2
"""Of the longest range: with the workers, this bounds memory."""
GAP_BYTES = 512 * 1024
"""Read over rather than asked around."""
WORKERS = 12
TRIES = 3
"""Of a range whose bytes turn out wrong."""


class Wanted(NamedTuple):
    """A chunk that a file lacks, and where its frame lies."""

    offset: int
    """In the pack."""
    length: int
    digest: bytes
    raw: int
    """Bytes of the chunk."""
    file: Target
    position: int


@dataclass(slots=True, eq=False)
class Target:
    """A file being filled."""

    name: str
    fd: int
    chunk_log2: int
    log: PullLog

    def write(self, position: int, data: memoryview) -> None:
        """Put a chunk at its place."""
        at = position << self.chunk_log2
        while data:
            count = os.pwrite(self.fd, data, at)
            data, at = data[count:], at + count


class Links(Protocol):
    """Where packs and maps can be read now."""

    def url(self, ref: PackRef | MapLink) -> str:
        """The link of a pack or a map."""
        ...

    def refresh(self, stale: str) -> None:
        """The link `stale` was refused: get fresh ones for all, once for all who ask."""
        ...


@dataclass(frozen=True, slots=True)
class Range:
    """A stretch of a pack and the chunks wanted from it, in order of offset."""

    pack: PackRef
    first: int
    length: int
    wanted: tuple[Wanted, ...]


def ranges(wanted: dict[PackRef, list[Wanted]]) -> Iterator[Range]:
    """The ranges to read, pack by pack, each at most `RANGE_BYTES` long (or one frame)."""
    for pack, chunks in wanted.items():
        batch: list[Wanted] = []
        first = end = 0
        for chunk in sorted(chunks, key=lambda c: c.offset):
            reach = chunk.offset + chunk.length
            too_far = chunk.offset - end > GAP_BYTES
            too_long = reach > end and reach - first > RANGE_BYTES
            if batch and (too_far or too_long):
                yield Range(pack, first, end - first, tuple(batch))
                batch = []
            if not batch:
                first = end = chunk.offset
            batch.append(chunk)
            end = max(end, reach)
        if batch:
            yield Range(pack, first, end - first, tuple(batch))


def group(wanted: Iterable[tuple[PackRef, Wanted]]) -> dict[PackRef, list[Wanted]]:
    """Wanted chunks by pack."""
    grouped: dict[PackRef, list[Wanted]] = defaultdict(list)
    for pack, chunk in wanted:
        grouped[pack].append(chunk)
    return grouped


def read(
    connection: Connection,
    links: Links,
    ref: PackRef | MapLink,
    *,
    first: int | None = None,
    length: int | None = None,
    stop: threading.Event | None = None,
) -> bytes:
    """`Connection.read` of a pack or a map, with a fresh link where the one at hand is refused."""
    for _ in range(TRIES - 1):
        url = links.url(ref)
        try:
            return connection.read(url, first=first, length=length, stop=stop)
        except LinkRefused:
            links.refresh(url)
    return connection.read(links.url(ref), first=first, length=length, stop=stop)


class _Bench(threading.local):
    """What one thread keeps."""

    def __init__(self) -> None:
        # A frame of known size needs no window of its own; one that asks for more is not ours.
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=LARGEST_CHUNK)

    def decode(self, frame: memoryview, raw: int, digest: bytes) -> bytes:
        """The chunk of `raw` bytes and this digest that the frame holds: one whole frame, and nothing behind it.

        What the frame claims is looked at before anything is allocated.
        """
        try:
            claimed = zstandard.frame_content_size(frame)
            if claimed != raw:
                raise ChunkDamaged(what="a pack", reason=f"a frame claims {claimed} bytes instead of {raw}")
            chunk = self.decompressor.decompress(frame, allow_extra_data=False)
        except zstandard.ZstdError as e:
            raise ChunkDamaged(what="a pack", reason=f"a frame does not decode ({e})") from e
        if chunk_digest(chunk) != digest:
            raise ChunkDamaged(what="a pack", reason="a chunk's bytes do not have its digest")
        return chunk


_bench = _Bench()


class Fetcher:
    """Brings ranges into files over several connections."""

    def __init__(
        self, connection: Connection, links: Links, advance: Callable[[int], None], *, workers: int = WORKERS
    ) -> None:
        self.received = 0
        """Bytes that came over the line."""
        self._connection = connection
        self._links = links
        self._advance = advance
        self._workers = workers
        self._counting = threading.Lock()
        self._stop = threading.Event()

    def run(self, work: Iterable[Range]) -> None:
        """Fetch every range; the first failure ends it and is raised."""
        with ThreadPoolExecutor(self._workers, thread_name_prefix="fetch") as pool:
            try:
                futures = [pool.submit(self._fetch, part) for part in work]
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            except BaseException:
                # Nobody wants the rest any more, not even what a silent store may yet answer.
                self._stop.set()
                self._connection.hang_up()
                raise
            finally:
                pool.shutdown(cancel_futures=True)

    def _fetch(self, part: Range) -> None:
        left = deque(part.wanted)
        for attempt in range(TRIES):
            if self._stop.is_set():
                return
            data = read(self._connection, self._links, part.pack, first=part.first, length=part.length, stop=self._stop)
            with self._counting:
                self.received += len(data)
            try:
                self._take(part, memoryview(data), left)
            except ChunkDamaged:
                # A cache or a line may have garbled it; the pack itself is bad only if it stays so.
                if attempt == TRIES - 1:
                    raise
            else:
                return

    def _take(self, part: Range, data: memoryview, left: deque[Wanted]) -> None:
        done: dict[Target, list[int]] = defaultdict(list)
        try:
            self._put(part, data, left, done)
        finally:
            # Of a range that fails half-way too, with a full disk for one: the next try need not fetch these.
            for target, positions in done.items():
                target.log.note(positions)

    def _put(self, part: Range, data: memoryview, left: deque[Wanted], done: dict[Target, list[int]]) -> None:
        """Decode, verify and write the chunks that are left of a range; `done` is told of each that is in its place."""
        decoded, chunk = None, b""
        while left:
            wanted = left[0]
            if decoded != (wanted.offset, wanted.length, wanted.digest, wanted.raw):
                at = wanted.offset - part.first
                try:
                    chunk = _bench.decode(data[at : at + wanted.length], wanted.raw, wanted.digest)
                except ChunkDamaged as e:
                    where = f"{wanted.file.name} in pack {part.pack.sha256}"
                    raise ChunkDamaged(what=where, reason=e.detail["reason"]) from e
                decoded = (wanted.offset, wanted.length, wanted.digest, wanted.raw)
            wanted.file.write(wanted.position, memoryview(chunk))
            done[wanted.file].append(wanted.position)
            left.popleft()
            self._advance(wanted.raw)
