"""s3reg's own records of a library, below LIBRARY/.s3reg; VM folders hold VM files only.

    .s3reg/files/<key>.json      what one library file is: digest, parent, and size, mtime and inode as it was then
    .s3reg/maps/<digest>         the map of a file, as its bytes came from the store
    .s3reg/tags/, kept/          the versions that this node has had (client/tagbook.py)

One small record per file, under a key made of its path, so that nothing here grows with the library and two processes do not
fight over an index. A record that cannot be read is as good as none: its file is not known, hence hashed again and never
overwritten unasked.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from s3reg.client import platform, records
from s3reg.client.tagbook import TagBook
from s3reg.errors import FormatUnknown, RecordDamaged
from s3reg.model import maps, names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from s3reg.model.maps import FileMap
    from s3reg.model.names import Digest


@dataclass(frozen=True, slots=True)
class Print:
    """By what a file is recognised without reading it."""

    size: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, seen: os.stat_result) -> Print:
        """Of a file that was looked at."""
        return cls(seen.st_size, seen.st_mtime_ns, seen.st_ino)


@dataclass(frozen=True, slots=True)
class Twin:
    """A library file that another one was a copy of."""

    path: str
    """Relative to the library's root."""
    look: Print
    """How it looked then."""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What is recorded of one library file."""

    seen: Print
    digest: Digest | None
    """None: never hashed."""
    parent: str | None
    """The layer below; None for the lowest."""
    origin: Print | None = None
    """Imported files: the file outside the library that it was made from."""
    boot: str | None = None
    """The boot of the machine that the record holds for, if the file was not made durable; None: for ever."""
    ours: bool = False
    """Whether s3reg wrote the file: nobody else will ever remove it."""
    twin: Twin | None = None
    """A file of the library that had the same bytes."""


class Ledger(TagBook):
    """The records of the library at `root`. Nothing is made before something is recorded."""

    def __init__(self, root: Path) -> None:
        super().__init__(root / ".s3reg")
        self._root = root

    # --- Files ---

    def known(self, path: Path) -> Digest | None:
        """The digest of a library file, if its size, mtime and inode are still as recorded; None otherwise."""
        record = self._valid(path)
        return record.digest if record else None

    def untouched(self, path: Path) -> Digest | None:
        """`known`, also of a file that was not made durable before the machine booted: nobody wrote to it since.

        Its bytes may have been lost with the power. They are nobody's work, and must not be taken for the digest's either.
        """
        record = self.record_of(path)
        return record.digest if record is not None and _looks_so(path, record.seen) else None

    def record_of(self, path: Path) -> FileRecord | None:
        """What was recorded of the file last, whether or not it still holds.

        One that was never hashed has the digest that its twin was found to have while that looked as it did as a twin.
        """
        record = self._written(path)
        if record is None or record.digest is not None or record.twin is None:
            return record
        twin = self._written(self._root / record.twin.path)
        if twin is None or twin.seen != record.twin.look or twin.boot is not None:
            return record
        return replace(record, digest=twin.digest)

    def is_as_recorded(self, path: Path) -> bool:
        """Whether the file's size, mtime and inode are still as recorded, whatever its digest."""
        return self._valid(path) is not None

    def record(
        self,
        path: Path,
        digest: Digest | None,
        map_bytes: bytes | None = None,
        *,
        parent: str | None = None,
        seen: os.stat_result | Print | None = None,
        origin: Print | None = None,
        twin: Twin | None = None,
        durable: bool = True,
        ours: bool = False,
    ) -> None:
        """Record that the library file has this digest, and keep its map.

        `seen` is how the file looked *before* it was read, for a digest that was computed by reading it; else it is looked
        at now. The file's bytes are made durable first: after a power cut a record must not vouch for bytes that got lost.
        Without `durable` they are not, and the record ends with this boot of the machine. A file that was `ours` stays so.
        """
        if map_bytes is not None and digest is not None:
            self.keep_map(digest, map_bytes)
        fd = os.open(path, os.O_RDONLY)
        try:
            if durable:
                platform.sync(fd)
            look = seen if isinstance(seen, Print) else Print.of(seen or os.fstat(fd))
        finally:
            os.close(fd)
        before = self._written(path)
        body = {
            "v": records.RECORD_VERSION,
            "path": self._relative(path),
            "size": look.size,
            "mtime_ns": look.mtime_ns,
            "inode": look.inode,
            "digest": digest,
            "parent": parent,
            "origin": _print_json(origin) if origin else None,
            "boot": None if durable else platform.boot_id(),
            "ours": ours or (before is not None and before.ours and before.seen.inode == look.inode),
            "twin": twin_json(twin),
        }
        records.write_durably(self._file_record(path), json.dumps(body).encode())

    def forget(self, path: Path) -> None:
        """Drop what is recorded of a file; its map stays, for other files with these bytes."""
        self._file_record(path).unlink(missing_ok=True)

    def recorded(self) -> Iterator[tuple[Path, FileRecord]]:
        """Every file that is as recorded."""
        for place in sorted(self.folder.glob("files/*.json")):
            data = records.read(place)
            where = records.parsed(
                data, "the record of a file", lambda raw: self._root / records.names_of_path(raw["path"])
            )
            if where is None or self._file_record(where) != place:
                continue
            record = self._valid(where)
            if record is not None:
                yield where, record

    def held(self) -> Iterator[tuple[Path, Digest, int]]:
        """Files that are as recorded and whose map is kept, as (path, digest, size): what a pull may build on."""
        for path, record in self.recorded():
            if record.digest and self._map(record.digest).is_file():
                yield path, record.digest, record.seen.size

    # --- Maps ---

    def keep_map(self, digest: Digest, map_bytes: bytes) -> None:
        """Keep the map of the file of this digest, as its bytes came from the store."""
        if not self._map(digest).is_file():
            records.write_durably(self._map(digest), map_bytes)

    def map_bytes(self, digest: Digest) -> bytes | None:
        """The kept map's bytes, unread; None if there is none."""
        return records.read(self._map(digest), maps.LARGEST_MAP)

    def map_of(self, digest: Digest, size: int) -> FileMap | None:
        """The kept map of the file of this digest and size; None if there is none that this release can read.

        A damaged one is removed: the file is hashed again. A newer release's stays for it.
        """
        data = self.map_bytes(digest)
        if data is None:
            return None
        try:
            return maps.decode(data, size=size, digest=digest)
        except RecordDamaged:
            self._map(digest).unlink(missing_ok=True)
        except FormatUnknown:
            pass
        return None

    def prune(self) -> None:
        """Drop the maps of files that the library has no more, nor any tag, and what was kept for tags that are gone."""
        wanted = {digest for _, digest, _ in self.held()}
        wanted |= {digest for _, _, row in self.every_tag() for digest in row.files.values()}
        for place in self.folder.glob("maps/*"):
            if place.name not in wanted and not place.name.startswith("."):
                place.unlink(missing_ok=True)
        self.prune_kept()

    # --- Inside ---

    def _written(self, path: Path) -> FileRecord | None:
        return records.parsed(records.read(self._file_record(path)), "the record of a file", _file_record)

    def _valid(self, path: Path) -> FileRecord | None:
        record = self.record_of(path)
        if record is None or record.boot not in {None, platform.boot_id()}:
            return None
        return record if _looks_so(path, record.seen) else None

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _file_record(self, path: Path) -> Path:
        key = hashlib.sha256(os.fsencode(self._relative(path))).hexdigest()[:32]
        return self.folder / "files" / f"{key}.json"

    def _map(self, digest: Digest) -> Path:
        return self.folder / "maps" / digest


def _looks_so(path: Path, look: Print) -> bool:
    try:
        return Print.of(path.stat()) == look
    except FileNotFoundError:
        return False


def _file_record(raw: dict[str, Any]) -> FileRecord:
    return FileRecord(
        Print(int(raw["size"]), int(raw["mtime_ns"]), int(raw["inode"])),
        None if raw["digest"] is None else names.digest(raw["digest"]),
        None if raw["parent"] is None else names.file_name(raw["parent"]),
        None if raw["origin"] is None else _print(raw["origin"]),
        None if raw["boot"] is None else str(raw["boot"]),
        raw.get("ours") is True,
        twin_of(raw.get("twin")),
    )


def twin_json(twin: Twin | None) -> list[Any] | None:
    """A twin as it lies in a record."""
    return [twin.path, *_print_json(twin.look)] if twin else None


def twin_of(raw: list[Any] | None) -> Twin | None:
    """The twin out of a record. Raises NameInvalid, ValueError, TypeError."""
    return None if raw is None else Twin(records.names_of_path(raw[0]), _print(raw[1:]))


def _print_json(look: Print) -> list[int]:
    return [look.size, look.mtime_ns, look.inode]


def _print(raw: list[Any]) -> Print:
    return Print(*(int(number) for number in raw))
