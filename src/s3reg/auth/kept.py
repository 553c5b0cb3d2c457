"""What was read a moment ago, so that not every call reads it again."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

V = TypeVar("V")

KEPT_SECONDS = 2.0
MOST_KEPT = 10_000
_TURNS = 64


@dataclass(frozen=True, slots=True)
class _Read(Generic[V]):
    value: V
    began: int
    """When reading it began, in ticks: later than whatever had a lower number."""
    at: float
    """The same by the clock."""


@dataclass(slots=True)
class _Turn:
    """Whose name falls to it waits for the one who reads."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    failed: tuple[str, int, Exception] | None = None
    """What the last read raised: of which name, and when it began."""


class Kept(Generic[V]):
    """Values by name, as they were at most 2 s ago. What `read` raises is not kept. Safe to share between threads."""

    def __init__(self, read: Callable[[str], V], clock: Callable[[], float]) -> None:
        self._read = read
        self._clock = clock
        self._ticks = itertools.count(1)
        self._lock = threading.Lock()
        self._turns = tuple(_Turn() for _ in range(_TURNS))
        self._kept: OrderedDict[str, _Read[V]] = OrderedDict()
        self._changed = 0
        """When something was last changed by this process: what was being read then may be what it was before."""

    def get(self, name: str, enough: Callable[[V], bool] = lambda _: True) -> V:
        """The value that is kept, if it is young and `enough`; else as it is now.

        Many who ask at once share one read, also what it raises: else they would wait in turn for a store that is away.
        """
        asked = next(self._ticks)
        kept = self.seen(name)
        if kept is not None and self._is_young(kept) and enough(kept.value):
            return kept.value
        turn = self._turns[hash(name) % _TURNS]
        with turn.lock:
            kept = self.seen(name)
            if kept is not None and kept.began > asked:
                return kept.value
            failed = turn.failed
            if failed is not None and failed[0] == name and failed[1] > asked:
                raise failed[2]
            turn.failed = None
            return self._now(name, turn)

    def seen(self, name: str) -> _Read[V] | None:
        """What was read last, however long ago, if it is kept still."""
        with self._lock:
            kept = self._kept.get(name)
            if kept is not None:
                self._kept.move_to_end(name)
            return kept

    def is_young(self, name: str) -> bool:
        """Whether `get` needs not read it."""
        kept = self.seen(name)
        return kept is not None and self._is_young(kept)

    def forget(self, name: str) -> None:
        """It was changed: who asks from here on sees it as it is now."""
        with self._lock:
            self._changed = next(self._ticks)
            self._kept.pop(name, None)

    def _is_young(self, kept: _Read[V]) -> bool:
        # A clock that was set back must not keep it for longer.
        return 0 <= self._clock() - kept.at < KEPT_SECONDS

    def _now(self, name: str, turn: _Turn) -> V:
        began, at = next(self._ticks), self._clock()
        try:
            value = self._read(name)
        except Exception as e:
            turn.failed = (name, began, e)
            with self._lock:
                self._kept.pop(name, None)
            raise
        with self._lock:
            if began > self._changed:
                self._kept[name] = _Read(value, began, at)
                self._kept.move_to_end(name)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return value
