"""A store whose calls somebody is told of: which verb, how it ended, how long it took.

Observers are called by the thread that made the call, after it, before its answer is given: they must be quick, and must
not raise. Signing asks no store, so it is told apart, as links of a method.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from s3reg.errors import S3regError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from s3reg.store import Absent, Link, Listing, Match, Object, ObjectStore, Room, Stat

    Observer = Callable[[str, str, float], None]
    """Told the verb, the outcome — `ok`, or the error's code — and the seconds that the store took."""
    Signing = Callable[[str, int], None]
    """Told the links' method, `get` or `put`, and how many of them were signed."""

T = TypeVar("T")

OK = "ok"
DEFECT = "internal"
"""The outcome of what raised no error of ours."""


def outcome_of(error: BaseException) -> str:
    """The outcome of a call that raised this."""
    return error.code if isinstance(error, S3regError) else DEFECT


class Observed:
    """The store `store`, as it is; `observers` are told of each call, `signings` of links."""

    def __init__(
        self, store: ObjectStore, observers: Sequence[Observer] = (), signings: Sequence[Signing] = ()
    ) -> None:
        self._store = store
        self._observers = tuple(observers)
        self._signings = tuple(signings)
        self.location = store.location
        self.made_as = store.made_as

    def get(self, key: str, *, first: int = 0, length: int | None = None) -> Object:
        """See the port."""
        return self._told("get", lambda: self._store.get(key, first=first, length=length))

    def stat(self, key: str) -> Stat:
        """See the port."""
        return self._told("stat", lambda: self._store.stat(key))

    def put(self, key: str, data: bytes, *, only_if: Absent | Match | None = None) -> str:
        """See the port."""
        return self._told("put", lambda: self._store.put(key, data, only_if=only_if))

    def delete(self, keys: Iterable[str]) -> None:
        """See the port."""
        self._told("delete", lambda: self._store.delete(keys))

    def list(self, prefix: str, *, after: str = "") -> Iterator[Stat]:
        """See the port. One call, told when it ends or is given up; its time is the store's, not its reader's."""
        spent, outcome = 0.0, OK
        try:
            found = self._store.list(prefix, after=after)
            while True:
                began = time.perf_counter()
                try:
                    one = next(found, None)
                finally:
                    spent += time.perf_counter() - began
                if one is None:
                    return
                yield one
        except Exception as e:
            outcome = outcome_of(e)
            raise
        finally:
            self._tell("list", outcome, spent)

    def relist(self, prefix: str, before: Listing | None = None) -> Listing:
        """See the port."""
        return self._told("relist", lambda: self._store.relist(prefix, before))

    def room(self) -> Room | None:
        """See the port."""
        return self._told("room", self._store.room)

    def sign_get(self, key: str, *, seconds: int) -> Link:
        """See the port."""
        link = self._store.sign_get(key, seconds=seconds)
        self._tell_signed("get", 1)
        return link

    def sign_gets(self, keys: Iterable[str], *, seconds: int) -> Sequence[Link]:
        """See the port."""
        links = self._store.sign_gets(keys, seconds=seconds)
        self._tell_signed("get", len(links))
        return links

    def sign_put(self, key: str, *, size: int, sha256: str, seconds: int) -> Link:
        """See the port."""
        link = self._store.sign_put(key, size=size, sha256=sha256, seconds=seconds)
        self._tell_signed("put", 1)
        return link

    def _told(self, verb: str, act: Callable[[], T]) -> T:
        began = time.perf_counter()
        try:
            answer = act()
        except BaseException as e:
            self._tell(verb, outcome_of(e), time.perf_counter() - began)
            raise
        self._tell(verb, OK, time.perf_counter() - began)
        return answer

    def _tell(self, verb: str, outcome: str, seconds: float) -> None:
        for observer in self._observers:
            observer(verb, outcome, seconds)

    def _tell_signed(self, method: str, links: int) -> None:
        for signing in self._signings:
            signing(method, links)
