"""What a check of the store finds, and the records of packs that were found bad."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from logging import WARNING
from typing import TYPE_CHECKING

from s3reg.errors import NameInvalid
from s3reg.model import format as fmt
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from s3reg.model.names import Digest, SessionId, TemplateId, VersionId
    from s3reg.registry.records import Records


class What(enum.Enum):
    """The sort of object that is bad."""

    HEAD = "head"
    VERSION = "version"
    MAP = "map"
    PACK = "pack"
    SESSION = "session"
    MARKER = "marker"


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

    @property
    def lost_bytes(self) -> int:
        """How many bytes of the file cannot be had."""
        return sum(length for _, length in self.lost)

    @property
    def remedy(self) -> str:
        """What to do."""
        if self.what is What.SESSION:
            return "no sweep runs while it is there; once no push is under way, move it away"
        if self.what is What.MARKER:
            return "no push builds on anything while it is there; move it away"
        if self.what is What.HEAD or not self.tag:
            return f"restore {self.key} from a copy of the store"
        if self.trash:
            return "it is in the trash: purge it, or restore what is named from a copy of the store"
        return "push it again from a library that has it (s3reg fsck --repair-from), or restore it from a copy of the store"


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
    """Packs that are noted as bad, once the check is done."""
    unrecorded: int = 0
    """Bad packs that could not be noted, or were not to be."""
    forgotten: int = 0
    """Packs that were noted as bad, and are sound."""

    @property
    def clean(self) -> bool:
        """Whether nothing that anybody can ask for is hurt."""
        return not self.damage


def found_bad(records: Records) -> set[tuple[SessionId, Digest]]:
    """The packs that are noted as bad."""
    bad: set[tuple[SessionId, Digest]] = set()
    for stat in records.store.list(fmt.DAMAGED):
        try:
            bad.add(fmt.pack_of_damaged_key(stat.key))
        except NameInvalid:
            emit("foreign-key", level=WARNING, key=stat.key)
    return bad


def note(records: Records, sid: SessionId, sha256: Digest) -> None:
    """Note that a pack is bad: nobody builds on it from here on."""
    records.store.put(fmt.damaged_key(sid, sha256), b"")
    emit("pack-found-bad", level=WARNING, session=sid, sha256=sha256)


def forget(records: Records, sid: SessionId, sha256: Digest) -> None:
    """The pack is sound again."""
    records.store.delete([fmt.damaged_key(sid, sha256)])
    emit("pack-sound-again", session=sid, sha256=sha256)
