"""`s3reg gc`, every second: processes of their own, sometimes two at once, some of them killed with kill -9.

They are forked from one that has everything imported: to start Python takes longer than to sweep a small store.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench import servers

from soak import hurried

if TYPE_CHECKING:
    from collections.abc import Sequence

    from soak.actor import Counts

_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(["__main__", "soak.sweeps", "s3reg.store.s3"])
_EACH_SECONDS = 1.0
MOST_AT_ONCE = 3
"""Where the machine is too slow for one a second, no more pile up."""
_TWICE, _KILLED = 0.25, 0.2
_KILLED_WITHIN = 1.5
"""Seconds."""
_TAKEN_FOR_DEAD = "somebody took this sweep for dead"
"""What a sweep says that took longer than markers live here."""


@dataclass
class Sweeps:
    """Those of one store. `where`: what `gc` is told of it; `limits`: what `hurried` takes."""

    where: Sequence[str]
    limits: tuple[int, int, int]
    folder: Path
    seed: int
    counts: Counts
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def run(self) -> None:
        """Start them, until `stop`."""
        chance = random.Random(f"{self.seed} sweeps")
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            due = max(due + _EACH_SECONDS, time.monotonic())
            for _ in range(2 if chance.random() < _TWICE else 1):
                kill = chance.uniform(0, _KILLED_WITHIN) if chance.random() < _KILLED else None
                self._threads = [thread for thread in self._threads if thread.is_alive()]
                if len(self._threads) < MOST_AT_ONCE:
                    self._threads.append(threading.Thread(target=self.once, args=(kill,)))
                    self._threads[-1].start()

    def stop(self) -> None:
        """Start no more, and wait for those that run."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def once(self, kill: float | None = None) -> None:
        """One, killed after so many seconds."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            said, log = Path(folder) / "said", self.folder / "sweeps.log"
            sweep = _FORKING.Process(target=_sweep, args=(["-j", "gc", *self.where], self.limits, said, log))
            sweep.start()
            sweep.join(kill)
            if sweep.is_alive():
                sweep.kill()
                sweep.join()
                self.counts.add("sweeps killed")
                return
            self._count(said.read_text())

    def _count(self, said: str) -> None:
        try:
            answer = json.loads(said.splitlines()[-1])
        except (IndexError, ValueError):
            self.counts.violations.append(f"a sweep said {said[-1000:]!r}")
            return
        if answer["status"] != "OK":
            if _TAKEN_FOR_DEAD in answer["message"]:
                self.counts.failed("sweep", "sweep-stopped")
            else:
                self.counts.violations.append(f"a sweep ended with {answer}")
            return
        self.counts.add("sweeps")
        self.counts.add("objects swept", answer["body"]["removed"]["objects"])
        self.counts.add("bytes swept", answer["body"]["removed"]["bytes"])


def _sweep(words: Sequence[str], limits: tuple[int, int, int], said: Path, log: Path) -> None:
    """The command, in a process that was forked for it."""
    told = servers.environment()
    os.environ.clear()
    os.environ.update(told)
    for number, path in ((1, said), (2, log)):
        with path.open("a") as file:
            os.dup2(file.fileno(), number)
    sys.argv = ["s3reg", *words]
    hurried.hurry(*limits)
