"""Stores that misbehave on purpose, each round a real one: how tests bring about what a network or a rival does.

    FailsOnCall(store, 3, StoreUnavailable(...))     the third call raises and is not applied
    Refuses(store, "packs/", "get")                  each such call raises StoreUnavailable
    LosesAnswer(store, 1)                            the first put is applied, then PutUnsettled
    Counting(store)                                  records every call
    Before(store, "put", act, prefix="heads/")       runs `act` just before the first such call is applied
    Paused(store, "put")                             holds the first such call until it is released
    Corrupting(store, damage)                        what get gives went through `damage`

They are stores themselves, so they nest. A thread-safe store stays one.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from s3reg.errors import PreconditionFailed, PutUnsettled, StoreUnavailable
from s3reg.store import Absent, Link, Listing, Match, Object, ObjectStore, Room, Stat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

T = TypeVar("T")
WAIT_SECONDS = 60
"""After which a paused call gives up, so that a wrong test ends."""


class Call(NamedTuple):
    """One call of a store's verb."""

    verb: str
    keys: tuple[str, ...]
    """The key; the prefix for `list`; all of them for `delete` and `sign_gets`."""
    conditional: bool = False
    """It is a put with a precondition: sent once, so when its answer is lost, nobody knows."""

    def is_on(self, verb: str | None, prefix: str) -> bool:
        """Whether it is one of this verb (None: of any) on a key with this prefix."""
        return verb in {None, self.verb} and any(key.startswith(prefix) for key in self.keys or ("",))


class Wrapped:
    """A store that does what `store` does. Subclasses change `_call`, which every verb goes through."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self.location = store.location
        self.made_as = store.made_as

    def _call(self, call: Call, act: Callable[[], T]) -> T:
        return act()

    def get(self, key: str, *, first: int = 0, length: int | None = None) -> Object:
        return self._call(Call("get", (key,)), lambda: self.store.get(key, first=first, length=length))

    def stat(self, key: str) -> Stat:
        return self._call(Call("stat", (key,)), lambda: self.store.stat(key))

    def put(self, key: str, data: bytes, *, only_if: Absent | Match | None = None) -> str:
        call = Call("put", (key,), only_if is not None)
        return self._call(call, lambda: self.store.put(key, data, only_if=only_if))

    def delete(self, keys: Iterable[str]) -> None:
        all_of_them = tuple(keys)
        self._call(Call("delete", all_of_them), lambda: self.store.delete(all_of_them))

    def list(self, prefix: str, *, after: str = "") -> Iterator[Stat]:
        return self._call(Call("list", (prefix,)), lambda: self.store.list(prefix, after=after))

    def relist(self, prefix: str, before: Listing | None = None) -> Listing:
        return self._call(Call("list", (prefix,)), lambda: self.store.relist(prefix, before))

    def room(self) -> Room | None:
        return self._call(Call("room", ()), self.store.room)

    def sign_get(self, key: str, *, seconds: int) -> Link:
        return self._call(Call("sign_get", (key,)), lambda: self.store.sign_get(key, seconds=seconds))

    def sign_gets(self, keys: Iterable[str], *, seconds: int) -> Sequence[Link]:
        all_of_them = tuple(keys)
        return self._call(Call("sign_gets", all_of_them), lambda: self.store.sign_gets(all_of_them, seconds=seconds))

    def sign_put(self, key: str, *, size: int, sha256: str, seconds: int) -> Link:
        return self._call(
            Call("sign_put", (key,)), lambda: self.store.sign_put(key, size=size, sha256=sha256, seconds=seconds)
        )


class _OnNth(Wrapped):
    """Does something else at the n-th call, from 1, of a verb (None: of any) on keys with a prefix."""

    def __init__(self, store: ObjectStore, n: int = 1, *, verb: str | None = None, prefix: str = "") -> None:
        super().__init__(store)
        self._n, self._verb, self._prefix = n, verb, prefix
        self._seen = 0
        self._lock = threading.Lock()

    @property
    def happened(self) -> bool:
        """Whether the call came: a fault that never struck proves nothing."""
        return self._seen >= self._n

    def _is_nth(self, call: Call) -> bool:
        if not call.is_on(self._verb, self._prefix):
            return False
        with self._lock:
            self._seen += 1
            return self._seen == self._n


class FailsOnCall(_OnNth):
    """The n-th call raises `error` and is not applied."""

    def __init__(
        self, store: ObjectStore, n: int, error: Exception, *, verb: str | None = None, prefix: str = ""
    ) -> None:
        super().__init__(store, n, verb=verb, prefix=prefix)
        self._error = error

    def _call(self, call: Call, act: Callable[[], T]) -> T:
        if self._is_nth(call):
            raise self._error
        return act()


class Refuses(Wrapped):
    """Each call of these verbs on keys with this prefix is refused, again and again; `verbs` may be set anew."""

    def __init__(self, store: ObjectStore, prefix: str, *verbs: str) -> None:
        super().__init__(store)
        self._prefix, self.verbs = prefix, verbs

    def _call(self, call: Call, act: Callable[[], T]) -> T:
        if any(call.is_on(verb, self._prefix) for verb in self.verbs):
            raise StoreUnavailable(store="the store", reason="the answer ended too early")
        return act()


class LosesAnswer(_OnNth):
    """The n-th put is applied, if its precondition holds; whether it was, nobody hears: PutUnsettled."""

    def __init__(self, store: ObjectStore, n: int = 1, *, prefix: str = "") -> None:
        super().__init__(store, n, verb="put", prefix=prefix)

    def _call(self, call: Call, act: Callable[[], T]) -> T:
        if self._is_nth(call):
            with contextlib.suppress(PreconditionFailed):
                act()
            raise PutUnsettled(key=call.keys[0], reason="the answer was lost on purpose")
        return act()


class Counting(Wrapped):
    """Records every call, failed ones included, in `calls`."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store)
        self.calls: list[Call] = []

    def count(self, verb: str | None = None, prefix: str = "") -> int:
        """How many calls of this verb there were on keys with this prefix."""
        return sum(call.is_on(verb, prefix) for call in self.calls)

    def _call(self, call: Call, act: Callable[[], T]) -> T:
        self.calls.append(call)
        return act()


