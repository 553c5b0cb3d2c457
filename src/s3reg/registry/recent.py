"""What was read of immutable objects lately, within a bound on memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Values by key, those used last, as long as their costs sum up to at most `most`. Safe to share between threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._left = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def get(self, key: K, read: Callable[[], tuple[V, int]]) -> V:
        """The value kept under `key`, else what `read` gives with its cost. What `read` raises is not kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
        value, cost = read()
        with self._lock:
            if key not in self._kept and cost <= self._most:
                self._kept[key] = (value, cost)
                self._left -= cost
            while self._left < 0:
                _, (_, freed) = self._kept.popitem(last=False)
                self._left += freed
        return value
