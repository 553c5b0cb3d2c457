"""Fetching chunks: which ranges of which packs, and bringing them into files, verified, side by side.

Chunks are asked for by pack, in the order in which they lie there. Neighbours become one range; a gap of up to 512 KiB is
read over, since a request costs more. Each worker reads a range, decodes each frame into no more bytes than its chunk has,
checks the digest, and only then writes the chunk at its final offset and notes it in the journal.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

import zstandard

from s3reg.errors import ChunkDamaged, LinkRefused, S3regError
from s3reg.model.chunks import chunk_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from s3reg.client.connection import Connection
    from s3reg.client.pulllog import PullLog
    from s3reg.model.packs import PackRef

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
    """Where packs can be read now."""

    def url(self, pack: PackRef) -> str:
        """The link of a pack."""
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
        end = 0
        for chunk in sorted(chunks, key=lambda c: c.offset):
            too_far = batch and chunk.offset - end > GAP_BYTES
            too_long = batch and chunk.offset + chunk.length - batch[0].offset > RANGE_BYTES
            if too_far or too_long:
                yield Range(pack, batch[0].offset, end - batch[0].offset, tuple(batch))
                batch = []
            batch.append(chunk)
            end = max(end, chunk.offset + chunk.length) if len(batch) > 1 else chunk.offset + chunk.length
        if batch:
            yield Range(pack, batch[0].offset, end - batch[0].offset, tuple(batch))


def group(wanted: Iterable[tuple[PackRef, Wanted]]) -> dict[PackRef, list[Wanted]]:
    """Wanted chunks by pack."""
    grouped: dict[PackRef, list[Wanted]] = defaultdict(list)
    for pack, chunk in wanted:
        grouped[pack].append(chunk)
    return grouped


class _Bench(threading.local):
    """What one thread keeps."""

    def __init__(self) -> None:
        self.decompressor = zstandard.ZstdDecompressor()
        self.buffer = bytearray(1)

    def decode(self, frame: memoryview, raw: int) -> memoryview:
        """The chunk of `raw` bytes that the frame holds, in a buffer that the next call overwrites.

        What the frame claims is looked at before anything is allocated.
        """
        if len(self.buffer) < raw:
            self.buffer = bytearray(raw)
        try:
            claimed = zstandard.frame_content_size(frame)
            if claimed != raw:
                raise ChunkDamaged(what="a pack", reason=f"a frame claims {claimed} bytes instead of {raw}")
            view, done = memoryview(self.buffer)[:raw], 0
            with self.decompressor.stream_reader(frame) as stream:
                while done < raw and (count := stream.readinto(view[done:])):
                    done += count
        except zstandard.ZstdError as e:
            raise ChunkDamaged(what="a pack", reason=f"a frame does not decode ({e})") from e
        if done != raw:
            raise ChunkDamaged(what="a pack", reason="a frame ends too early")
        return view


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
            futures = [pool.submit(self._fetch, part) for part in work]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
            finally:
                self._stop.set()
                pool.shutdown(cancel_futures=True)

    def _fetch(self, part: Range) -> None:
        for attempt in range(TRIES):
            if self._stop.is_set():
                return
            data = self._read(part)
            try:
                self._take(part, memoryview(data))
            except ChunkDamaged as e:
                # A cache or a line may have garbled it; the pack itself is bad only if it stays so.
                if attempt == TRIES - 1:
                    raise ChunkDamaged(
                        what=f"{part.wanted[0].file.name} in pack {part.pack.sha256}", reason=e.detail["reason"]
                    ) from e
            else:
                return

    def _read(self, part: Range) -> bytes:
        for attempt in range(TRIES):
            url = self._links.url(part.pack)
            try:
                data = self._connection.read(url, first=part.first, length=part.length)
            except LinkRefused:
                if attempt == TRIES - 1:
                    raise
                self._links.refresh(url)
            else:
                with self._counting:
                    self.received += len(data)
                return data
        raise S3regError(reason="unreachable: the loop returns or raises")

    def _take(self, part: Range, data: memoryview) -> None:
        done: dict[Target, list[int]] = defaultdict(list)
        try:
            self._put(part, data, done)
        finally:
            # Of a range that fails half-way too, with a full disk for one: the next try need not fetch these.
            for target, positions in done.items():
                target.log.note(positions)

    def _put(self, part: Range, data: memoryview, done: dict[Target, list[int]]) -> None:
        """Decode, verify and write the chunks of a range; `done` is told of each that is in its place."""
        last: Wanted | None = None
        chunk = memoryview(b"")
        for wanted in part.wanted:
            if last is None or (wanted.offset, wanted.digest) != (last.offset, last.digest):
                at = wanted.offset - part.first
                chunk = _bench.decode(data[at : at + wanted.length], wanted.raw)
                if chunk_digest(chunk) != wanted.digest:
                    raise ChunkDamaged(what="a pack", reason="a chunk's bytes do not have its digest")
            wanted.file.write(wanted.position, chunk)
            done[wanted.file].append(wanted.position)
            last = wanted
            self._advance(wanted.raw)
