"""The sweep: packs, maps and versions that nobody names go, while pushes run and other sweeps too.

The order is the proof (docs/design.md §4). All objects are listed first. Then sessions that are too old are given up:
expired, *then* the head of their template is bumped, so that a late commit fails, *then* they go. What neither a session
nor a head names is written down as a marker; *then* sessions are read again, *then* heads; and if the marker stands, what
is still unnamed goes. No clock but the store's is asked, and nothing is remembered between sweeps: it may die anywhere.
"""

from __future__ import annotations

import itertools
import secrets
from array import array
from dataclasses import replace
from logging import WARNING
from typing import TYPE_CHECKING

from s3reg.errors import ObjectNotFound, PreconditionFailed, PutUnsettled, SweepStopped
from s3reg.model import format as fmt
from s3reg.model.template import Head, SessionState
from s3reg.registry import setup
from s3reg.registry.roots import Roots
from s3reg.registry.values import Swept
from s3reg.store import ABSENT, Match
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3reg.model.template import Session
    from s3reg.registry.records import Records
    from s3reg.store import Stat

MOST_MARKED = 10_000
"""Objects that one marker names: what every push that opens meanwhile has to read."""
BATCH = 1000
"""Objects removed in one request, where the store takes so many."""
DEAD_SECONDS = 3600
"""So old, a marker is taken for one of a sweep that died. Removing one that lives is safe: its sweep ends there."""
FOREIGN_SHOWN = 20
FENCE = "removed"
"""The name of a head that was never a template's: nobody sees it."""


class _Candidates:
    """Keys and sizes, compactly: there may be a million."""

    def __init__(self) -> None:
        self._keys: list[str] = []
        self._sizes = array("Q")

    def add(self, key: str, size: int) -> None:
        self._keys.append(key)
        self._sizes.append(size)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return zip(self._keys, self._sizes, strict=True)

    def keep(self, wanted: Callable[[str], bool]) -> None:
        """Only those whose keys are wanted, from here on."""
        kept = _Candidates()
        for key, size in self:
            if wanted(key):
                kept.add(key, size)
        self._keys, self._sizes = kept._keys, kept._sizes

    def rounds(self) -> Iterator[dict[str, int]]:
        """Key to size, a marker's worth at a time."""
        rows = iter(self)
        while some := dict(itertools.islice(rows, MOST_MARKED)):
            yield some


def sweep(records: Records, *, dry_run: bool = False, told: Callable[[Swept], None] = lambda _: None) -> Swept:
    """Sweep once; `told` is called between rounds with what was done so far.

    Raises SweepStopped at what cannot be read or is not known: from there on nothing goes. StoreCopied for a copy.
    """
    _check_store(records)
    now = _store_clock(records)
    _check_markers(records, now, dry_run=dry_run)
    done = Swept(dry_run)
    candidates = _listed(records, done)
    roots = Roots(records)
    _give_up(records, roots.read_sessions(), now, done)
    if done.given_up:
        # What they held is to go in this very sweep: who is left is read anew.
        roots = Roots(records)
        roots.read_sessions()
    done.held = sum(size for key, size in candidates if roots.uploads(key))
    roots.read_heads()
    candidates.keep(lambda key: not roots.holds(key))
    for some in candidates.rounds():
        if dry_run:
            _count(done, some)
        else:
            _round(records, roots, some, done)
        told(done)
    emit("swept", removed=done.removed, freed=done.freed, given_up=done.given_up, dry_run=dry_run)
    return done


def _round(records: Records, roots: Roots, some: dict[str, int], done: Swept) -> None:
    """Mark, look again, remove, unmark."""
    gcid = secrets.token_hex(16)
    key = fmt.marker_key(gcid)
    etag = records.store.put(key, fmt.write_marker(fmt.marker_of(gcid, some)), only_if=ABSENT)
    try:
        roots.read_sessions()
        roots.read_heads()
        unnamed = {one: size for one, size in some.items() if not roots.holds(one)}
        done.rescued += len(some) - len(unnamed)
        # Versions first: a sweep that dies leaves none without its packs behind.
        going = sorted(unnamed, key=lambda one: not one.startswith(fmt.VERSIONS))
        for start in range(0, len(going), BATCH):
            batch = going[start : start + BATCH]
            _check_store(records)
            _check_stands(records, key, etag)
            records.store.delete(batch)
            _count(done, {one: unnamed[one] for one in batch})
    finally:
        # Whatever happened: a marker of nobody only keeps pushes from building on what it names.
        records.store.delete([key])


