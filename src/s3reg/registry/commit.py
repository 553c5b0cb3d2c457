"""The commit: from what a session uploaded to a version that everybody sees, or to nothing at all.

The order is the proof (docs/design.md §4): the version's record is written; then, in each attempt, the head is read, *then*
the session, still open, *then* the head is replaced. A sweep that gives a session up expires it first and bumps the head's
generation after: so either we see the session expired, or our replacement fails and we look again.
"""

from __future__ import annotations

from dataclasses import replace
from logging import WARNING
from typing import TYPE_CHECKING, Any

from s3reg.errors import (
    CommitInvalid,
    FormatUnknown,
    RecordDamaged,
    S3regError,
    SessionExpired,
    SessionNotFound,
    TagTaken,
    VersionChanged,
)
from s3reg.model import format as fmt
from s3reg.model.bounded import LARGEST_RECORD
from s3reg.model.identity import Action
from s3reg.model.names import VersionId
from s3reg.model.template import Entry, File, Head, SessionState, Version
from s3reg.registry import bases, damage, lineage, proposals, setup
from s3reg.registry.lineage import is_new
from s3reg.registry.push import check_owner
from s3reg.registry.sight import check, may_list
from s3reg.registry.values import Committed, Proposal
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from s3reg.model.identity import Identity
    from s3reg.model.names import SessionId
    from s3reg.model.template import Session
    from s3reg.registry.push import Pushing
    from s3reg.registry.records import Records


def commit(pushing: Pushing, asker: Identity, sid: SessionId, proposal: Proposal) -> Committed:
    """Make the session's version visible, or, if it is already, say the same again."""
    records = pushing.records
    # Read again, because the commit is where an old release would spoil a store that was upgraded under it.
    setup.prepare(records, write=True)
    found = records.session(sid)
    if found is None:
        return _committed_before(pushing, asker, sid)
    session, _ = found
    check_owner(asker, session)
    head = _allowed(records, asker, session)
    if not _is_known(head, session.version):
        try:
            _check_open(session)
            head = _make(pushing, asker, session, proposal, head)
        except (SessionNotFound, SessionExpired):
            # Perhaps the same call, on another replica, came first: then the session is gone because all is done.
            head = _allowed(records, asker, session)
            if not _is_known(head, session.version):
                raise
    return _finish(records, session, head)


def _allowed(records: Records, asker: Identity, session: Session) -> Head | None:
    """The head under which the session's version belongs, read now; the rights of its owner may be others than at open.

    Raises Forbidden, DomainRefused, DomainMismatch, TemplateIdTaken.
    """
    place = lineage.read(records, asker, session.template)
    lineage.check_push(asker, session.template, place, session.domain)
    return place.head


def _make(pushing: Pushing, asker: Identity, session: Session, proposal: Proposal, head: Head | None) -> Head | None:
    """The version, written and named by its head. `head` is the head as it was a moment ago."""
    records = pushing.records
    proposal, config = proposals.checked(proposal)
    _check_place(pushing, asker, session, proposal, head)
    try:
        version = _version(pushing, asker, session, proposal, config)
    except CommitInvalid:
        # A session that was given up meanwhile has lost what it uploaded: then that is the reason.
        _check_still_open(records, session)
        raise
    return _publish(records, asker, session, proposal, _written(records, version))


def _check_place(pushing: Pushing, asker: Identity, session: Session, proposal: Proposal, head: Head | None) -> None:
    """What would make the replacing of the head fail, looked for before the work. Names are looked at here only."""
    _check_replaced(head, proposal)
    if head is not None and head.tagged(proposal.tag) and not proposal.force:
        raise TagTaken(template=head.name, tag=proposal.tag)
    if is_new(head) and not proposal.same_name:
        pushing.catalog.check_name(asker, proposal.name, session.template)


def _check_replaced(head: Head | None, proposal: Proposal) -> None:
    """Raise VersionChanged unless the tag is that of the version that is to be replaced, where one was named."""
    old = head.tagged(proposal.tag) if head is not None else None
    if proposal.replaces is not None and (old is None or old.id != proposal.replaces):
        raise VersionChanged(template=proposal.name, version=proposal.tag)


def _version(
    pushing: Pushing, asker: Identity, session: Session, proposal: Proposal, config: dict[str, Any]
) -> Version:
    """The version as its record will have it: sizes, packs and live bytes computed, not believed."""
    records = pushing.records
    # What may not be pulled any more must not be had by building on it.
    pullable = [base for base in session.usable if bases.may_use(asker, base.template, session.domain)]
    usable = [version for version in records.versions(pullable) if version is not None]
    damaged = bases.damaged_packs(usable, damage.found_bad(records) if usable else set())
    grounds = pushing.evidence.grounds(session, usable, damaged)
    files = tuple(
        File(
            name=file.name,
            role=file.role,
            size=file.size,
            digest=file.digest,
            drive=file.drive,
            parent=file.parent,
            inline=file.inline,
            map=file.map,
            packs=pushing.evidence.packs_of(file, grounds) if file.map else (),
        )
        for file in proposal.files
    )
    return Version(
        id=session.version,
        template=session.template,
        domain=session.domain,
        session=session.id,
        created=int(records.clock()),
        config=config,
        files=files,
    )


