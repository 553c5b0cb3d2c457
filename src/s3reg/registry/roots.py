"""What must stay: the objects that sessions and heads name, as a sweep reads them.

What was named once stays named for as long as a sweep lasts: a later look only adds to it.
"""

from __future__ import annotations

import contextlib
import enum
from array import array
from typing import TYPE_CHECKING, TypeVar

from s3reg.errors import FormatUnknown, NameInvalid, RecordDamaged, SweepStopped
from s3reg.model import format as fmt
from s3reg.model.template import Base
from s3reg.store.together import gather

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from s3reg.model.names import Domain, SessionId
    from s3reg.model.template import Entry, Head, Session
    from s3reg.registry.records import Records
    from s3reg.store import Listing, Stat

T = TypeVar("T")

AT_ONCE = 512
"""Records whose values are held at one time."""
_VANISHED = "it was there a moment ago, and heads are never removed"


class Why(enum.Enum):
    """What an object stays for."""

    LIVE = "live"
    """A version that its template lists."""
    TRASH = "trash"
    """One that lies in the trash."""
    PUSH = "push"
    """A push under way: what it uploads, and its bases."""


class Roots:
    """The keys that are named. Of each, 64 bits are kept: where two share them, one object too many stays.

    `lets_go`: what of the trash is taken for gone already. `told` is called now and then while records are read.
    """

    def __init__(
        self,
        records: Records,
        *,
        lets_go: Callable[[Entry], bool] = lambda _: False,
        told: Callable[[], None] = lambda: None,
    ) -> None:
        self._records = records
        self._lets_go = lets_go
        self._told = told
        self._named: dict[Why, set[int]] = {why: set() for why in Why}
        self._own: dict[int, SessionId] = {}
        """Where sessions upload."""
        self._counted: set[Base] = set()
        """Versions whose needs are among the named."""
        self._listing: Listing | None = None
        self._etags: dict[str, str] = {}
        self._fresh: dict[str, tuple[tuple[Base, ...], tuple[Base, ...]]] = {}
        """By a head's key, its versions and its trash, where they are not counted yet."""
        self._bases: list[Base] = []
        """Of sessions, not counted yet."""
        self.domains: set[Domain] = set()
        """In which anything is named."""

    # --- What is named -----------------------------------------------------------------------------------------------

    def holds(self, key: str) -> bool:
        """Whether the object stays; `key` is one of a pack, map or version."""
        return self.why(key) is not None

    def why(self, key: str) -> Why | None:
        """What the object stays for, the first that there is; None: nobody names it."""
        known = hash(key)
        for why, named in self._named.items():
            if known in named:
                return why
        return Why.PUSH if self.uploader(key) else None

    def uploader(self, key: str) -> SessionId | None:
        """The push under way that has sent the object."""
        return self._own.get(hash(key.rpartition("/")[0]))

    def knows(self, head: str) -> bool:
        """Whether a head lay at this key when heads were read."""
        return head in self._etags

    # --- Sessions ----------------------------------------------------------------------------------------------------

    def read_sessions(self) -> list[tuple[Session, Stat]]:
        """Every session, and when it was last written. Raises SweepStopped at what is none, or cannot be read."""
        stats = list(self._records.store.list(fmt.SESSIONS))
        return [found for some in _in_parts(stats) for found in gather(self._session, some) if found is not None]

    def hold(self, sessions: Iterable[Session]) -> None:
        """What these sessions hold is named; what their bases need, once heads are read after it."""
        for session in sessions:
            for prefix in (fmt.packs_prefix, fmt.maps_prefix):
                self._own[hash(prefix(session.domain, session.id).rstrip("/"))] = session.id
            self._named[Why.PUSH].add(hash(fmt.version_key(session.template, session.version)))
            self._bases += session.bases
            self.domains.add(session.domain)

    def _session(self, stat: Stat) -> tuple[Session, Stat] | None:
        try:
            sid = fmt.session_of_key(stat.key)
        except NameInvalid:
            raise SweepStopped(what=stat.key, reason="it is no session of ours") from None
        with stopping(stat.key):
            return self._records.session(sid)

    # --- Heads -------------------------------------------------------------------------------------------------------

    def heads(self) -> Iterator[Head]:
        """Those that are not as they were at the last look. Raises SweepStopped at what is none, or cannot be read."""
        listing = self._records.store.relist(fmt.HEADS, self._listing)
        for key in self._etags.keys() - {stat.key for stat in listing.stats}:
            raise SweepStopped(what=key, reason=_VANISHED)
        for some in _in_parts([stat for stat in listing.stats if self._etags.get(stat.key) != stat.etag]):
            self._told()
            for stat, head in zip(some, gather(self._head, some), strict=True):
                removed = (entry for entry in head.removed if not self._lets_go(entry))
                self._fresh[stat.key] = (_bases(head, head.versions), _bases(head, removed))
                # Perhaps it was read newer than it was listed: then it is read once more than it has to be.
                self._etags[stat.key] = stat.etag
                yield head
        self._listing = listing

    def read_heads(self) -> None:
        """What every head names, in its versions and in its trash, is named from here on. Raises SweepStopped."""
        for _ in self.heads():
            pass
        fresh, self._fresh = list(self._fresh.values()), {}
        self._count((base for versions, _ in fresh for base in versions), Why.LIVE)
        self._count((base for _, removed in fresh for base in removed), Why.TRASH)
        bases, self._bases = self._bases, []
        self._count(bases, Why.PUSH)

    def _head(self, stat: Stat) -> Head:
        try:
            template = fmt.template_of_head_key(stat.key)
        except NameInvalid:
            raise SweepStopped(what=stat.key, reason="it is no head of ours") from None
        with stopping(stat.key):
            head = self._records.head(template)
        if head is None:
            raise SweepStopped(what=stat.key, reason=_VANISHED)
        return head

    # --- Versions ----------------------------------------------------------------------------------------------------

    def _count(self, versions: Iterable[Base], why: Why) -> None:
        """What these versions need is named."""
        named, live = self._named[why], self._named[Why.LIVE]
        fresh = [base for base in dict.fromkeys(versions) if base not in self._counted]
        for some in _in_parts(fresh):
            self._told()
            for base, needs in zip(some, gather(lambda base: self._needs(base, why), some), strict=True):
                named.add(hash(fmt.version_key(base.template, base.version)))
                if needs is not None:
                    named.update(needs if why is Why.LIVE else (one for one in needs if one not in live))
                    self._counted.add(base)

    def _needs(self, base: Base, why: Why) -> array[int] | None:
        """Of the maps and packs that a version needs, what `Roots` keeps; None where its record is gone with its name."""
        key = fmt.version_key(base.template, base.version)
        with stopping(key):
            found = self._records.read(key)
            if found is None:
                # A session may name what was let go; and a head's trash may be emptied, and swept, at any time.
                if why is Why.PUSH or not self._is_named(base):
                    return None
                raise RecordDamaged(what=key, reason="it is missing")
            version = fmt.read_version(found.data, base.template, base.version)
        needs = array("q")
        for file in version.files:
            if file.map is not None:
                needs.append(hash(fmt.map_key(version.domain, file.map.sid, file.map.sha256)))
            needs.extend(hash(fmt.pack_key(version.domain, use.pack.sid, use.pack.sha256)) for use in file.packs)
        self.domains.add(version.domain)
        return needs

    def _is_named(self, base: Base) -> bool:
        """Whether a head names the version now."""
        head = self._records.head(base.template)
        return head is not None and any(entry.id == base.version for entry in (*head.versions, *head.removed))


@contextlib.contextmanager
def stopping(what: str) -> Iterator[None]:
    """What cannot be read is never taken for absent. Raises SweepStopped."""
    try:
        yield
    except (RecordDamaged, FormatUnknown) as e:
        reason = e.detail.get("reason", e) if e.detail.get("what") == what else e
        raise SweepStopped(what=what, reason=str(reason)) from e


def _bases(head: Head, entries: Iterable[Entry]) -> tuple[Base, ...]:
    return tuple(Base(head.id, entry.id) for entry in entries)


def _in_parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]
