"""What the parts of the store's contract share: promises by name, and actors that start at the same moment."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from s3reg.errors import PreconditionFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from s3reg.store import Absent, Match, ObjectStore

T = TypeVar("T")
Test = TypeVar("Test", bound="Callable[..., Any]")
ACTORS, ROUNDS = 8, 25
"""One round of many threads does not catch a missing lock; many rounds from a barrier do."""


def promise(name: str) -> Callable[[Test], Test]:
    """The test is about the promise `name`, which an adapter may say that it `lacks`."""

    def mark(test: Test) -> Test:
        test.__dict__["promise"] = name
        return test

    return mark


class Promises:
    """The base of every part of the contract."""

    lacks: frozenset[str] = frozenset()
    """Promises that the server behind the adapter does not keep: their tests are skipped, and can be listed."""

    @pytest.fixture(autouse=True)
    def _kept(self, request):
        name = getattr(request.function, "promise", None)
        if name in self.lacks:
            pytest.skip(f"lacking: {name}")

    @pytest.fixture
    def second(self, store):
        """Another adapter on the same store, as another process has it; the same one where that is hard."""
        return store

    def test_every_promise_that_is_lacking_is_one_of_the_contract(self):
        known = {getattr(getattr(type(self), name), "promise", None) for name in dir(type(self))}
        assert self.lacks <= known


def fill(store: ObjectStore, keys: Iterable[str], data: bytes = b"x") -> None:
    """An object under each key, several at a time."""
    with ThreadPoolExecutor(ACTORS) as pool:
        list(pool.map(lambda key: store.put(key, data), keys))


def at_once(act: Callable[[int], T], actors: int = ACTORS) -> list[T]:
    """What `act(number)` gave each of so many threads that began together."""
    barrier = threading.Barrier(actors)

    def start(number: int) -> T:
        barrier.wait(60)
        return act(number)

    with ThreadPoolExecutor(actors) as pool:
        return list(pool.map(start, range(actors)))


def won(store: ObjectStore, key: str, data: bytes, only_if: Absent | Match) -> str | None:
    """The ETag that a conditional put gave, None if its precondition failed."""
    try:
        return store.put(key, data, only_if=only_if)
    except PreconditionFailed:
        return None
