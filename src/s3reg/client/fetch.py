"""Fetching chunks: which ranges of which packs, and bringing them into files, verified, side by side.

Chunks are asked for by pack, in the order in which they lie there. Neighbours become one range; a gap of up to 512 KiB is
read over, since a request costs more. Many threads receive; as many as there are cores, and one for the disk, are let
through to decode each frame into no more bytes than its chunk has, check the digest, and only then write the chunk at its
final offset and note it in the journal.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections import defaultdict, deque
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import zstandard

from s3reg.client.target import SideBySide
from s3reg.errors import ChunkDamaged, LinkRefused
from s3reg.model.chunks import chunk_digest
from s3reg.model.packs import LARGEST_CHUNK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from s3reg.client.connection import Connection
    from s3reg.client.target import Target
    from s3reg.model.packs import PackRef
    from s3reg.wire import MapLink

RANGE_BYTES = 16 * 1024**2
"""Of the longest range: with the workers, this bounds memory."""
GAP_BYTES = 512 * 1024
"""Read over rather than asked around."""
FOR_THE_DISK = 2
"""Threads more than cores that may decode and write: some of them wait for the disk."""
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
    into: bytearray | None = None,
    stop: threading.Event | None = None,
) -> memoryview:
    """`Connection.read` of a pack or a map, with a fresh link where the one at hand is refused."""
    for _ in range(TRIES - 1):
        url = links.url(ref)
        try:
            return connection.read(url, first=first, length=length, into=into, stop=stop)
        except LinkRefused:
            links.refresh(url)
    return connection.read(links.url(ref), first=first, length=length, into=into, stop=stop)


class _Bench:
    """What it takes to make chunks of what was received. Used by one thread at a time."""

    def __init__(self) -> None:
        # A frame of known size needs no window of its own; one that asks for more is not ours.
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=LARGEST_CHUNK)
        self._beside = SideBySide()

    def put(self, part: Range, data: memoryview, left: deque[Wanted], advance: Callable[[int], None]) -> None:
        """Decode, verify and write the chunks that are `left` of a range, and take them from there as they are written."""
        written = 0
        self._beside.drop()
        try:
            for wanted in left:
                written += self._beside.make_room(wanted.file, wanted.position, wanted.raw)
                self._decode(part, data, wanted, self._beside.room(wanted.raw))
                self._beside.laid(wanted.raw)
            written += self._beside.flush()
        except ChunkDamaged:
            # Those before the bad one are good: the next try need not fetch them.
            written += self._beside.flush()
            raise
        finally:
            advance(sum(left.popleft().raw for _ in range(written)))

    def _decode(self, part: Range, data: memoryview, wanted: Wanted, room: memoryview) -> None:
        """Make the chunk of a frame, in `room`, which is as large as it; what is behind the frame is not looked at.

        What the frame claims is looked at before anything is decoded.
        """
        at = wanted.offset - part.first
        frame = data[at : at + wanted.length]
        try:
            claimed = zstandard.frame_content_size(frame)
            if claimed != wanted.raw:
                raise _damaged(part, wanted, f"a frame claims {claimed} bytes instead of {wanted.raw}")
            with self._decompressor.stream_reader(frame) as reader:
                decoded = reader.readinto(room)
        except zstandard.ZstdError as e:
            raise _damaged(part, wanted, f"a frame does not decode ({e})") from e
        if decoded != wanted.raw:
            raise _damaged(part, wanted, f"a frame holds {decoded} bytes instead of {wanted.raw}")
        if chunk_digest(room) != wanted.digest:
            raise _damaged(part, wanted, "a chunk's bytes do not have its digest")


def _damaged(part: Range, wanted: Wanted, reason: str) -> ChunkDamaged:
    return ChunkDamaged(what=f"{wanted.file.name} in pack {part.pack.sha256}", reason=reason)


class Fetcher:
    """Brings ranges into files over several connections, as many as the connection's pace lets through."""

    def __init__(
        self, connection: Connection, links: Links, advance: Callable[[int], None], *, lanes: int | None = None
    ) -> None:
        self.received = 0
        """Bytes that came over the line."""
        self._connection = connection
        self._links = links
        self._advance = advance
        self._lanes = lanes or connection.pace.most
        self._benches: queue.SimpleQueue[_Bench] = queue.SimpleQueue()
        for _ in range((os.cpu_count() or 1) + FOR_THE_DISK):
            self._benches.put(_Bench())
        self._buffers: deque[bytearray] = deque()
        self._counting = threading.Lock()
        self._stop = threading.Event()

    def run(self, work: Iterable[Range]) -> None:
        """Fetch every range; the first failure ends it and is raised."""
        with ThreadPoolExecutor(self._lanes, thread_name_prefix="fetch") as pool:
            try:
                futures = [pool.submit(self._fetch, part) for part in work]
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            except BaseException:
                self.stop()
                raise
            finally:
                pool.shutdown(cancel_futures=True)

    def stop(self) -> None:
        """Nobody wants the rest any more, not even what a silent store may yet answer: whoever runs ends soon."""
        self._stop.set()
        self._connection.hang_up()

    def _fetch(self, part: Range) -> None:
        left = deque(part.wanted)
        for attempt in range(TRIES):
            if self._stop.is_set():
                return
            # Whoever waits for a bench keeps its turn: what is received is not far ahead of what is written.
            with self._connection.pace.turn(self._stop):
                buffer = self._buffer(part.length)
                data = self._receive(part, buffer)
                bench = self._benches.get()
            try:
                bench.put(part, data, left, self._advance)
            except ChunkDamaged:
                # A cache or a line may have garbled it; the pack itself is bad only if it stays so.
                if attempt == TRIES - 1:
                    raise
            else:
                return
            finally:
                self._benches.put(bench)
                self._buffers.append(buffer)

    def _receive(self, part: Range, into: bytearray) -> memoryview:
        first, length = part.first, part.length
        data = read(self._connection, self._links, part.pack, first=first, length=length, into=into, stop=self._stop)
        with self._counting:
            self.received += len(data)
        return data

    def _buffer(self, length: int) -> bytearray:
        """One that was used before, if there is one: fresh memory costs more than what is read into it."""
        with contextlib.suppress(IndexError):
            used = self._buffers.pop()
            if len(used) >= length:
                return used
        # Of few sizes, so that the next one fits.
        return bytearray(1 << (length - 1).bit_length())
