"""What is over by the store's clock: pushes that nobody goes on with, and what lies too long in the trash.

A push is given up in an order that keeps a late commit from succeeding (docs/design.md §4): its session is expired, *then*
the head of its template is bumped, *then* the session goes. Wherever that ends, the next sweep goes on.
"""

from __future__ import annotations

from logging import WARNING
from typing import TYPE_CHECKING

from s3reg.errors import PreconditionFailed, PutUnsettled, TooBusy
from s3reg.model import format as fmt
from s3reg.model.template import SessionState
from s3reg.registry import lost
from s3reg.registry.push import expired
from s3reg.registry.roots import stopping
from s3reg.store import Match
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from s3reg.model.names import VersionId
    from s3reg.model.template import Entry, Head, Session
    from s3reg.registry.records import Records
    from s3reg.registry.values import Limits
    from s3reg.store import Stat

# --- Pushes -----------------------------------------------------------------------------------------------------------


def is_over(session: Session, stat: Stat, limits: Limits, now: float) -> bool:
    """Whether a sweep may end the push; `stat` is of its record, and `now` by the same clock."""
    if session.state is SessionState.EXPIRED or now - stat.modified > limits.idle_seconds:
        return True
    return session.opened is not None and now - session.opened > limits.age_seconds


def give_up(records: Records, session: Session, stat: Stat) -> bool:
    """End the push. False if its node was heard of since, or others change its template too fast. Raises SweepStopped."""
    with stopping(fmt.session_key(session.id)):
        if not _expired(records, session, stat):
            return False
    try:
        with stopping(fmt.head_key(session.template)):
            _fence(records, session)
    except TooBusy as e:
        # Expired it stays, and holds what it held: the next sweep goes on here.
        emit("session-left-behind", level=WARNING, session=session.id, reason=str(e))
        return False
    records.store.delete([fmt.session_key(session.id)])
    emit("session-given-up", session=session.id, template=session.template, owner=session.owner)
    return True


def _expired(records: Records, session: Session, stat: Stat) -> bool:
    """Whether the session is expired now; not, if it was written since, or is gone."""
    new = expired(session, stat)
    if new is None:
        return True
    try:
        records.store.put(fmt.session_key(session.id), fmt.write_session(new), only_if=Match(stat.etag))
    except PreconditionFailed:
        return False
    except PutUnsettled:
        found = records.session(session.id)
        return found is not None and found[0].state is SessionState.EXPIRED
    return True


def _fence(records: Records, session: Session) -> None:
    """A generation more for the head of its template, so that a commit that has read it fails."""

    def bump(head: Head | None) -> Head:
        return head or lost.fence(session.template, session.domain)

    records.change_head(session.template, None, bump)


# --- The trash --------------------------------------------------------------------------------------------------------


def lets_go(entry: Entry, now: float) -> bool:
    """Whether a removed version may go for good; `now`: by the store's clock."""
    # At once means at once, though the clock that wrote it down be ahead of the store's.
    return entry.until is not None and (entry.until == entry.removed or entry.until <= now)


def empty_trash(records: Records, head: Head, now: float) -> int:
    """Let go what lies too long in a template's trash; how many versions did. Raises SweepStopped."""
    over: dict[VersionId, Entry] = {}

    def purge(head: Head | None) -> Head | None:
        found = {entry.id: entry for entry in head.removed if lets_go(entry, now)} if head else {}
        over.update(found)
        return head.purge(found) if head and found else None

    try:
        with stopping(fmt.head_key(head.id)):
            left = records.change_head(head.id, None, purge)
    except TooBusy as e:
        # It stays named: the next sweep finds it again.
        emit("trash-left", level=WARNING, template=head.id, reason=str(e))
        return 0
    still = {entry.id for entry in (*left.versions, *left.removed)} if left else set()
    gone = [entry for entry in over.values() if entry.id not in still]
    if gone:
        emit("trash-emptied", template=head.id, tags=[entry.tag for entry in gone])
    return len(gone)
