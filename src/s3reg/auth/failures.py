"""How often wrong credentials are looked at: enough for people who mistype, too seldom for who guesses.

An address has 20 tries and one more each second; a name 100 and ten, from all addresses together, and where these are used
up, only addresses without a failure of their own are listened to. Each replica counts for itself, in bounded memory.
"""

from __future__ import annotations

import ipaddress
import math
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from s3reg.errors import TooManyFailures

if TYPE_CHECKING:
    from collections.abc import Callable

OF_ADDRESS = (20, 1.0)
"""Failures at once, and each second."""
OF_NAME = (100, 10.0)
MOST_KNOWN = 10_000
"""Addresses, and names, whose failures are known; the oldest are forgotten first."""
_NETWORK_OF_ONE = 64
"""Bits of an IPv6 address that tell one customer from another: the rest is for him to choose."""


class Failures:
    """What failed lately, by address and by name. Safe to share between threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._addresses = _Buckets(*OF_ADDRESS, clock)
        self._names = _Buckets(*OF_NAME, clock)

    def check(self, address: str, name: str) -> None:
        """Raises TooManyFailures if an attempt is not to be looked at."""
        origin = _origin(address)
        wait = self._addresses.wait(origin)
        if not wait and not self._addresses.is_full(origin):
            wait = self._names.wait(name)
        if wait:
            raise TooManyFailures(seconds=max(1, math.ceil(wait)))

    def note(self, address: str, name: str) -> None:
        """An attempt failed."""
        self._addresses.take(_origin(address))
        self._names.take(name)


class _Buckets:
    """Token buckets by name. One that is full again is not kept."""

    def __init__(self, most: int, each_second: float, clock: Callable[[], float]) -> None:
        self._most = most
        self._each_second = each_second
        self._clock = clock
        self._lock = threading.Lock()
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Tokens, and when that was."""

    def wait(self, name: str) -> float:
        """Seconds until there is a token."""
        with self._lock:
            return max(0.0, 1 - self._tokens(name)) / self._each_second

    def is_full(self, name: str) -> bool:
        """Whether nothing was taken lately."""
        with self._lock:
            return self._tokens(name) >= self._most

    def take(self, name: str) -> None:
        """One token, if there is one."""
        with self._lock:
            self._left[name] = (max(0.0, self._tokens(name) - 1), self._clock())
            self._left.move_to_end(name)
            while len(self._left) > MOST_KNOWN:
                self._left.popitem(last=False)

    def _tokens(self, name: str) -> float:
        if name not in self._left:
            return float(self._most)
        (left, at), now = self._left[name], self._clock()
        left = min(float(self._most), left + max(0.0, now - at) * self._each_second)
        if left >= self._most:
            del self._left[name]
        else:
            # From now on: a clock that was set back must lock nobody out until it is what it was.
            self._left[name] = (left, now)
        return left


def _origin(address: str) -> str:
    """Whom an address stands for."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return str(ip.ipv4_mapped)
        return str(ipaddress.ip_network((int(ip), _NETWORK_OF_ONE), strict=False))
    return str(ip)
