"""Several calls of a store at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from s3reg.telemetry import carried

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")
R = TypeVar("R")

READERS = 16
"""Objects read at once for one call; a quarter of the connections that the S3 adapter keeps."""


def gather(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """`function` of each item, in this order, several at once. What the first of them raises is raised."""
    jobs = list(items)
    if len(jobs) < 2:  # noqa: PLR2004 - a single one needs no thread
        return [function(job) for job in jobs]
    with ThreadPoolExecutor(min(READERS, len(jobs))) as pool:
        return list(pool.map(carried(function), jobs))
