"""Bytes that are on the disk when a call returns, on both systems that the directory store runs on."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import io


def write(file: io.FileIO, data: bytes) -> None:
    """Write all of `data`: a raw file may take less at once, near the end of a disk for one."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def sync(fd: int) -> None:
    """What was written to the file or directory `fd` outlives a power cut."""
    if sys.platform == "darwin":
        # fsync(2) of macOS hands the bytes to the drive, which may keep them in its cache; this one empties the cache.
        with contextlib.suppress(OSError):  # a network volume may not know it
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            return
    os.fsync(fd)


def sync_folder(folder: str) -> None:
    """What was renamed into or removed from `folder` stays so; nothing if the folder is gone by now."""
    with contextlib.suppress(FileNotFoundError):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sync(fd)
        finally:
            os.close(fd)
