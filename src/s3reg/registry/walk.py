"""The versions that heads name, one after the other, several read at once: for who looks at a whole store."""

from __future__ import annotations

import unicodedata
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from s3reg.errors import FormatUnknown, NameInvalid, RecordDamaged, TemplateNotFound
from s3reg.model import format as fmt
from s3reg.model import names
from s3reg.registry import damage
from s3reg.registry.damage import MISSING
from s3reg.store.together import gather

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from s3reg.model.template import Entry, Head, Version
    from s3reg.registry.records import Records

T = TypeVar("T")
R = TypeVar("R")

AT_ONCE = 256
"""Records whose values are held at one time."""


class Named(NamedTuple):
    """A version, and the head that names it, as it was read just before."""

    head: Head
    entry: Entry

    @property
    def trash(self) -> bool:
        """Whether it was removed, and can be restored."""
        return self.entry.removed is not None


class Wanted:
    """The templates of these ids and names; all, where none is given."""

    def __init__(self, refs: Collection[str]) -> None:
        self.refs = frozenset(names.template_id(ref) if names.is_template_id(ref) else _nfc(ref) for ref in refs)
        self._met: set[str] = set()

    def takes(self, template: str | None, name: str) -> bool:
        """Whether this one is wanted."""
        here = self.refs & {template or "", name}
        self._met |= here
        return bool(here) or not self.refs

    def check_met(self) -> None:
        """Raise TemplateNotFound for one that was not asked about."""
        for ref in sorted(self.refs - self._met):
            raise TemplateNotFound(template=ref)


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)


class Unreadable(NamedTuple):
    """A head that cannot be read whole."""

    reason: str
    name: str = ""
    """The template's, as far as it tells one."""
    newer: bool = False
    """It is of a newer release."""


def head(records: Records, key: str) -> tuple[str, Head | Unreadable | None]:
    """The head there, and its key; None for a key that is foreign."""
    try:
        template = fmt.template_of_head_key(key)
    except NameInvalid:
        return key, None
    data = b""
    try:
        found = records.read(key)
        if found is None:
            return key, Unreadable(MISSING)
        data = found.data
        return key, fmt.read_head(data, template)
    except (RecordDamaged, FormatUnknown) as e:
        told = fmt.read_damaged_head(data, template, str(e))
        return key, Unreadable(damage.reason(e), told.name if told else "", isinstance(e, FormatUnknown))


def heads(records: Records) -> Iterator[tuple[str, Head | Unreadable | None]]:
    """Every head and its key; None for a key that is foreign."""
    return side_by_side(lambda stat: head(records, stat.key), records.store.list(fmt.HEADS))


def versions(records: Records) -> Iterator[Named]:
    """Every version that a head names, those in the trash too."""
    for _, found in heads(records):
        if found is not None and not isinstance(found, Unreadable):
            yield from of(found)


def version(records: Records, named: Named) -> Version | None:
    """The version's record; None where it cannot be read."""
    template, vid = named.head.id, named.entry.id
    try:
        found = records.read(fmt.version_key(template, vid))
        return None if found is None else fmt.read_version(found.data, template, vid)
    except (RecordDamaged, FormatUnknown):
        return None


def of(one: Head) -> Iterator[Named]:
    """The versions that this head names."""
    return (Named(one, entry) for entry in (*one.versions, *one.removed))


def side_by_side(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`function` of each item, in order, several at once; only so many results are held."""
    rows = iter(items)
    while part := list(islice(rows, AT_ONCE)):
        yield from gather(function, part)
