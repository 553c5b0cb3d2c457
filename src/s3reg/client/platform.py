"""All that differs by platform: copy-on-write copies, holes, durability, exclusive renames. Who writes a file: writers.py.

Linux and macOS. Where a kernel or a file system lacks something, each function does the next best thing that keeps its
promise, and says which. What Python's standard library does not reach goes through ctypes, in this module only.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import mmap
import os
import shutil
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from s3reg.errors import DiskFull, LocalDenied, QuotaUsedUp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Only modules that Windows lacks: typeshed knows them for Linux and macOS alike.
import fcntl

_DARWIN = sys.platform == "darwin"
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.ENOTTY, errno.EXDEV}
"""What kernels answer for an operation that this file system, or this pair of them, does not know."""
_ZEROS = bytes(1 << 20)
DIRECT_BLOCK = 4096
"""What every disk and file system of today takes for a whole block (man 2 open, O_DIRECT)."""

# Linux: include/uapi/linux/{fs,falloc}.h, fcntl.h; man 2 ioctl_ficlone, fallocate, sync_file_range, renameat2.
_FICLONE = 0x40049409
_PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01
_SYNC_FILE_RANGE_WRITE = 2
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
# macOS: sys/fcntl.h, sys/clonefile.h, sys/stdio.h; man 2 fcntl, clonefile, renamex_np.
_F_NOCACHE = 48
_F_FULLFSYNC = 51
_F_PUNCHHOLE = 99
_CLONE_NOFOLLOW = 1
_RENAME_EXCL = 4
_APFS_BLOCK = 4096


# --- Bytes -----------------------------------------------------------------------------------------------------------


def clone(src: Path, dst: Path) -> bool:
    """Make `dst` a copy of `src` that shares its blocks until either is written. `dst` is writable by its owner.

    False, with nothing left at `dst`, where the file system cannot. Raises FileExistsError if there is a `dst`.
    """
    if _DARWIN:
        return _clonefile(src, dst)
    return _ficlone(src, dst)


def data_extents(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """The parts of the first `size` bytes that may hold data, as (start, end), end open, in order; between them are holes.

    A file system that knows no holes gives one extent. The file offset is moved.
    """
    start = 0
    while start < size:
        try:
            start = os.lseek(fd, start, os.SEEK_DATA)
        except OSError as e:
            if e.errno == errno.ENXIO:  # only a hole from here on
                return
            if e.errno not in _UNSUPPORTED:
                raise
            yield start, size
            return
        if start >= size:
            return
        end = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        yield start, end
        start = end


def punch_hole(fd: int, offset: int, length: int) -> None:
    """Make `length` bytes from `offset` read as zeros and, where the file system can, cost nothing.

    The range lies inside the file. Where no hole can be made, zeros are written.
    """
    if length <= 0:
        return
    if _DARWIN:
        _punch_darwin(fd, offset, length)
    elif not _libc_call("fallocate", fd, _PUNCH_HOLE_KEEP_SIZE, ctypes.c_int64(offset), ctypes.c_int64(length)):
        _write_zeros(fd, offset, length)


def start_writeback(fd: int, offset: int, length: int) -> None:
    """Ask the kernel to begin writing this range to the disk, so that a later `sync` has less to wait for.

    A hint: it waits for nothing, promises nothing, and does nothing where there is no such call.
    """
    if not _DARWIN:
        _libc_call(
            "sync_file_range", fd, ctypes.c_int64(offset), ctypes.c_int64(length), ctypes.c_uint(_SYNC_FILE_RANGE_WRITE)
        )


def open_direct(path: Path, flags: int = os.O_WRONLY) -> int | None:
    """The file, open past the system's cache; None where the file system has no such way.

    What passes lies at multiples of `DIRECT_BLOCK`, in the file and in memory, and is as long.
    """
    try:
        if sys.platform == "darwin":
            fd = os.open(path, flags | os.O_CLOEXEC)
            fcntl.fcntl(fd, _F_NOCACHE, 1)
            return fd
        return os.open(path, flags | os.O_DIRECT | os.O_CLOEXEC)
    except OSError as e:
        if e.errno not in _UNSUPPORTED:
            raise
        return None


def read_direct(fd: int, view: memoryview, offset: int) -> int:
    """Fill `view` past the cache; how many bytes. None where the disk wants larger blocks than it lies at."""
    try:
        return os.preadv(fd, [view], offset)
    except OSError as e:
        if not is_unsupported(e):
            raise
        return 0


def is_cached(fd: int, offset: int, length: int) -> bool:
    """Whether the system's cache has nearly all of this range, from a multiple of the page size on.

    Asked without reading (man 2 mincore). Where that cannot be asked, the answer is yes: reading through the cache is never
    wrong, and macOS looks there by itself.
    """
    if sys.platform == "darwin":
        return True
    libc, pages = _libc(), -(-length // mmap.PAGESIZE)
    libc.mmap.restype = ctypes.c_void_p
    place = libc.mmap(
        None, ctypes.c_size_t(length), mmap.PROT_READ, mmap.MAP_SHARED, ctypes.c_int(fd), ctypes.c_int64(offset)
    )
    if place is None or place == ctypes.c_void_p(-1).value:
        return True
    try:
        found = ctypes.create_string_buffer(pages)
        if libc.mincore(ctypes.c_void_p(place), ctypes.c_size_t(length), found) != 0:
            return True
        return found.raw.count(1) * 10 >= pages * 9
    finally:
        libc.munmap(ctypes.c_void_p(place), ctypes.c_size_t(length))


def is_unsupported(error: OSError) -> bool:
    """Whether the kernel says that this file system, or this file, does not know what was asked for."""
    return error.errno in _UNSUPPORTED


def sync(fd: int) -> None:
    """Return once the file's bytes and size would survive a power cut."""
    if sys.platform == "darwin":
        # fsync there stops at the drive's cache; man 2 fsync sends those who mean it to F_FULLFSYNC.
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, _F_FULLFSYNC)
            return
        os.fsync(fd)
    else:
        os.fdatasync(fd)


