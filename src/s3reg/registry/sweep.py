"""The sweep: packs, maps and versions that nobody names go, while pushes run and other sweeps too.

The order is the proof (docs/design.md §4). What lies too long in the trash is let go. All objects are listed. Then pushes
that are too old are given up (registry/expiry.py). What neither a session nor a head names is written down as a marker;
*then* sessions are read again, *then* heads; and if the marker stands, what is still unnamed goes. It went for good: from
then on nobody can come to name it. No clock but the store's is asked, and nothing is remembered between sweeps: it may die
anywhere.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
from array import array
from collections import Counter
from dataclasses import replace
from logging import WARNING
from typing import TYPE_CHECKING

from s3reg.errors import (
    FormatUnknown,
    HeadLost,
    ObjectNotFound,
    RecordDamaged,
    S3regError,
    StoreCopied,
    StoreDenied,
    SweepStopped,
)
from s3reg.model import format as fmt
from s3reg.registry import expiry, lineage, lost, setup
from s3reg.registry.leavings import Leavings, damage_marks, foreign
from s3reg.registry.roots import Roots, Why, stopping
from s3reg.registry.sessions import under_way
from s3reg.registry.values import Swept
from s3reg.store.together import gather
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from s3reg.model.format import StoreFormat
    from s3reg.model.names import SessionId, TemplateId
    from s3reg.model.template import Entry, Head, Session
    from s3reg.registry.records import Records
    from s3reg.registry.values import UnderWay
    from s3reg.store import Stat

MOST_MARKED = 10_000
"""Objects that one marker names: what every push that opens meanwhile has to read."""
BATCH = 1000
"""Objects removed in one request, where the store takes so many."""
DEAD_SECONDS = 3600
"""So old, a marker is taken for one of a sweep that died. Removing one that lives is safe: its sweep ends there. One that is
so much later than now too: the store's clock was set back."""
CLOCK_TRIES = 3
PUSHES_SHOWN = 100
LOST_SHOWN = 10
_END = ".json"
"""Of a version's key; what stands before it, and a pack's or map's last part, are hex digits."""
TOLD_EACH = 5000
"""Objects listed between two tellings."""


def sweep(
    records: Records,
    *,
    dry_run: bool = False,
    gone: Collection[TemplateId] = (),
    told: Callable[[Swept], None] = lambda _: None,
) -> Swept:
    """Sweep once. `told` is called now and then, always with the same object, between steps; what it raises ends the sweep.

    A dry run writes nothing, and goes by this machine's clock: to ask the store's, something must be written. `gone`: the
    templates whose heads are lost for good. Raises SweepStopped at what cannot be read or is not known, HeadLost for what
    has lost its head: from there on nothing goes. StoreCopied for a copy; HeadThere, TemplateNotFound for what lost none.
    """
    done = Swept(dry_run)
    told(done)
    _Sweep(records, done, lambda: told(done)).run(gone)
    emit("swept", removed=done.removed, freed=done.freed, given_up=done.given_up, purged=done.purged, dry_run=dry_run)
    return done


def last_ended(records: Records) -> float | None:
    """When the last sweep came to its end, in seconds since 1970 by the store's clock; None: none has.

    None too where a role that is older than this may not look.
    """
    try:
        return records.store.stat(fmt.SWEPT_KEY).modified
    except (ObjectNotFound, StoreDenied):
        return None


class _Candidates:
    """Keys and sizes, 40 bytes each: there may be a million. Those of one session, or template, come together."""

    def __init__(self) -> None:
        self._folders: list[str] = []
        self._counts = array("Q")
        """Of each folder."""
        self._names = bytearray()
        self._sizes = array("Q")

    def add(self, key: str, size: int) -> None:
        folder, _, name = key.rpartition("/")
        if not self._folders or self._folders[-1] != folder:
            self._folders.append(folder)
            self._counts.append(0)
        self._counts[-1] += 1
        self._names += bytes.fromhex(name.removesuffix(_END))
        self._sizes.append(size)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        sizes, at = iter(self._sizes), 0
        for folder, count in zip(self._folders, self._counts, strict=True):
            width, end = (16, _END) if folder.startswith(fmt.VERSIONS) else (32, "")
            for _ in range(count):
                yield f"{folder}/{self._names[at : at + width].hex()}{end}", next(sizes)
                at += width

    def rounds(self) -> Iterator[dict[str, int]]:
        """Key to size, a marker's worth at a time."""
        rows = iter(self)
        while some := dict(itertools.islice(rows, MOST_MARKED)):
            yield some


