"""How a transfer tells how far it is: a bar for a person, lines for a log, JSON for a program, or nothing.

A transfer goes through phases, one at a time: `start` begins one, `advance` counts bytes that are *done* (acknowledged, or
verified and written: never merely handed to a socket), `finish` ends it. All may be called from any thread.
"""

from __future__ import annotations

import abc
import json
import threading
import time
from collections import deque
from typing import IO, TYPE_CHECKING, Protocol

from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import (
    Progress as RichProgress,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

LINE_SECONDS = 5.0
"""Between two lines of a log."""
JSON_SECONDS = 1.0
RECENT = 10
"""Times of telling that a rate is about: what was here already is done in no time, and says nothing of the line."""


class Progress(Protocol):
    """Told about a transfer while it runs."""

    def start(self, what: str, total: int | None) -> None:
        """Begin a phase of so many bytes; None: nobody knows how many. Ends the phase before it."""
        ...

    def advance(self, count: int) -> None:
        """So many more bytes are done."""
        ...

    def note(self, text: str) -> None:
        """Something worth a line."""
        ...

    def finish(self) -> None:
        """End the phase, whether all of it is done or not. May be called twice."""
        ...


class Silent:
    """Says nothing."""

    def start(self, what: str, total: int | None) -> None:
        """Nothing."""

    def advance(self, count: int) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""


class Bar:
    """A bar with rate and time left, for a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    def start(self, what: str, total: int | None) -> None:
        """A new bar below the one before."""
        self.finish()
        with self._lock:
            self._bar = RichProgress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task(what.capitalize(), total=total)
            self._bar.start()

    def advance(self, count: int) -> None:
        """Move the bar."""
        with self._lock:
            if self._bar is not None and self._task is not None:
                self._bar.advance(self._task, count)

    def note(self, text: str) -> None:
        """A line above the bar."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def finish(self) -> None:
        """Leave the bar as it is and give the cursor back."""
        with self._lock:
            if self._bar is not None:
                self._bar.stop()
            self._bar = self._task = None


class _Counted(abc.ABC):
    """The count that lines and JSON have in common: what, how much of it, since when."""

    def __init__(self, every: float, clock: Callable[[], float]) -> None:
        self._every = every
        self._clock = clock
        self._lock = threading.Lock()
        self._what = ""
        self._total: int | None = None
        self._done = 0
        self._told: deque[tuple[float, int]] = deque(maxlen=RECENT)
        """When something was told last, and how much was done by then."""

    def start(self, what: str, total: int | None) -> None:
        """Begin to count from nothing."""
        self.finish()
        with self._lock:
            self._what, self._total, self._done = what, total, 0
            self._told.clear()
            self._told.append((self._clock(), 0))

    def advance(self, count: int) -> None:
        """Count, and tell when it is time to."""
        with self._lock:
            self._done += count
            now = self._clock()
            if self._told and now - self._told[-1][0] >= self._every:
                self._tell(now)
                self._told.append((now, self._done))

    def finish(self) -> None:
        """Tell how it ended."""
        with self._lock:
            if self._what:
                self._tell(self._clock())
            self._what = ""

    def rate(self, now: float) -> float:
        """Bytes per second, of late."""
        since, done = self._told[0]
        return (self._done - done) / max(now - since, 0.001)

    def left(self, now: float) -> float | None:
        """Seconds until the end at this rate, where both are known."""
        rate = self.rate(now)
        return None if self._total is None or rate <= 0 else max(0, self._total - self._done) / rate

    @abc.abstractmethod
    def _tell(self, now: float) -> None:
        """Say how far it is."""


class Lines(_Counted):
    """A line every few seconds, for a log."""

    def __init__(
        self, out: IO[str], *, every: float = LINE_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(every, clock)
        self._out = out

    def note(self, text: str) -> None:
        """The text, as a line."""
        with self._lock:
            print(text, file=self._out, flush=True)

    def _tell(self, now: float) -> None:
        share = "" if not self._total else f" ({100 * self._done // self._total} %)"
        of = "" if self._total is None else f" of {decimal(self._total)}"
        left = self.left(now)
        more = f", {left:.0f} s left" if left else ""
        rate = decimal(int(self.rate(now)))
        print(f"{self._what}: {decimal(self._done)}{of}{share}, {rate}/s{more}", file=self._out, flush=True)


class Json(_Counted):
    """A JSON object a line, for a program. None of them has a `status`: the one that has is the command's answer."""

    def __init__(
        self, out: IO[str], *, every: float = JSON_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(every, clock)
        self._out = out

    def note(self, text: str) -> None:
        """`{"note": …}`"""
        with self._lock:
            print(json.dumps({"note": text}), file=self._out, flush=True)

    def _tell(self, now: float) -> None:
        left = self.left(now)
        told = {
            "progress": self._what,
            "bytes": self._done,
            "total": self._total,
            "bytes_per_second": int(self.rate(now)),
            "seconds_left": None if left is None else round(left),
        }
        print(json.dumps(told), file=self._out, flush=True)
