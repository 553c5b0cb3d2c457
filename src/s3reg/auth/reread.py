"""What is made of files, made again when one of them was changed: tokens, certificates, revocation lists."""

from __future__ import annotations

import hashlib
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

MOST_BYTES = 64 * 1024**2
YOUNG_NS = 2_000_000_000
"""A file changed within the last two seconds may be changed again without its time, size or inode telling so: file systems
count time in steps. It is read anew each time, until it is older than that."""


class Reread(Generic[Made]):
    """What `make` makes of the contents of `files`: made anew when one has another time, size or inode, and other contents.

    Files of which nothing can be made leave what was made before in its place, and each such state is logged once, with the
    words of the ValueError that `make` raised: they must hold nothing of a secret. Safe between threads.
    """

    def __init__(self, make: Callable[..., Made], *files: Path) -> None:
        self._make = make
        self._files = files
        self._lock = threading.Lock()
        self._state: _State | None = None
        self._digest: bytes | None = None
        self._made: Made | None = None
        self._problem: str | None = None

    def look(self) -> tuple[Made | None, str | None]:
        """What was made last, or None if nothing was ever; and what is wrong with the files as they are now, or None."""
        with self._lock:
            state = tuple(map(_stat, self._files))
            if state != self._state:
                self._renew()
                # As it was before it was read: who changed it meanwhile is noticed at the next look.
                self._state = None if _young(state) else state
            return self._made, self._problem

    def _renew(self) -> None:
        digest, problem = None, None
        try:
            contents = [self._read(file) for file in self._files]
            digest = _digest(contents)
            if digest != self._digest:
                self._made = self._make(*contents)
        except ValueError as e:
            digest, problem = None, str(e)
        if problem is not None and problem != self._problem and self._made is not None:
            names = ", ".join(map(str, self._files))
            emit("file-not-usable", level=logging.WARNING, files=names, reason=problem)
        self._digest, self._problem = digest, problem

    def _read(self, file: Path) -> bytes:
        # Whoever has one file knows which it is.
        which = f"{file}: " if len(self._files) > 1 else ""
        try:
            with file.open("rb") as opened:
                data = opened.read(MOST_BYTES + 1)
        except OSError as e:
            raise ValueError(f"{which}{e.strerror}") from None
        if not data.strip():
            raise ValueError(f"{which}it is empty")
        if len(data) > MOST_BYTES:
            raise ValueError(f"{which}it is too large")
        return data


def _digest(contents: list[bytes]) -> bytes:
    return b"".join(hashlib.sha256(data).digest() for data in contents)


def _stat(file: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(file)  # noqa: PTH116 - at each request
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _young(state: _State) -> bool:
    now = time.time_ns()
    return any(one is not None and abs(now - one[0]) < YOUNG_NS for one in state)
