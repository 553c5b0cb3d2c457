"""What a registry holds: templates, their versions and files, and the pushes under way. Frozen values and their rules."""

from __future__ import annotations

import enum
import unicodedata
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from s3reg.errors import (
    NameInvalid,
    NewTagTaken,
    NotInTrash,
    RestoreTagTaken,
    SelectorsDisagree,
    TagNotFound,
    TagTaken,
    VersionNotFound,
)
from s3reg.model import names
from s3reg.model.chunks import CHUNK_LOG2, FileTree, chunk_digest, is_zero

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from s3reg.model.names import Digest, Domain, SessionId, TemplateId, VersionId
    from s3reg.model.packs import PackRef

INLINE_BYTES = 256 * 1024
"""A file up to this size lies in its version's record, not in packs. A config always does."""
CONFIG_BYTES = 1024**2
INLINE_BYTES_IN_ALL = 4 * 1024**2
"""Of one version; what does not fit goes into packs."""
MOST_FILES = 4096
"""Files of one version."""
OPERATIONS_KEPT = 16


class Role(enum.Enum):
    """What a file is to its VM."""

    IMAGE = "image"
    STATE = "state"
    NVRAM = "nvram"
    CONFIG = "config"
    EXTRA = "extra"


@dataclass(frozen=True, slots=True)
class MapRef:
    """A map by name: the session that made it and the SHA-256 of its bytes."""

    sid: SessionId
    sha256: Digest
    size: int
    """In bytes."""


@dataclass(frozen=True, slots=True)
class PackUse:
    """A pack that a file needs."""

    pack: PackRef
    live: int
    """Bytes of frames in it that the file uses."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of a version. Its bytes lie inline, or where its map says."""

    name: str
    role: Role
    size: int
    digest: Digest
    drive: int | None = None
    """Images: which drive, from 0, in the order of the config."""
    parent: str | None = None
    """Images and states: the name of the layer below, None for the lowest."""
    inline: bytes | None = None
    map: MapRef | None = None
    packs: tuple[PackUse, ...] = ()


@dataclass(frozen=True, slots=True)
class Version:
    """One frozen state of a template, whole: what a pull needs to know."""

    id: VersionId
    template: TemplateId
    domain: Domain
    session: SessionId
    created: int
    """Seconds since 1970."""
    config: Any
    """The config parsed, as JSON values."""
    files: tuple[File, ...]

    def layers(self) -> list[File]:
        """The files that count as the version's size: images and states."""
        return [file for file in self.files if file.role in {Role.IMAGE, Role.STATE}]

    def file(self, name: str) -> File | None:
        """The file of this name."""
        return next((file for file in self.files if file.name == name), None)


@dataclass(frozen=True, slots=True)
class Entry:
    """A version as its template's head lists it."""

    id: VersionId
    seq: int
    """Orders the versions; a replacement inherits it, so what it replaced has the same once it is restored."""
    tag: str
    description: str
    size: int
    """Bytes of all its images and states, shared or not."""
    created: int
    """Seconds since 1970; later than what it replaced."""
    removed: int | None = None
    """When it was removed, in seconds since 1970."""
    removed_by: str | None = None
    until: int | None = None
    """Until when the trash keeps it, in seconds since 1970: what was promised when it was removed."""
    unknown: dict[str, Any] = field(default_factory=dict, hash=False)
    """Fields of a newer release, kept when the head is rewritten."""

    def gone(self, *, when: int, by: str, keeps: int) -> Entry:
        """As it lies in the trash, which keeps it for so many seconds."""
        return replace(self, removed=when, removed_by=by, until=when + keeps)