def sync_folder(path: Path) -> None:
    """Return once the names in this folder would survive a power cut, where the file system can tell."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as e:
        if e.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(fd)


def free_bytes(path: Path, *, wanted: int = 0) -> int:
    """Bytes that this user may still write where `path` lies.

    Some file systems, btrfs for one, count what was deleted just now only later: if it is fewer than `wanted`, that is
    waited for.
    """
    free = shutil.disk_usage(path).free
    if free < wanted:
        os.sync()
        free = shutil.disk_usage(path).free
    return free


# --- Names -----------------------------------------------------------------------------------------------------------


def rename_exclusive(src: Path, dst: Path) -> None:
    """Rename a file or a folder; FileExistsError if there is a `dst`, decided by the kernel in the same step.

    Where the file system has no such rename, a file is linked and unlinked, and a folder moved over an empty one that this
    call made. A kill between these two steps leaves both names of the file, or the empty folder.
    """
    source, target = os.fsencode(src), os.fsencode(dst)
    if _DARWIN:
        done = _libc_call("renamex_np", source, target, ctypes.c_uint(_RENAME_EXCL))
    else:
        done = _libc_call("renameat2", _AT_FDCWD, source, _AT_FDCWD, target, ctypes.c_uint(_RENAME_NOREPLACE))
    if done:
        return
    if src.is_dir() and not src.is_symlink():
        dst.mkdir()
        try:
            src.rename(dst)
        except OSError:
            dst.rmdir()
            raise
    else:
        os.link(src, dst, follow_symlinks=False)
        src.unlink()


# --- The machine -----------------------------------------------------------------------------------------------------


@functools.cache
def boot_id() -> str:
    """A text that changes with every boot of this machine, and only then."""
    if sys.platform == "darwin":
        size = ctypes.c_size_t(64)
        text = ctypes.create_string_buffer(size.value)
        if not _libc_call("sysctlbyname", b"kern.bootsessionuuid", text, ctypes.byref(size), None, ctypes.c_size_t(0)):
            return "unknown"
        return text.value.decode("ascii", "replace")
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def default_library() -> Path:
    """Where this user's VMs lie if nothing else is said: Anka's own library on macOS."""
    if _DARWIN:
        return Path.home() / "Library" / "Application Support" / "Veertu" / "Anka"
    return Path.home() / ".local" / "share" / "s3reg" / "library"


@contextlib.contextmanager
def refusals_named(path: Path, *, needed: Callable[[], int] | None = None) -> Iterator[None]:
    """Whatever the operating system refuses inside, said as DiskFull or LocalDenied; `path` if it names no file itself.

    `needed` tells the bytes that are yet to be written, if anybody knows. FileExistsError passes: it is an answer, not a
    refusal.
    """
    try:
        yield
    except FileExistsError:
        raise
    except OSError as e:
        if e.errno in {errno.ENOSPC, errno.EDQUOT}:
            there = next(folder for folder in (path, *path.parents) if folder.is_dir())
            free = free_bytes(there)
            wanted = f"more than {free}" if needed is None else needed()
            if e.errno == errno.EDQUOT:
                # What is free there is not for this user, or not in this folder.
                raise QuotaUsedUp(folder=str(there), needed="more" if needed is None else wanted) from e
            raise DiskFull(folder=str(there), needed=wanted, free=free) from e
        raise LocalDenied(file=str(e.filename or path), reason=e.strerror or str(e)) from e


# --- Linux -----------------------------------------------------------------------------------------------------------


def _ficlone(src: Path, dst: Path) -> bool:
    source = os.open(src, os.O_RDONLY | os.O_CLOEXEC)
    try:
        target = os.open(dst, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            fcntl.ioctl(target, _FICLONE, source)
        except OSError as e:
            dst.unlink()
            if e.errno in _UNSUPPORTED:
                return False
            raise
        else:
            return True
        finally:
            os.close(target)
    finally:
        os.close(source)


# --- macOS -----------------------------------------------------------------------------------------------------------


def _clonefile(src: Path, dst: Path) -> bool:
    if not _libc_call("clonefile", os.fsencode(src), os.fsencode(dst), ctypes.c_uint(_CLONE_NOFOLLOW)):
        return False
    dst.chmod(dst.stat().st_mode | 0o200)  # a clone has the mode of its source
    return True


def _punch_darwin(fd: int, offset: int, length: int) -> None:
    """F_PUNCHHOLE takes whole blocks only; zeros are written at the edges."""
    first = -(-offset // _APFS_BLOCK) * _APFS_BLOCK
    last = (offset + length) // _APFS_BLOCK * _APFS_BLOCK
    if first < last:
        try:
            # struct fpunchhole: flags, reserved, offset, length
            fcntl.fcntl(fd, _F_PUNCHHOLE, struct.pack("=IIqq", 0, 0, first, last - first))
        except OSError as e:
            if e.errno not in _UNSUPPORTED:
                raise
        else:
            _write_zeros(fd, offset, first - offset)
            _write_zeros(fd, last, offset + length - last)
            return
    _write_zeros(fd, offset, length)


# --- ctypes ----------------------------------------------------------------------------------------------------------


def _write_zeros(fd: int, offset: int, length: int) -> None:
    end = offset + length
    while offset < end:
        offset += os.pwrite(fd, _ZEROS[: end - offset], offset)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _libc_call(name: str, *arguments: object) -> bool:
    """Call a function of the C library that answers 0 for success. False where there is none, or it is not supported.

    Raises the OSError that errno says.
    """
    call = getattr(_libc(), name, None)
    if call is None:
        return False
    call.restype = ctypes.c_int
    while call(*arguments) != 0:
        code = ctypes.get_errno()
        if code == errno.EINTR:
            continue
        # EINVAL is among these: file systems answer it for a flag that they do not know.
        if code in _UNSUPPORTED:
            return False
        raise OSError(code, os.strerror(code))
    return True
