"""gunicorn's arbiter, with our ways to end a replica and to replace one of its processes: without an answer lost."""

from __future__ import annotations

import gc
import logging
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from s3reg.cli.ending import Ending, turn_away
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from s3reg.cli.patience import PatientWorker

FINISH_SECONDS = 5
"""For the events that wait for the store when a worker ends."""
SPARE_SECONDS = 2
"""Between when a worker must have ended and when it is killed."""
ARRIVE_SECONDS = 0.1
"""For connections that had begun when nobody new was let in: several round trips between a client and a replica."""
AGAIN_SECONDS, AGAIN_AT_MOST_SECONDS = 1.0, 60.0
"""After a worker that ended before it served, until another one is started: doubled with each further one."""


class Pause:
    """Until another worker is started: none, unless those before it ended before they served."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds = 0.0
        self._until = float("-inf")

    def lengthen(self) -> None:
        """One more has."""
        self._seconds = min(2 * self._seconds or AGAIN_SECONDS, AGAIN_AT_MOST_SECONDS)
        self._until = self._clock() + self._seconds

    def end(self) -> None:
        """All that are wanted serve."""
        self._seconds, self._until = 0.0, float("-inf")

    def __bool__(self) -> bool:
        return self._clock() < self._until


class Replica(Arbiter):  # type: ignore[misc]  # gunicorn has no types
    """The process whose children serve; `drain_seconds`: how long it goes on when it was told to end."""

    WORKERS: dict[int, PatientWorker]

    def __init__(self, app: Any, drain_seconds: float) -> None:
        super().__init__(app)
        # What tried the store before lies in cycles, and would keep its connections, here and in whatever is forked.
        gc.collect()
        self.ending = Ending()
        self._drain_seconds = drain_seconds
        self._ends: float | None = None
        """When it stops taking connections, once it is told to end."""
        self._pause = Pause()

    def signal(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal. Who says SIGTERM twice does not want to wait."""
        if sig == signal.SIGTERM and os.getpid() == self.pid:  # and no worker yet that was just forked
            if self._ends is not None:
                sig = signal.SIGINT
            else:
                self._ends = time.monotonic() + self._drain_seconds
                self.ending.told.set()
        super().signal(sig, frame)

    def handle_term(self) -> None:
        """Go on for as long as it takes to be noticed."""
        emit("ending", drain_seconds=self._drain_seconds)
        self._look_at_the_clock()

    def handle_hup(self) -> None:
        """Replace the workers one and all; settings are those that the process was started with."""
        for worker in self.WORKERS.values():
            worker.is_spent.set()

    def wait_for_signals(self, timeout: float = 1.0) -> list[int]:
        """What was sent to this process meanwhile."""
        if self._ends is not None:
            timeout = min(timeout, max(self._ends - time.monotonic(), 0.0))
        found: list[int] = super().wait_for_signals(timeout)
        return found

    def reap_workers(self) -> None:
        """Bury workers that have ended. Raises HaltServer if that is to end the replica."""
        before = dict(self.WORKERS)
        super().reap_workers()
        self.judge([before[pid] for pid in before.keys() - self.WORKERS.keys()])

    def judge(self, gone: list[PatientWorker]) -> None:
        """What follows from the end of these: who ended before it served is tried again later.

        Raises HaltServer if it could not start, and nobody else serves: whoever started the replica is to know, it may be
        a setting.
        """
        if all(worker.serves or worker.is_leaving for worker in gone):
            return
        self._pause.lengthen()
        served = any(worker.serves and not worker.is_leaving for worker in self.WORKERS.values())
        if any(worker.could_not_start for worker in gone) and not served and not self.ending.told:
            raise HaltServer("no worker could start", self.WORKER_BOOT_ERROR)

    def manage_workers(self) -> None:
        """Have as many workers as are wanted. One that is spent serves until its successor does."""
        self._look_at_the_clock()
        staying = [worker for worker in self.WORKERS.values() if not worker.is_leaving]
        fresh = [worker for worker in staying if not worker.is_spent]
        for _ in range(0 if self._pause else self.num_workers - len(fresh)):
            try:
                self.spawn_worker()
            except OSError as e:
                # The system has no process to spare; in a second it may. gunicorn would end the whole replica.
                if not staying:
                    raise
                emit("worker-not-started", level=logging.ERROR, reason=e.strerror)
                return
        if len(fresh) < self.num_workers or not all(worker.serves for worker in fresh):
            return
        self._pause.end()
        too_many = sorted(fresh, key=lambda worker: worker.age)[: len(fresh) - self.num_workers]
        for worker in [worker for worker in staying if worker.is_spent] + too_many:
            worker.is_leaving = True
            self.kill_worker(worker.pid, signal.SIGTERM)

    def stop(self, graceful: bool = True) -> None:
        """End the workers, and wait until they have."""
        self.ending.told.set()
        if not graceful:
            self.cfg.set("graceful_timeout", FINISH_SECONDS + SPARE_SECONDS)
        elif all(turn_away(listener.sock) for listener in self.LISTENERS):
            time.sleep(ARRIVE_SECONDS)
        self.ending.over.set()
        super().stop(graceful)

    def _look_at_the_clock(self) -> None:
        if self._ends is not None and self._ends <= time.monotonic():
            raise StopIteration  # gunicorn's own way out of its loop