@dataclass(frozen=True, slots=True)
class Head:
    """A template's mutable record."""

    id: TemplateId
    name: str
    domain: Domain
    arch: str = ""
    gen: int = 0
    """Grows with every write, so that equal bytes never come back."""
    operations: tuple[str, ...] = ()
    """The last ones written, newest last: after a lost answer, finding mine means that it is done."""
    size: int = 0
    """Bytes of the union, by digest, of its versions' images and states."""
    versions: tuple[Entry, ...] = ()
    """In order of seq; a version's number is its place here."""
    removed: tuple[Entry, ...] = ()
    deleted: bool = False
    damaged: str = ""
    """What is wrong with the record, of which this is what could be read: good for showing, never for acting on."""
    unknown: dict[str, Any] = field(default_factory=dict)
    """Fields of a newer release, kept when the record is rewritten."""

    def number(self, entry: Entry) -> int:
        """The version's number, from 0."""
        return self.versions.index(entry)

    def latest(self) -> Entry | None:
        """The newest version."""
        return self.versions[-1] if self.versions else None

    def with_id(self, vid: str) -> Entry | None:
        """The version of this id."""
        return next((entry for entry in self.versions if entry.id == vid), None)

    def tagged(self, tag: str) -> Entry | None:
        """The version of this tag, however its characters are composed."""
        tag = unicodedata.normalize("NFC", tag)
        return next((entry for entry in self.versions if entry.tag == tag), None)

    def select(self, *, tag: str | None = None, number: int | None = None) -> Entry:
        """The version asked for, the newest by default. Raises TagNotFound, VersionNotFound, SelectorsDisagree."""
        if tag is not None:
            found = self.tagged(tag)
            if found is None:
                raise TagNotFound(template=self.name, tag=tag)
            if number is not None and self.number(found) != number:
                raise SelectorsDisagree(first=f"tag {tag!r}", second=f"version {number}")
            return found
        if number is not None:
            if not 0 <= number < len(self.versions):
                raise VersionNotFound(template=self.name, version=number)
            return self.versions[number]
        latest = self.latest()
        if latest is None:
            raise VersionNotFound(template=self.name, version="at all")
        return latest

    def wrote(self, operation: str | None) -> Head:
        """This head as it is written: one generation on, the operation noted if it has an id."""
        noted = self.operations if operation is None else (*self.operations, operation)[-OPERATIONS_KEPT:]
        return replace(self, gen=self.gen + 1, operations=noted)

    def add(self, new: Entry, *, force: bool, by: str, keeps: int, when: int | None = None) -> Head:
        """With `new` as the newest version; or, forced over a taken tag, in the old one's place. Raises TagTaken.

        `new.seq` is ignored. What is replaced goes to `removed`; `when`: it does, where `new` was made before. `keeps`:
        the seconds for which the trash keeps what goes, here and below.
        """
        old = self.tagged(new.tag)
        if old is None:
            seqs = [entry.seq for entry in (*self.versions, *self.removed)]
            placed = replace(new, seq=max(seqs, default=-1) + 1)
            return replace(self, versions=(*self.versions, placed), deleted=False)
        if not force:
            raise TagTaken(template=self.name, tag=new.tag)
        # Clocks may differ, and a commit may have been begun before: what is restored would come behind what took its place.
        placed = replace(new, seq=old.seq, created=max(new.created, old.created + 1))
        gone = old.gone(when=new.created if when is None else when, by=by, keeps=keeps)
        kept = tuple(placed if entry is old else entry for entry in self.versions)
        return replace(self, versions=kept, removed=(*self.removed, gone), deleted=False)

    def replaced_by(self, entry: Entry) -> Entry | None:
        """The version whose place this one took by force, while the trash has it."""
        same = [one for one in self.removed if (one.seq, one.tag) == (entry.seq, entry.tag)]
        return same[-1] if same else None

    def revert(self, first: Entry, *, when: int, by: str, keeps: int) -> Head:
        """Without `first` and all newer versions, which go to `removed`; deleted if none is left.

        The size is still that of all of them: only their records know what they share.
        """
        place = self.versions.index(first)
        gone = tuple(entry.gone(when=when, by=by, keeps=keeps) for entry in self.versions[place:])
        kept = self.versions[:place]
        return replace(self, versions=kept, removed=(*self.removed, *gone), deleted=not kept)

    def untag(self, entry: Entry, *, when: int, by: str, keeps: int) -> Head:
        """Without this version, which goes to `removed`; deleted if none is left. The size is not changed either.

        Each newer one has a number less by one.
        """
        kept = tuple(one for one in self.versions if one.id != entry.id)
        gone = entry.gone(when=when, by=by, keeps=keeps)
        return replace(self, versions=kept, removed=(*self.removed, gone), deleted=not kept)

    def restore(self, ids: Collection[str], *, as_tag: str | None = None) -> Head:
        """With these versions of `removed` back, all or none of them. The size is not changed.

        They come in the order of seq; of one seq, before whatever was made later, or in the same second: so what was
        replaced comes before what took its place. `as_tag`: the tag that they get. Raises NotInTrash, RestoreTagTaken.
        """
        found = [entry for entry in self.removed if entry.id in ids]
        for missing in sorted(set(ids) - {entry.id for entry in found}):
            raise NotInTrash(template=self.name, version=missing)
        versions = self.versions
        # What went last first: of one second, it was made later than what it replaced.
        for entry in reversed(found):
            back = replace(entry, tag=as_tag or entry.tag, removed=None, removed_by=None, until=None)
            if any(one.tag == back.tag for one in versions):
                raise RestoreTagTaken(template=self.name, tag=back.tag)
            later = [n for n, one in enumerate(versions) if (one.seq, one.created) >= (back.seq, back.created)]
            at = min(later, default=len(versions))
            versions = (*versions[:at], back, *versions[at:])
        return replace(self.purge(ids), versions=versions, deleted=self.deleted and not found)

    def purge(self, ids: Collection[str]) -> Head:
        """With none of these in `removed`."""
        return replace(self, removed=tuple(entry for entry in self.removed if entry.id not in ids))

    def retag(self, entry: Entry, tag: str) -> Head:
        """With another tag for this version. Raises NewTagTaken."""
        if any(one.tag == tag and one.id != entry.id for one in self.versions):
            raise NewTagTaken(template=self.name, tag=tag)
        renamed = replace(entry, tag=tag)
        return replace(self, versions=tuple(renamed if one.id == entry.id else one for one in self.versions))


