"""What pushes, pulls, logins and sweeps leave behind besides packs, maps and versions; each goes by a rule of its own.

    spent secrets     an hour after the hour in which they ended: none is good by then
    pull marks        of versions that no head names; listed before heads are read for the last time
    events            older than they are kept
    scratch           older than a day
    damage marks      of packs and maps that nothing names: those are gone by now
    ended keys        a month after their end they are as if revoked: the record stays, its public half does not

Nothing here keeps a pack, and no push or pull waits for any of it. All times are the store's.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

from s3reg.errors import FormatUnknown, NameInvalid, PreconditionFailed, PutUnsettled, RecordDamaged
from s3reg.model import format as fmt
from s3reg.model import format_access
from s3reg.registry.inventory import strange
from s3reg.store import Match
from s3reg.store.together import gather

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from s3reg.model.names import Digest, SessionId
    from s3reg.registry.records import Records
    from s3reg.registry.roots import Roots
    from s3reg.registry.values import Swept

BATCH = 1000
"""Keys held, and removed, at once."""
SPENT_SECONDS = 3600
SCRATCH_SECONDS = 24 * 3600
ENDED_SECONDS = 30 * 24 * 3600
FOREIGN_SHOWN = 20
STRANGE_COUNTED = 10_000
"""Of the keys under no prefix of ours: a bucket may hold many more besides."""


def damage_marks(records: Records, done: Swept) -> dict[str, tuple[SessionId, Digest]]:
    """The keys of what says that a pack is bad, and which. To be looked for before packs are listed, and heads are read."""
    found: dict[str, tuple[SessionId, Digest]] = {}
    for stat in records.store.list(fmt.DAMAGED):
        try:
            found[stat.key] = fmt.pack_of_damaged_key(stat.key)
        except NameInvalid:
            foreign(done, stat.key)
    return found


class Leavings:
    """Clears them. `check` is asked before each batch, and raises where nothing more may go."""

    def __init__(self, records: Records, roots: Roots, now: float, done: Swept, check: Callable[[], None]) -> None:
        self._records = records
        self._roots = roots
        self._now = now
        self._done = done
        self._check = check

    def clear(self, damaged: dict[str, tuple[SessionId, Digest]]) -> None:
        """All of them; `damaged`: what `damage_marks` gave."""
        self._remove("spent secrets", self._spent())
        self._remove("events", self._events())
        self._remove("scratch", self._scratch())
        self._remove("damage marks", (key for key, pack in damaged.items() if not self._is_named_anywhere(*pack)))
        self._clear_pull_marks()
        self._end_keys()
        for key in itertools.islice(strange(self._records), STRANGE_COUNTED):
            foreign(self._done, key)

    def _remove(self, kind: str, keys: Iterable[str]) -> None:
        for batch in _batches(keys):
            self._check()
            if not self._done.dry_run:
                self._records.store.delete(batch)
            self._count(kind, len(batch))

    def _count(self, kind: str, count: int) -> None:
        if count:
            self._done.cleared[kind] = self._done.cleared.get(kind, 0) + count

    def _ours(self, prefix: str, is_ours: Callable[[str], bool], end: str | None = None) -> Iterator[str]:
        """The keys under a prefix, up to `end`; foreign ones are told of, and left."""
        for stat in self._records.store.list(prefix):
            if end is not None and stat.key >= end:
                return
            if is_ours(stat.key):
                yield stat.key
            else:
                foreign(self._done, stat.key)

    def _spent(self) -> Iterator[str]:
        end = format_access.first_spent_key(self._now - SPENT_SECONDS)
        return self._ours(format_access.SPENT, format_access.is_spent_key, end)

    def _events(self) -> Iterator[str]:
        end = fmt.first_events_key(max(0, int(self._now) - self._records.limits.event_seconds))
        return self._ours(fmt.EVENTS, _is_of_events, end)

    def _scratch(self) -> Iterator[str]:
        for stat in self._records.store.list(fmt.CHECK):
            if not fmt.is_scratch_key(stat.key):
                foreign(self._done, stat.key)
            elif abs(self._now - stat.modified) > SCRATCH_SECONDS:  # of later than now: the clock was set back
                yield stat.key

    def _clear_pull_marks(self) -> None:
        for batch in _batches(self._ours(fmt.PULLS, _is_pull_mark)):
            if all(self._is_named(key) for key in batch):
                continue
            # A version may have been made, and pulled, since heads were read; a mark that was listed is of before now.
            self._roots.read_heads()
            self._remove("pull marks", [key for key in batch if not self._is_named(key)])

    def _is_named_anywhere(self, sid: SessionId, sha256: Digest) -> bool:
        """Whether a pack or map is, though a head that names it may have lost it."""
        keys = (key(domain, sid, sha256) for domain in self._roots.domains for key in (fmt.pack_key, fmt.map_key))
        return any(self._roots.holds(key) for key in keys)

    def _is_named(self, mark: str) -> bool:
        return self._roots.holds(fmt.version_key(*fmt.version_of_pull_key(mark)))

    def _end_keys(self) -> None:
        for batch in _batches(self._ours(format_access.KEYS, format_access.is_ours)):
            self._check()
            self._count("ended keys", sum(gather(self._end_key, batch)))

    def _end_key(self, where: str) -> bool:
        """Whether the API key there ended long ago, and is without its public half now."""
        found = self._records.read(where)
        try:
            key = format_access.read_api_key(found.data, where) if found else None
        except (RecordDamaged, FormatUnknown):
            return False  # `keys list` tells of it
        if found is None or key is None or key.deleted or not key.ended(self._now - ENDED_SECONDS):
            return False
        if not self._done.dry_run:
            ended = replace(key, public_key=b"", groups=(), deleted=True, gen=key.gen + 1)
            try:
                self._records.store.put(where, format_access.write_api_key(ended), only_if=Match(found.stat.etag))
            except (PreconditionFailed, PutUnsettled):
                return False  # whoever changed it, meant it; and the next sweep looks again
        return True


def foreign(done: Swept, key: str) -> None:
    """Tell of a key that is none of ours."""
    done.foreign_count += 1
    if len(done.foreign) < FOREIGN_SHOWN:
        done.foreign.append(key)


def _is_of_events(key: str) -> bool:
    try:
        fmt.time_of_events_key(key)
    except NameInvalid:
        return False
    return key.endswith(".json")


def _is_pull_mark(key: str) -> bool:
    try:
        return fmt.pull_key(*fmt.version_of_pull_key(key)) == key
    except NameInvalid:
        return False


def _batches(keys: Iterable[str]) -> Iterator[list[str]]:
    """So few of them that they may be held."""
    left = iter(keys)
    while batch := list(itertools.islice(left, BATCH)):
        yield batch
