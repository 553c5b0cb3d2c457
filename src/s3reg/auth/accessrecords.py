"""Records of keys and groups: listed, read, and changed by compare-and-swap."""

from __future__ import annotations

import random
import time
from logging import WARNING
from typing import TYPE_CHECKING, TypeVar

from s3reg.auth.kept import Kept
from s3reg.errors import ObjectNotFound, PreconditionFailed, PutUnsettled, TooBusy
from s3reg.model.format_access import LARGEST_ACCESS_RECORD, is_ours
from s3reg.store import ABSENT, Match
from s3reg.store.together import gather
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3reg.store import Object, ObjectStore

T = TypeVar("T")

ATTEMPTS = 8
LONGEST_PAUSE = 0.5
"""Seconds between two attempts."""


class AccessRecords:
    """What lies under `auth/` of one store. `writable` is asked before anything is written: it raises what forbids it."""

    def __init__(self, store: ObjectStore, writable: Callable[[], object], clock: Callable[[], float]) -> None:
        self._store = store
        self._writable = writable
        self._was_writable: Kept[object] = Kept(lambda _: writable(), clock)

    def read(self, key: str) -> Object | None:
        """The object, or None where there is none."""
        try:
            return self._store.get(key, length=LARGEST_ACCESS_RECORD + 1)
        except ObjectNotFound:
            return None

    def all(self, prefix: str) -> list[tuple[str, Object]]:
        """Every record under `prefix`, with its key."""
        keys = []
        for stat in self._store.list(prefix):
            if is_ours(stat.key):
                keys.append(stat.key)
            else:
                emit("foreign-key", level=WARNING, key=stat.key)
        found = gather(self.read, keys)
        return [(key, one) for key, one in zip(keys, found, strict=True) if one is not None]

    def change(self, key: str, what: str, change: Callable[[Object | None], tuple[bytes | None, T]]) -> T:
        """Compare-and-swap: `change` gives from what is there the bytes to write, None for none, and what to answer.

        It is called anew for each attempt, also after one whose answer was lost. Raises TooBusy.
        """
        for attempt in range(ATTEMPTS):
            found = self.read(key)
            data, answer = change(found)
            if data is None:
                return answer
            self._writable()
            try:
                self._store.put(key, data, only_if=Match(found.stat.etag) if found else ABSENT)
            except (PreconditionFailed, PutUnsettled):
                # Full jitter: those who met once must not meet again at the same distance.
                time.sleep(random.uniform(0, min(LONGEST_PAUSE, 0.005 * 2**attempt)))  # noqa: S311 - no secret
            else:
                return answer
        raise TooBusy(what=what)

    def create(self, key: str) -> bool:
        """Write an empty object; whether it was not there. Raises PutUnsettled where that cannot be known."""
        self._was_writable.get("")
        try:
            self._store.put(key, b"", only_if=ABSENT)
        except PreconditionFailed:
            return False
        return True
