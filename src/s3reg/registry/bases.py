"""Which versions a push may build on, so that none of their packs is swept away under it.

The order is the proof (docs/design.md §4): the session's record names the base; *then* the sweeps' markers are read; *then*
the heads. A sweep marks before it looks at sessions and heads for the last time. So either it sees the session, or we see
its marker; and what was purged before the session named it, no head names any more.
"""

from __future__ import annotations

from logging import WARNING
from typing import TYPE_CHECKING

from s3reg.errors import FormatUnknown, ObjectNotFound, RecordDamaged
from s3reg.model import format as fmt
from s3reg.model.identity import Action
from s3reg.store.together import gather
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from s3reg.model.identity import Identity
    from s3reg.model.names import Digest, Domain, SessionId, TemplateId
    from s3reg.model.packs import PackRef
    from s3reg.model.template import Base, Head, MapRef, Marker, Session, Version
    from s3reg.registry.records import Records
    from s3reg.store import Stat

Dropped = list[tuple["Base", str]]

NOT_THERE = "there is no such version"
"""Said of what the asker may not list too: it must not learn the difference."""


def allowed(
    records: Records, asker: Identity, wanted: Iterable[Base], room: int, *, known: Container[Base] = ()
) -> tuple[tuple[Base, ...], Dropped]:
    """Those of `wanted`, each once, that the asker may pull; and the others, with the reason.

    At most `room` of them besides those of `known`.
    """
    kept: list[Base] = []
    dropped: Dropped = []
    bases = list(dict.fromkeys(wanted))
    heads = _heads(records, {base.template for base in bases if not may_use(asker, base.template, None)})
    for base in bases:
        head = heads.get(base.template)
        domain = head.domain if head else None
        if not asker.may(Action.LIST, base.template, domain):
            dropped.append((base, NOT_THERE))
        elif not asker.may(Action.PULL, base.template, domain):
            dropped.append((base, "you may not pull it"))
        elif base in known:
            kept.append(base)
        elif room <= 0:
            dropped.append((base, "the push has as many bases as it may have"))
        else:
            kept.append(base)
            room -= 1
    return tuple(kept), dropped


def may_use(asker: Identity, template: TemplateId, domain: Domain | None) -> bool:
    """Whether the asker may build on this template's versions."""
    return asker.may(Action.LIST, template, domain) and asker.may(Action.PULL, template, domain)


def inspect(
    records: Records, session: Session, wanted: Iterable[Base], bad: Container[tuple[SessionId, Digest]]
) -> tuple[dict[Base, Version], Dropped]:
    """Those of `wanted` that the session may build on, and the others, with the reason.

    `bad`: packs and maps that were found so; what lacks a map is no base: a file that did not change takes its map over
    unread. The session's record on the store must name all of `wanted` already.
    """
    bases = list(wanted)
    if not bases:
        return {}, []
    assert set(bases) <= set(session.bases)
    markers = read_markers(records)
    heads = _heads(records, {base.template for base in bases})
    named = [base for base in bases if _names(heads.get(base.template), base)]
    versions = dict(zip(named, records.versions(named, withheld=True), strict=True))
    lacking = _not_there(records, filter(None, versions.values()))
    usable: dict[Base, Version] = {}
    dropped: Dropped = []
    for base in bases:
        version = versions.get(base)
        if base not in versions:
            dropped.append((base, NOT_THERE))
        elif version is None:
            dropped.append((base, "its record cannot be read"))
        elif version.domain != session.domain:
            dropped.append((base, f"it lives in another domain than {session.domain!r}"))
        elif any(file.map is not None and (file.map.sid, file.map.sha256) in bad for file in version.files):
            dropped.append((base, "a map of it was found damaged"))
        elif any(file.map in lacking for file in version.files):
            dropped.append((base, "a map of it is missing, or is another one"))
        elif markers is None:
            dropped.append((base, "what a sweep is about to remove cannot be read"))
        elif any(marker.touches(version) for marker in markers):
            dropped.append((base, "a sweep is about to remove what it needs"))
        else:
            usable[base] = version
    return usable, dropped


def _not_there(records: Records, versions: Iterable[Version]) -> set[MapRef | None]:
    """The maps of these versions that the store does not have, as far as it tells without giving them."""

    def look(row: tuple[Domain, MapRef]) -> MapRef | None:
        domain, ref = row
        try:
            found = records.store.stat(fmt.map_key(domain, ref.sid, ref.sha256))
        except ObjectNotFound:
            return ref
        return None if (found.size, found.sha256 or ref.sha256) == (ref.size, ref.sha256) else ref

    rows = {(version.domain, file.map) for version in versions for file in version.files if file.map is not None}
    return set(gather(look, rows)) - {None}


def read_markers(records: Records) -> list[Marker] | None:
    """What the sweeps under way are about to remove; None if that cannot be told, because a marker is damaged."""

    def read(stat: Stat) -> Marker | None:
        found = records.read(stat.key)
        # Gone between listing and reading: its sweep has ended, and what it removed no head has named since.
        return fmt.read_marker(found.data) if found else None

    # A foreign key here stops the sweep itself, so it stands for nothing that is being removed.
    stats = [stat for stat in records.store.list(fmt.MARKERS) if stat.key.endswith(".json")]
    try:
        return [marker for marker in gather(read, stats) if marker is not None]
    except (RecordDamaged, FormatUnknown) as e:
        emit("marker-unreadable", level=WARNING, reason=str(e))
        return None


def damaged_packs(versions: Iterable[Version], bad: Container[tuple[SessionId, Digest]]) -> frozenset[PackRef]:
    """The packs of these versions that are among those found bad."""
    needed = {use.pack for version in versions for file in version.files for use in file.packs}
    return frozenset(pack for pack in needed if (pack.sid, pack.sha256) in bad)


def _heads(records: Records, templates: Iterable[TemplateId]) -> dict[TemplateId, Head]:
    """Read anew, never from a cache: whether they still name the bases is the question."""

    def read(template: TemplateId) -> Head | None:
        try:
            return records.head(template)
        except (RecordDamaged, FormatUnknown) as e:
            emit("head-unreadable", level=WARNING, template=template, reason=str(e))
            return None

    return {head.id: head for head in gather(read, templates) if head is not None}


def _names(head: Head | None, base: Base) -> bool:
    """Whether the head names the base among its versions. `removed[]` is not enough: it may be purged at any time."""
    return head is not None and not head.deleted and head.with_id(base.version) is not None
