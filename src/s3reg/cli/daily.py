"""A registry over a directory sweeps it by itself, once a day: one of its processes, in a thread beside its requests.

A bucket may have many registries, and is left to `s3reg gc` on a timer. When the last sweep was is a file's time beside the
store's objects: were it lost, there would be one sweep more.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from s3reg.errors import S3regError
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3reg.api.wiring import Wiring
    from s3reg.registry import Swept
    from s3reg.store.files import FilesStore

FIRST_SECONDS = 300
"""After the start: a registry that is started anew again and again has better things to do."""
LOOK_SECONDS = 3600
"""Between two looks whether it is time; and a clock that jumped by more has until the next one to come back."""
END_SECONDS = 2.0
"""That the process waits for a sweep to end between two of its steps."""
TURN = "sweep"


class _Ending(Exception):
    """The process ends, and with it the sweep."""


class Daily:
    """Sweeps `store` every so many seconds, through the registry of `held`. Errors are logged, and end nothing."""

    def __init__(
        self,
        held: Wiring,
        store: FilesStore,
        every: float,
        *,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._held = held
        self._store = store
        self._every = every
        self._ahead: Callable[[], float] = lambda: clock() - steady()
        self._was_ahead = self._ahead()
        self._jumped = False
        """At the last look."""
        self._refused = ""
        """Why the turn could not be taken the last time."""
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="daily sweep", daemon=True)

    def start(self) -> None:
        """From now on."""
        self._thread.start()

    def end(self) -> None:
        """Sweep no more; one under way ends between two of its steps, if that is soon."""
        self._ending.set()
        self._thread.join(END_SECONDS)

    def look(self) -> bool:
        """Sweep, if it is time, and this process's turn; whether it was."""
        if self._clock_jumped() or not self._takes_turn():
            return False
        try:
            self._held.registry().sweep(told=self._told)
        except _Ending:
            pass
        except S3regError as e:
            emit("sweep-failed", level=logging.ERROR, code=e.code, reason=str(e), remedy=e.next_step)
        except Exception as e:  # noqa: BLE001 - whatever it is, the registry goes on serving
            emit("sweep-failed", level=logging.ERROR, trouble=e)
        return True

    def _clock_jumped(self) -> bool:
        """Whether it did since the last look, or the machine slept: by one that is far ahead, all of the trash is over.

        Not twice in a row: a machine that sleeps between all looks would never be swept.
        """
        before, self._was_ahead = self._was_ahead, self._ahead()
        jump = self._was_ahead - before
        self._jumped = abs(jump) > LOOK_SECONDS and not self._jumped
        if self._jumped:
            emit("clock-jumped", level=logging.WARNING, seconds=int(jump))
        return self._jumped

    def _takes_turn(self) -> bool:
        """Whether it is this process's; why it cannot be had is told once."""
        try:
            taken = self._store.takes_turn(TURN, self._every)
        except S3regError as e:
            if str(e) != self._refused:
                emit("sweep-failed", level=logging.ERROR, code=e.code, reason=str(e), remedy=e.next_step)
            self._refused = str(e)
            return False
        self._refused = ""
        return taken

    def _run(self) -> None:
        wait = min(FIRST_SECONDS, self._every)
        while not self._ending.wait(wait):
            self.look()
            wait = min(LOOK_SECONDS, self._every)

    def _told(self, done: Swept) -> None:
        del done
        if self._ending.is_set():
            raise _Ending
