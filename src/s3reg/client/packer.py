"""Packs in the making, and on their way to the store.

Frames are laid one behind the other into a buffer; a full buffer gets its seek table, is hashed and sent by a thread of its
own, and comes back empty. There are only so many buffers: when all are on the line, whoever has the next frame waits. So
memory is bounded by buffers, and the store's speed sets the pace.
"""

from __future__ import annotations

import array
import hashlib
import queue
import threading
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3reg import wire
from s3reg.client.effort import Effort
from s3reg.client.reuse import Place
from s3reg.errors import AnswerInvalid, LinkRefused
from s3reg.model.names import Digest, SessionId
from s3reg.model.packs import MOST_FRAMES, PackRef, seek_table, seek_table_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3reg.client.connection import Connection
    from s3reg.client.pushlog import PushLog
    from s3reg.client.reuse import Shelf
    from s3reg.client.scan import Frame

PACK_BYTES = 32 * 1024**2
"""Bytes of a full pack: what a crash may cost, times the packs on the line."""
FEWEST_BYTES = 8 * 1024**2
"""Of a full pack, on a slow line."""
PACK_SECONDS = 4
"""How long a pack should be on the line: a connection that breaks costs half of it."""
ON_THE_LINE = 10
"""Packs that are sent at once, at most: with their buffers, this bounds memory."""
LINK_TRIES = 4


@dataclass(slots=True)
class Making:
    """A pack in the making."""

    row: int
    """Its row in the table of packs."""
    buffer: bytearray
    compressed: array.array[int]
    raw: array.array[int]
    digests: bytearray
    limit: int
    """Its bytes at most, seek table and all."""
    size: int = 0

    def fits(self, frame: bytes) -> bool:
        """Whether the frame, and the table that grows with it, still go in."""
        frames = len(self.compressed) + 1
        return frames <= MOST_FRAMES and self.size + len(frame) + seek_table_bytes(frames) <= self.limit

    def add(self, frame: Frame) -> Place:
        """Lay the frame behind the others."""
        place = Place(self.row, self.size, len(frame.data))
        self.buffer[self.size : self.size + len(frame.data)] = frame.data
        self.size += len(frame.data)
        self.compressed.append(len(frame.data))
        self.raw.append(frame.raw)
        self.digests += frame.digest
        return place

    def seal(self) -> memoryview:
        """The pack's bytes, seek table and all."""
        table = seek_table(self.compressed, self.raw)
        self.buffer[self.size : self.size + len(table)] = table
        return memoryview(self.buffer)[: self.size + len(table)]


class Links:
    """Upload links, asked for in small batches just in time: what several threads want at once is one call."""

    def __init__(self, connection: Connection, session: str) -> None:
        self._connection = connection
        self._path = f"{wire.PREFIX}/sessions/{session}/uploads"
        self._wanted: queue.SimpleQueue[tuple[wire.Upload, Future[wire.UploadLink]]] = queue.SimpleQueue()
        self._asking = threading.Lock()

    def get(self, upload: wire.Upload) -> wire.UploadLink:
        """A fresh link for this upload."""
        mine: Future[wire.UploadLink] = Future()
        self._wanted.put((upload, mine))
        with self._asking:
            # More than one call, when more are waiting than one call may ask for.
            while not mine.done():
                self._ask()
        return mine.result()

    def _ask(self) -> None:
        batch: list[tuple[wire.Upload, Future[wire.UploadLink]]] = []
        while len(batch) < wire.MOST_UPLOADS and not self._wanted.empty():
            batch.append(self._wanted.get())
        try:
            links = self._links_for([upload for upload, _ in batch])
        except BaseException as e:
            for _, waiting in batch:
                waiting.set_exception(e)
            raise
        for (_, waiting), link in zip(batch, links, strict=True):
            waiting.set_result(link)

    def _links_for(self, uploads: list[wire.Upload]) -> tuple[wire.UploadLink, ...]:
        request = wire.write(wire.UploadsRequest(tuple(uploads)))
        answer: wire.UploadsAnswer = self._connection.ask(wire.UploadsAnswerSchema, "POST", self._path, request)
        if len(answer.links) != len(uploads):
            raise AnswerInvalid(url=self._connection.url, reason="it has not as many links as were asked for")
        return answer.links


