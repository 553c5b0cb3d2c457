"""Lists of templates as JSON. The row of a head is put together once: in the next list only those that changed are new."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3reg.api import render

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from s3reg.model.names import TemplateId
    from s3reg.model.template import Head


class Rows:
    """Lists in one shape. Safe between threads: two that meet make the same row twice."""

    def __init__(self, row: Callable[[Head], object]) -> None:
        self._row = row
        self._made: dict[TemplateId, tuple[Head, str]] = {}
        """One for each template ever listed; a head never goes from its store either."""

    def text(self, heads: Iterable[Head]) -> str:
        """The rows of these heads as a JSON array, in this order."""
        made, texts = self._made, []
        for head in heads:
            found = made.get(head.id)
            # The same value, not an equal one: heads of two stores may be of one template and generation.
            if found is None or found[0] is not head:
                found = made[head.id] = (head, render.text(self._row(head)))
            texts.append(found[1])
        return f"[{','.join(texts)}]"
