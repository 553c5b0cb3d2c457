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

from s3reg.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST = 16
"""Requests at once, if nothing else is asked for; each holds a range or a pack in memory."""
FEWEST_AT_FIRST = 4
ROUND_TRIP = 0.01
"""Seconds of round trip that are worth one more request at once."""
PERIOD = 1.0
"""Seconds over which goodput is compared."""
TOO_LONG = 4.0
"""Seconds of a period that says nothing: everybody paused in it."""
WORTH = 1.05
"""More goodput that is worth one more request at once."""
PATIENCE = 3
"""Periods without gain before it goes back to what moved most."""
REST = 10
"""Periods until it tries for more again."""
RECENT = 0.5
"""The weight of the newest period in the recent rate."""
MOMENT = 0.1
"""Seconds of what a limit lets through, moved at once: a connection that waits longer between two pieces looks dead."""
SMALLEST_PIECE = 4096


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
        """Bytes a second that moved lately, while anybody was at it; None while nobody knows."""
        self._clock = clock
        self._turns = threading.Condition()
        self._busy = 0
        self._all_busy = False
        self._passed = 0
        self._since = self._idle_since = clock()
        self._at_first = self.allowed
        self._guessing = jobs is None
        self._round_trips: dict[str, float] = {}
        self._best = 0.0
        self._best_allowed = self.allowed
        self._without_gain = 0
        self._resting = 0
        self._refused_until = self._since
        self._owed_until = self._since

    # --- Requests at once --------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def turn(self, stop: threading.Event) -> Iterator[None]:
        """A request's turn: waits while as many as are allowed are underway. Raises Interrupted once `stop` is set."""
        with self._turns:
            while self._busy >= self.allowed and not stop.is_set():
                self._turns.wait()
            if stop.is_set():
                # It may have been woken in place of somebody who is wanted.
                self._turns.notify()
                raise Interrupted
            if not self._busy:
                # Time in which nobody sent says nothing of the line.
                self._since += self._clock() - self._idle_since
            self._busy += 1
            self._all_busy = self._all_busy or self._busy >= self.allowed
        try:
            yield
        finally:
            with self._turns:
                self._busy -= 1
                if not self._busy:
                    self._idle_since = self._clock()
                self._turns.notify()

    def look_again(self) -> None:
        """Some transfer was given up: whoever waits for its turn looks whether it is still wanted."""
        with self._turns:
            self._turns.notify_all()

    def refused(self) -> None:
        """The store said that it has too much to do, or a connection broke."""
        with self._turns:
            now = self._clock()
            if now < self._refused_until:
                return  # requests that were underway together are refused together: that is one sign, not many
            self._refused_until = now + PERIOD
            self.allowed = max(1, self.allowed * 2 // 3)
            self._best, self._best_allowed = 0.0, self.allowed
            self._without_gain, self._resting = 0, PATIENCE
            self._guessing = False

    def heard(self, host: str, seconds: float) -> None:
        """A connection to `host` took so long to come about: on a long line more requests are underway from the start.

        Of several, the shortest counts: a slow name server and a lost packet are not the line.
        """
        with self._turns:
            self._round_trips[host] = min(seconds, self._round_trips.get(host, seconds))
            if self._guessing:
                farthest = max(self._round_trips.values())
                self._allow(max(self._at_first, FEWEST_AT_FIRST + int(farthest / ROUND_TRIP)))

    # --- Bytes -------------------------------------------------------------------------------------------------------

    def piece(self, most: int) -> int:
        """Bytes to move at once: `most`, or fewer under a limit."""
        if self.limit_rate is None:
            return most
        return min(most, max(SMALLEST_PIECE, int(self.limit_rate * MOMENT)))

    def hold_back(self, count: int, stop: threading.Event) -> None:
        """Wait until the limit lets so many bytes more over the line, or `stop` is set."""
        if self.limit_rate is None:
            return
        with self._turns:
            now = self._clock()
            # What was not used while nobody sent is not saved up.
            self._owed_until = max(self._owed_until, now) + count / self.limit_rate
            pause = self._owed_until - now
        stop.wait(pause)

    def passed(self, count: int) -> None:
        """So many bytes went over the line."""
        with self._turns:
            if not self._busy:
                return  # a map, by itself
            self._passed += count
            now = self._clock()
            if now - self._since >= PERIOD:
                self._judge(now)

    def _judge(self, now: float) -> None:
        seconds, count = now - self._since, self._passed
        full, self._all_busy = self._all_busy, self._busy >= self.allowed
        self._passed, self._since = 0, now
        if seconds > TOO_LONG:
            return
        rate = count / seconds
        self.rate = rate if self.rate is None else RECENT * rate + (1 - RECENT) * self.rate
        if self._resting:
            self._resting -= 1
            self._best = 0.0 if not self._resting else self._best
        elif self.jobs is not None:
            # What somebody asked for is no matter of goodput.
            self._more()
        elif full:
            self._climb(rate)

    def _climb(self, rate: float) -> None:
        """More at once while that pays; back to what paid best when it does not."""
        self._guessing = False
        if rate > self._best * WORTH:
            self._best, self._best_allowed, self._without_gain = rate, self.allowed, 0
            self._more()
            return
        self._without_gain += 1
        if self._without_gain >= PATIENCE:
            self._without_gain, self._resting = 0, REST
            self._allow(self._best_allowed)

    def _more(self) -> None:
        self._allow(self.allowed + max(1, self.allowed // 4))

    def _allow(self, count: int) -> None:
        self.allowed = min(self.most, count)
        self._turns.notify_all()
