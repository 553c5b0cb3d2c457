"""What is made of files, made again when one of them was changed: tokens, certificates, revocation lists."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Made = TypeVar("Made")
_State = tuple[tuple[int, int, int] | None, ...]

YOUNG_NS = 2_000_000_000
"""A file changed within the last two seconds may be changed again without its time, size or inode telling so: file systems
count time in steps. It is read anew each time, until it is older than that."""


class Reread(Generic[Made]):
    """The value of `make()`, which reads `files`: made anew when one has another time, size or inode.

    Files of which nothing can be made leave what was made before in its place; each such state is logged once, with the
    words of the OSError or ValueError that `make` raised: they must hold nothing of a secret. Safe between threads.
    """

    def __init__(self, make: Callable[[], Made], *files: Path) -> None:
        self._make = make
        self._files = files
        self._lock = threading.Lock()
        self._state: _State | None = None
        self._made: Made | None = None
        self._problem: str | None = None

    def look(self) -> tuple[Made | None, str | None]:
        """What was made last, or None if nothing was ever; and what is wrong with the files as they are now, or None."""
        with self._lock:
            state = self._stat()
            if state != self._state:
                self._renew(state)
            return self._made, self._problem

    def _renew(self, state: _State) -> None:
        problem = None
        try:
            self._made = self._make()
        except OSError as e:
            problem = e.strerror or type(e).__name__
        except ValueError as e:
            problem = str(e)
        if problem is not None and problem != self._problem:
            names = ", ".join(map(str, self._files))
            emit("file-not-usable", level=logging.WARNING, files=names, reason=problem, kept=self._made is not None)
        self._problem = problem
        # As it was before it was read: who changed it meanwhile is noticed at the next look.
        self._state = None if _young(state) else state

    def _stat(self) -> _State:
        return tuple(map(_stat, self._files))


def _stat(file: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(file)  # noqa: PTH116 - at each request
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _young(state: _State) -> bool:
    now = time.time_ns()
    return any(one is not None and abs(now - one[0]) < YOUNG_NS for one in state)
