"""The on-store format, v1: every key, and every record as JSON.

    format.json                           what this store is
    heads/<uuid>.json                     mutable, compare-and-swap
    versions/<uuid>/<vid>.json            immutable
    maps/<domain>/<sid>/<sha256>          immutable
    packs/<domain>/<sid>/<sha256>         immutable
    sessions/<sid>.json                   mutable, compare-and-swap
    gc/<gcid>.json                        immutable: what a sweep is about to remove
    pulls/<uuid>/<vid>                    empty; its time is the last pull
    damaged/<sid>/<sha256>                a pack or map found bad
    events/<yyyy>/<mm>/<dd>/…             immutable: what was reported or noted within a minute, named by its time
    check/…                               scratch of `store check`
    swept                                 empty; its time is when the last sweep ended
    auth/…                                credentials and groups: model/format_access.py

Keys are derived here and nowhere else: records and messages hold ids and digests, so that no client can have another key
signed. A record of a newer version than ours is refused with FormatUnknown; one that does not hold what it must, with
RecordDamaged. Fields of a mutable record that we do not know are kept when it is rewritten.
"""

from __future__ import annotations

import base64
import calendar
import contextlib
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from s3reg.errors import FormatUnknown, NameInvalid, StoreFormatDamaged
from s3reg.model import names
from s3reg.model.bounded import (
    MISSHAPEN,
    MOST_ENTRIES,
    RECORD_VERSION,
    count,
    dump,
    entries,
    fields,
    load,
    reading,
    record,
    string,
    truth,
)
from s3reg.model.packs import LARGEST_PACK, PackRef
from s3reg.model.template import (
    CONFIG_BYTES,
    MOST_FILES,
    Base,
    Entry,
    Event,
    EventKind,
    File,
    Head,
    MapRef,
    Marker,
    PackUse,
    Role,
    Session,
    SessionState,
    Version,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from s3reg.model.names import Digest, Domain, SessionId, TemplateId, VersionId

T = TypeVar("T")

FORMAT = 1
MOST_EVENTS = 1000
"""In one object."""
MOST_PACKS_OF_A_FILE = 1_000_000

FORMAT_KEY = "format.json"
HEADS, VERSIONS, MAPS, PACKS = "heads/", "versions/", "maps/", "packs/"
SESSIONS, MARKERS, PULLS, DAMAGED, CHECK = "sessions/", "gc/", "pulls/", "damaged/", "check/"
EVENTS = "events/"
SWEPT_KEY = "swept"
"""Empty; its time is when the last sweep came to its end."""
_MARKER = re.compile(r"gc/[0-9a-f]{32}\.json")
_SCRATCH = re.compile(r"check/(sweep-[0-9a-f]{32}|[0-9a-f]{32}/.+)")
_SWEPT = re.compile(
    r"versions/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/[0-9a-f]{32}\.json"
    r"|(packs|maps)/[a-z0-9][a-z0-9-]{0,62}/[0-9a-f]{32}/[0-9a-f]{64}"
)


# --- Keys ------------------------------------------------------------------------------------------------------------


def head_key(template: TemplateId) -> str:
    """Where a template's head lies."""
    return f"{HEADS}{template}.json"


def template_of_head_key(key: str) -> TemplateId:
    """The template whose head lies at `key`. Raises NameInvalid for a foreign key."""
    template = names.template_id(key.removeprefix(HEADS).removesuffix(".json"))
    if key != head_key(template):
        raise NameInvalid(what="head's key", text=key[:80], reason="it is not spelled as we spell it")
    return template


def version_key(template: TemplateId, version: VersionId) -> str:
    """Where a version lies."""
    return f"{VERSIONS}{template}/{version}.json"


def map_key(domain: Domain, sid: SessionId, sha256: Digest) -> str:
    """Where a map lies."""
    return f"{MAPS}{domain}/{sid}/{sha256}"


def pack_key(domain: Domain, sid: SessionId, sha256: Digest) -> str:
    """Where a pack lies."""
    return f"{PACKS}{domain}/{sid}/{sha256}"


def pack_of_key(key: str) -> tuple[SessionId, Digest]:
    """The pack that lies at `key`. Raises NameInvalid for a foreign key."""
    _, _, place = key.removeprefix(PACKS).partition("/")
    sid, _, sha256 = place.partition("/")
    return names.session_id(sid), names.digest(sha256)


def map_of_key(key: str) -> tuple[SessionId, Digest]:
    """The map that lies at `key`. Raises NameInvalid for a foreign key."""
    return pack_of_key(PACKS + key.removeprefix(MAPS))


def packs_prefix(domain: Domain, sid: SessionId) -> str:
    """Under which the packs of one session lie."""
    return f"{PACKS}{domain}/{sid}/"


def maps_prefix(domain: Domain, sid: SessionId) -> str:
    """Under which the maps of one session lie."""
    return f"{MAPS}{domain}/{sid}/"


def session_key(sid: SessionId) -> str:
    """Where a session lies."""
    return f"{SESSIONS}{sid}.json"


def session_of_key(key: str) -> SessionId:
    """The session that lies at `key`. Raises NameInvalid for a foreign key."""
    sid = names.session_id(key.removeprefix(SESSIONS).removesuffix(".json"))
    if key != session_key(sid):
        raise NameInvalid(what="session's key", text=key[:80], reason="it is not spelled as we spell it")
    return sid


def marker_key(gcid: str) -> str:
    """Where a sweep says what it is about to remove; `gcid`: 32 hex digits."""
    return f"{MARKERS}{gcid}.json"


def scratch_key(token: str) -> str:
    """Where a sweep asks the store for the time; `token`: 32 hex digits."""
    return f"{CHECK}sweep-{token}"


def is_marker_key(key: str) -> bool:
    """Whether a marker may lie at `key`."""
    return _MARKER.fullmatch(key) is not None


def is_scratch_key(key: str) -> bool:
    """Whether what lies at `key` is scratch of ours: of `store check`, or of a sweep that asked the store for the time."""
    return _SCRATCH.fullmatch(key) is not None


def is_swept_key(key: str) -> bool:
    """Whether a pack, map or version of ours may lie at `key`; anything else there is foreign."""
    return _SWEPT.fullmatch(key) is not None


def pull_key(template: TemplateId, version: VersionId) -> str:
    """Whose time is the last pull of a version."""
    return f"{PULLS}{template}/{version}"


def pulls_prefix(template: TemplateId | None = None) -> str:
    """Under which the last pulls of a template's versions, or of all, are noted."""
    return PULLS if template is None else f"{PULLS}{template}/"


def version_of_pull_key(key: str) -> tuple[TemplateId, VersionId]:
    """The version whose last pull `key` notes. Raises NameInvalid for a foreign key."""
    template, _, version = key.removeprefix(PULLS).partition("/")
    return names.template_id(template), names.version_id(version)


def damaged_key(sid: SessionId, sha256: Digest) -> str:
    """Whose presence says that a pack or map is bad. A sound pack of the same bytes, sent by a later push, is another."""
    return f"{DAMAGED}{sid}/{sha256}"


def pack_of_damaged_key(key: str) -> tuple[SessionId, Digest]:
    """The pack that `key` says is bad. Raises NameInvalid for a foreign key."""
    sid, _, sha256 = key.removeprefix(DAMAGED).partition("/")
    return names.session_id(sid), names.digest(sha256)


def events_key(first: Event) -> str:
    """Where events lie that were written together: keys are in the order of their first one's time, to a second."""
    return f"{first_events_key(first.time)}-{first.id}.json"


EVENTS_LEVELS: tuple[tuple[str, range | None], ...] = (
    ("{:04d}/", None),
    ("{:02d}/", range(1, 13)),
    ("{:02d}/", range(1, 32)),
    ("{:02d}", range(24)),
    ("{:02d}", range(60)),
    ("{:02d}", range(60)),
)
"""Of what their keys are made behind EVENTS, from the year to the second, and what there is of each."""


def first_events_key(moment: int) -> str:
    """What no key of events from this second on is smaller than."""
    return EVENTS + time.strftime("%Y/%m/%d/%H%M%S", time.gmtime(moment))


def time_of_events_key(key: str) -> int:
    """When the first of the events there happened, in seconds since 1970. Raises NameInvalid for a foreign key."""
    try:
        return calendar.timegm(time.strptime(key.removeprefix(EVENTS)[:17], "%Y/%m/%d/%H%M%S"))
    except ValueError as e:
        raise NameInvalid(what="event's key", text=key[:80], reason="it does not begin with a time") from e


# --- format.json -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoreFormat:
    """What a store is: made where, and which features one must know to read, write or sweep it."""

    store: str
    made_as: str
    read: frozenset[str] = frozenset()
    write: frozenset[str] = frozenset()
    sweep: frozenset[str] = frozenset()
    also: tuple[str, ...] = ()
    """Other names of the same place, as somebody said who knows."""


def write_format(value: StoreFormat, old: bytes | None = None) -> bytes:
    """`format.json`. `old`: what it replaces, of which it keeps what we do not know."""
    kept = {} if old is None else load(old)
    kept.pop("also", None)
    features = {"read": sorted(value.read), "write": sorted(value.write), "sweep": sorted(value.sweep)}
    also = {"also": value.also} if value.also else {}
    return dump(
        {**kept, "format": FORMAT, "store": value.store, "made_as": value.made_as, **also, "features": features}
    )


def read_format(data: bytes) -> StoreFormat:
    """`format.json` read; a format that is not ours is refused."""
    with reading(FORMAT_KEY, StoreFormatDamaged):
        raw = load(data)
        if count(raw["format"]) != FORMAT:
            raise FormatUnknown(what="the store", feature=f"format {raw['format']}")
        features = raw["features"]
        read, write, sweep = (
            frozenset(string(name) for name in entries(features[use], MOST_ENTRIES))
            for use in ("read", "write", "sweep")
        )
        also = tuple(string(name) for name in entries(raw.get("also", []), MOST_ENTRIES))
        return StoreFormat(string(raw["store"]), string(raw["made_as"]), read, write, sweep, also)


# --- Heads -----------------------------------------------------------------------------------------------------------

_ENTRY_FIELDS = {"id", "seq", "tag", "description", "size", "created", "removed", "removed_by", "until"}
_HEAD_FIELDS = {"v", "gen", "ops", "id", "name", "arch", "domain", "size", "versions", "removed", "deleted"}


def write_head(head: Head) -> bytes:
    """A head as it lies on the store."""
    return dump(
        {
            **head.unknown,
            "v": RECORD_VERSION,
            "gen": head.gen,
            "ops": list(head.operations),
            "id": head.id,
            "name": head.name,
            "arch": head.arch,
            "domain": head.domain,
            "size": head.size,
            "versions": [_entry_json(entry) for entry in head.versions],
            "removed": [_entry_json(entry) for entry in head.removed],
            "deleted": head.deleted,
        }
    )


def read_head(data: bytes, template: TemplateId) -> Head:
    """The head of `template`."""
    with reading(f"the head of template {template}"):
        raw = record(data)
        if raw["id"] != template:
            raise ValueError("it is for another template")
        head = Head(
            id=template,
            name=names.template_name(raw["name"]),
            domain=names.domain(raw["domain"]),
            arch=names.arch(raw["arch"]),
            gen=count(raw["gen"]),
            operations=tuple(string(op) for op in entries(raw["ops"], MOST_ENTRIES)),
            size=count(raw["size"]),
            versions=tuple(_entry(entry) for entry in entries(raw["versions"], MOST_ENTRIES)),
            removed=tuple(_entry(entry) for entry in entries(raw["removed"], MOST_ENTRIES)),
            deleted=truth(raw["deleted"]),
            unknown={name: value for name, value in raw.items() if name not in _HEAD_FIELDS},
        )
        seqs = [entry.seq for entry in head.versions]
        # One seq may come twice: a version that was replaced, and restored under another tag.
        if seqs != sorted(seqs) or len({entry.tag for entry in head.versions}) != len(seqs):
            raise ValueError("its versions are not in order, or share a tag")
        if any(entry.removed is None or entry.until is None or entry.until < entry.removed for entry in head.removed):
            raise ValueError("a removed version does not say when it was removed, and until when it is kept")
        return head


def read_damaged_head(data: bytes, template: TemplateId, reason: str) -> Head | None:
    """What can be read of a head that `read_head` refuses, if that tells at least the template's name.

    Its versions are those before the first that is damaged: so each has its number.
    """
    try:
        raw = record(data)
        name = names.template_name(raw["name"])
        if raw["id"] != template:
            return None
    except (FormatUnknown, *MISSHAPEN):
        return None
    readable: list[Entry] = []
    with contextlib.suppress(*MISSHAPEN):
        for entry in entries(raw["versions"], MOST_ENTRIES):
            readable.append(_entry(entry))  # noqa: PERF401 - what came before the damaged one is kept
    return Head(
        id=template,
        name=name,
        domain=_readable(names.domain, raw.get("domain"), names.UNKNOWN_DOMAIN),
        arch=_readable(names.arch, raw.get("arch"), ""),
        size=_readable(count, raw.get("size"), 0),
        versions=tuple(readable),
        deleted=raw.get("deleted") is True,
        damaged=reason,
    )


def _readable(read: Callable[[object], T], value: object, otherwise: T) -> T:
    try:
        return read(value)
    except MISSHAPEN:
        return otherwise


def _entry_json(entry: Entry) -> dict[str, Any]:
    out: dict[str, Any] = {
        **entry.unknown,
        "id": entry.id,
        "seq": entry.seq,
        "tag": entry.tag,
        "description": entry.description,
        "size": entry.size,
        "created": entry.created,
    }
    if entry.removed is not None:
        out |= {"removed": entry.removed, "removed_by": entry.removed_by or "", "until": entry.until}
    return out


def _entry(raw: dict[str, Any]) -> Entry:
    return Entry(
        id=names.version_id(raw["id"]),
        seq=count(raw["seq"]),
        tag=names.tag(raw["tag"]),
        description=names.description(raw["description"]),
        size=count(raw["size"]),
        created=count(raw["created"]),
        removed=count(raw["removed"]) if "removed" in raw else None,
        removed_by=string(raw["removed_by"]) if "removed" in raw else None,
        until=count(raw["until"]) if "removed" in raw else None,
        unknown={name: value for name, value in raw.items() if name not in _ENTRY_FIELDS},
    )


# --- Versions --------------------------------------------------------------------------------------------------------


def write_version(version: Version) -> bytes:
    """A version as it lies on the store."""
    return dump(
        {
            "v": RECORD_VERSION,
            "id": version.id,
            "template": version.template,
            "domain": version.domain,
            "session": version.session,
            "created": version.created,
            "config": version.config,
            "files": [_file_json(file) for file in version.files],
        }
    )


def read_version(data: bytes, template: TemplateId, vid: VersionId) -> Version:
    """The version `vid` of `template`."""
    with reading(f"version {vid} of template {template}"):
        raw = record(data)
        if (raw["id"], raw["template"]) != (vid, template):
            raise ValueError("it is another version")
        return Version(
            id=vid,
            template=template,
            domain=names.domain(raw["domain"]),
            session=names.session_id(raw["session"]),
            created=count(raw["created"]),
            config=raw["config"],
            files=tuple(_file(file) for file in entries(raw["files"], MOST_FILES)),
        )


def _file_json(file: File) -> dict[str, Any]:
    out: dict[str, Any] = {
        "name": file.name,
        "role": file.role.value,
        "drive": file.drive,
        "parent": file.parent,
        "size": file.size,
        "digest": file.digest,
    }
    if file.inline is not None:
        out["inline"] = base64.b64encode(file.inline).decode()
    if file.map is not None:
        out["map"] = {"sid": file.map.sid, "sha256": file.map.sha256, "size": file.map.size}
        out["packs"] = [[use.pack.sid, use.pack.sha256, use.pack.size, use.live] for use in file.packs]
    return out


def _file(raw: dict[str, Any]) -> File:
    inline = base64.b64decode(raw["inline"], validate=True) if "inline" in raw else None
    if (inline is None) == ("map" not in raw):
        raise ValueError("a file has either its bytes or a map")
    size = count(raw["size"])
    if inline is not None and (len(inline) != size or size > CONFIG_BYTES):
        raise ValueError("an inline file has another size than it says")
    return File(
        name=names.file_name(raw["name"]),
        role=Role(raw["role"]),
        size=size,
        digest=names.digest(raw["digest"]),
        drive=None if raw["drive"] is None else count(raw["drive"]),
        parent=None if raw["parent"] is None else names.file_name(raw["parent"]),
        inline=inline,
        map=_map_ref(raw["map"]) if "map" in raw else None,
        # Not optional beside a map: a sweep would take the packs of a file that lost the list for unused.
        packs=tuple(_pack_use(use) for use in entries(raw["packs"], MOST_PACKS_OF_A_FILE)) if "map" in raw else (),
    )


def _map_ref(raw: dict[str, Any]) -> MapRef:
    return MapRef(names.session_id(raw["sid"]), names.digest(raw["sha256"]), count(raw["size"]))


def _pack_use(raw: list[Any]) -> PackUse:
    sid, sha256, size, live = raw
    if not 0 < count(size) <= LARGEST_PACK or count(live) > size:
        raise ValueError("a pack has an impossible size")
    return PackUse(PackRef(names.session_id(sid), names.digest(sha256), size), live)


# --- Sessions --------------------------------------------------------------------------------------------------------

_SESSION_FIELDS = {
    "v", "id", "state", "owner", "template", "version", "domain", "bases", "usable", "limit", "signed", "opened",
}  # fmt: skip


def write_session(session: Session) -> bytes:
    """A session as it lies on the store."""
    return dump(
        {
            **session.unknown,
            "v": RECORD_VERSION,
            "id": session.id,
            "state": session.state.value,
            "owner": session.owner,
            "template": session.template,
            "version": session.version,
            "domain": session.domain,
            "bases": [[base.template, base.version] for base in session.bases],
            "usable": [[base.template, base.version] for base in session.usable],
            "limit": session.limit,
            "signed": session.signed,
            "opened": session.opened,
        }
    )


def read_session(data: bytes, sid: SessionId) -> Session:
    """The session `sid`."""
    with reading(f"session {sid}"):
        raw = record(data)
        if raw["id"] != sid:
            raise ValueError("it is another session")
        return Session(
            id=sid,
            state=SessionState(raw["state"]),
            owner=string(raw["owner"]),
            template=names.template_id(raw["template"]),
            version=names.version_id(raw["version"]),
            domain=names.domain(raw["domain"]),
            bases=_bases(raw["bases"]),
            usable=_bases(raw["usable"]),
            limit=count(raw["limit"]),
            signed=count(raw["signed"]),
            opened=None if raw["opened"] is None else count(raw["opened"]),
            unknown={name: value for name, value in raw.items() if name not in _SESSION_FIELDS},
        )


def _bases(raw: object) -> tuple[Base, ...]:
    return tuple(Base(names.template_id(t), names.version_id(v)) for t, v in entries(raw, MOST_ENTRIES))


# --- Markers ---------------------------------------------------------------------------------------------------------


def marker_of(gcid: str, keys: Iterable[str]) -> Marker:
    """The marker that names these packs, maps and versions."""
    rows = [key.removesuffix(".json").split("/") for key in keys]
    return Marker(
        gcid,
        packs=frozenset((row[1], row[2], row[3]) for row in rows if f"{row[0]}/" == PACKS),
        maps=frozenset((row[1], row[2], row[3]) for row in rows if f"{row[0]}/" == MAPS),
        versions=frozenset((row[1], row[2]) for row in rows if f"{row[0]}/" == VERSIONS),
    )


def write_marker(marker: Marker) -> bytes:
    """A sweep's marker as it lies on the store."""
    return dump(
        {
            "v": RECORD_VERSION,
            "id": marker.id,
            "packs": sorted(marker.packs),
            "maps": sorted(marker.maps),
            "versions": sorted(marker.versions),
        }
    )


def read_marker(data: bytes) -> Marker:
    """A sweep's marker."""
    with reading("a sweep's marker"):
        raw = record(data)
        return Marker(
            string(raw["id"]),
            frozenset(_three(row) for row in entries(raw["packs"], MOST_ENTRIES)),
            frozenset(_three(row) for row in entries(raw["maps"], MOST_ENTRIES)),
            frozenset((names.template_id(t), names.version_id(v)) for t, v in entries(raw["versions"], MOST_ENTRIES)),
        )


def _three(row: list[Any]) -> tuple[str, str, str]:
    domain, sid, sha256 = row
    return names.domain(domain), names.session_id(sid), names.digest(sha256)


# --- Events ----------------------------------------------------------------------------------------------------------


def write_events(events: Iterable[Event]) -> bytes:
    """Events as they lie on the store, together."""
    rows = [
        {"id": event.id, "time": event.time, "kind": event.kind.value, "by": event.by, "said": event.said}
        for event in events
    ]
    return dump({"v": RECORD_VERSION, "events": rows})


def read_events(data: bytes, key: str) -> tuple[Event, ...]:
    """The events that lie at `key`."""
    with reading(f"the events at {key}"):
        raw = record(data)
        # The first of these records held one event, which was a report.
        rows = entries(raw["events"], MOST_EVENTS) if "events" in raw else [{**raw, "kind": EventKind.REPORT.value}]
        return tuple(
            Event(string(row["id"]), count(row["time"]), EventKind(row["kind"]), string(row["by"]), fields(row["said"]))
            for row in rows
        )
