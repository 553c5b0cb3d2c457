"""The bytes of one request: held back by the pace, told to it, and given up when they all but stand still."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

from s3reg.client.answers import Again, check_wanted

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    import urllib3

    from s3reg.client.pace import Pace

SLICE = 64 * 1024
"""Bytes handed to a socket at once: a time-out is then about progress, not about the size of a pack."""
PIECE = 1024**2
"""Bytes taken from a socket at once, if as many are there."""
FLOOR = 1024
"""Bytes a second, received while anybody waits for them: what comes more slowly comes faster over another connection."""


class Flow:
    """What goes and comes for one try of one request.

    `stall`: the seconds after which it is judged whether enough came; the time that the pace asks for is not among them.
    """

    def __init__(
        self, pace: Pace, stop: threading.Event, stall: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pace = pace
        self._stop = stop
        self._stall = stall
        self._clock = clock
        self._came = 0
        self._waited = 0.0

    def outgoing(self, body: memoryview) -> Iterator[bytes]:
        """The body in slices, as they may go. Raises Interrupted once nobody wants it any more."""
        size = self._pace.piece(SLICE)
        for start in range(0, len(body), size):
            part = body[start : start + size]
            self._pace.hold_back(len(part), self._stop)
            check_wanted(self._stop)
            yield cast("bytes", part)
            self._pace.passed(len(part))

    def incoming(self, answer: urllib3.BaseHTTPResponse, most: int) -> Iterator[bytes]:
        """What comes of the answer's body, `most` bytes of it, as it comes; whatever encoding somebody claims for it.

        Raises Interrupted, Again if it comes too slowly, and what urllib3 raises when it breaks off.
        """
        left, admitted = most, 0
        size = self._pace.piece(PIECE)
        while left:
            asked = min(size, left)
            self._pace.hold_back(asked - admitted, self._stop)
            check_wanted(self._stop)
            began = self._clock()
            # What is there, not all that was asked for: whoever waits for that learns of a trickle when it is over.
            piece = answer.read1(asked, decode_content=False)
            waited = self._clock() - began
            if not piece:
                return
            left -= len(piece)
            admitted = asked - len(piece)
            self._pace.passed(len(piece))
            yield piece
            if left:
                self._check_floor(len(piece), waited)

    def _check_floor(self, count: int, waited: float) -> None:
        self._came += count
        self._waited += waited
        if self._waited < self._stall:
            return
        if self._came < FLOOR * self._waited:
            raise Again(f"only {self._came} bytes came in {self._waited:.0f} seconds")
        self._came, self._waited = 0, 0.0
