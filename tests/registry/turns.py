"""Actors that take turns at every store call, in an order that a seed or a script decides and that can be had again.

Each actor is a thread; one runs at a time, up to its next call. `ByChance` goes by random priorities that change at a few
random moments: rare interleavings are met far more often so than by tossing a coin at every step (Burckhardt et al., "A
Randomized Scheduler with Probabilistic Guarantees of Finding Bugs", ASPLOS 2010). `ByScript` tells one interleaving.
"""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from faults import Call, Wrapped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from s3reg.store import ObjectStore

T = TypeVar("T")
Order = "Callable[[Mapping[int, Call | None]], int]"
"""From what each actor is about to call (None: to begin) to who goes on."""

FEWEST_CHANGES, MOST_CHANGES = 2, 12
"""Of priorities in one game: how many there must be to meet a fault depends on the fault."""
WAIT_SECONDS = 60


class ByChance:
    """The order that a seed gives, for actors that make some `steps` calls together."""

    def __init__(self, seed: int, *, actors: int, steps: int) -> None:
        self._random = random.Random(seed)
        changes = self._random.randint(FEWEST_CHANGES, MOST_CHANGES)
        self._changes = {self._random.randint(1, steps) for _ in range(changes)}
        self._priorities = [self._random.random() for _ in range(actors)]
        self._steps = 0

    def __call__(self, waiting: Mapping[int, Call | None]) -> int:
        self._steps += 1
        if self._steps in self._changes:
            self._priorities[self._first(waiting)] = -self._random.random()
        return self._first(waiting)

    def _first(self, waiting: Mapping[int, Call | None]) -> int:
        return max(waiting, key=self._priorities.__getitem__)


class Until(NamedTuple):
    """A step of a script: the actor goes on until it is about to make such a call; to its end, if none is told."""

    actor: int
    verb: str | None = None
    prefix: str = ""


class ByScript:
    """The order of a script; behind its last step, the actors go on one after the other."""

    def __init__(self, steps: Sequence[Until]) -> None:
        self._steps = list(steps)

    def __call__(self, waiting: Mapping[int, Call | None]) -> int:
        while self._steps:
            actor, verb, prefix = self._steps[0]
            about_to = waiting.get(actor)
            reached = verb is not None and about_to is not None and about_to.is_on(verb, prefix)
            if actor in waiting and not reached:
                return actor
            assert reached or verb is None, f"actor {actor} ended without a {verb} of {prefix!r}"
            self._steps.pop(0)
        return min(waiting)

    @property
    def steps_left(self) -> int:
        """How many steps nobody came to the end of; the end of the last actor alive is seen by nobody."""
        return len(self._steps)


class Turns:
    """Runs actors to their ends. What one of them raises, `run` raises."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._turn = threading.Condition()
        self._alive: set[int] = set()
        self._waiting: dict[int, Call | None] = {}
        self._next: int | None = None
        self._raised: list[BaseException] = []

    def run(self, store: ObjectStore, actors: Sequence[Callable[[ObjectStore], object]]) -> None:
        """Each actor gets a store of its own through which to see `store`."""
        self._alive = set(range(len(actors)))
        threads = [
            threading.Thread(target=self._act, args=[number, actor, store]) for number, actor in enumerate(actors)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._raised:
            raise self._raised[0]

    def wait(self, number: int, call: Call | None) -> None:
        """Let others go on; come back when it is this actor's turn."""
        with self._turn:
            self._waiting[number] = call
            self._choose()
            if not self._turn.wait_for(lambda: self._next == number, WAIT_SECONDS):
                raise AssertionError("nobody gave the turn back")
            self._next = None
            del self._waiting[number]

    def _act(self, number: int, actor: Callable[[ObjectStore], object], store: ObjectStore) -> None:
        try:
            self.wait(number, None)
            actor(_Stepped(store, self, number))
        except BaseException as e:  # noqa: BLE001 - raised again by run
            self._raised.append(e)
        finally:
            with self._turn:
                self._alive.discard(number)
                self._waiting.pop(number, None)
                self._choose()

    def _choose(self) -> None:
        # Only once everybody who still runs waits: then the choice depends on nothing but the order.
        if self._waiting and len(self._waiting) == len(self._alive):
            self._next = self._order(self._waiting)
            self._turn.notify_all()


class _Stepped(Wrapped):
    def __init__(self, store: ObjectStore, turns: Turns, number: int) -> None:
        super().__init__(store)
        self._turns, self._number = turns, number
        self._thread = threading.current_thread()

    def _call(self, call: Call, act: Callable[[], T]) -> T:
        # What the actor reads through threads of its own happens in one turn, which the actor has while it waits for them.
        if threading.current_thread() is self._thread and not call.verb.startswith("sign"):
            self._turns.wait(self._number, call)
        return act()
