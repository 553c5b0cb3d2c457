"""The pushes under way, for people: which there are, and an end to one of them.

An asker sees those that it began itself; whoever has no limits, everybody's.
"""

from __future__ import annotations

from logging import WARNING
from typing import TYPE_CHECKING

from s3reg.errors import FormatUnknown, NameInvalid, RecordDamaged, SessionNotFound
from s3reg.model import format as fmt
from s3reg.model.template import SessionState
from s3reg.registry import setup
from s3reg.registry.push import expired, opened_at
from s3reg.registry.values import UnderWay
from s3reg.store.together import gather
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from s3reg.model.identity import Identity
    from s3reg.model.names import SessionId
    from s3reg.model.template import Session
    from s3reg.registry.catalog import Catalog
    from s3reg.registry.records import Records
    from s3reg.registry.values import Limits
    from s3reg.store import Stat


def listed(records: Records, catalog: Catalog, asker: Identity) -> list[UnderWay]:
    """The pushes that the asker may know of, oldest first; those of which the record is damaged, to who may know of all."""

    def read(stat: Stat) -> UnderWay | None:
        try:
            sid = fmt.session_of_key(stat.key)
        except NameInvalid:
            emit("foreign-key", level=WARNING, key=stat.key)
            return None
        try:
            found = records.session(sid)
        except (RecordDamaged, FormatUnknown) as e:
            emit("session-unreadable", level=WARNING, session=sid, reason=str(e))
            damaged = UnderWay(sid, None, stat.modified, stat.modified, damaged=str(e))
            return damaged if asker.rights is None else None
        if found is None or not _is_shown(asker, found[0]):
            return None
        return under_way(*found, records.limits, names.get(found[0].template, ""))

    names = {head.id: head.name for head in catalog.templates(asker)}
    found = [one for one in gather(read, records.store.list(fmt.SESSIONS)) if one is not None]
    return sorted(found, key=lambda one: (_opened(one), one.id))


def abort(records: Records, asker: Identity, sid: SessionId) -> Session:
    """Give a push up: no commit of it succeeds any more, and the next sweep removes what it uploaded.

    Raises SessionNotFound, also for a push that the asker may not know of; RecordDamaged.
    """
    setup.prepare(records, write=True)
    found = records.session(sid)
    if found is None or not _is_shown(asker, found[0]):
        raise SessionNotFound(session=sid)
    session = records.change_session(sid, expired)
    emit("session-aborted", session=sid, owner=session.owner, by=asker.name)
    return session


def under_way(session: Session, stat: Stat, limits: Limits, name: str = "") -> UnderWay:
    """What there is to say of a session whose record was written last at the time of `stat`."""
    over = stat.modified if session.state is SessionState.EXPIRED else stat.modified + limits.idle_seconds
    return UnderWay(
        session.id, session, stat.modified, min(over, opened_at(session, stat) + limits.age_seconds), name=name
    )


def _is_shown(asker: Identity, session: Session) -> bool:
    return asker.rights is None or session.owner == asker.name


def _opened(one: UnderWay) -> float:
    return one.beat if one.session is None or one.session.opened is None else one.session.opened
