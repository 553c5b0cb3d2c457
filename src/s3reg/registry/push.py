"""A push session from its opening to its end, but for the commit: bases, upload links, giving up."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass, replace
from logging import WARNING
from typing import TYPE_CHECKING

from s3reg.errors import (
    FormatUnknown,
    Invalid,
    RecordDamaged,
    SessionExpired,
    SessionNotFound,
    SessionTooLarge,
    TagTaken,
    TemplateIdTaken,
    TooBusy,
)
from s3reg.model import format as fmt
from s3reg.model import names
from s3reg.model.chunks import CHUNK_LOG2
from s3reg.model.identity import Action
from s3reg.model.maps import LARGEST_MAP
from s3reg.model.names import SessionId, VersionId
from s3reg.model.packs import LARGEST_PACK
from s3reg.model.template import Base, Session, SessionState
from s3reg.registry import bases, damage, lineage, setup
from s3reg.registry.lineage import is_new
from s3reg.registry.sight import check
from s3reg.registry.values import Opened, Opening
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from s3reg.model.identity import Identity
    from s3reg.model.names import Digest, Domain, TemplateId
    from s3reg.model.template import Version
    from s3reg.registry.catalog import Catalog
    from s3reg.registry.evidence import Evidence
    from s3reg.registry.records import Records
    from s3reg.store import Link, Stat

KINDS = {"pack": (fmt.pack_key, LARGEST_PACK), "map": (fmt.map_key, LARGEST_MAP)}
"""What is uploaded: where it lies, and how many bytes it may have."""


@dataclass(frozen=True)
class Pushing:
    """What the verbs of a push work with."""

    records: Records
    catalog: Catalog
    evidence: Evidence

    def open(self, asker: Identity, opening: Opening) -> Opened:
        """A new push session. Raises TagTaken, NameTaken, DomainMismatch, Forbidden."""
        setup.prepare(self.records, write=True)
        opening = _canonical(opening)
        place = lineage.read(self.records, asker, opening.template)
        head = place.head
        domain = lineage.domain_of(asker, opening.template, head, opening.domain)
        # Early and best effort: what counts is the commit's compare-and-swap. But nobody likes to hear it after 90 GB.
        if head is not None and head.tagged(opening.tag) and not opening.force:
            raise TagTaken(template=head.name, tag=opening.tag)
        if is_new(head) and not opening.same_name:
            self.catalog.check_name(asker, opening.name, opening.template)
        if place.hidden:
            raise TemplateIdTaken(template=opening.template)
        latest = head.latest() if head is not None and not is_new(head) else None
        newest = Base(opening.template, latest.id) if latest else None
        wanted, dropped = bases.allowed(
            self.records, asker, [*([newest] if newest else []), *opening.bases], self.records.limits.bases
        )
        session = self._begin(asker, opening.template, domain, wanted)
        emit("session-opened", session=session.id, template=session.template, owner=session.owner)
        return self._with_bases(asker, session, wanted, dropped, newest)

    def add_bases(self, asker: Identity, sid: SessionId, wanted: Iterable[Base]) -> Opened:
        """More versions to build on; of what is asked for, the answer holds what may be used."""
        setup.prepare(self.records, write=True)
        dropped: bases.Dropped = []
        rooted: tuple[Base, ...] = ()

        def root(session: Session, stat: Stat) -> Session | None:
            nonlocal dropped, rooted
            check_alive(self.records, asker, session, stat)
            known = set(session.bases)
            # Those that the session names already are looked at again: perhaps an earlier answer was lost half way.
            rooted, dropped = bases.allowed(
                self.records, asker, wanted, self.records.limits.bases - len(known), known=known
            )
            more = [base for base in rooted if base not in known]
            if not more:
                return None
            return replace(session, bases=(*session.bases, *more), opened=opened_at(session, stat))

        wanted = tuple(wanted)
        session = self.records.change_session(sid, root)
        return self._with_bases(asker, session, rooted, dropped, None)

    def session(self, asker: Identity, sid: SessionId) -> Session:
        """The asker's session. Raises SessionNotFound."""
        found = self.records.session(sid)
        if found is None or found[0].owner != asker.name:
            raise SessionNotFound(session=sid)
        return found[0]

    def sign_uploads(self, asker: Identity, sid: SessionId, objects: Sequence[tuple[str, Digest, int]]) -> list[Link]:
        """Links to upload these, and the session's heartbeat. Raises SessionExpired, SessionNotFound, SessionTooLarge."""
        for kind, _, size in objects:
            if kind not in KINDS or not 0 < size <= KINDS[kind][1]:
                raise Invalid(reason=f"a {kind} of {size} bytes cannot be uploaded")
        setup.prepare(self.records, write=True)
        limits, more = self.records.limits, sum(size for _, _, size in objects)

        def beat(session: Session, stat: Stat) -> Session:
            check_alive(self.records, asker, session, stat)
            if session.signed + more > session.limit:
                raise SessionTooLarge(size=session.signed + more, limit=session.limit)
            return replace(session, signed=session.signed + more, opened=opened_at(session, stat))

        session = self.records.change_session(sid, beat)
        return [
            self.records.store.sign_put(
                KINDS[kind][0](session.domain, sid, names.digest(sha256)),
                size=size,
                sha256=sha256,
                seconds=limits.link_seconds,
            )
            for kind, sha256, size in objects
        ]

    def abort(self, asker: Identity, sid: SessionId) -> None:
        """Give the session up: no commit of it succeeds any more. One that is gone, or somebody else's, is no error."""
        setup.prepare(self.records, write=True)
        found = self.records.session(sid)
        if found is None or found[0].owner != asker.name:
            return
        with contextlib.suppress(SessionNotFound):  # a sweep removed it since
            self.records.change_session(sid, expired)
        emit("session-aborted", session=sid)

    def _begin(self, asker: Identity, template: TemplateId, domain: Domain, wanted: tuple[Base, ...]) -> Session:
        """A session under a fresh id, on the store. None of its bases may be used yet."""
        for _ in range(self.records.limits.attempts):
            sid = SessionId(secrets.token_hex(16))
            session = Session(
                id=sid,
                state=SessionState.OPEN,
                owner=asker.name,
                template=template,
                # The version takes the session's random id: a commit that is repeated after its session is gone can
                # still be told from one that never was.
                version=VersionId(sid),
                domain=domain,
                bases=wanted,
                limit=self.records.limits.session_bytes,
            )
            data = fmt.write_session(session)
            if self.records.create(fmt.session_key(sid), data) == data:
                return session
        raise TooBusy(what="the list of sessions")

    def _with_bases(
        self,
        asker: Identity,
        session: Session,
        wanted: tuple[Base, ...],
        dropped: bases.Dropped,
        newest: Base | None,
    ) -> Opened:
        """The answer to an opening, once the session's record names `wanted`.

        The record goes on naming what is dropped here: protecting too much for a day harms nobody. But it must not be
        *used*, and the commit, on whichever replica, cannot find out again: a base that was purged since is fine if it
        was sound then, and one that was marked then is not, though the marker is gone. So the record says which are usable.
        """
        bad = damage.found_bad(self.records) if wanted else set()
        usable, more = bases.inspect(self.records, session, wanted, bad)
        if usable:

            def note(now: Session, stat: Stat) -> Session:
                check_alive(self.records, asker, now, stat)
                found = tuple(dict.fromkeys([*now.usable, *usable]))
                return replace(now, usable=found, opened=opened_at(now, stat))

            session = self.records.change_session(session.id, note)
        versions = tuple(usable.values())
        for base, reason in (*dropped, *more):
            emit("base-dropped", session=session.id, template=base.template, version=base.version, reason=reason)
        refs = {file.map for version in versions for file in version.files if file.map}
        sign, seconds = self.records.store.sign_get, self.records.limits.link_seconds
        return Opened(
            session=session,
            chunk_log2=self._chunk_log2(newest, versions),
            bases=versions,
            map_links={ref: sign(fmt.map_key(session.domain, ref.sid, ref.sha256), seconds=seconds) for ref in refs},
            dropped=(*dropped, *more),
            damaged=tuple(sorted(bases.damaged_packs(versions, bad))),
        )

    def _chunk_log2(self, newest: Base | None, versions: Sequence[Version]) -> int:
        """The chunk size of the template's newest version, though it be no base; else of a base; else the default."""
        first = self.records.versions([newest], withheld=True) if newest else []
        for version in (*first, *versions):
            if version is None:
                continue
            try:
                found = self.evidence.chunk_log2(version)
            except (RecordDamaged, FormatUnknown) as e:
                emit("map-unreadable", level=WARNING, template=version.template, version=version.id, reason=str(e))
                continue
            if found is not None:
                return found
        return CHUNK_LOG2


