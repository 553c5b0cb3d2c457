"""Room that a directory store keeps for the moment when its disk is full: without it, nothing could be freed any more.

To free room something has to be written first: a head without the version that goes, a sweep's marker. So a file holds some
blocks. What takes room is refused unless it holds all of them; what replaces an object, or is written to free room, may have
them, and they are taken back as soon as there is room again. A disk that was full before is left as it is.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from typing import TYPE_CHECKING, TypeVar

from s3reg.errors import StoreFull, StoreInodesUsedUp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")
MOST = 4 * 1024**2
"""Bytes; a sweep's largest marker has a quarter of it."""
SHARE = 64
"""Of a small disk it is this part."""
FULL = {errno.ENOSPC, errno.EDQUOT}
_STEP = 64 * 1024
"""Given up at once, at least: a file's last block and what a directory or the file system itself may need beside it."""
_PIECE = os.urandom(_STEP)
"""Not zeros: a file system that compresses would keep nothing for these."""
_FEW = 8
"""Inodes: an object takes one, and so does each directory on the way to it."""


class Reserve:
    """The blocks of the file `path`. Safe between threads and processes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def is_whole(self) -> bool:
        """Whether it has all its blocks, or could have them again now. Raises OSError, but not because the disk is full."""
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_size >= MOST:
                return True
        try:
            return self._is_filled()
        except OSError as e:
            # Not even the file can be made: a disk may be out of inodes.
            if e.errno not in FULL:
                raise
            return False

    def _is_filled(self) -> bool:
        with self._locked() as fd:
            disk = os.fstatvfs(fd)
            whole = min(MOST, disk.f_blocks * disk.f_frsize // SHARE)
            before = at = os.fstat(fd).st_size
            try:
                while at < whole:
                    # Near the end of a disk it may take less.
                    at += os.pwrite(fd, _PIECE[: whole - at], at)
                if at > before:
                    os.fsync(fd)
            except OSError as e:
                if e.errno not in FULL:
                    raise
                os.ftruncate(fd, before)
                return False
        return True

    def check(self, size: int) -> None:
        """Raise OSError where there is no room for anything new: some of the reserve had to be given up."""
        if size and not self.is_whole():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def spent(self, size: int, act: Callable[[], T]) -> T:
        """What `act` gives, which writes so many bytes; where the disk is full, from the reserve, as long as it lasts."""
        with contextlib.ExitStack() as taking_back:
            while True:
                try:
                    return act()
                except OSError as e:
                    if e.errno not in FULL or not self._give(max(_STEP, 2 * size)):
                        raise
                    taking_back.callback(self.is_whole)

    def _give(self, size: int) -> bool:
        """Give up so many bytes; False if there are none left."""
        with self._locked() as fd:
            before = os.fstat(fd).st_size
            os.ftruncate(fd, max(0, before - size))
            os.fsync(fd)
        return before > 0

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd
        finally:
            os.close(fd)


def full(store: str, folder: str) -> StoreFull:
    """What the store lacks, once its disk was full: bytes, a quota of them, or inodes, of which the reserve keeps none."""
    with contextlib.suppress(OSError):
        disk = os.statvfs(folder)
        # Where inodes are made as they are needed, none are counted.
        if disk.f_files and disk.f_favail < _FEW:
            return StoreInodesUsedUp(store=store)
    return StoreFull(store=store)
