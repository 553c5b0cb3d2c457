"""Whether this replica can serve, from a look at the store that nobody waits for twice.

A look is at most two seconds old. Who asks waits three seconds for it, whatever the store does; while one takes longer, the
answer is at once that the store cannot be reached.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3reg.api.looks import Looks
from s3reg.errors import S3regError, StoreUnavailable
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Callable

FRESH_SECONDS = 2.0
WAIT_SECONDS = 3.0
READY, ENDING = "ready", "ending"
_WORDS = {
    "store-unavailable": "store unreachable",
    "store-busy": "store unreachable: it asks for fewer requests",
    "store-denied": "credentials refused",
    "credentials-expired": "credentials refused: they have expired",
    "credentials-missing": "credentials refused: there are none",
    "store-clock-wrong": "clock wrong: the store's and ours are more than 15 minutes apart",
    "bucket-missing": "bucket missing",
    "region-wrong": "region wrong",
    "format-unknown": "format unknown: a newer release wrote it",
    "store-format-damaged": "format unknown: the store's format.json is lost or damaged",
    "store-unsuitable": "the store lacks a promise that the registry stands on",
}
"""What strangers may read of a store that cannot be used: nothing of where it is."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found, for whoever asks."""

    reason: str
    """`ready`, `ending`, or the code of the error that the look met."""
    words: str
    next_step: str = ""

    @property
    def ready(self) -> bool:
        """Whether calls may be sent here."""
        return self.reason == READY


class Readiness:
    """Of one process. Safe to share between threads.

    `look` asks the store, and raises what is wrong with it. `clock`: in seconds; it may be set back.
    """

    def __init__(
        self, look: Callable[[], None], clock: Callable[[], float] = time.time, wait_seconds: float = WAIT_SECONDS
    ) -> None:
        self._look = look
        self._wait_seconds = wait_seconds
        self._looks = Looks(self._found, lambda _: FRESH_SECONDS, clock)
        self._ends: Callable[[], bool] = lambda: False

    def ending(self, when: Callable[[], bool]) -> None:
        """As soon as `when` says so, the answer is that no calls may be sent here any more."""
        self._ends = when

    def now(self) -> Verdict:
        """What a look at the store found that is two seconds old at most."""
        if self._ends():
            return Verdict(ENDING, "ending: this replica takes no more calls", "ask another replica")
        under_way = self._looks.begun()
        if under_way is not None:
            in_time = under_way.done.wait(max(0.0, under_way.since + self._wait_seconds - time.monotonic()))
            if not in_time:
                return _verdict(StoreUnavailable(store="?", reason="?"))
        found = self._looks.last
        assert found is not None
        return found

    def _found(self) -> Verdict:
        trouble: BaseException | None = None
        try:
            self._look()
        except Exception as e:  # noqa: BLE001 - a defect of ours is no reason to answer nothing
            trouble = e
        before, found = self._looks.last, _verdict(trouble)
        if trouble is not None and (before is None or before.reason != found.reason):
            emit("unready", level=logging.ERROR, reason=found.reason, why=str(trouble))
        elif trouble is None and before is not None and not before.ready:
            emit("ready-again", was=before.reason)
        return found


def _verdict(trouble: BaseException | None) -> Verdict:
    if trouble is None:
        return Verdict(READY, "ready")
    if not isinstance(trouble, S3regError):
        return Verdict(S3regError.code, "something went wrong inside s3reg", S3regError.remedy)
    words = _WORDS.get(trouble.code, "the store cannot be used")
    # The remedy as it stands in the class: its braces would be filled with where the store is.
    remedy = trouble.remedy if "{" not in trouble.remedy else "look into the registry's log"
    return Verdict(trouble.code, words, remedy)
