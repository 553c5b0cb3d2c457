"""What may go wrong with one call of a store: at the registry's port, and with a link that a node uses.

`Script` numbers every call of a run from 1 and says what befalls which; `Port` is a store whose calls go by it. A run
without strikes is counted only. The store's own part of it (what was applied) is always real.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
import random
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn, TypeVar

from faults import Call, Wrapped
from s3reg.errors import PreconditionFailed, PutUnsettled, StoreDenied, StoreUnavailable
from s3reg.model import format as fmt
from s3reg.store import Listing, Object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from s3reg.store import Absent, Match, ObjectStore, Stat

T = TypeVar("T")
LINK_GET, LINK_PUT = "link get", "link put"
"""A node's own requests of the store, beside the port's verbs."""
SIGNS = ("sign_get", "sign_gets", "sign_put")


class Killed(BaseException):
    """Everything that takes part in the operation ends here, as by kill -9: nobody catches it."""


class Fault(enum.Enum):
    """What befalls a call, once. The words are those of a test's name."""

    FAILS = "fails"
    """Not applied; an adapter's StoreUnavailable, a link's 500."""
    DENIED = "is denied"
    """Not applied; credentials that ended, a link's 403."""
    THROTTLED = "is throttled"
    """Not applied; 503 SlowDown: nobody knows, of a conditional put."""
    LIMITED = "is limited"
    """A link's 429, which asks to wait."""
    LOST = "loses its answer"
    """Applied; nobody hears of it."""
    SLOW = "is slow"
    """A rival acts before it is applied."""
    LATE = "is answered late"
    """A rival acts once it was applied, before anybody hears of it."""
    CUT = "is cut"
    """Half of the bytes, or of the rows, and then the end."""
    CORRUPT = "is corrupted"
    """A bit flips on the way."""
    DIES = "is the last before a death"
    """Not applied, and whoever called it lives no more: `Killed`."""
    DIES_BEHIND = "is applied before a death"
    AWAY = "and all that follow fail"
    """The store is gone from here on."""


_UNAPPLIED = {Fault.FAILS, Fault.DENIED, Fault.THROTTLED, Fault.DIES, Fault.AWAY}
_WRITES = {"put", "delete", LINK_PUT}
_BEARS = {
    Fault.THROTTLED: lambda verb: verb not in SIGNS,
    Fault.LIMITED: lambda verb: verb in {LINK_GET, LINK_PUT},
    Fault.LOST: lambda verb: verb in _WRITES,
    Fault.SLOW: lambda verb: verb not in SIGNS,
    Fault.LATE: lambda verb: verb not in SIGNS,
    Fault.CUT: lambda verb: verb in {"get", "list", LINK_GET, LINK_PUT},
    Fault.CORRUPT: lambda verb: verb in {"get", LINK_GET, LINK_PUT},
    Fault.DIES_BEHIND: lambda verb: verb in _WRITES,
}


def faults_of(call: Call) -> tuple[Fault, ...]:
    """What can befall such a call."""
    return tuple(fault for fault in Fault if _BEARS.get(fault, lambda _: True)(call.verb))


@dataclass
class Script:
    """Counts a run's calls, and says which of them, from 1, meets what."""

    strikes: Mapping[int, Fault] = field(default_factory=dict)
    rival: Callable[[], object] = lambda: None
    """What acts while a call is slow."""
    calls: list[Call] = field(default_factory=list)
    struck: list[tuple[Call, Fault]] = field(default_factory=list)
    seed: int = 0
    """Of the bits that flip."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._dead = self._away = False

    def next(self, call: Call) -> Fault | None:
        """What befalls this call, the next one."""
        with self._lock:
            if self._dead:
                raise Killed
            self.calls.append(call)
            fault = self.strikes.get(len(self.calls))
            if fault is not None and fault in faults_of(call):
                self.struck.append((call, fault))
                self._dead = fault in {Fault.DIES, Fault.DIES_BEHIND}
                self._away = self._away or fault is Fault.AWAY
                return fault
            return Fault.AWAY if self._away else None

    def flipped(self, data: bytes, *, high: bool) -> bytes:
        """One bit of it is another. `high`: in text, which is none then."""
        if not data:
            return data
        chance = random.Random(self.seed)
        at, bit = chance.randrange(len(data)), 7 if high else chance.randrange(8)
        return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


class Port(Wrapped):
    """A store as its registry meets it."""

    def __init__(self, store: ObjectStore, script: Script) -> None:
        super().__init__(store)
        self._script = script

    def put(self, key: str, data: bytes, *, only_if: Absent | Match | None = None) -> str:
        def act() -> str:
            return self.store.put(key, data, only_if=only_if)

        return self._struck(Call("put", (key,)), act, conditional=only_if is not None)

    def _call(self, call: Call, act: Callable[[], T]) -> T:
        return self._struck(call, act, conditional=False)

    def _struck(self, call: Call, act: Callable[[], T], *, conditional: bool) -> T:
        fault = self._script.next(call)
        if fault in _UNAPPLIED:
            raise self._refusal(fault, call, conditional=conditional)
        if fault is Fault.SLOW:
            self._script.rival()
        if fault is Fault.LOST:
            self._lose(call, act, conditional=conditional)
        done = act()
        if fault is Fault.LATE:
            self._script.rival()
        if fault is Fault.DIES_BEHIND:
            raise Killed
        return self._spoilt(fault, call, done)

    def _refusal(self, fault: Fault, call: Call, *, conditional: bool) -> BaseException:
        """What an adapter makes of it."""
        if fault is Fault.DIES:
            return Killed()
        if fault is Fault.DENIED:
            return StoreDenied(store=self.location, reason="403, ExpiredToken")
        if fault is Fault.THROTTLED:
            return self._unheard(call, "503, SlowDown", conditional=conditional)
        return StoreUnavailable(store=self.location, reason="500, InternalError")

    def _spoilt(self, fault: Fault | None, call: Call, done: T) -> T:
        """What comes of what the store gave."""
        if fault is Fault.CUT:
            return self._cut(done)
        if fault is Fault.CORRUPT:
            assert isinstance(done, Object)
            is_text = not (call.is_on(None, fmt.PACKS) or call.is_on(None, fmt.MAPS))
            return Object(self._script.flipped(done.data, high=is_text), done.stat)  # type: ignore[return-value]
        return done

    def _lose(self, call: Call, act: Callable[[], object], *, conditional: bool) -> NoReturn:
        # Whether a precondition held is what nobody hears, either.
        with contextlib.suppress(PreconditionFailed):
            act()
        raise self._unheard(call, "the answer was lost", conditional=conditional)

    def _unheard(self, call: Call, reason: str, *, conditional: bool) -> Exception:
        if conditional:
            return PutUnsettled(key=call.keys[0], reason=reason)
        return StoreUnavailable(store=self.location, reason=reason)

    def _cut(self, done: T) -> T:
        if isinstance(done, Object):
            return Object(done.data[: len(done.data) // 2], done.stat)  # type: ignore[return-value]
        if isinstance(done, Listing):
            raise StoreUnavailable(store=self.location, reason="ListObjectsV2: the answer ended too early")
        return self._half(list(done))  # type: ignore[call-overload, return-value]

    def _half(self, rows: list[Stat]) -> Iterator[Stat]:
        yield from itertools.islice(rows, len(rows) // 2)
        raise StoreUnavailable(store=self.location, reason="ListObjectsV2: the answer ended too early")
