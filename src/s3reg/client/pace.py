"""How fast a transfer goes, and over how many connections at once.

Two things hold it back: what the person asked for (`--limit-rate`, `--jobs`), and what the line and the store bear.
"""

from __future__ import annotations


class Pace:
    """The pace of one connection's transfers, shared by all its threads.

    `limit_rate`: bytes per second, both ways together, None for no limit. `jobs`: requests at once, None to find out.
    """

    def __init__(self, *, limit_rate: int | None = None, jobs: int | None = None) -> None:
        self.limit_rate = limit_rate
        self.jobs = jobs
        self.most = jobs or 12
