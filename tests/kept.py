"""What lies in a store, kept, so that one registry can begin the same for many requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3reg.model import format as fmt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from s3reg.store import ObjectStore, Stat

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
        return {stat.key: stat.etag for stat in self._stats()}

    def _stats(self) -> Iterator[Stat]:
        after: str | None = ""
        while after is not None:
            passed, after = after, None
            for stat in self._store.list("", after=passed):
                beside = next((prefix for prefix in ON_THE_SIDE if stat.key.startswith(prefix)), None)
                if beside is not None:
                    after = beside[:-1] + "0"  # behind everything there: "0" follows "/"
                    break
                yield stat

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

    def put_back(self, keys: Iterable[str]) -> None:
        """Put these back, and look at no others: fast, where it is known which were changed."""
        for key in keys:
            if key in self._data:
                self._marks[key] = self._store.put(key, self._data[key])
            else:
                self._store.delete([key])

    def unchanged(self) -> bool:
        """Whether nothing was written or removed since `begin`."""
        return self.marks() == self._marks