class _Format:
    """What the store says that it is: the same from beginning to end, or the sweep stops."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._first: StoreFormat | None = None

    def check(self) -> None:
        """Read it again: a store may be upgraded, or copied, while a sweep runs. Raises SweepStopped, StoreCopied."""
        with stopping(fmt.FORMAT_KEY):
            found = self._records.read(fmt.FORMAT_KEY)
            if found is None:
                where = self._records.store.location
                raise SweepStopped(
                    what=fmt.FORMAT_KEY, reason=f"{where} has none: it is no store of s3reg, or has lost it"
                )
            now = fmt.read_format(found.data)
            for feature in sorted((now.read | now.write | now.sweep) - setup.FEATURES):
                raise FormatUnknown(what="the store", feature=f"feature {feature!r}")
        if not setup.is_here(now, self._records):
            raise StoreCopied(made_as=now.made_as, now=self._records.store.made_as)
        if now != (self._first or now):
            raise SweepStopped(what=fmt.FORMAT_KEY, reason="it was changed meanwhile")
        self._first = now


class _Sweep:
    """One sweep, from its beginning to its end. `tell` is called now and then."""

    def __init__(self, records: Records, done: Swept, tell: Callable[[], None]) -> None:
        self._records = records
        self._done = done
        self._tell = tell
        self._format = _Format(records)
        self._now = 0.0
        self._dropped: set[str] = set()
        """Of a dry run, the heads that giving up pushes, and lost heads, would make."""
        self._roots = Roots(records, lets_go=self._pretends, told=tell)

    def run(self, gone: Collection[TemplateId]) -> None:
        """Do it all; `gone`: the templates whose heads are lost for good."""
        done = self._done
        self._step("looking at the store")
        self._now = self._records.clock() if done.dry_run else _store_clock(self._records)
        self._check_none_hidden()
        self._check_markers()
        self._give_up_lost(gone)
        for head in self._roots.heads():
            done.heads += 1
            done.templates += not head.deleted
            self._look_at_trash(head)
        self._step("listing")
        damaged = damage_marks(self._records, done)
        found = self._listed()
        self._step("reading what is named")
        sessions = self._sessions()
        self._roots.read_heads()
        going = self._sorted_out(found, sessions)
        self._step("removing")
        for some in going.rounds():
            self._round(some)
        self._step("tidying up")
        Leavings(self._records, self._roots, self._now, done, self._go_on).clear(damaged)
        if not done.dry_run:
            _note_end(self._records)

    def _step(self, what: str) -> None:
        self._done.step = what
        self._go_on()

    def _go_on(self) -> None:
        """Before anything goes: whoever watches may end it here, and the store must be what it was."""
        self._tell()
        self._format.check()

    def _pretends(self, entry: Entry) -> bool:
        """Whether a dry run takes this for gone from the trash."""
        return self._done.dry_run and expiry.lets_go(entry, self._now)

    def _check_none_hidden(self) -> None:
        """Raise SweepStopped at an object that lies above others: MinIO lists nothing of what is below it."""
        for prefix in (fmt.HEADS, fmt.VERSIONS, fmt.SESSIONS, fmt.MARKERS):
            above = prefix.rstrip("/")
            with contextlib.suppress(ObjectNotFound):
                self._records.store.stat(above)
                raise SweepStopped(what=above, reason=f"an object of this name may hide all that lies under {prefix}")

    def _check_markers(self) -> None:
        """Those of sweeps that died go. Raises SweepStopped at what is no marker, or cannot be read."""
        for stat in self._records.store.list(fmt.MARKERS):
            with stopping(stat.key):
                found = self._records.read(stat.key)
                marker = fmt.read_marker(found.data) if found else None
                if not fmt.is_marker_key(stat.key) or (marker and fmt.marker_key(marker.id) != stat.key):
                    raise RecordDamaged(what=stat.key, reason="it is no marker of ours")
            if marker and abs(self._now - stat.modified) > DEAD_SECONDS:
                emit("dead-marker-removed", level=WARNING, key=stat.key)
                self._done.cleared["markers"] = self._done.cleared.get("markers", 0) + 1
                if not self._done.dry_run:
                    self._records.store.delete([stat.key])

    def _give_up_lost(self, gone: Collection[TemplateId]) -> None:
        """What these templates have is what nobody needs from here on."""
        for template in gone:
            with stopping(fmt.head_key(template)):
                lost.check_lost(self._records, template)
        self._dropped = {fmt.head_key(template) for template in gone}
        if not self._done.dry_run:
            for template in gone:
                lost.give_up(self._records, template)

    def _look_at_trash(self, head: Head) -> None:
        """What lies there too long is let go."""
        done = self._done
        over = [entry for entry in head.removed if expiry.lets_go(entry, self._now)]
        if over:
            self._go_on()
            done.purged += len(over) if done.dry_run else expiry.empty_trash(self._records, head, self._now)
        for entry in head.removed:
            if entry not in over:
                done.trash_versions += 1
                done.trash_until = min(filter(None, (done.trash_until, entry.until)), default=None)

    def _listed(self) -> _Candidates:
        """All packs, maps and versions. Raises SweepStopped at a foreign key among versions."""
        done, found = self._done, _Candidates()
        for prefix in (fmt.VERSIONS, fmt.MAPS, fmt.PACKS):
            for stat in self._records.store.list(prefix):
                if not fmt.is_swept_key(stat.key):
                    if prefix == fmt.VERSIONS:
                        raise SweepStopped(what=stat.key, reason="it is no version of ours")
                    foreign(done, stat.key)
                    continue
                found.add(stat.key, stat.size)
                done.listed += 1
                done.listed_bytes += stat.size
                if done.listed % TOLD_EACH == 0:
                    self._tell()
        return found

    def _sessions(self) -> list[tuple[Session, Stat]]:
        """The pushes under way, once those that are too old were given up; what they hold is named from here on."""
        done, limits = self._done, self._records.limits
        found = self._roots.read_sessions()
        over = [one for one in found if expiry.is_over(*one, limits, self._now)]
        self._check_have_heads({session.template for session, _ in over})
        if done.dry_run:
            found = [one for one in found if one not in over]
            done.given_up = len(over)
            self._dropped |= {fmt.head_key(session.template) for session, _ in over}
        elif over:
            for session, stat in over:
                self._go_on()
                done.given_up += expiry.give_up(self._records, session, stat)
            found = self._roots.read_sessions()
        self._roots.hold(session for session, _ in found)
        done.sessions = len(found)
        # Nobody can tell when it was set back: perhaps just now, and they are heard of in a moment.
        done.ahead = sum(stat.modified - self._now > DEAD_SECONDS for _, stat in found)
        return found

    def _sorted_out(self, found: _Candidates, sessions: list[tuple[Session, Stat]]) -> _Candidates:
        """Those that nobody names; of the others it is noted what they stay for."""
        done, roots = self._done, self._roots
        going, sizes = _Candidates(), {why: array("Q", (0, 0)) for why in Why}
        stored: Counter[SessionId | None] = Counter()
        headless: dict[str, None] = {}
        for key, size in found:
            why = roots.why(key)
            if why is None:
                if not self._has_head(key):
                    headless[key.split("/")[1]] = None
                going.add(key, size)
                done.unnamed += 1
                done.unnamed_bytes += size
                continue
            sizes[why][0] += 1
            sizes[why][1] += size
            if why is Why.PUSH:
                stored[roots.uploader(key)] += size
        _check_none_lost(headless)
        done.live, done.live_bytes = sizes[Why.LIVE]
        done.trash, done.trash_bytes = sizes[Why.TRASH]
        done.held_objects, done.held = sizes[Why.PUSH]
        if done.dry_run:
            done.removed, done.freed = done.unnamed, done.unnamed_bytes
            going = _Candidates()
        shown = sorted(sessions, key=lambda one: one[1].modified)[:PUSHES_SHOWN]
        done.pushes = [replace(one, stored=stored[one.id]) for one in gather(self._shown, shown)]
        return going

    def _has_head(self, key: str) -> bool:
        """Whether the version that this is, if it is one, has a head; if no push names it either, that was lost."""
        prefix, _, rest = key.partition("/")
        head = f"{fmt.HEADS}{rest.partition('/')[0]}.json"
        return f"{prefix}/" != fmt.VERSIONS or self._roots.knows(head) or head in self._dropped

    def _check_have_heads(self, templates: Collection[TemplateId]) -> None:
        """Raise HeadLost before a push to one of these is fenced off: that would make a new head."""
        headless = [template for template in templates if fmt.head_key(template) not in self._dropped]
        with stopping(fmt.HEADS):
            _check_none_lost([template for template in headless if lost.is_lost(self._records, template)])

    def _shown(self, found: tuple[Session, Stat]) -> UnderWay:
        with stopping(fmt.head_key(found[0].template)):
            head = self._records.head(found[0].template)
        name = head.name if head and lineage.lineage_domain(head) else ""
        return under_way(*found, self._records.limits, name)

    def _round(self, some: dict[str, int]) -> None:
        """Mark, look again, remove, unmark."""
        gcid = secrets.token_hex(16)
        marker = fmt.marker_key(gcid)
        try:
            self._records.create(marker, fmt.write_marker(fmt.marker_of(gcid, some)))
            self._roots.hold(session for session, _ in self._roots.read_sessions())
            self._roots.read_heads()
            unnamed = [key for key in some if not self._roots.holds(key)]
            self._done.rescued += len(some) - len(unnamed)
            # Listed versions first, then maps: a sweep that dies leaves none without what it needs.
            for start in range(0, len(unnamed), BATCH):
                batch = unnamed[start : start + BATCH]
                self._go_on()
                self._check_stands(marker)
                self._records.store.delete(batch)
                self._done.removed += len(batch)
                self._done.freed += sum(some[key] for key in batch)
        finally:
            self._unmark(marker)

    def _check_stands(self, marker: str) -> None:
        try:
            self._records.store.stat(marker)
        except ObjectNotFound:
            taken = "somebody took this sweep for dead, and removed its marker"
            raise SweepStopped(what=marker, reason=taken) from None

    def _unmark(self, marker: str) -> None:
        try:
            self._records.store.delete([marker])
        except S3regError as e:
            # It keeps pushes from building on what it names, until another sweep takes it for dead.
            emit("marker-left-behind", level=WARNING, key=marker, reason=str(e))


def _check_none_lost(templates: Collection[str]) -> None:
    """Raise HeadLost if there are any."""
    if templates:
        some, more = sorted(templates)[:LOST_SHOWN], len(templates) - LOST_SHOWN
        raise HeadLost(templates=", ".join(some) + (f" and {more} more" if more > 0 else ""))


def _note_end(records: Records) -> None:
    """Leave word for who watches over the timer. Nobody else needs it: without it, the sweep has done what it was to do."""
    try:
        records.store.put(fmt.SWEPT_KEY, b"")
    except S3regError as e:
        emit("sweep-unnoted", level=WARNING, code=e.code, reason=str(e))


def _store_clock(records: Records) -> float:
    """Seconds since 1970, as the store counts them. Raises SweepStopped if it never keeps what it is asked by."""
    for _ in range(CLOCK_TRIES):
        key = fmt.scratch_key(secrets.token_hex(16))
        records.store.put(key, b"")
        try:
            return records.store.stat(key).modified
        except ObjectNotFound:
            # This machine slept for a day between the two, and another sweep took the object for a leftover.
            emit("clock-asked-again", level=WARNING, key=key)
        finally:
            records.store.delete([key])
    raise SweepStopped(what=fmt.CHECK, reason="what is written there is gone at once")
