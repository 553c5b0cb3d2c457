"""What goes wrong under the machine's registries, and the time that it sets.

Dated            a directory store whose clock the machine has
Unheard          the n-th call is applied; its answer is lost
Away             from the n-th call on, a few fail: the store answers 503
Dies             the replica dies at its n-th call, before or behind it: it makes no further one
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from faults import Call, Wrapped
from s3reg.errors import PutUnsettled, StoreUnavailable
from s3reg.store.files import FilesStore
from s3reg.store.files_list import etag_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from s3reg.store import ObjectStore

T = TypeVar("T")


@dataclass
class Clock:
    """Seconds since 1970, as store and registries count them."""

    now: int = 1_800_000_000

    def __call__(self) -> float:
        return self.now


class Dated(FilesStore):
    """A directory whose objects are as old as the machine's clock says. Each write is a little later than the one before."""

    def __init__(self, root: Path, clock: Clock) -> None:
        super().__init__(root, secret=bytes(32))
        self._world = clock
        self._writes = 0

    def _stamp(self, fd: int, before: os.stat_result | None) -> str:
        self._writes += 1
        now = self._world.now * 10**9 + self._writes * 1000
        assert before is None or before.st_mtime_ns < now
        os.utime(fd, ns=(now, now))
        return etag_of(os.fstat(fd))


class Died(BaseException):
    """The replica is dead."""


def _unavailable() -> StoreUnavailable:
    return StoreUnavailable(store="s", reason="on purpose")


def _unheard(call: Call) -> Exception:
    return PutUnsettled(key=call.keys[0], reason="on purpose") if call.conditional else _unavailable()


class _Counts(Wrapped):
    def __init__(self, store: ObjectStore, n: int) -> None:
        super().__init__(store)
        self._n = n
        self._calls = 0

    @property
    def happened(self) -> bool:
        return self._calls >= self._n

    def _call(self, call: Call, act: Callable[[], T]) -> T:
        if not call.verb.startswith("sign"):
            self._calls += 1
            return self._counted(call, act)
        return act()

    def _counted(self, call: Call, act: Callable[[], T]) -> T:
        raise NotImplementedError


class Unheard(_Counts):
    def _counted(self, call: Call, act: Callable[[], T]) -> T:
        done = act()
        if self._calls == self._n:
            raise _unheard(call)
        return done


class Away(_Counts):
    TIMES = 3

    def _counted(self, call: Call, act: Callable[[], T]) -> T:
        if self._n <= self._calls < self._n + self.TIMES:
            raise _unavailable()
        return act()


class Dies(_Counts):
    def __init__(self, store: ObjectStore, n: int, *, behind: bool) -> None:
        super().__init__(store, n)
        self._behind = behind

    def _counted(self, call: Call, act: Callable[[], T]) -> T:
        if self._behind and self._calls == self._n:
            act()
        if self._calls >= self._n:
            raise Died
        return act()


class Unsettled(_Counts):
    """The n-th call, if it is a put, is not applied, and nobody hears that."""

    def _counted(self, call: Call, act: Callable[[], T]) -> T:
        if self._calls == self._n:
            raise _unheard(call)
        return act()


KINDS: dict[str, Callable[[ObjectStore, int], _Counts]] = {
    "fails": Unsettled,
    "unheard": Unheard,
    "away": Away,
    "dies before": lambda store, n: Dies(store, n, behind=False),
    "dies behind": lambda store, n: Dies(store, n, behind=True),
}


class Trouble(NamedTuple):
    """What happens at which call, from 1; and whether whoever met it calls again."""

    kind: str
    n: int
    again: bool
