"""The listings of a directory store: its directories walked in the order of keys; those that did not change, not again.

Whatever is put in place or removed changes its directory's time, which the file system takes from its own clock. That clock
ticks, every few milliseconds on Linux: two changes within a tick leave one time. So before directories are read, the
clock is asked, by touching a file. Those whose times it has passed show any later change; those whose times it has not are
read again the next time.

What is put in another's place while its directory is read may be given neither as it was nor as it is: btrfs and tmpfs
put it behind all others, where a reader that began before does not look. So no directory is read while that happens.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3reg.errors import StoreUnavailable
from s3reg.store import Listing, Stat, paths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_UNLOCKED = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOSPC, errno.EDQUOT}
_UNLOCKED |= {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}
"""Where these last, nothing can be replaced from here either. Others pass, and somebody replaces meanwhile: EMFILE, EIO."""
TRUSTED_SECONDS = 60
"""After which all is looked at again: what others write into a file in place changes no directory."""

_Times = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Read:
    """The traces of a listing: each directory that was read, and its times before; None for one that is not there."""

    folders: Mapping[str, _Times | None]
    until: float
    """By the monotonic clock."""


class Folders:
    """The directories below `root`. `check_alive` raises if the store itself is gone; `location` names it in texts.

    `touched` is a file whose times may be set, and that may be locked; where that fails, nothing is trusted.
    """

    def __init__(
        self,
        root: str,
        touched: str,
        location: str,
        check_alive: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._touched = touched
        self._location = location
        self._check_alive = check_alive
        self._clock = clock

    def walk(self, prefix: str, after: str = "") -> Iterator[Stat]:
        """As `list` of the port. One directory at a time is read, in order."""
        return self._walk(prefix, after, None)

    def again(self, prefix: str, before: Listing | None) -> Listing:
        """As `relist` of the port."""
        traces = before.traces if before else None
        if before and isinstance(traces, _Read) and self._is_unchanged(traces):
            self._check_alive()
            return before
        began, passed = self._clock(), self._passed()
        folders: dict[str, _Times | None] = {}
        stats = tuple(self._walk(prefix, "", folders))
        settled = all(times is None or max(times[2:]) < passed for times in folders.values())
        return Listing(stats, _Read(folders, began + TRUSTED_SECONDS) if settled else None)

    @contextlib.contextmanager
    def replacing(self) -> Iterator[None]:
        """While an object is put in another's place."""
        with self._held(fcntl.LOCK_SH):
            yield

    @contextlib.contextmanager
    def _held(self, kind: int) -> Iterator[None]:
        """Those who replace hold it together; who reads a directory, alone: that is short, and the others are many."""
        with contextlib.ExitStack() as held:
            try:
                fd = os.open(self._touched, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                held.callback(os.close, fd)
                fcntl.flock(fd, kind)
            except OSError as e:
                if e.errno not in _UNLOCKED:
                    raise
            yield

    def _is_unchanged(self, traces: _Read) -> bool:
        return self._clock() < traces.until and all(
            self._times(folder) == times for folder, times in traces.folders.items()
        )

    def _times(self, directory: str) -> _Times | None:
        """Which directory it is, and when it last changed; None if there is none."""
        try:
            found = os.stat(directory)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as e:
            raise self.refused(directory, e.strerror) from e
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns

    def _passed(self) -> int:
        """The file system's own time: no change that is still to come gets an earlier one. 0 if it cannot be had."""
        with contextlib.suppress(OSError):
            fd = os.open(self._touched, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.utime(fd)
                return os.fstat(fd).st_mtime_ns
            finally:
                os.close(fd)
        return 0

    def _walk(self, prefix: str, after: str, folders: dict[str, _Times | None] | None) -> Iterator[Stat]:
        folder = prefix[: prefix.rfind("/") + 1]
        if paths.is_folder(folder):
            yield from self._below(folder, prefix, after, folders)
            # What vanished with its volume was passed over like what somebody deleted.
            self._check_alive()

    def _below(
        self, folder: str, prefix: str, after: str, folders: dict[str, _Times | None] | None, *, met: bool = False
    ) -> Iterator[Stat]:
        """The objects below `folder`, a key's beginning up to a slash. `folders` gets each directory that is read.

        `met`: it was met in another one, and not asked for.
        """
        directory = f"{self._root}/{paths.of_folder(folder)}"
        if folders is not None:
            # Before its entries are read: what comes in between shows as a later time.
            folders[directory] = self._times(directory)
        for name, entry in self._entries(directory, met=met):
            key = folder + name
            if name.endswith("/"):
                if (key.startswith(prefix) or prefix.startswith(key)) and (key > after or after.startswith(key)):
                    yield from self._below(key, prefix, after, folders, met=True)
            elif key > after and key.startswith(prefix):
                try:
                    found = os.stat(directory + entry)
                except FileNotFoundError:
                    self.check_absent(directory + entry)
                    continue  # deleted meanwhile
                except OSError as e:
                    raise self.refused(directory + entry, e.strerror) from e
                if stat.S_ISREG(found.st_mode):
                    yield stat_of(key, found)

    def _entries(self, directory: str, *, met: bool) -> Sequence[tuple[str, str]]:
        """What lies in a directory, in the order of keys: names, those of directories with a slash, and file names."""
        try:
            with self._held(fcntl.LOCK_EX):
                found = os.listdir(directory)
            return sorted((name, entry) for entry in found if (name := paths.name_of(entry)))
        except FileNotFoundError:
            self.check_absent(directory)
            return []
        except OSError as e:
            if met and e.errno == errno.ENOTDIR:
                return []  # somebody's file that is called like a directory of ours
            raise self.refused(directory, e.strerror) from e

    def check_absent(self, path: str) -> None:
        """Raise StoreUnavailable unless what was not found is not there: not if the store is gone, or a link leads nowhere.

        A part of the store may lie on another volume, which is not mounted now.
        """
        self._check_alive()
        path = path.rstrip("/")
        while len(path) > len(self._root) and not os.path.lexists(path):
            path = os.path.dirname(path)
        if os.path.islink(path) and not os.path.exists(path):
            raise self.refused(path, "a link there leads nowhere")

    def refused(self, path: str | None, reason: str | None) -> StoreUnavailable:
        """What the operating system says of a file or directory, as an error that names it to who works on the store."""
        error = StoreUnavailable(store=self._location, reason=reason)
        error.about = path
        return error


def etag_of(found: os.stat_result) -> str:
    """The ETag of the object that is this file."""
    return f"{found.st_mtime_ns:x}-{found.st_size:x}"


def stat_of(key: str, found: os.stat_result) -> Stat:
    """The stat of the object that is this file."""
    return Stat(key, etag_of(found), found.st_size, found.st_mtime)
