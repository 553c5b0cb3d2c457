"""Numbers that the workers of a replica count together, though each of them may be killed at any moment.

The memory is anonymous and shared: made before workers are forked, no file anywhere, and gone with the last of them. Each
worker writes a part of its own, so that none waits for another; whoever is forked in its place goes on in that part. So
what a worker has counted stays, nothing is ever added twice, and nothing piles up.

    0   how many bytes of the part are written
    8   series after series: length of the key, how many numbers, the key (padded), the numbers

A series is added whole before the first eight bytes tell of it: what a worker left half written is written over.
"""

from __future__ import annotations

import logging
import mmap
import threading
from typing import TYPE_CHECKING

from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    Key = tuple[str, ...]
    """A metric's name, then its labels' values."""

PART = 256 * 1024
"""Bytes for a worker: room for some 2,500 series. The system gives memory only for what is written."""
_CELL = 8
_HEAD = 2
"""Cells before a series' key."""
_BETWEEN = "\x1f"
"""The parts of a key: in no name of a metric, route, method, verb or error."""


class Board:
    """The memory of so many workers. To be made before they are forked."""

    def __init__(self, parts: int = 1) -> None:
        self._parts = parts
        self._memory = memoryview(mmap.mmap(-1, parts * PART))

    def free(self, taken: Collection[int | None]) -> int | None:
        """A part that is none of those; None: all are taken."""
        return next((part for part in range(self._parts) if part not in taken), None)

    def tally(self, part: int) -> Tally:
        """What the worker counts with that has this part to itself."""
        return Tally(self, self._part(part))

    def read(self) -> Iterator[tuple[Key, tuple[float, ...]]]:
        """The series of all parts; one that several workers count comes several times."""
        for part in range(self._parts):
            memory = self._part(part)
            cells = memory.cast("d")
            for key, first, count in _series(memory):
                yield key, tuple(cells[first : first + count])

    def _part(self, part: int) -> memoryview:
        return self._memory[part * PART : (part + 1) * PART]


class Tally:
    """One worker's numbers. Safe between threads."""

    def __init__(self, board: Board, memory: memoryview) -> None:
        self.board = board
        """With the others' beside them."""
        self._memory = memory
        self._cells = memory.cast("d")
        self._counts = memory.cast("Q")
        self._lock = threading.Lock()
        self._full = False
        if not self._counts[0]:
            self._counts[0] = _CELL
        self._first = {key: first for key, first, _ in _series(memory)}

    def add(self, key: Key, amounts: Sequence[tuple[int, float]], *, cells: int = 1) -> None:
        """Add to some of the series' numbers, of which there are `cells`: which one, and how much."""
        with self._lock:
            first = self._find(key, cells)
            if first is not None:
                for cell, amount in amounts:
                    self._cells[first + cell] += amount

    def _find(self, key: Key, cells: int) -> int | None:
        """Where the series' numbers begin; None: there is no room for another series."""
        first = self._first.get(key)
        return self._made(key, cells) if first is None else first

    def _made(self, key: Key, cells: int) -> int | None:
        text = _BETWEEN.join(key).encode()
        at = self._counts[0] // _CELL
        first = at + _HEAD + -(-len(text) // _CELL)
        if (first + cells) * _CELL > PART:
            if not self._full:
                emit("metrics-full", level=logging.WARNING, series=len(self._first))
            self._full = True
            return None
        self._counts[at], self._counts[at + 1] = len(text), cells
        begin = (at + _HEAD) * _CELL
        self._memory[begin : begin + len(text)] = text
        for cell in range(cells):
            self._cells[first + cell] = 0.0
        self._counts[0] = (first + cells) * _CELL
        self._first[key] = first
        return first


def _series(memory: memoryview) -> Iterator[tuple[Key, int, int]]:
    """The series of a part: the key, where its numbers begin, how many they are."""
    counts = memory.cast("Q")
    at, end = 1, counts[0] // _CELL
    while at < end:
        length, cells = counts[at], counts[at + 1]
        begin = (at + _HEAD) * _CELL
        first = at + _HEAD + -(-length // _CELL)
        yield tuple(bytes(memory[begin : begin + length]).decode().split(_BETWEEN)), first, cells
        at = first + cells
