"""Files as maps and packs, made in memory, and a connection that reads them: what the pulling half is tested against."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections import Counter
from typing import TYPE_CHECKING

import zstandard

from s3reg.client.pace import Pace
from s3reg.errors import LinkRefused
from s3reg.model import maps
from s3reg.model.names import Digest, SessionId
from s3reg.model.packs import PackRef

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3reg.model.maps import FileMap
    from s3reg.wire import MapLink

SID = SessionId("5" * 32)


def compressed(chunk: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=1, write_content_size=True).compress(chunk)


class Packs:
    """A store of packs, the connection to it, and the links: all that a Fetcher asks for."""

    def __init__(self, *, frames: int = 7, frame: Callable[[bytes], bytes] = compressed) -> None:
        self.bodies: dict[str, bytes] = {}
        self.reads: list[tuple[str, int, int]] = []
        self.refreshed = 0
        self.garble: Callable[[int, bytes], bytes] = lambda _, data: data
        """(number of the read, from 1; what was read) -> what arrives."""
        self.refuses: Callable[[str], bool] = lambda _: False
        self.pace = Pace()
        self._frames = frames
        self._frame = frame
        self._generation = 0
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)

    def map_of(self, data: bytes, log2: int, *, keep: Callable[[int], bool] = lambda _: True) -> FileMap:
        """The map of a file of these bytes; its chunks are packed, so many in a pack."""
        placed: list[tuple[bytes, PackRef, int, int] | None] = []
        pending: list[tuple[int, bytes, int, int]] = []
        body = b""
        for position, at in enumerate(range(0, len(data), 1 << log2)):
            chunk = data[at : at + (1 << log2)]
            placed.append(None)
            if any(chunk):
                frame = self._frame(chunk)
                pending.append((position, hashlib.sha256(chunk).digest(), len(body), len(frame)))
                body += frame
            if len(pending) == self._frames:
                self._close(body, pending, placed)
                body, pending = b"", []
        if pending:
            self._close(body, pending, placed)
        return maps.make(len(data), log2, placed)

    def _close(self, body: bytes, pending: list[tuple[int, bytes, int, int]], placed: list[object]) -> None:
        body += b"the seek table"
        ref = PackRef(SID, Digest(hashlib.sha256(body).hexdigest()), len(body))
        self.bodies[ref.sha256] = body
        for position, digest, offset, length in pending:
            placed[position] = (digest, ref, offset, length)

    # --- As a connection ---

    def read(
        self,
        link: str,
        *,
        first: int | None = None,
        length: int | None = None,
        into: bytearray | None = None,
        stop: threading.Event | None = None,
    ) -> memoryview:
        assert first is not None
        assert length is not None
        name, _, generation = link.partition("?")
        if self.refuses(link):
            raise LinkRefused(reason=f"403 ({generation})")
        with self._lock:
            number = next(self._numbers)
            self.reads.append((name, first, length))
        return memoryview(self.garble(number, self.bodies[name][first : first + length]))

    def hang_up(self) -> None:
        """Nobody waits for this one."""

    # --- As links ---

    def url(self, ref: PackRef | MapLink) -> str:
        return f"{ref.sha256}?{self._generation}"

    def refresh(self, stale: str) -> None:
        with self._lock:
            if stale.endswith(f"?{self._generation}"):
                self._generation += 1
                self.refreshed += 1

    def count_reads(self) -> Counter[str]:
        return Counter(name for name, _, _ in self.reads)
