"""What lies on a store, counted: sizes by key, what is named of it, and keys that are none of ours.

Of a key, 64 bits are kept: a store may have a million packs.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from s3reg.errors import NameInvalid
from s3reg.model import format as fmt
from s3reg.model import format_access, names
from s3reg.registry.damage import Checked, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3reg.model.names import TemplateId
    from s3reg.registry.records import Records

FOREIGN_SHOWN = 20
_SORTS = {"versions": fmt.VERSIONS, "maps": fmt.MAPS, "packs": fmt.PACKS}
_PARSED: dict[str, Callable[[str], object]] = {
    fmt.PULLS: fmt.version_of_pull_key,
    fmt.DAMAGED: fmt.pack_of_damaged_key,
    fmt.EVENTS: fmt.time_of_events_key,
}
"""Prefixes below which a key is ours if this takes it."""
_OURS = (fmt.HEADS, fmt.SESSIONS, fmt.MARKERS, fmt.CHECK, format_access.AUTH, *_SORTS.values(), *_PARSED)
_LAST = "~"
"""No character of a key of ours is greater; of what others put below our prefixes, one may be."""


def mark(key: str) -> int:
    """64 bits of a key, the same in every run."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest())


class Inventory:
    """Packs, maps and versions as they were when they were listed. What is put later is not among them."""

    def __init__(self) -> None:
        self._sizes: dict[str, dict[int, int]] = {sort: {} for sort in _SORTS}
        self._named: set[int] = set()
        self.templates: set[TemplateId] = set()
        """Those that have version records."""

    def take(self, records: Records, done: Checked) -> None:
        """List everything."""
        for key in strange(records):
            foreign(done, key)
        for sort, prefix in _SORTS.items():
            sizes = self._sizes[sort]
            for stat in records.store.list(prefix):
                if not fmt.is_swept_key(stat.key):
                    foreign(done, stat.key)
                    continue
                sizes[mark(stat.key)] = stat.size
                if prefix == fmt.VERSIONS:
                    self.templates.add(names.template_id(stat.key.split("/")[1]))
        for prefix, parsed in _PARSED.items():
            for stat in records.store.list(prefix):
                try:
                    parsed(stat.key)
                except NameInvalid:
                    foreign(done, stat.key)

    def size(self, key: str) -> int | None:
        """Of what was listed; None: it was not."""
        return self._sizes[key.partition("/")[0]].get(mark(key))

    def name(self, key: str) -> bool:
        """Somebody needs this object. Whether nobody was known to, before."""
        before = len(self._named)
        self._named.add(mark(key))
        return len(self._named) > before

    def needs(self, key: str) -> bool:
        """Whether somebody does."""
        return mark(key) in self._named

    def orphans(self) -> dict[str, Tally]:
        """What nobody needs, by sort."""
        found = {}
        for sort, sizes in self._sizes.items():
            found[sort] = tally = Tally()
            for key, size in sizes.items():
                if key not in self._named:
                    tally.add(size)
        return found


def foreign(done: Checked, key: str) -> None:
    """A key that is none of ours was met."""
    done.foreign_count += 1
    if len(done.foreign) < FOREIGN_SHOWN:
        done.foreign.append(key)


def strange(records: Records) -> Iterator[str]:
    """Keys under no prefix of ours; what is below those is passed over unread."""
    after = ""
    while True:
        for stat in records.store.list("", after=after):
            ours = next((prefix for prefix in _OURS if stat.key.startswith(prefix)), None)
            if ours is None:
                if stat.key not in {fmt.FORMAT_KEY, fmt.SWEPT_KEY}:
                    yield stat.key
            elif stat.key <= ours + _LAST:
                after = ours + _LAST
                break
        else:
            return
