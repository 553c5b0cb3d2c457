"""Lists of templates as JSON. The row of a head is put together once: in the next list only those that changed are new."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3reg.api import render

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3reg.model.names import TemplateId
    from s3reg.model.template import Head


LISTS_KEPT = 8
"""Askers that may list different templates ask in turns."""
BYTES_KEPT = 32 * 1024**2
"""Of lists besides the last one."""


class Rows:
    """Lists in one shape: `before`, an array of the heads' rows, `after`. Safe between threads."""

    def __init__(self, row: Callable[[Head], object], before: str, after: str) -> None:
        self._row = row
        self._before, self._after = before, after
        self._made: dict[TemplateId, tuple[Head, str]] = {}
        """One for each template ever listed; a head never goes from its store either."""
        self._lists: tuple[tuple[list[Head], bytes], ...] = ()
        """The last ones, newest first."""

    def answer(self, heads: list[Head]) -> bytes:
        """The list of these heads, in this order. Where they are those of one of the last lists, it is that one."""
        for listed, answer in self._lists:
            # Heads that are the same objects are not looked into.
            if heads == listed:
                return answer
        found = f"{self._before}[{','.join(map(self._of, heads))}]{self._after}".encode()
        self._keep(heads, found)
        return found

    def _keep(self, heads: list[Head], found: bytes) -> None:
        kept, room = [(heads, found)], BYTES_KEPT
        for listed, answer in self._lists[: LISTS_KEPT - 1]:
            room -= len(answer)
            if room >= 0:
                kept.append((listed, answer))
        self._lists = tuple(kept)

    def _of(self, head: Head) -> str:
        made = self._made.get(head.id)
        # The same value, not an equal one: heads of two stores may be of one template and generation.
        if made is None or made[0] is not head:
            made = self._made[head.id] = (head, render.text(self._row(head)))
        return made[1]