class Packer:
    """Lays frames into packs and sends them. Used by one thread; the sending is done by others.

    The first failure to send is raised by whatever is called next, and by everything after that.
    """

    def __init__(
        self,
        connection: Connection,
        session: SessionId,
        shelf: Shelf,
        log: PushLog,
        acknowledged: Callable[[int], None],
        *,
        effort: Effort | None = None,
        pack_bytes: int = PACK_BYTES,
        on_the_line: int = ON_THE_LINE,
    ) -> None:
        self.sent = 0
        """Bytes that the store acknowledged."""
        self.stored = 0
        """Bytes of the chunks that were laid into packs, before compression."""
        self._connection = connection
        self._session = session
        self._shelf = shelf
        self._log = log
        self._acknowledged = acknowledged
        self._links = Links(connection, session)
        self._effort = effort or Effort()
        self._pack_bytes = pack_bytes
        self._most = min(on_the_line, connection.pace.most)
        self._threads = ThreadPoolExecutor(self._most, thread_name_prefix="line")
        self._buffers: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        self._made = 0
        self._underway: list[Future[None]] = []
        self._failed: BaseException | None = None
        self._stop = threading.Event()
        self._making: Making | None = None
        self._counting = threading.Lock()

    def add(self, frame: Frame) -> Place:
        """Lay one frame into a pack; waits while every buffer is on the line."""
        self._raise_failure()
        known = self._shelf.chunks.get(frame.digest)
        if known is not None and known.pack in self._shelf.own:
            self._acknowledged(frame.raw)
            return known
        if self._making is not None and not self._making.fits(frame.data):
            self._launch()
        if self._making is None:
            self._making = self._begin()
        place = self._making.add(frame)
        self.stored += frame.raw
        self._shelf.chunks[frame.digest] = place
        return place

    def flush(self) -> None:
        """Send what is left and wait until the store has everything."""
        self._launch()
        wait(self._underway, return_when=FIRST_EXCEPTION)
        self._raise_failure()
        self._underway.clear()

    def send_map(self, data: bytes) -> tuple[str, int]:
        """Upload a map; its name and size."""
        sha256 = hashlib.sha256(data).hexdigest()
        self._put(wire.Upload("map", sha256, len(data)), memoryview(data))
        with self._counting:
            self.sent += len(data)
        return sha256, len(data)

    def close(self) -> None:
        """Drop what is not sent yet, packs on the line included."""
        self._stop.set()
        if not all(future.done() for future in self._underway):
            self._connection.hang_up()
        self._threads.shutdown(cancel_futures=True)

    def _begin(self) -> Making:
        buffer = self._buffer()
        row = len(self._shelf.table)
        self._shelf.table.append(None)
        self._shelf.own.add(row)
        return Making(row, buffer, array.array("I"), array.array("I"), bytearray(), self._limit())

    def _buffer(self) -> bytearray:
        """One that is free: as many are made as packs may be on the line now, and one to fill."""
        if self._buffers.empty() and self._made <= min(self._most, self._connection.pace.allowed):
            self._made += 1
            return bytearray(self._pack_bytes)
        if self._buffers.empty():
            self._effort.cores_wait()
        elif all(future.done() for future in self._underway[:-1]):
            self._effort.line_waits()
        else:
            self._effort.neither()
        return self._buffers.get()

    def _limit(self) -> int:
        """Bytes of the next pack: what one connection carries in a few seconds, as far as that is known."""
        pace = self._connection.pace
        wanted = FEWEST_BYTES if pace.rate is None else int(PACK_SECONDS * pace.rate / pace.allowed)
        return min(self._pack_bytes, max(FEWEST_BYTES, wanted))

    def _raise_failure(self) -> None:
        if self._failed is not None:
            raise self._failed

    def _launch(self) -> None:
        if self._making is not None:
            self._underway = [future for future in self._underway if not future.done()]
            self._underway.append(self._threads.submit(self._send, self._making))
            self._making = None

    def _send(self, pack: Making) -> None:
        try:
            body = pack.seal()
            sha256 = Digest(hashlib.sha256(body).hexdigest())
            self._put(wire.Upload("pack", sha256, len(body)), body)
            ref = PackRef(self._session, sha256, len(body))
            self._shelf.table[pack.row] = ref
            self._log.note(ref, pack.compressed, bytes(pack.digests))
            with self._counting:
                self.sent += len(body)
            self._acknowledged(sum(pack.raw))
        except BaseException as e:
            with self._counting:
                self._failed = self._failed or e
            raise
        finally:
            # Back in any case: whoever waits for a buffer must come to see the failure.
            self._buffers.put(pack.buffer)

    def _put(self, upload: wire.Upload, body: memoryview) -> None:
        for attempt in range(LINK_TRIES):
            try:
                with self._connection.pace.turn(self._stop):
                    link = self._links.get(upload)
                    return self._connection.send(link.url, link.headers, body, stop=self._stop)
            except LinkRefused:
                # It may have expired while it waited for its turn on a slow line; a second refusal has another reason.
                if attempt == LINK_TRIES - 1:
                    raise
        return None
