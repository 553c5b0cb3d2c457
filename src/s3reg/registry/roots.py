"""What must stay: the objects that sessions and heads name, as a sweep reads them.

What was named once stays named for as long as a sweep lasts: a later look only adds to it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeVar

from s3reg.errors import FormatUnknown, NameInvalid, RecordDamaged, SweepStopped
from s3reg.model import format as fmt
from s3reg.model.template import Base
from s3reg.store.together import gather

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from s3reg.model.template import Head, Session, Version
    from s3reg.registry.records import Records
    from s3reg.store import Listing, Stat

T = TypeVar("T")

AT_ONCE = 512
"""Records whose values are held at one time."""


class Roots:
    """The keys that are named. Of each, 64 bits are kept: where two share them, one object too many stays."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._named: set[int] = set()
        self._own: set[int] = set()
        """Of what sessions upload, where it lies."""
        self._counted: set[Base] = set()
        """Versions whose needs are among the named."""
        self._listing: Listing | None = None
        self._etags: dict[str, str] = {}

    def holds(self, key: str) -> bool:
        """Whether the object stays; `key` is one of a pack, map or version."""
        return hash(key) in self._named or self.uploads(key)

    def uploads(self, key: str) -> bool:
        """Whether a push under way has sent it."""
        return hash(key.rpartition("/")[0]) in self._own

    def read_sessions(self) -> list[tuple[Session, Stat]]:
        """Every session, and when it was last written; what they hold is named from here on.

        Raises SweepStopped at what is no session, or cannot be read.
        """
        found = [one for one in gather(self._session, list(self._records.store.list(fmt.SESSIONS))) if one is not None]
        for session, _ in found:
            self._own.add(hash(fmt.packs_prefix(session.domain, session.id).rstrip("/")))
            self._own.add(hash(fmt.maps_prefix(session.domain, session.id).rstrip("/")))
            self._name(fmt.version_key(session.template, session.version))
        self._count(dict.fromkeys(base for session, _ in found for base in session.bases), missing=True)
        return found

    def read_heads(self) -> None:
        """What every head names, in its versions and in its trash, is named from here on. Raises SweepStopped."""
        listing = self._records.store.relist(fmt.HEADS, self._listing)
        changed = [stat for stat in listing.stats if self._etags.get(stat.key) != stat.etag]
        for some in _in_parts(changed):
            heads = gather(self._head, some)
            self._count(
                [Base(head.id, entry.id) for head in heads for entry in (*head.versions, *head.removed)], missing=False
            )
        self._listing = listing
        self._etags = {stat.key: stat.etag for stat in listing.stats}

    def _session(self, stat: Stat) -> tuple[Session, Stat] | None:
        try:
            sid = fmt.session_of_key(stat.key)
        except NameInvalid:
            raise SweepStopped(what=stat.key, reason="it is no session of ours") from None
        with _stopping(stat.key):
            return self._records.session(sid)

    def _head(self, stat: Stat) -> Head:
        try:
            template = fmt.template_of_head_key(stat.key)
        except NameInvalid:
            raise SweepStopped(what=stat.key, reason="it is no head of ours") from None
        with _stopping(stat.key):
            head = self._records.head(template)
        if head is None:
            raise SweepStopped(what=stat.key, reason="it was there a moment ago, and heads are never removed")
        return head

    def _count(self, versions: Iterable[Base], *, missing: bool) -> None:
        """What these versions need is named; `missing`: one without a record stands on itself only."""
        fresh = [base for base in dict.fromkeys(versions) if base not in self._counted]
        for some in _in_parts(fresh):
            for base, version in zip(
                some, gather(lambda base: self._version(base, missing=missing), some), strict=True
            ):
                self._name(fmt.version_key(base.template, base.version))
                if version is not None:
                    self._name_needs(version)
                    self._counted.add(base)

    def _version(self, base: Base, *, missing: bool) -> Version | None:
        key = fmt.version_key(base.template, base.version)
        with _stopping(key):
            found = self._records.read(key)
            if found is None and missing:
                return None
            if found is None:
                raise RecordDamaged(what=key, reason="it is missing")
            return fmt.read_version(found.data, base.template, base.version)

    def _name_needs(self, version: Version) -> None:
        for file in version.files:
            if file.map is not None:
                self._name(fmt.map_key(version.domain, file.map.sid, file.map.sha256))
            for use in file.packs:
                self._name(fmt.pack_key(version.domain, use.pack.sid, use.pack.sha256))

    def _name(self, key: str) -> None:
        self._named.add(hash(key))


@contextlib.contextmanager
def _stopping(key: str) -> Iterator[None]:
    """What cannot be read is never taken for absent."""
    try:
        yield
    except (RecordDamaged, FormatUnknown) as e:
        raise SweepStopped(what=key, reason=str(e)) from e


def _in_parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]
