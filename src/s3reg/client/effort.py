"""How hard a push compresses: as hard as the line leaves time for.

On a line faster than the cores, every level more costs time; on a slower one it saves some. What tells them apart is the
packs: none of them on the line means that it waits for the cores, all buffers on the line that the cores wait for it. Any
level gives frames that any zstd reads. A push begins at level 3, and only some hundred megabytes of the same kind of sign
change it: the delta of a night is never compressed worse for speed.
"""

from __future__ import annotations

LEVELS = (1, 3, 6, 9)
"""Of zstd. On an image of programs and libraries, beside level 3: a third less time for 4 % more bytes; nearly three times
the time for 5 % fewer; nearly five times for 7 %."""
USUAL = 3
SIGNS = 3
"""Full packs in a row that say the same before anything changes."""


class Effort:
    """The level of one push. Told by the thread that fills packs, read by those that compress."""

    def __init__(self) -> None:
        self._index = LEVELS.index(USUAL)
        self._signs = 0

    @property
    def level(self) -> int:
        """The level of the next frame."""
        return LEVELS[self._index]

    def line_waits(self) -> None:
        """A full pack went out, and no other was on the line."""
        self._signs = min(self._signs, 0) - 1
        self._move()

    def cores_wait(self) -> None:
        """A full pack went out, and there was no buffer for the next one."""
        self._signs = max(self._signs, 0) + 1
        self._move()

    def neither(self) -> None:
        """A full pack went out, and others were on the line."""
        self._signs = 0

    def _move(self) -> None:
        if abs(self._signs) >= SIGNS:
            self._index = max(0, min(len(LEVELS) - 1, self._index + (1 if self._signs > 0 else -1)))
            self._signs = 0