def _written(records: Records, version: Version) -> Version:
    """The version once its record is on the store; where an earlier try of this commit left it there, as that one made it.

    Raises CommitInvalid if that one was of other files: a record that may have been seen never changes.
    """
    data = fmt.write_version(version)
    if len(data) > LARGEST_RECORD:
        raise CommitInvalid(reason="its record would be larger than any that is read")
    lies = records.create(fmt.version_key(version.template, version.id), data)
    there = fmt.read_version(lies, version.template, version.id)
    if replace(there, created=version.created) != version:
        raise CommitInvalid(reason="this push session has tried to commit other files already; open a new one")
    records.remember(there, len(lies))
    return there


def _publish(records: Records, asker: Identity, session: Session, proposal: Proposal, version: Version) -> Head | None:
    """The compare-and-swap that decides. Raises TagTaken, SessionExpired, SessionNotFound, TooBusy; as `_allowed`."""
    entry = Entry(
        id=version.id,
        seq=0,
        tag=proposal.tag,
        description=proposal.description,
        size=sum(file.size for file in version.layers()),
        created=version.created,
    )

    def place(head: Head | None) -> Head | None:
        if _is_known(head, version.id):
            return None
        place = lineage.place_of(asker, head)
        lineage.check_push(asker, session.template, place, session.domain)
        _check_replaced(head, proposal)
        # Not when the record was made: a commit that is tried again days later must leave what it replaces its whole time.
        when = int(records.clock())
        keeps = records.limits.trash_seconds
        old = _succeeded(head, session, proposal)
        new = old.add(entry, force=proposal.force, by=asker.name, keeps=keeps, when=when)
        new = replace(new, size=records.union_size(new))
        # Last, after the head was read: see the module.
        _check_still_open(records, session)
        return new

    try:
        return records.change_head(session.template, version.id, place)
    except (RecordDamaged, FormatUnknown):
        _allowed(records, asker, session)  # the damage, too, is only for who may know of the template
        raise


def _check_still_open(records: Records, session: Session) -> None:
    """Raise SessionNotFound or SessionExpired unless the session, read now, is open."""
    found = records.session(session.id)
    if found is None:
        raise SessionNotFound(session=session.id)
    _check_open(found[0])


def _check_open(session: Session) -> None:
    if session.state is not SessionState.OPEN:
        raise SessionExpired(session=session.id)


def _succeeded(head: Head | None, session: Session, proposal: Proposal) -> Head:
    """The head to which the version is added: a new one, a deleted one come back, or the template's as it is.

    A push never renames a template that is there.
    """
    if head is None:
        return Head(id=session.template, name=proposal.name, domain=session.domain, arch=proposal.arch)
    if lineage.lineage_domain(head) is None:
        # Of whatever had this id before, perhaps somebody else's, nothing is handed on but what orders the writes.
        fresh = Head(id=head.id, name=proposal.name, domain=session.domain, arch=proposal.arch)
        return replace(fresh, gen=head.gen, operations=head.operations)
    if head.deleted:
        return replace(head, name=proposal.name, arch=proposal.arch or head.arch)
    return replace(head, arch=head.arch or proposal.arch)


def _committed_before(pushing: Pushing, asker: Identity, sid: SessionId) -> Committed:
    """The answer to a commit that is repeated after its session is gone: all that is left to find it by is its id."""
    vid = VersionId(sid)
    for head in pushing.catalog.heads():
        if head.with_id(vid) is not None and may_list(asker, head):
            check(asker, Action.PUSH, head.id, head.domain)
            return _answer(pushing.records, head, vid, sid)
    raise SessionNotFound(session=sid)


def _finish(records: Records, session: Session, head: Head | None) -> Committed:
    """The answer, and the session's end."""
    answer = _answer(records, head, session.version, session.id)
    emit("version-committed", template=answer.head.id, version=session.version, tag=answer.entry.tag)
    try:
        records.store.delete([fmt.session_key(session.id)])
    except S3regError as e:
        # Harmless: it protects what the head names now, until the sweep expires it.
        emit("session-left-behind", level=WARNING, session=session.id, reason=str(e))
    return answer


def _answer(records: Records, head: Head | None, vid: VersionId, sid: SessionId) -> Committed:
    """What is said of a committed version. Raises SessionNotFound if it was removed since."""
    entry = head.with_id(vid) if head is not None else None
    if head is None or entry is None:
        raise SessionNotFound(session=sid)
    version = records.version(head.id, vid)
    own = {use.pack: use.pack.size for file in version.files for use in file.packs if use.pack.sid == sid}
    return Committed(head, entry, sum(own.values()), head.replaced_by(entry))


def _is_known(head: Head | None, vid: VersionId) -> bool:
    """Whether the version was committed, though it be removed since: it must not come back by a repeated call."""
    return head is not None and any(entry.id == vid for entry in (*head.versions, *head.removed))
