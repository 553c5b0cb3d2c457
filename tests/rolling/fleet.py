"""Nodes that push and pull all the while, through balancers, and compare every byte that they get."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import machines
from s3reg.client import Node, PullOptions, PushOptions

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path

PAUSE = 0.2
"""Seconds of a node between two turns: the cores are for those that come and go, too."""
SIZES = (machines.MIB, 300 * machines.KIB)


@dataclass
class Fleet:
    """So many nodes, each in a thread, at these addresses in turn."""

    folder: Path
    urls: list[str]
    count: int
    done: Counter[str] = field(default_factory=Counter)
    """Commands that ended well."""
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(self.count)
        turns = zip(range(self.count), itertools.cycle(self.urls))
        self._nodes: list[Future[None]] = [self._pool.submit(self._work, number, url) for number, url in turns]
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._pool.shutdown()

    def end(self) -> None:
        """Let each finish what it began. Raises what a command of theirs raised, or found different."""
        self._stop.set()
        for node in self._nodes:
            node.result()

    def _work(self, number: int, url: str) -> None:
        """A VM of its own, pushed, pulled elsewhere and changed, again and again."""
        here, there = self.folder / f"{number}-here", self.folder / f"{number}-there"
        machine = machines.make(here, sizes=SIZES, state_size=0, name=f"vm-{number}", seed=number)
        with Node(here, url) as baker, Node(there, url) as runner:
            for turn in itertools.count():
                baker.push(machine.name, PushOptions(tag=f"v{turn}"))
                self._count("push")
                runner.pull(machine.name, PullOptions(tag=f"v{turn}", durable=False))
                assert machines.contents(there, machine) == machines.contents(here, machine)
                self._count("pull")
                if self._stop.wait(PAUSE):
                    return
                machines.scatter(machine.disk(), 3, seed=turn)

    def _count(self, what: str) -> None:
        with self._lock:
            self.done[what] += 1