def _count(done: Swept, gone: dict[str, int]) -> None:
    done.removed += len(gone)
    done.freed += sum(gone.values())


def _check_store(records: Records) -> None:
    """Read again and again: a store may be upgraded, or copied, while a sweep runs."""
    store = setup.prepare(records, write=True)
    for feature in sorted(store.sweep - setup.FEATURES):
        raise SweepStopped(what=fmt.FORMAT_KEY, reason=f"it asks for the feature {feature!r}, which this release lacks")


def _store_clock(records: Records) -> float:
    """Seconds since 1970, as the store counts them."""
    key = f"{fmt.CHECK}sweep-{secrets.token_hex(16)}"
    records.store.put(key, b"")
    try:
        return records.store.stat(key).modified
    finally:
        records.store.delete([key])


def _check_markers(records: Records, now: float, *, dry_run: bool) -> None:
    """Those of sweeps that died go. Raises SweepStopped at what is no marker."""
    for stat in records.store.list(fmt.MARKERS):
        if not fmt.is_marker_key(stat.key):
            raise SweepStopped(what=stat.key, reason="it is no marker of ours")
        if not dry_run and now - stat.modified > DEAD_SECONDS:
            emit("dead-marker-removed", level=WARNING, key=stat.key)
            records.store.delete([stat.key])


def _check_stands(records: Records, key: str, etag: str) -> None:
    try:
        stands = records.store.stat(key).etag == etag
    except ObjectNotFound:
        stands = False
    if not stands:
        raise SweepStopped(what=key, reason="somebody took this sweep for dead, and removed its marker")


def _listed(records: Records, done: Swept) -> _Candidates:
    """All packs, maps and versions. Raises SweepStopped at a foreign key among versions."""
    found = _Candidates()
    for prefix in (fmt.VERSIONS, fmt.MAPS, fmt.PACKS):
        for stat in records.store.list(prefix):
            if fmt.is_swept_key(stat.key):
                found.add(stat.key, stat.size)
                done.listed += 1
                done.listed_bytes += stat.size
            elif prefix == fmt.VERSIONS:
                raise SweepStopped(what=stat.key, reason="it is no version of ours")
            else:
                done.foreign_count += 1
                done.foreign += [stat.key] if len(done.foreign) < FOREIGN_SHOWN else []
    return found


# --- Sessions that are too old ----------------------------------------------------------------------------------------


def _give_up(records: Records, sessions: list[tuple[Session, Stat]], now: float, done: Swept) -> None:
    """End those whose time is over, by the store's clock, and those that were given up before."""
    for session, stat in sessions:
        if not _is_over(records, session, stat, now):
            done.sessions += 1
            continue
        if not done.dry_run:
            if not _expired(records, session, stat):
                done.sessions += 1
                continue
            _fence(records, session)
            records.store.delete([fmt.session_key(session.id)])
            emit("session-given-up", session=session.id, template=session.template, owner=session.owner)
        done.given_up += 1


def _is_over(records: Records, session: Session, stat: Stat, now: float) -> bool:
    limits = records.limits
    if session.state is SessionState.EXPIRED or now - stat.modified > limits.idle_seconds:
        return True
    return session.opened is not None and now - session.opened > limits.age_seconds


def _expired(records: Records, session: Session, stat: Stat) -> bool:
    """Whether the session is expired now; not, if it was written since, or is gone."""
    if session.state is SessionState.EXPIRED:
        return True
    data = fmt.write_session(replace(session, state=SessionState.EXPIRED))
    try:
        records.store.put(fmt.session_key(session.id), data, only_if=Match(stat.etag))
    except PreconditionFailed:
        return False
    except PutUnsettled:
        found = records.session(session.id)
        return found is not None and found[0].state is SessionState.EXPIRED
    return True


def _fence(records: Records, session: Session) -> None:
    """A generation more for the head of its template, so that a commit that has read it fails."""

    def bump(head: Head | None) -> Head:
        return head or Head(session.template, FENCE, session.domain, deleted=True)

    records.change_head(session.template, secrets.token_hex(16), bump)