class SessionState(enum.Enum):
    """A session is open until it is committed (then its record is gone) or its time is over."""

    OPEN = "open"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Base:
    """A version that a push may reuse chunks of."""

    template: TemplateId
    version: VersionId


@dataclass(frozen=True, slots=True)
class Session:
    """A push under way."""

    id: SessionId
    state: SessionState
    owner: str
    template: TemplateId
    version: VersionId
    """The id that its version will have."""
    domain: Domain
    bases: tuple[Base, ...] = ()
    """What the sweep must leave alone for this push, whether or not the push may use it."""
    usable: tuple[Base, ...] = ()
    """Those of the bases that were looked at after they were written down here, and found safe to build on."""
    limit: int = 0
    """Bytes that it may upload."""
    signed: int = 0
    """Bytes that upload links were given for."""
    opened: int | None = None
    """Seconds since 1970 by the store's clock: known, and written down, from the second write of the record on."""
    unknown: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Marker:
    """What a sweep is about to remove."""

    id: str
    packs: frozenset[tuple[str, str, str]]
    """(domain, session id, sha256) each."""
    maps: frozenset[tuple[str, str, str]]
    versions: frozenset[tuple[str, str]]
    """(template id, version id) each."""

    def touches(self, version: Version) -> bool:
        """Whether anything that the version needs is about to be removed."""
        if (version.template, version.id) in self.versions:
            return True
        for file in version.files:
            if file.map and (version.domain, file.map.sid, file.map.sha256) in self.maps:
                return True
            if any((version.domain, use.pack.sid, use.pack.sha256) in self.packs for use in file.packs):
                return True
        return False


class EventKind(enum.Enum):
    """Where an event comes from."""

    REPORT = "report"
    """What a machine told the registry."""
    AUDIT = "audit"
    """What the registry itself noted: who asked for what, and how it ended."""


@dataclass(frozen=True, slots=True)
class Event:
    """What was reported, or noted, kept for people to read."""

    id: str
    """32 hex digits; the first five are microseconds: within a second, what comes later is greater."""
    time: int
    """Seconds since 1970, by the registry's clock."""
    kind: EventKind
    by: str
    """Who reported it, or asked for it."""
    said: dict[str, Any]
    """Names to JSON values, none of them a list or an object."""


def bytes_digest(data: bytes) -> Digest:
    """The file digest of a file that is held in memory."""
    tree, chunk = FileTree(len(data), CHUNK_LOG2), 1 << CHUNK_LOG2
    for start in range(0, len(data), chunk):
        part = memoryview(data)[start : start + chunk]
        if is_zero(part):
            tree.add_holes(1)
        else:
            tree.add(chunk_digest(part))
    return tree.digest()


def union_bytes(versions: Iterable[Version]) -> int:
    """Bytes of the union, by digest, of the versions' images and states: a template's size."""
    return sum({file.digest: file.size for version in versions for file in version.layers()}.values())


def check_file_names(files: Iterable[tuple[str, Role]]) -> None:
    """Raise NameInvalid unless every name is fit for a library and no two collide where case is ignored.

    Images and states share a folder on some nodes, so they are looked at together; the VM folder's files are another.
    """
    seen: dict[tuple[bool, str], str] = {}
    for name, role in files:
        key = (role in {Role.IMAGE, Role.STATE}, names.folded(names.file_name(name)))
        if key in seen:
            raise NameInvalid(what="file name", text=name, reason=f"it collides with {seen[key]!r}")
        seen[key] = name
