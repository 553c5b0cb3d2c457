"""The store in a directory: the embedded default for one machine.

    <root>/format.json                    object `format.json`
    <root>/heads.d/<uuid>.json            object `heads/<uuid>.json`: the directories of a key carry `.d`, objects do not,
                                          so that `a` and `a/b` lie side by side
    <root>/.tmp/                          objects being written
    <root>/.locks/00 … ff                 one is locked while an object whose key hashes to it is put in place or removed
    <root>/.locks/clock                   empty: touched to ask the file system for its time, locked to read a directory
    <root>/.locks/reserve                 blocks for the moment when the disk is full (reserve.py)
    <root>/.locks/<turn>                  whose time is when one of many processes did last what is done once in a while

An object is written aside, synced and renamed into place: a crash leaves the old object or the new one. What a precondition
asks is looked at under the key's lock (flock: it holds between threads and between processes). The ETag is the time of
last change, in nanoseconds, and the size. Each write sets that time itself, later than the one it replaces, so one directory
scan tells all that a listing needs and no object is read for it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol

from s3reg.errors import (
    ChecksumMismatch,
    ObjectNotFound,
    PreconditionFailed,
    PutUnsettled,
    S3regError,
    StoreReadOnly,
    StoreUnavailable,
    StoreUnsuitable,
)
from s3reg.store import ABSENT, Absent, Link, Listing, Match, Object, Room, Stat, check_key, durable, links, paths
from s3reg.store.files_list import Folders, etag_of, stat_of
from s3reg.store.reserve import FULL, Reserve, full

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_TMP, _LOCKS, _CLOCK, _RESERVE = ".tmp", ".locks", "clock", "reserve"
_LEFTOVER_SECONDS = 24 * 3600
"""A temporary file that nobody wrote to for so long, or before the clock was set back, belongs to a process that died."""
_PIECE = 1 << 20
_MOST_TRIES = 100
"""To rename into a directory that others prune meanwhile."""
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}
_VANISHED = "the directory is gone, or its volume is not mounted"


class Readable(Protocol):
    """What `receive` reads: a request's body, which ends where the request ends."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""
        ...


class _Temp(NamedTuple):
    """An object being written: whole and synced, not yet in place."""

    path: str
    fd: int


