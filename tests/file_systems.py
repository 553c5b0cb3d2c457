"""File systems of their own for a test: small loop devices, mounted, filled, made read-only, or cut off from their power.

    with mounted(tmp_path / "disk", "xfs") as disk:
        disk.leave(64 * KIB)        another program takes all but so much of it
        disk.cut_power()            what was not synced is gone

A machine that cannot mount them says so in the last lines of the run.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from machines import MIB
from servers import lacking, needs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAKE = {
    "btrfs": ["-q"],
    "ext4": ["-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
    "xfs": ["-q", "-m", "reflink=1"],
}
SMALLEST = {"btrfs": 128 * MIB, "ext4": 64 * MIB, "xfs": 304 * MIB}
"""What the makers of these file systems take; the image is sparse."""
SHARING = ("btrfs", "xfs")
"""Those that let files share blocks."""
SECONDS = 30

# Linux: fs/xfs/xfs_fs.h, XFS_IOC_GOINGDOWN and XFS_FSOP_GOING_FLAGS_NOLOGFLUSH; include/uapi/linux/fs.h, FS_IOC_FIEMAP.
_GOING_DOWN = 0x8004587D
_NO_LOG_FLUSH = 2
_FIEMAP = 0xC020660B
_FIEMAP_SYNC = 1
_EXTENT_SHARED = 0x2000


@dataclass
class Disk:
    """A mounted file system."""

    kind: str
    image: Path
    folder: Path
    """Where it is mounted."""
    options: tuple[str, ...] = ()
    _ballast: list[Path] = field(default_factory=list)

    @property
    def free(self) -> int:
        """Bytes that may still be written, once nothing waits to be."""
        os.sync() if self.kind == "btrfs" else self._sync()
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def leave(self, free: int) -> None:
        """Another program takes all but about so many bytes; what an earlier call took is given back first."""
        self.give_back()
        for size in (MIB, 64 * 1024, 4096):
            while (spare := self.free - free) >= size:
                if not self._take(spare - spare % size):
                    break

    def give_back(self) -> None:
        """What `leave` took is free again."""
        for path in self._ballast:
            path.unlink()
        self._ballast.clear()

    def remount(self, options: str) -> None:
        """Mount it anew as it stands, read-only for instance."""
        subprocess.run(["mount", "-o", f"remount,{options}", self.folder], check=True)

    def mount(self) -> None:
        """Mount it; what its log has is replayed."""
        options = ",".join(("loop", *self.options))
        subprocess.run(["mount", "-o", options, self.image, self.folder], check=True, capture_output=True)

    def unmount(self) -> None:
        """Unmount it; who was at work there was killed, and may be about to close its last file."""
        deadline = time.monotonic() + SECONDS
        while subprocess.run(["umount", self.folder], check=False, capture_output=True).returncode != 0:
            assert time.monotonic() < deadline, f"{self.folder} is still in use"
            time.sleep(0.01)

    def fail(self) -> None:
        """It stops at once, as if the power were cut: every access fails from now on (XFS only)."""
        fd = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _GOING_DOWN, struct.pack("=I", _NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def cut_power(self) -> None:
        """The power goes and comes back: what was not synced is lost (XFS only)."""
        self.fail()
        self.unmount()
        self.mount()

    def _sync(self) -> None:
        fd = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _take(self, size: int) -> bool:
        path = self.folder / f"ballast-{len(self._ballast)}"
        try:
            with path.open("wb") as file:
                self._ballast.append(path)
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError as e:
            if e.errno != errno.ENOSPC:
                raise
            return False
        return True


def check_possible() -> None:
    """Skip the test that asks, unless this machine lets us mount."""
    if sys.platform != "linux" or os.geteuid() != 0:
        lacking("file systems of their own (run as root on Linux)")


@contextlib.contextmanager
def mounted(where: Path, kind: str, *, size: int = 0, options: tuple[str, ...] = ()) -> Iterator[Disk]:
    """A fresh file system of this kind and of so many bytes (0: as few as may be), mounted at `where`/disk."""
    check_possible()
    make = needs(f"mkfs.{kind}")
    where.mkdir(parents=True)
    disk = Disk(kind, where / "image", where / "disk", options)
    disk.folder.mkdir()
    with disk.image.open("wb") as file:
        file.truncate(size or SMALLEST[kind])
    subprocess.run([make, *MAKE[kind], disk.image], check=True, capture_output=True)
    try:
        disk.mount()
    except subprocess.CalledProcessError:
        lacking(f"a mounted {kind} {' '.join(options)} (the machine refuses)")
    try:
        yield disk
    finally:
        disk.unmount()
        disk.image.unlink()


def shared_bytes(path: Path) -> int:
    """Bytes of the file that other files share with it."""
    return sum(length for length, flags in _extents(path) if flags & _EXTENT_SHARED)


def _extents(path: Path) -> Iterator[tuple[int, int]]:
    """Length and flags of each extent of the file."""
    start, most = 0, 256
    with path.open("rb") as file:
        while True:
            request = bytearray(32 + most * 56)
            struct.pack_into("=QQIIII", request, 0, start, 2**64 - 1 - start, _FIEMAP_SYNC, 0, most, 0)
            fcntl.ioctl(file.fileno(), _FIEMAP, request)
            (count,) = struct.unpack_from("=I", request, 20)
            for at in range(32, 32 + count * 56, 56):
                logical, _, length, flags = struct.unpack_from("=QQQ16xI", request, at)
                yield length, flags
                start = logical + length
            if count < most:
                return
