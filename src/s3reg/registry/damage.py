"""What a check of the store finds, and the records of packs and maps that were found bad."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from logging import WARNING
from typing import TYPE_CHECKING

from s3reg.errors import NameInvalid
from s3reg.model import format as fmt
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from s3reg.errors import S3regError
    from s3reg.model.names import Digest, SessionId, TemplateId, VersionId
    from s3reg.registry.records import Records


MISSING = "it is missing"
OTHER_FRAMES = "its seek table does not have the frames that a map names"
NOTED = "it was found bad before; --read-data tells whether it is sound again"


class What(enum.Enum):
    """The sort of object that is bad."""

    HEAD = "head"
    SIZE = "size"
    VERSION = "version"
    MAP = "map"
    PACK = "pack"
    SESSION = "session"
    MARKER = "marker"
    KEY = "key"
    GROUP = "group"
    SECRET = "secret"  # noqa: S105 - a sort of object


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is wrong: of one file, where it is a file's."""

    what: What
    key: str
    """Of the object that is bad, or missing."""
    reason: str
    template: TemplateId | None = None
    name: str = ""
    """The template's."""
    version: VersionId | None = None
    tag: str = ""
    trash: bool = False
    """The version was removed, and can be restored still."""
    file: str = ""
    lost: tuple[tuple[int, int], ...] = ()
    """Bytes of the file that cannot be had: (first, how many) each, in order."""
    newer: bool = False
    """It is of a newer release, so nobody here can tell whether it is sound."""

    @property
    def lost_bytes(self) -> int:
        """How many bytes of the file cannot be had."""
        return sum(length for _, length in self.lost)

    @property
    def remedy(self) -> str:
        """What to do."""
        if self.newer:
            return "check it with a newer release of s3reg, and change nothing"
        if self.what in _REMEDIES:
            return _REMEDIES[self.what]
        if not self.tag:
            return f"restore {self.key} from a copy of the store, and sweep nothing before"
        if self.trash:
            return (
                "it is in the trash: purge it (s3reg trash purge); or take it out (s3reg trash restore), then repair it; "
                "or restore what is named from a copy of the store"
            )
        return "push it again from a library that has it (s3reg fsck --repair-from), or restore it from a copy of the store"


_REMEDIES = {
    What.SESSION: "no sweep runs while it is there; once no push is under way, move it away",
    What.MARKER: "no push builds on anything while it is there; once no sweep is under way, move it away",
    What.KEY: "nobody logs in with it; restore it from a copy of the store, or delete the key and make it again",
    What.GROUP: "it gives nobody anything; restore it from a copy of the store, or delete the group and make it again",
    What.SECRET: "no registry starts; restore it from a copy of the store, or move it away: then all logins and links end",
    What.SIZE: "listings tell a wrong size until the next push, untag or revert of the template; nothing is lost",
}


@dataclass(frozen=True, slots=True)
class BadPack:
    """What is wrong with a pack."""

    reason: str
    frames: frozenset[tuple[int, bytes]] | None = None
    """The frames that do not give their chunks: where each begins, and the chunk's digest. None: all of them."""


@dataclass(slots=True)
class Tally:
    """Objects, and their bytes."""

    count: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """One more."""
        self.count += 1
        self.bytes += size


@dataclass(slots=True)
class Checked:
    """What a check of the store found. It grows while the check runs."""

    step: str = ""
    """What it is at."""
    templates: int = 0
    versions: int = 0
    """Those in the trash too."""
    packs: int = 0
    """That the versions need."""
    bytes: int = 0
    """Of these packs."""
    looked: int = 0
    """Packs whose checksum the store was asked for."""
    unsummed: int = 0
    """Packs of which the store keeps no checksum: only reading tells whether they are sound."""
    seed: int = 0
    """By which packs were chosen, where not all were read."""
    to_read: int = 0
    """Bytes of the packs that are to be read."""
    read: Tally = field(default_factory=Tally)
    """Packs that were read."""
    damage: list[Damage] = field(default_factory=list)
    orphans: dict[str, Tally] = field(default_factory=dict)
    """What nobody needs, by sort: what the next sweep frees."""
    foreign: list[str] = field(default_factory=list)
    """Keys that are none of ours; the first of them."""
    foreign_count: int = 0
    recorded: int = 0
    """Packs and maps that are noted as bad, once the check is done."""
    unrecorded: int = 0
    """Bad ones that could not be noted, or were not to be."""
    forgotten: int = 0
    """Those that were noted as bad, and are sound."""

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong at all."""
        return not self.damage

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong but with what lies in the trash."""
        return all(one.trash for one in self.damage)

    @property
    def unreadable(self) -> bool:
        """Whether something cannot be read that may name what seems to be nobody's."""
        return any(one.what in _NAMING for one in self.damage)


_NAMING = {What.HEAD, What.VERSION, What.SESSION}


def reason(e: S3regError) -> str:
    """Why a record is damaged, without its name, which is told beside."""
    return str(e.detail.get("reason", e))


def found_bad(records: Records) -> set[tuple[SessionId, Digest]]:
    """The packs and maps that are noted as bad."""
    bad: set[tuple[SessionId, Digest]] = set()
    for stat in records.store.list(fmt.DAMAGED):
        try:
            bad.add(fmt.pack_of_damaged_key(stat.key))
        except NameInvalid:
            emit("foreign-key", level=WARNING, key=stat.key)
    return bad


def note(records: Records, sid: SessionId, sha256: Digest) -> None:
    """Note that a pack or map is bad: nobody builds on it from here on."""
    records.store.put(fmt.damaged_key(sid, sha256), b"")
    emit("found-bad", level=WARNING, session=sid, sha256=sha256)


def forget(records: Records, sid: SessionId, sha256: Digest) -> None:
    """It is sound again."""
    records.store.delete([fmt.damaged_key(sid, sha256)])
    emit("sound-again", session=sid, sha256=sha256)
