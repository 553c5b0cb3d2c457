"""Refuses at once what would be sent to a store that is away, so that no thread waits for it.

Each request reports how it ended. When the last five all failed, the store itself is asked a small question, in a thread of
its own and at most once a second: while it does not answer, nothing else is sent. What failed slowly refuses at once, before
the store was asked; what failed fast costs nobody time, and may be one object's trouble: MinIO answers 503 of a rotten one.
A request that is refused here was not sent: a put has certainly not been applied.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Callable

IN_A_ROW = 5
"""Requests that failed, with none between them that was answered."""
ASK_SECONDS = 1.0
"""From one question to the next."""


def in_background(act: Callable[[], None]) -> None:
    """Run it in a thread that keeps no process from ending."""
    threading.Thread(target=act, daemon=True).start()


class Breaker:
    """Of one process and one store. Safe to share between threads.

    `answers` asks the store whether it is there, for a few seconds at most. `clock` gives seconds that are never set back.
    """

    def __init__(
        self,
        answers: Callable[[], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
        start: Callable[[Callable[[], None]], None] = in_background,
    ) -> None:
        self._answers = answers
        self._clock = clock
        self._start = start
        self._lock = threading.Lock()
        self._row = 0
        self._why = ""
        self._away = False
        self._asking = False
        self._asked: float | None = None

    @property
    def away(self) -> bool:
        """Whether nothing is sent now."""
        return self._away

    def refusal(self) -> str | None:
        """Why nothing is sent now; None if it may be."""
        if not self._away:
            return None
        self._ask()
        return f"not sent, because the last requests failed ({self._why}); it is asked again once a second"

    def answered(self) -> None:
        """The store said something, whatever it was."""
        if self._row or self._away:
            self._found(there=True)

    def failed(self, why: str, *, slowly: bool) -> None:
        """The store said nothing, or that it cannot."""
        with self._lock:
            self._row += 1
            self._why = why
            enough = self._row >= IN_A_ROW
        if enough and slowly:
            self._found(there=False)
        if enough:
            self._ask()

    def _ask(self) -> None:
        with self._lock:
            now = self._clock()
            if self._asking or (self._asked is not None and now - self._asked < ASK_SECONDS):
                return
            self._asking, self._asked = True, now
        try:
            self._start(self._look)
        except RuntimeError:  # the system has no thread to spare; in a second it may
            with self._lock:
                self._asking = False

    def _look(self) -> None:
        try:
            there = self._answers()
        except Exception:  # noqa: BLE001 - what is wrong with the question, the next request will tell
            there = True
        with self._lock:
            self._asking = False
        self._found(there=there)

    def _found(self, *, there: bool) -> None:
        with self._lock:
            before, self._away = self._away, not there
            if there:
                self._row = 0
        if before == there:
            level = logging.INFO if there else logging.ERROR
            emit("store-back" if there else "store-away", level=level, reason=self._why)
