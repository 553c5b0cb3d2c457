"""Actors that take turns at every store call, in an order that a seed decides and that can be had again.

Each actor is a thread; one runs at a time, up to its next call. Who goes on is decided by random priorities that change at a
few random moments: rare interleavings are met far more often so than by tossing a coin at every step (Burckhardt et al.,
"A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs", ASPLOS 2010).
"""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, TypeVar

from faults import Call, Wrapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3reg.store import ObjectStore

T = TypeVar("T")

FEWEST_CHANGES, MOST_CHANGES = 2, 12
"""Of priorities in one game: how many there must be to meet a fault depends on the fault."""
WAIT_SECONDS = 60


class Turns:
    """Runs actors to their ends. What one of them raises, `run` raises."""

    def __init__(self, seed: int, *, steps: int) -> None:
        self._random = random.Random(seed)
        changes = self._random.randint(FEWEST_CHANGES, MOST_CHANGES)
        self._changes = {self._random.randint(1, steps) for _ in range(changes)}
        self._turn = threading.Condition()
        self._priorities: dict[int, float] = {}
        self._waiting: set[int] = set()
        self._next: int | None = None
        self._steps = 0
        self._raised: list[BaseException] = []

    def run(self, store: ObjectStore, actors: list[Callable[[ObjectStore], object]]) -> None:
        """Each actor gets a store of its own through which to see `store`."""
        self._priorities = {number: self._random.random() for number in range(len(actors))}
        threads = [
            threading.Thread(target=self._act, args=[number, actor, _Stepped(store, self, number)])
            for number, actor in enumerate(actors)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._raised:
            raise self._raised[0]

    def wait(self, number: int) -> None:
        """Let others go on; come back when it is this actor's turn."""
        with self._turn:
            self._waiting.add(number)
            self._choose()
            if not self._turn.wait_for(lambda: self._next == number, WAIT_SECONDS):
                raise AssertionError("nobody gave the turn back")
            self._next = None
            self._waiting.discard(number)

    def _act(self, number: int, actor: Callable[[ObjectStore], object], store: ObjectStore) -> None:
        try:
            self.wait(number)
            actor(store)
        except BaseException as e:  # noqa: BLE001 - raised again by run
            self._raised.append(e)
        finally:
            with self._turn:
                del self._priorities[number]
                self._choose()

    def _choose(self) -> None:
        # Only once everybody who still runs waits: then the choice depends on nothing but the seed.
        if not self._waiting or len(self._waiting) < len(self._priorities):
            return
        self._steps += 1
        if self._steps in self._changes:
            first = max(self._waiting, key=self._priorities.__getitem__)
            self._priorities[first] = -self._random.random()
        self._next = max(self._waiting, key=self._priorities.__getitem__)
        self._turn.notify_all()


class _Stepped(Wrapped):
    def __init__(self, store: ObjectStore, turns: Turns, number: int) -> None:
        super().__init__(store)
        self._turns, self._number = turns, number

    def _call(self, call: Call, act: Callable[[], T]) -> T:
        if not call.verb.startswith("sign"):
            self._turns.wait(self._number)
        return act()
