"""Copies of big files: sharing blocks where the file system can, holes staying holes where it cannot."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from s3reg.client import platform
from s3reg.errors import FileChanged

if TYPE_CHECKING:
    from pathlib import Path

PIECE = 4 * 1024**2
"""Bytes read and written at a time."""


def copy(src: Path, dst: Path) -> None:
    """Make `dst` a durable copy of the file `src`, with its mode, but writable by its owner.

    Raises FileExistsError, and FileChanged if `src` changed meanwhile. OSErrors pass; on any of them nothing is left at
    `dst`.
    """
    source = os.open(src, os.O_RDONLY | os.O_CLOEXEC)
    try:
        before = _look(source)
        if not platform.clone(src, dst):
            _check_room(source, dst)
            _copy_data(source, dst, before[0])
        try:
            dst.chmod(stat.S_IMODE(os.fstat(source).st_mode) & 0o777 | 0o200)
            sync_file(dst)
            _check_unchanged(source, before, src.name)
        except BaseException:
            dst.unlink()
            raise
    finally:
        os.close(source)


def _copy_data(source: int, dst: Path, size: int) -> None:
    target = os.open(dst, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        os.ftruncate(target, size)
        # One buffer for all: fresh memory for each piece would be paid for in page faults.
        buffer = memoryview(bytearray(PIECE))
        for start, end in platform.data_extents(source, size):
            at = start
            while at < end:
                data = buffer[: os.preadv(source, [buffer[: min(PIECE, end - at)]], at)]
                if not data:
                    break  # it became shorter; the caller finds out
                done = 0
                while done < len(data):
                    done += os.pwrite(target, data[done:], at + done)
                platform.start_writeback(target, at, len(data))
                at += len(data)
    except BaseException:
        dst.unlink()
        raise
    finally:
        os.close(target)


def _check_room(source: int, dst: Path) -> None:
    """Said at once, not after an hour."""
    needed = os.fstat(source).st_blocks * 512
    if needed > platform.free_bytes(dst.parent, wanted=needed):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(dst))


def _look(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_size, found.st_mtime_ns


def _check_unchanged(fd: int, before: tuple[int, int], name: str) -> None:
    if _look(fd) != before:
        raise FileChanged(file=name)


def sync_file(path: Path) -> None:
    """Return once the file's bytes would survive a power cut."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        platform.sync(fd)
    finally:
        os.close(fd)
