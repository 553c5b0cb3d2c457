"""s3reg's own records of a library, below LIBRARY/.s3reg; VM folders hold VM files only.

    .s3reg/files/<key>.json      what one library file is: digest, parent, and size, mtime and inode as it was then
    .s3reg/maps/<digest>         the map of a file, as its bytes came from the store
    .s3reg/tags/<template>.json  the versions of a template that this node has pulled or pushed, and the current one

One small record per file, under a key made of its path, so that nothing here grows with the library and two processes do not
fight over an index. Every record is written aside, synced and renamed: a crash leaves the old one or the new one. A record
that cannot be read is as good as none: its file is not known, hence hashed again and never overwritten unasked. One of a
newer release is refused with FormatUnknown.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from s3reg.client import platform
from s3reg.errors import FormatUnknown, NameInvalid, RecordDamaged
from s3reg.model import maps, names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from s3reg.model.maps import FileMap
    from s3reg.model.names import Digest, TemplateId, VersionId

Found = TypeVar("Found")

RECORD_VERSION = 1
LARGEST_RECORD = 16 * 1024**2


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


@dataclass(frozen=True, slots=True)
class LocalTag:
    """A version that this node has pulled or pushed. Its files may have gone since: their records tell."""

    version: VersionId
    name: str
    """The template's name then."""
    files: dict[str, Digest]
    local: bool = False
    """Whether only this node has it: a `push --local`."""


class Ledger:
    """The records of the library at `root`. Nothing is made before something is recorded."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.folder = root / ".s3reg"

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
        """What was recorded of the file last, whether or not it still holds."""
        return _parsed(_read(self._file_record(path), LARGEST_RECORD), "the record of a file", _file_record)

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
        durable: bool = True,
    ) -> None:
        """Record that the library file has this digest, and keep its map.

        `seen` is how the file looked *before* it was read, for a digest that was computed by reading it; else it is looked
        at now. The file's bytes are made durable first: after a power cut a record must not vouch for bytes that got lost.
        Without `durable` they are not, and the record ends with this boot of the machine.
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
        body = {
            "v": RECORD_VERSION,
            "path": self._relative(path),
            "size": look.size,
            "mtime_ns": look.mtime_ns,
            "inode": look.inode,
            "digest": digest,
            "parent": parent,
            "origin": [origin.size, origin.mtime_ns, origin.inode] if origin else None,
            "boot": None if durable else platform.boot_id(),
        }
        write_durably(self._file_record(path), json.dumps(body).encode())

    def forget(self, path: Path) -> None:
        """Drop what is recorded of a file; its map stays, for other files with these bytes."""
        self._file_record(path).unlink(missing_ok=True)

    def held(self) -> Iterator[tuple[Path, Digest, int]]:
        """Files that are as recorded and whose map is kept, as (path, digest, size): what a pull may build on."""
        for place in sorted(self.folder.glob("files/*.json")):
            data = _read(place, LARGEST_RECORD)
            where = _parsed(data, "the record of a file", lambda raw: self._root / names_of_path(raw["path"]))
            if where is None or self._file_record(where) != place:
                continue
            record = self._valid(where)
            if record and record.digest and self._map(record.digest).is_file():
                yield where, record.digest, record.seen.size

    # --- Maps ---

    def keep_map(self, digest: Digest, map_bytes: bytes) -> None:
        """Keep the map of the file of this digest, as its bytes came from the store."""
        if not self._map(digest).is_file():
            write_durably(self._map(digest), map_bytes)

    def map_bytes(self, digest: Digest) -> bytes | None:
        """The kept map's bytes, unread; None if there is none."""
        return _read(self._map(digest), maps.LARGEST_MAP)

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

    def prune_maps(self) -> None:
        """Drop the maps of files that the library has no more, nor any tag."""
        wanted = {digest for _, digest, _ in self.held()}
        wanted |= {digest for t in self.templates() for tag in self.tags(t).values() for digest in tag.files.values()}
        for place in self.folder.glob("maps/*"):
            if place.name not in wanted and not place.name.startswith("."):
                place.unlink(missing_ok=True)

    # --- Tags ---

    def tags(self, template: TemplateId) -> dict[str, LocalTag]:
        """The versions of this template that this node has had, by tag."""
        return self._tags(template)[1]

    def current(self, template: TemplateId) -> str | None:
        """The tag that was pulled or pushed last; None if none was."""
        return self._tags(template)[0]

    def pushed(self) -> set[Digest]:
        """Digests of every file of every version that this node pulled or pushed: what a registry had, too."""
        rows = (row for template in self.templates() for row in self.tags(template).values() if not row.local)
        return {digest for row in rows for digest in row.files.values()}

    def templates(self) -> list[TemplateId]:
        """Templates with a tag on this node."""
        found = []
        for place in sorted(self.folder.glob("tags/*.json")):
            with contextlib.suppress(NameInvalid):
                found.append(names.template_id(place.stem))
        return found

    def set_tag(
        self,
        template: TemplateId,
        tag: str,
        version: VersionId,
        name: str,
        files: Mapping[str, Digest],
        *,
        current: bool = True,
        local: bool = False,
    ) -> None:
        """Note that this node has the version; `current`: and that the VM in its library is that version.

        `local`: no registry has it.
        """
        with self._changing(template):
            now, tags = self._tags(template)
            row = LocalTag(version, name, dict(files), local)
            self._write_tags(template, tag if current else now, {**tags, tag: row})

    def forget_tag(self, template: TemplateId, tag: str) -> None:
        """Drop a tag of this node; the registry's is not touched."""
        with self._changing(template):
            now, tags = self._tags(template)
            kept = {name: value for name, value in tags.items() if name != tag}
            self._write_tags(template, None if now == tag else now, kept)

    # --- Inside ---

    def _tags(self, template: TemplateId) -> tuple[str | None, dict[str, LocalTag]]:
        found = _parsed(_read(self._tag_record(template), LARGEST_RECORD), "the record of local tags", _tags_record)
        return found or (None, {})

    def _write_tags(self, template: TemplateId, current: str | None, tags: Mapping[str, LocalTag]) -> None:
        rows = {
            tag: {"version": row.version, "name": row.name, "files": row.files, "local": row.local}
            for tag, row in tags.items()
        }
        body = {"v": RECORD_VERSION, "current": current, "tags": rows}
        write_durably(self._tag_record(template), json.dumps(body).encode())

    @contextlib.contextmanager
    def _changing(self, template: TemplateId) -> Iterator[None]:
        """Reading and rewriting a tag record is one step to other processes."""
        place = self.folder / "locks" / f"tags-{template}"
        place.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

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

    def _tag_record(self, template: TemplateId) -> Path:
        return self.folder / "tags" / f"{template}.json"

    def _map(self, digest: Digest) -> Path:
        return self.folder / "maps" / digest


