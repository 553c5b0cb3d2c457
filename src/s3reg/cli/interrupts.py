"""Ctrl-C and SIGTERM end a command soon, whatever its threads wait for.

The first one raises KeyboardInterrupt in the main thread, and what is underway tidies up. But a thread may be looking up a
name, connecting to an address that does not answer, or waiting for a disk, and nothing in Python ends that. So after a grace
the process is ended from outside of it all. That is safe because every step is safe under kill -9. A second one ends it at
once.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

GRACE = 0.8
"""Seconds for tidying up."""
SAYING = 0.2
"""Seconds for the last words: whoever should read them may be stuck too."""
ENDING = frozenset({signal.SIGINT, signal.SIGTERM})
SHOW_CURSOR = "\x1b[?25h\n"


class Watchdog:
    """Ends the process after such a signal. `last_words(number)` says why, without anything that a stuck thread may hold."""

    def __init__(self, last_words: Callable[[int], None], *, grace: float = GRACE) -> None:
        self._last_words = last_words
        self._grace = grace
        self._again = threading.Event()
        self._said = threading.Lock()

    def arm(self) -> None:
        """From now on. To be called in the main thread."""
        receiving, sending = socket.socketpair()
        sending.setblocking(False)
        # Written to by the handler that the kernel calls: also while the interpreter is somewhere else.
        signal.set_wakeup_fd(sending.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(receiving, sending), name="watchdog", daemon=True).start()

    def claim(self) -> bool:
        """Whether the caller is the first who wants to say how it ended."""
        return self._said.acquire(blocking=False)

    def _watch(self, receiving: socket.socket, sending: socket.socket) -> None:
        number = self._next(receiving)
        threading.Thread(target=self._await_another, args=(receiving,), daemon=True).start()
        self._again.wait(self._grace)
        if self.claim():
            saying = threading.Thread(target=self._last_words, args=(number,), daemon=True)
            saying.start()
            saying.join(SAYING)
        sending.close()
        os._exit(128 + number)

    def _await_another(self, receiving: socket.socket) -> None:
        self._next(receiving)
        self._again.set()

    def _next(self, receiving: socket.socket) -> int:
        while True:
            # One at a time: the next one is for whoever asks next.
            (number,) = receiving.recv(1)
            if number in ENDING:
                return number
