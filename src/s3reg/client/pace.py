"""How fast a transfer goes, and over how many connections at once.

Two things hold it back: what the person asked for (`--limit-rate`, `--jobs`), and what the line and the store bear. The
latter is found out: the number of requests at once begins with the cores and the round trip, rises while that moves more
bytes, goes back to what moved most, and falls when the store says "slow down" or a connection breaks. So it is goodput that
decides: many streams that all succeed can be slower than a few.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST = 16
"""Requests at once, if nothing else is asked for; each holds a range or a pack in memory."""
FEWEST_AT_FIRST = 4
ROUND_TRIP = 0.01
"""Seconds of round trip that are worth one more request at once."""
PERIOD = 1.0
"""Seconds over which goodput is compared."""
WORTH = 1.05
"""More goodput that is worth one more request at once."""
PATIENCE = 3
"""Periods without gain before it goes back to what moved most."""
REST = 10
"""Periods until it tries for more again."""
RECENT = 0.5
"""The weight of the newest period in the recent rate."""


class Pace:
    """The pace of one connection's transfers, shared by all its threads.

    `limit_rate`: bytes per second, both ways together, None for no limit. `jobs`: requests at once, None to find out.
    """

    def __init__(
        self, *, limit_rate: int | None = None, jobs: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit_rate = limit_rate
        self.jobs = jobs
        self.most = jobs or MOST
        """Requests at once, whatever is found out."""
        self.allowed = jobs or min(self.most, max(FEWEST_AT_FIRST, os.cpu_count() or 1))
        """Requests at once, now."""
        self.rate: float | None = None
        """Bytes a second that moved lately; None while nobody knows."""
        self._clock = clock
        self._turns = threading.Condition()
        self._busy = 0
        self._all_busy = False
        self._passed = 0
        self._since = clock()
        self._best = 0.0
        self._best_allowed = self.allowed
        self._without_gain = 0
        self._resting = 0
        self._owed_until = clock()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """A request's turn: waits while as many as are allowed are underway."""
        with self._turns:
            while self._busy >= self.allowed:
                self._turns.wait()
            self._busy += 1
            self._all_busy = self._all_busy or self._busy >= self.allowed
        try:
            yield
        finally:
            with self._turns:
                self._busy -= 1
                self._turns.notify()

    def passed(self, count: int, stop: threading.Event) -> None:
        """So many bytes went over the line. Waits as long as the limit asks for, or until `stop` is set."""
        with self._turns:
            now = self._clock()
            self._passed += count
            if now - self._since >= PERIOD:
                self._judge(now)
            if self.limit_rate is None:
                return
            # What was not used while nobody sent is not saved up.
            self._owed_until = max(self._owed_until, now) + count / self.limit_rate
            pause = self._owed_until - now
        stop.wait(pause)

    def refused(self) -> None:
        """The store said that it has too much to do, or a connection broke."""
        with self._turns:
            self.allowed = max(1, self.allowed * 2 // 3)
            self._best, self._best_allowed = 0.0, self.allowed
            self._without_gain, self._resting = 0, PATIENCE

    def heard(self, round_trip: float) -> None:
        """A connection took so many seconds to come about: on a long line more requests are underway from the start."""
        with self._turns:
            if self.jobs is None and not self._best and not self._resting:
                self._allow(max(self.allowed, FEWEST_AT_FIRST + int(round_trip / ROUND_TRIP)))

    def _judge(self, now: float) -> None:
        rate = self._passed / (now - self._since)
        self.rate = rate if self.rate is None else RECENT * rate + (1 - RECENT) * self.rate
        full, self._all_busy = self._all_busy or self._busy >= self.allowed, False
        self._passed, self._since = 0, now
        if self._resting:
            self._resting -= 1
            self._best = 0.0 if not self._resting else self._best
        elif full:
            self._climb(rate)

    def _climb(self, rate: float) -> None:
        """More at once while that pays; back to what paid best when it does not."""
        if rate > self._best * WORTH:
            self._best, self._best_allowed, self._without_gain = rate, self.allowed, 0
            self._allow(self.allowed + max(1, self.allowed // 4))
            return
        self._without_gain += 1
        if self._without_gain >= PATIENCE:
            self._without_gain, self._resting = 0, REST
            self._allow(self._best_allowed)

    def _allow(self, count: int) -> None:
        self.allowed = min(self.most, count)
        self._turns.notify_all()
