"""What a look found, kept for a while: one look at a time, in a thread of its own, for however many ask."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Look:
    """One that is under way."""

    done: threading.Event = field(default_factory=threading.Event)
    since: float = field(default_factory=time.monotonic)


class Looks(Generic[Found]):
    """Safe between threads. `look` raises nothing; what it found is kept for `seconds` of it.

    `clock`: in seconds; it may be set back.
    """

    def __init__(
        self, look: Callable[[], Found], seconds: Callable[[Found], float], clock: Callable[[], float]
    ) -> None:
        self._look = look
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._under_way: Look | None = None
        self._at: float | None = None
        self._kept = 0.0
        self.last: Found | None = None
        """What the last look found that has ended; None: none has."""

    def begun(self) -> Look | None:
        """The look that is under way; it begins now if what the last one found has grown old. None: it has not."""
        with self._lock:
            if self._under_way is None and not self._is_fresh():
                look = Look()
                threading.Thread(target=self._run, args=(look,), daemon=True).start()
                self._under_way = look  # only now: a system that is short of threads refuses to start one
            return self._under_way

    def _is_fresh(self) -> bool:
        return self._at is not None and 0 <= self._clock() - self._at < self._kept

    def _run(self, look: Look) -> None:
        found = self._look()
        with self._lock:
            self.last, self._at, self._kept, self._under_way = found, self._clock(), self._seconds(found), None
        look.done.set()
