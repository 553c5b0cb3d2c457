"""A store's objects that it tells of and does not give: damaged for who checks it, not a store that does not answer.

MinIO, where a bit flipped on its disk or a part was lost, cuts its answer off, or refuses it, each time it is asked; a
directory's disk gives EIO. To HEAD both answer as before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3reg.errors import RecordDamaged, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from s3reg.store import Absent, Link, Listing, Match, Object, ObjectStore, Room, Stat


class Withholding:
    """The store, whose `get` raises RecordDamaged too, for what it has and does not give."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.location = store.location
        self.made_as = store.made_as

    def get(self, key: str, *, first: int = 0, length: int | None = None) -> Object:
        """As the store's. Raises RecordDamaged besides."""
        try:
            return self._store.get(key, first=first, length=length)
        except StoreUnavailable as e:
            # Where it says nothing of this very object either, it does not answer: that is no damage.
            self._store.stat(key)
            raise RecordDamaged(what=key, reason=f"the store does not give it: {e.detail['reason']}") from e

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
