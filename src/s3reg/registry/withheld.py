"""A store's objects that it tells of and does not give: damaged for who checks it, not a store that does not answer.

MinIO, where a bit flipped on its disk or a part was lost, cuts its answer off, or refuses it, each time it is asked; a
directory's disk gives EIO. To HEAD both answer as before.
"""

from __future__ import annotations

import contextlib
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from s3reg.errors import ObjectNotFound, RecordDamaged, StoreUnavailable
from s3reg.model import format as fmt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from s3reg.store import Absent, Link, Listing, Match, Object, ObjectStore, Room, Stat

T = TypeVar("T")
LARGE = 128 * 1024
"""Bytes from which on MinIO keeps an object in files of its own."""
LISTED, ASKED = 1000, 8
"""Of a large object's like: so many are looked at, and so many asked for until one is given."""


def given(store: ObjectStore, key: str, read: Callable[[], T]) -> T:
    """What `read` gives of the object `key`: asked twice, because once may be chance, and what is given up costs much.

    Raises what `read` raises; RecordDamaged if the store has the object and does not give it, StoreUnavailable if it says
    nothing of it either, or gives no other one.
    """
    size = 0
    try:
        return read()
    except StoreUnavailable:
        with contextlib.suppress(ObjectNotFound):  # which the second try says better
            size = store.stat(key).size
    try:
        return read()
    except StoreUnavailable as e:
        if not _gives_others(store, key, size):
            raise
        raise RecordDamaged(what=key, reason=f"the store does not give it: {e.detail['reason']}") from e


def _gives_others(store: ObjectStore, key: str, size: int) -> bool:
    """Whether the store gives something else now: an object like this one, of which some may be bad too, if there is one."""
    like: list[str] = []
    if size >= LARGE:
        stats = islice(store.list(f"{key.partition('/')[0]}/"), LISTED)
        like = [stat.key for stat in stats if stat.size >= LARGE and stat.key != key]
    some = like[:: max(1, len(like) // ASKED)][:ASKED]
    return any(_gives(store, one) for one in some or (fmt.FORMAT_KEY,))


def _gives(store: ObjectStore, key: str) -> bool:
    try:
        store.get(key, length=LARGE)
    except ObjectNotFound:
        return False  # swept meanwhile
    except StoreUnavailable:
        return False
    return True


class Withholding:
    """The store, whose `get` raises RecordDamaged too, for what it has and does not give."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.location = store.location
        self.made_as = store.made_as

    def get(self, key: str, *, first: int = 0, length: int | None = None) -> Object:
        """As the store's. Raises RecordDamaged besides."""
        return given(self._store, key, lambda: self._store.get(key, first=first, length=length))

    def stat(self, key: str) -> Stat:
        """As the store's."""
        return self._store.stat(key)

    def put(self, key: str, data: bytes, *, only_if: Absent | Match | None = None) -> str:
        """As the store's."""
        return self._store.put(key, data, only_if=only_if)

    def delete(self, keys: Iterable[str]) -> None:
        """As the store's."""
        self._store.delete(keys)

    def list(self, prefix: str, *, after: str = "") -> Iterator[Stat]:
        """As the store's."""
        return self._store.list(prefix, after=after)

    def relist(self, prefix: str, before: Listing | None = None) -> Listing:
        """As the store's."""
        return self._store.relist(prefix, before)

    def room(self) -> Room | None:
        """As the store's."""
        return self._store.room()

    def sign_get(self, key: str, *, seconds: int) -> Link:
        """As the store's."""
        return self._store.sign_get(key, seconds=seconds)

    def sign_gets(self, keys: Iterable[str], *, seconds: int) -> Sequence[Link]:
        """As the store's."""
        return self._store.sign_gets(keys, seconds=seconds)

    def sign_put(self, key: str, *, size: int, sha256: str, seconds: int) -> Link:
        """As the store's."""
        return self._store.sign_put(key, size=size, sha256=sha256, seconds=seconds)
