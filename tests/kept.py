"""What lies in a store, kept, so that one registry can begin the same for many requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3reg.model import format as fmt

if TYPE_CHECKING:
    from s3reg.store import ObjectStore

ON_THE_SIDE = (fmt.EVENTS, "auth/spent/")
"""Written beside what a request is about: events some time after its answer, and the secrets of logins."""


class Kept:
    """The store as it is now; `begin` puts that back."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._marks = self.marks()
        self._data = {key: store.get(key).data for key in self._marks}

    def marks(self) -> dict[str, str]:
        """Key → ETag of everything that lies in the store: one more write of anything shows."""
        return {stat.key: stat.etag for stat in self._store.list("") if not stat.key.startswith(ON_THE_SIDE)}

    def begin(self) -> None:
        """Put back what was changed since."""
        now = self.marks()
        if now == self._marks:
            return
        self._store.delete(now.keys() - self._data.keys())
        for key, data in self._data.items():
            if now.get(key) != self._marks[key]:
                self._store.put(key, data)
        self._marks = self.marks()

    def unchanged(self) -> bool:
        """Whether nothing was written or removed since `begin`."""
        return self.marks() == self._marks