def write_durably(path: Path, data: bytes) -> None:
    """Put `data` at `path`: all of it, or what was there before, whatever happens in between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with aside.open("xb") as out:
            out.write(data)
            out.flush()
            platform.sync(out.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    platform.sync_folder(path.parent)


def names_of_path(text: object) -> str:
    """A relative path out of a record, if each of its components is a fit file name; NameInvalid otherwise."""
    if not isinstance(text, str):
        raise NameInvalid(what="path", text=text, reason="it is not text")
    return "/".join(names.file_name(part) for part in text.split("/"))


def _looks_so(path: Path, look: Print) -> bool:
    try:
        return Print.of(path.stat()) == look
    except FileNotFoundError:
        return False


def _read(path: Path, most: int) -> bytes | None:
    """The record's bytes; None if there is none, or if it is larger than any that we write."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError:
        return None
    return data if len(data) <= most else None


def _parsed(data: bytes | None, what: str, parse: Callable[[dict[str, Any]], Found]) -> Found | None:
    if data is None:
        return None
    try:
        raw = json.loads(data)
        if raw["v"] != RECORD_VERSION:
            raise FormatUnknown(what=what, feature=f"version {raw['v']}")
        return parse(raw)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, NameInvalid):
        return None


def _file_record(raw: dict[str, Any]) -> FileRecord:
    return FileRecord(
        Print(int(raw["size"]), int(raw["mtime_ns"]), int(raw["inode"])),
        None if raw["digest"] is None else names.digest(raw["digest"]),
        None if raw["parent"] is None else names.file_name(raw["parent"]),
        None if raw["origin"] is None else Print(*(int(value) for value in raw["origin"])),
        None if raw["boot"] is None else str(raw["boot"]),
    )


def _tags_record(raw: dict[str, Any]) -> tuple[str | None, dict[str, LocalTag]]:
    tags = {}
    for tag, value in raw["tags"].items():
        files = {names.file_name(name): names.digest(digest) for name, digest in value["files"].items()}
        version = names.version_id(value["version"])
        tags[names.tag(tag)] = LocalTag(version, str(value["name"]), files, value["local"] is True)
    return (None if raw["current"] is None else names.tag(raw["current"])), tags