def _canonical(opening: Opening) -> Opening:
    """The opening with its names in their canonical spelling. Raises NameInvalid."""
    return replace(
        opening,
        name=names.template_name(opening.name),
        tag=names.tag(opening.tag),
        arch=names.arch(opening.arch),
        domain=None if opening.domain is None else names.domain(opening.domain),
    )


def check_owner(asker: Identity, session: Session) -> None:
    """A session of somebody else reads as none."""
    if session.owner != asker.name:
        raise SessionNotFound(session=session.id)


def check_alive(records: Records, asker: Identity, session: Session, stat: Stat) -> None:
    """Raise unless the asker's session takes a heartbeat still. Both times are the store's: no clock of ours is asked."""
    check_owner(asker, session)
    # Rights may have been taken away since it was opened. Whether there is such a template is not asked, and not told.
    for action in (Action.LIST, Action.PUSH):
        check(asker, action, session.template, session.domain)
    too_old = session.opened is not None and stat.modified - session.opened > records.limits.age_seconds
    if session.state is not SessionState.OPEN or too_old:
        raise SessionExpired(session=session.id)


def expired(session: Session, stat: Stat) -> Session | None:
    """The session given up; None if it is that already."""
    if session.state is SessionState.EXPIRED:
        return None
    return replace(session, state=SessionState.EXPIRED, opened=opened_at(session, stat))


def opened_at(session: Session, stat: Stat) -> int:
    """When the session was opened, by the store's clock: what its first writing left, noted at the second."""
    return int(stat.modified) if session.opened is None else session.opened