class Before(_OnNth):
    """Runs `callback` just before the n-th such call is applied: what another actor does at that moment."""

    def __init__(
        self, store: ObjectStore, verb: str | None, callback: Callable[[], object], *, n: int = 1, prefix: str = ""
    ) -> None:
        super().__init__(store, n, verb=verb, prefix=prefix)
        self._callback = callback

    def _call(self, call: Call, act: Callable[[], T]) -> T:
        if self._is_nth(call):
            self._callback()
        return act()


class Paused(_OnNth):
    """Holds the n-th such call: wait for `reached`, do what is to happen meanwhile, then `release()`."""

    def __init__(self, store: ObjectStore, verb: str | None, *, n: int = 1, prefix: str = "") -> None:
        super().__init__(store, n, verb=verb, prefix=prefix)
        self.reached = threading.Event()
        self._released = threading.Event()

    def release(self) -> None:
        """Let the call go on."""
        self._released.set()

    def _call(self, call: Call, act: Callable[[], T]) -> T:
        if self._is_nth(call):
            self.reached.set()
            if not self._released.wait(WAIT_SECONDS):
                raise AssertionError(f"nobody released {call}")
        return act()


class Corrupting(Wrapped):
    """What `get` gives went through `damage(key, data)` first: a disk or a server that lies."""

    def __init__(self, store: ObjectStore, damage: Callable[[str, bytes], bytes]) -> None:
        super().__init__(store)
        self._damage = damage

    def get(self, key: str, *, first: int = 0, length: int | None = None) -> Object:
        found = super().get(key, first=first, length=length)
        return Object(self._damage(key, found.data), found.stat)
