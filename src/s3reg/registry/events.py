"""Events, kept as objects for people to read: what machines report, and what the registry notes of who asked for what.

Worth less than a prompt answer: nobody waits for the store. What waits while it takes one object goes into the next.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import secrets
import threading
from collections import Counter, deque
from dataclasses import dataclass
from logging import WARNING
from typing import TYPE_CHECKING, Any

from s3reg.errors import NameInvalid
from s3reg.model import format as fmt
from s3reg.model.template import Event, EventKind
from s3reg.registry import setup
from s3reg.registry.sight import sees
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3reg.model.identity import Identity
    from s3reg.registry.catalog import Catalog
    from s3reg.registry.records import Records

WAITING = {EventKind.REPORT: 64, EventKind.AUDIT: 4096}
"""Events that may wait for the store. The API bounds each: a report of 64 KiB, a line of the audit of about one."""
TOGETHER = 256
"""Events in one object."""
SPAN_SECONDS = 60
"""Between the first and the last event of an object: so much before a time must be looked at, to find all from then on."""
DAY = 24 * 3600
LISTED = 1000
"""Keys that are listed before the stretch of time that they are of is divided."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events somebody wants to see."""

    since: int
    """Seconds since 1970; both ends are included."""
    until: int
    limit: int
    """The newest of them."""
    by: str | None = None
    kind: EventKind | None = None
    template: str | None = None
    """By id, or by the name that it had."""

    def has(self, event: Event) -> bool:
        """Whether `event` is one of them."""
        return (
            self.since <= event.time <= self.until
            and self.by in {None, event.by}
            and self.kind in {None, event.kind}
            and (self.template is None or self.template in {event.said.get("template"), event.said.get("name")})
        )


class Events:
    """Writes events in a thread of its own, those that wait together in one object.

    `dropped` is told how many could not be kept, each time.
    """

    def __init__(self, records: Records, dropped: Callable[[int], None] = lambda _: None) -> None:
        self._records = records
        self._told_dropped = dropped
        self._waiting: deque[Event] = deque()
        self._counts: Counter[EventKind] = Counter()
        self._under_way = 0
        self._changed = threading.Condition()
        self._writer: threading.Thread | None = None

    def keep(self, kind: EventKind, by: str, said: dict[str, Any]) -> bool:
        """Write it down soon; False if too much waits already. Never waits, never fails."""
        event = _made(self._records.clock(), kind, by, said)
        with self._changed:
            if self._counts[kind] >= WAITING[kind]:
                self._told_dropped(1)
                return False
            self._counts[kind] += 1
            self._waiting.append(event)
            if self._writer is None:
                # A daemon: a store that hangs must not keep the process from ending.
                writer = threading.Thread(target=self._write_on, name="events", daemon=True)
                with contextlib.suppress(RuntimeError):  # the system has no thread to spare; for the next it may
                    writer.start()
                    self._writer = writer
            self._changed.notify_all()
        return True

    def finish(self, seconds: float) -> None:
        """Wait until all is written, at most so long; what is left then is dropped, and that is logged."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._under_way, seconds)
            left = len(self._waiting) + self._under_way
        if left:
            self._dropped(left, "the process ends, and the store has not taken them")

    def _write_on(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                batch = self._next()
                self._under_way = len(batch)
            try:
                setup.prepare(self._records, write=True)
                self._records.store.put(fmt.events_key(batch[0]), fmt.write_events(batch))
            except Exception as e:  # noqa: BLE001 - whatever it is, it must not be the end of all later events
                self._dropped(len(batch), repr(e))
            with self._changed:
                self._under_way = 0
                self._changed.notify_all()

    def _dropped(self, count: int, reason: str) -> None:
        self._told_dropped(count)
        emit("event-dropped", level=WARNING, count=count, reason=reason)

    def _next(self) -> list[Event]:
        """What goes into one object, taken from what waits."""
        first = self._waiting[0]
        batch: list[Event] = []
        while self._waiting and len(batch) < TOGETHER:
            if not 0 <= self._waiting[0].time - first.time <= SPAN_SECONDS:
                break
            batch.append(self._waiting.popleft())
            self._counts[batch[-1].kind] -= 1
        return batch


def shown_to(asker: Identity, catalog: Catalog) -> Callable[[Event], bool]:
    """Which events the asker may see."""
    if asker.domains() is None:
        return lambda _: True
    seen = {head.id for head in catalog.heads() if sees(asker, head)}
    # What a machine reported may name anything.
    return lambda event: (
        event.by == asker.name or (event.kind is EventKind.AUDIT and event.said.get("template") in seen)
    )


def newest(records: Records, wanted: Wanted, shown: Callable[[Event], bool]) -> list[Event]:
    """The newest of the events that are wanted and may be shown, in the order of time.

    Lists no more of the store, and reads no more objects, than that takes; what cannot be read is logged and left out.
    """
    kept: list[tuple[int, str, Event]] = []
    for key, began in _keys(records, wanted.since, wanted.until):
        if len(kept) >= wanted.limit and (not kept or began + SPAN_SECONDS < kept[0][0]):
            break
        for event in _read(records, key):
            if wanted.has(event) and shown(event):
                row = (event.time, event.id, event)
                if len(kept) < wanted.limit:
                    heapq.heappush(kept, row)
                else:
                    heapq.heappushpop(kept, row)
    return [event for _, _, event in sorted(kept, key=lambda row: row[:2])]


def _read(records: Records, key: str) -> tuple[Event, ...]:
    found = records.read(key)
    try:
        return fmt.read_events(found.data, key) if found else ()
    except Exception as e:  # noqa: BLE001 - one that is damaged must not hide all others
        emit("event-unreadable", level=WARNING, key=key, reason=str(e))
        return ()


def _keys(records: Records, since: int, until: int) -> Iterator[tuple[str, int]]:
    """The keys of events that may lie between two moments, newest first, and when the first event of each happened."""
    last = min(until, int(records.clock()) + DAY)
    ends = (fmt.first_events_key(max(0, since - SPAN_SECONDS)), fmt.first_events_key(last + 1))
    for key in _backwards(records, fmt.EVENTS, ends):
        with contextlib.suppress(NameInvalid):
            yield key, fmt.time_of_events_key(key)


def _backwards(records: Records, prefix: str, ends: tuple[str, str], level: int = 0) -> Iterator[str]:
    """The keys under a prefix between two, the greatest first.

    A store lists upwards: where there are many, the last year's come first, of these the last month's, and so on.
    """
    low, high = ends
    if not low[: len(prefix)] <= prefix <= high[: len(prefix)]:
        return
    stats = records.store.list(prefix, after=low if low.startswith(prefix) else "")
    keys = itertools.takewhile(lambda key: key < high, (stat.key for stat in stats))
    dividable = level < len(fmt.EVENTS_LEVELS)
    found = list(itertools.islice(keys, LISTED + 1 if dividable else None))
    if len(found) <= LISTED or not dividable:
        yield from reversed(found)
        return
    form, parts = fmt.EVENTS_LEVELS[level]
    for part in reversed(parts or range(_year(low), _year(high) + 1)):
        yield from _backwards(records, prefix + form.format(part), ends, level + 1)


def _year(key: str) -> int:
    return int(key.removeprefix(fmt.EVENTS)[:4])


def _made(now: float, kind: EventKind, by: str, said: dict[str, Any]) -> Event:
    microseconds = int(now % 1 * 1_000_000)
    return Event(f"{microseconds:05x}{secrets.token_hex(14)[1:]}", int(now), kind, by, said)
