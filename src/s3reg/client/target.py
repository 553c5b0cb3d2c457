"""A file being filled: chunks are written at their places, past the system's cache where that can be.

What a pull writes is read next by a VM, hours later perhaps, and is larger than the cache. Through the cache it is copied
once more, page by page, and the disk gets it all at the end: measured, a third of a pull's processor time. So neighbouring
chunks are laid side by side into a buffer that the disk can take from, and go out in one write.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3reg.client import platform
from s3reg.client.platform import DIRECT_BLOCK

if TYPE_CHECKING:
    from s3reg.client.pulllog import PullLog

SIDE_BY_SIDE = 4 * 1024**2
"""Bytes of neighbouring chunks in one write; a chunk at least."""


@dataclass(slots=True, eq=False)
class Target:
    """A file being filled."""

    name: str
    fd: int
    chunk_log2: int
    log: PullLog
    direct: int | None = None
    """The same file, open for writes past the cache."""

    def write(self, position: int, data: memoryview, *, aligned: bool = False) -> None:
        """Put neighbouring chunks at their place, the first at `position`. `aligned`: they lie so in memory as well."""
        at = position << self.chunk_log2
        whole = len(data) - len(data) % DIRECT_BLOCK if aligned and self.direct is not None else 0
        past = self._past_cache(data[:whole], at)
        data, at = data[past:], at + past
        while data:
            count = os.pwrite(self.fd, data, at)
            platform.start_writeback(self.fd, at, count)
            data, at = data[count:], at + count

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)
        if self.direct is not None:
            os.close(self.direct)

    def _past_cache(self, data: memoryview, at: int) -> int:
        """How many of these bytes went straight to the disk: fewer than all where it took only some, or wants none so."""
        done = 0
        while self.direct is not None and done < len(data):
            try:
                done += os.pwrite(self.direct, data[done:], at + done)
            except OSError as e:
                if not platform.is_unsupported(e):
                    raise
                break
        return done


class SideBySide:
    """Neighbouring chunks on their way into a file, in a buffer that the disk can take from. For one thread at a time."""

    def __init__(self) -> None:
        self._buffer = memoryview(mmap.mmap(-1, SIDE_BY_SIDE))
        self._target: Target | None = None
        self._first = 0
        self._count = 0
        self._size = 0

    def make_room(self, target: Target, position: int, length: int) -> int:
        """Make `room` for a chunk: if it is no neighbour of the others, or there is too little, those are written first.

        Gives how many were written, as `flush` does.
        """
        written = 0
        neighbour = target is self._target and self._size == (position - self._first) << target.chunk_log2
        if not neighbour or self._size + length > len(self._buffer):
            written = self.flush()
            self._target, self._first = target, position
        if length > len(self._buffer):
            self._buffer = memoryview(mmap.mmap(-1, length))
        return written

    def room(self, length: int) -> memoryview:
        """Where the chunk belongs that room was made for."""
        return self._buffer[self._size : self._size + length]

    def laid(self, length: int, count: int = 1) -> None:
        """The chunk is there, or so many, side by side."""
        self._size += length
        self._count += count

    def flush(self) -> int:
        """Write what lies here: it is in the file, and noted in its journal, when this returns. Gives how many chunks."""
        target, size, positions = self._target, self._size, range(self._first, self._first + self._count)
        self.drop()
        if target is None or not size:
            return 0
        target.write(positions[0], self._buffer[:size], aligned=True)
        target.log.note(positions)
        return len(positions)

    def drop(self) -> None:
        """Forget what lies here."""
        self._target, self._size, self._count = None, 0, 0