class FilesStore:
    """An object store in the directory `root`, which is made if it is missing.

    `secret` signs links; it may come later with `sign_with`, because it is itself a record of the store. `clearing`: key
    prefixes of what frees room, and is written on a full disk too. A directory that cannot be written is good for reading:
    puts then raise StoreReadOnly.
    """

    made_as = "directory"
    """Always the same: a directory may be moved, and a copied one cannot be told from a moved one."""

    def __init__(self, root: Path, *, secret: bytes | None = None, clearing: tuple[str, ...] = ()) -> None:
        self._root = os.path.abspath(root)
        self._clearing = clearing
        self._reserve = Reserve(Path(self._root, _LOCKS, _RESERVE))
        self.location = f"directory {self._root}"
        self._secret = secret
        self._ready = False
        self._unmade = _VANISHED
        self._folders = Folders(self._root, f"{self._root}/{_LOCKS}/{_CLOCK}", self.location, self._check_alive)
        try:
            self._make_ready()
        except StoreReadOnly as e:
            if not os.path.isdir(self._root):
                self._unmade = f"the directory does not exist and cannot be made ({e.detail['reason']})"

    # --- The port ---

    def get(self, key: str, *, first: int = 0, length: int | None = None) -> Object:
        """See the port."""
        found, file = self.read_object(key)
        with file, self._reading(key):
            start = max(0, found.size + first) if first < 0 else min(first, found.size)
            rest = found.size - start
            file.seek(start)
            return Object(file.read(rest if length is None else min(length, rest)), found)

    def stat(self, key: str) -> Stat:
        """See the port."""
        with self._reading(key):
            return stat_of(key, os.stat(self._path(key)))

    def put(self, key: str, data: bytes, *, only_if: Absent | Match | None = None) -> str:
        """See the port. Raises StoreReadOnly, StoreFull and StoreUnsuitable besides."""
        path = self._path(key)
        with self._writing():
            # Looked at twice: a loser of a race should not have to write and sync first.
            self._check(key, path, only_if)
            if isinstance(only_if, Match) or key.startswith(self._clearing):
                # It takes room for a moment only, or frees some.
                return self._reserve.spent(len(data), lambda: self._put(key, path, data, only_if))
            return self._put(key, path, data, only_if, needs=len(data))

    def delete(self, keys: Iterable[str]) -> None:
        """See the port."""
        folders: set[str] = set()
        with self._writing():
            for key in keys:
                path = self._path(key)
                with self._lock(key):
                    try:
                        os.unlink(path)
                    except FileNotFoundError:
                        continue
                folders.add(os.path.dirname(path))
            for folder in folders:
                self._prune(folder)
            if folders:
                self._reserve.is_whole()

    def list(self, prefix: str, *, after: str = "") -> Iterator[Stat]:
        """See the port. One directory at a time is read, in order."""
        return self._folders.walk(prefix, after)

    def relist(self, prefix: str, before: Listing | None = None) -> Listing:
        """See the port."""
        return self._folders.again(prefix, before)

    def room(self) -> Room:
        """See the port."""
        with self._reading():
            found = os.statvfs(self._root)
            return Room(free=found.f_bavail * found.f_frsize, total=found.f_blocks * found.f_frsize)

    def sign_get(self, key: str, *, seconds: int) -> Link:
        """See the port."""
        expires = int(time.time()) + seconds
        return Link(links.sign(self._signing(), "GET", check_key(key), expires=str(expires)), expires)

    def sign_gets(self, keys: Iterable[str], *, seconds: int) -> Sequence[Link]:
        """See the port."""
        return [self.sign_get(key, seconds=seconds) for key in keys]

    def sign_put(self, key: str, *, size: int, sha256: str, seconds: int) -> Link:
        """See the port."""
        expires = int(time.time()) + seconds
        fields = {"expires": str(expires), "size": str(size), "sha256": sha256}
        return Link(links.sign(self._signing(), "PUT", check_key(key), **fields), expires)

    # --- For processes that serve one directory together ---

    def takes_turn(self, name: str, seconds: float) -> bool:
        """Whether nobody took this turn in the last so many seconds; then the caller has. Nothing is lost with its file."""
        path = f"{self._root}/{_LOCKS}/{name}"
        with self._writing(), open(path, "ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            found, now = os.fstat(file.fileno()), time.time()
            # Empty: it was made just now. Of later than now: the clock was set back.
            if found.st_size and 0 <= now - found.st_mtime < seconds:
                return False
            if found.st_size:
                # A full disk, which a sweep may help, has no room to write.
                os.utime(file.fileno())
            else:
                self._reserve.spent(1, lambda: file.write(b"1"))
            return True

    # --- For the API, which serves the links ---

    def sign_with(self, secret: bytes) -> None:
        """Sign and verify links with `secret` from now on."""
        self._secret = secret

    def open_link(self, method: str, key: str, query: Mapping[str, str], now: float) -> links.Grant:
        """What a link allows that came with this method, decoded key and decoded query. Raises LinkRefused."""
        return links.verify(self._signing(), method, key, query, now)

    def read_object(self, key: str) -> tuple[Stat, BinaryIO]:
        """The object's stat and its bytes as an open file, which is the caller's to close. Raises ObjectNotFound.

        The file goes on giving these bytes when the object is replaced or deleted meanwhile.
        """
        with self._reading(key):
            file = open(self._path(key), "rb", buffering=0)  # noqa: SIM115 - the caller closes it
            try:
                return stat_of(key, os.fstat(file.fileno())), file
            except BaseException:
                file.close()
                raise

    def receive(self, key: str, stream: Readable, *, size: int, sha256: str) -> str:
        """Create the object from exactly `size` bytes of this SHA-256, read from `stream` to its end, and give its ETag.

        Raises ChecksumMismatch and PreconditionFailed, and then nothing appears. The stream is read to the end even if the
        key is taken: a client that is still sending would not see the answer.
        """
        path = self._path(key)
        with self._writing(), self._temp() as temp:
            self._reserve.check(size)
            digest, left = hashlib.sha256(), size
            with open(temp.fd, "wb", buffering=0, closefd=False) as file:
                while piece := stream.read(_PIECE if left else 1):
                    left -= len(piece)
                    if left < 0:
                        raise ChecksumMismatch(key=key, reason=f"more than {size} bytes")
                    digest.update(piece)
                    durable.write(file, piece)
            if left:
                raise ChecksumMismatch(key=key, reason=f"{size - left} bytes instead of {size}")
            if digest.hexdigest() != sha256:
                raise ChecksumMismatch(key=key, reason="another SHA-256")
            return self._place(key, path, temp, ABSENT)

    def _signing(self) -> bytes:
        if self._secret is None:
            raise S3regError(reason="links are signed before the store's secret was read")
        return self._secret

    # --- Writing ---

    def _put(self, key: str, path: str, data: bytes, only_if: Absent | Match | None, *, needs: int = 0) -> str:
        with self._temp() as temp:
            self._reserve.check(needs)
            with open(temp.fd, "wb", buffering=0, closefd=False) as file:
                durable.write(file, data)
            return self._place(key, path, temp, only_if)

    def _make_ready(self) -> None:
        """Make what is ours in the root, and remove what processes that died left behind."""
        with self._writing():
            for folder in (self._root, f"{self._root}/{_TMP}", f"{self._root}/{_LOCKS}"):
                if not os.path.isdir(folder):
                    os.makedirs(folder, mode=0o700, exist_ok=True)
            self._ready = True
            self._reserve.is_whole()
            with os.scandir(f"{self._root}/{_TMP}") as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):
                        if abs(time.time() - entry.stat().st_mtime) > _LEFTOVER_SECONDS:
                            os.unlink(entry.path)

    @contextlib.contextmanager
    def _temp(self) -> Iterator[_Temp]:
        """A new file aside; what is left of it afterwards is removed."""
        if not self._ready:
            self._make_ready()
        path = f"{self._root}/{_TMP}/{os.getpid()}-{secrets.token_hex(8)}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            yield _Temp(path, fd)
        finally:
            os.close(fd)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    @contextlib.contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        # Opened anew each time: flock belongs to the open file, so this is what makes it hold between threads.
        slot = f"{self._root}/{_LOCKS}/{zlib.crc32(key.encode()) & 0xFF:02x}"
        fd = os.open(slot, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _place(self, key: str, path: str, temp: _Temp, only_if: Absent | Match | None) -> str:
        """Make `temp` the object, if the precondition holds, and give its ETag once that is durable."""
        durable.sync(temp.fd)
        with self._lock(key):
            before = self._check(key, path, only_if)
            etag = self._stamp(temp.fd, before)
            with contextlib.nullcontext() if before is None else self._folders.replacing():
                made = self._rename(temp.path, path)
        try:
            # Its time was set after the first sync. A journal keeps its order, so this mostly finds nothing left to do.
            durable.sync(temp.fd)
            for folder in (os.path.dirname(path), *made):
                durable.sync_folder(folder)
        except OSError as e:
            raise PutUnsettled(key=key, reason=e.strerror) from e
        return etag

    def _check(self, key: str, path: str, only_if: Absent | Match | None) -> os.stat_result | None:
        """What lies under the key now, if that is what the precondition asks for. Raises PreconditionFailed."""
        try:
            before = os.stat(path)
        except FileNotFoundError:
            before = None
        match only_if:
            case Absent() if before is not None:
                raise PreconditionFailed(key=key)
            case Match(etag) if before is None or etag_of(before) != etag:
                raise PreconditionFailed(key=key)
        return before

    def _stamp(self, fd: int, before: os.stat_result | None) -> str:
        """Set the file's time to now, but later than that of what it replaces, and give the ETag that follows."""
        now = time.time_ns()
        if before is not None:
            now = max(now, before.st_mtime_ns + 1)
        os.utime(fd, ns=(now, now))
        after = os.fstat(fd)
        if after.st_mtime_ns != now:
            raise StoreUnsuitable(store=self.location, promises="times of files to the nanosecond")
        return etag_of(after)

    def _rename(self, source: str, path: str) -> set[str]:
        """Rename into place, making directories as needed, and give those in which one was made."""
        changed: set[str] = set()
        for _ in range(_MOST_TRIES):
            # Again and again: a delete may prune the directory between its making and the rename.
            with contextlib.suppress(FileNotFoundError):
                os.rename(source, path)
                return changed
            with contextlib.suppress(FileNotFoundError):
                self._make_folders(os.path.dirname(path), changed)
        raise StoreUnavailable(store=self.location, reason="a directory vanishes as fast as it is made")

    def _make_folders(self, folder: str, changed: set[str]) -> None:
        if folder == self._root or os.path.isdir(folder):
            self._check_alive()
            return
        parent = os.path.dirname(folder)
        self._make_folders(parent, changed)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
            changed.add(parent)

    def _prune(self, folder: str) -> None:
        """Make removals in `folder` durable, and remove it and those above as far as they are empty."""
        while folder != self._root:
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                pass
            except OSError as e:
                if e.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                    raise
                break
            folder = os.path.dirname(folder)
        durable.sync_folder(folder)

    # --- Reading ---

    def _path(self, key: str) -> str:
        return f"{self._root}/{paths.of_key(check_key(key))}"

    def _check_alive(self) -> None:
        """Raise StoreUnavailable if the store itself is gone: a volume that is not mounted is not an empty store."""
        if not os.path.isdir(f"{self._root}/{_LOCKS}" if self._ready else self._root):
            raise StoreUnavailable(store=self.location, reason=_VANISHED if self._ready else self._unmade)

    # --- What the operating system says ---

    @contextlib.contextmanager
    def _reading(self, key: str = "") -> Iterator[None]:
        path = self._path(key) if key else self._root
        try:
            yield
        except FileNotFoundError:
            self._folders.check_absent(path)
            raise ObjectNotFound(key=key) from None
        except OSError as e:
            raise self._folders.refused(path, e.strerror) from e

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except ConnectionError:
            raise  # whoever sends to `receive` went away; that is not the store's failure
        except OSError as e:
            if e.errno in _READ_ONLY:
                raise StoreReadOnly(store=self.location, reason=e.strerror) from e
            if e.errno in FULL:
                raise full(self.location, self._root) from e
            raise self._folders.refused(e.filename, e.strerror) from e
