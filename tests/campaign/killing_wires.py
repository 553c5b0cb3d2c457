"""kill -9 at a request: whoever makes it, or takes it, is gone when it comes by, in its middle, or once it is done.

site.outer.rule = Nth(3, kills(node.kill, "amid"))
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import http_wires as faults

if TYPE_CHECKING:
    from collections.abc import Callable

    from http_wires import Fault, Passage

MOMENTS = ("before", "amid", "behind")


def kills(kill: Callable[[], object], moment: str) -> Fault:
    """The fault at which `kill` is called: nobody heard of the request; half of it, or of its answer, passed; it is done."""

    def fault(passage: Passage) -> None:
        if moment == "amid":
            half = faults.takes(0.5) if passage.method == "PUT" else faults.gives(0.5, faults.ends)
            with contextlib.suppress(faults.Ended):
                half(passage)
        elif moment == "behind":
            with passage.forwarded() as answer:
                answer.read()
        kill()
        passage.reset()

    return fault
