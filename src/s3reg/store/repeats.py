"""How often what failed is sent again: thrice at most, and of all that a process sends a fifth.

A store that is short of breath would else be asked three times as much as one that is well. Pauses are drawn between nothing
and twice the last one's longest ("full jitter"), so that many who failed together do not return together; see "Exponential
Backoff And Jitter" in the AWS Architecture Blog. Who is asked for fewer requests waits five times as long.
"""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from s3reg.errors import StoreBusy, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

ATTEMPTS = 3
"""How often one thing is tried."""
SHARE = 0.2
"""Repeats for each first try."""
SAVED = 10
"""Repeats that a process may have saved up, and begins with."""
_PAUSE_SECONDS, _BUSY_SECONDS = 0.2, 1.0


class Repeats:
    """Of one process. Safe to share between threads. `may`: whether there is any use in another try now."""

    def __init__(
        self,
        may: Callable[[], bool] = lambda: True,
        *,
        attempts: int = ATTEMPTS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._may = may
        self._attempts = attempts
        self._sleep = sleep
        self._lock = threading.Lock()
        self._saved = float(SAVED)

    def __call__(self, act: Callable[[], T]) -> T:
        """What `act` gives; it is tried again when it raised StoreUnavailable."""
        with self._lock:
            self._saved = min(self._saved + SHARE, SAVED)
        for attempt in range(self._attempts):
            try:
                return act()
            except StoreUnavailable as e:
                if attempt == self._attempts - 1 or not self._may() or not self._spent():
                    raise
                longest = (_BUSY_SECONDS if isinstance(e, StoreBusy) else _PAUSE_SECONDS) * 2**attempt
            self._sleep(random.uniform(0, longest))  # noqa: S311 - it guards nothing
        raise AssertionError("the last turn returns or raises")

    def _spent(self) -> bool:
        with self._lock:
            if self._saved < 1:
                return False
            self._saved -= 1
            return True
