"""The object store port: bytes under keys, and what every adapter promises.

* A put is all or nothing: no reader ever sees part of an object, nor a mix of two.
* What a put answered is durable, and every later get, stat and list, from any process, sees it.
* Of two puts with `only_if=ABSENT` on one key, one wins; the other raises PreconditionFailed.
* A put with `only_if=Match(etag)` replaces the object that has that ETag, and no other; of many at once, one wins.
* A conditional put is sent once. When its answer is lost, PutUnsettled says that it may or may not have been applied.
* ETags are opaque. Two objects under one key at different times have different ETags, unless their bytes are equal.
* Keys are case-sensitive. A key outside the grammar raises KeyInvalid. No key of ours lies below another: MinIO lists
  only the shorter of `a` and `a/b`, so that is no promise, though a directory keeps it.
* `list` gives every key with the prefix once, in the byte order of UTF-8, however many there are, and reads lazily.
  Keys written or deleted meanwhile may or may not appear; others are never missed.
* `relist` gives what `list` gives, all at once, and is as fresh: what was put or deleted before it was called, shows. It
  may take from an earlier listing only what it knows to be unchanged.
* `delete` of a key that is absent is no error. It has no precondition: DELETE ignores them on servers we support.
* Reads are retried by the adapter; StoreUnavailable means that the retries are used up.
* A signed link works without a credential until it expires, for one method and one key. A signed PUT takes exactly the
  signed number of bytes with the signed SHA-256, once: the store itself refuses anything else, and a taken key.
* Adapters are safe to share between threads. After a fork a process makes its own.

Its users derive keys in `model/format.py` and nowhere else. The contract is a test class that every adapter passes,
`tests/contracts/object_store.py`; `store/check.py` tries the same promises on the store that an operator points at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from s3reg.errors import KeyInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

LONGEST_KEY = 512
"""Bytes; S3 takes 1,024, a directory needs room for its escapes."""
_KEY = re.compile(r"[A-Za-z0-9._@=+~-]{1,128}(/[A-Za-z0-9._@=+~-]{1,128})*")


@dataclass(frozen=True, slots=True)
class Stat:
    """What is known of an object without its bytes."""

    key: str
    etag: str
    size: int
    """In bytes."""
    modified: float
    """Seconds since 1970, by the store's clock; S3 gives whole seconds in some answers."""
    sha256: str | None = field(default=None, compare=False)
    """The checksum of the bytes that the store itself keeps, in hex: `stat` tells it, where it was given one."""


@dataclass(frozen=True, slots=True)
class Object:
    """An object's bytes, or the range asked for, and the stat of the whole object."""

    data: bytes
    stat: Stat


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of the disk that a store lies on."""

    free: int
    total: int


@dataclass(frozen=True, slots=True)
class Listing:
    """All objects whose keys begin with one prefix."""

    stats: tuple[Stat, ...]
    """In the order of `list`. The same tuple as in the listing before, if it is known that nothing changed."""
    traces: object = field(repr=False)
    """The adapter's own: how it will tell what changed since."""


@dataclass(frozen=True, slots=True)
class Absent:
    """Precondition: nothing lies under the key."""


@dataclass(frozen=True, slots=True)
class Match:
    """Precondition: the object under the key has this ETag."""

    etag: str


ABSENT = Absent()


@dataclass(frozen=True, slots=True)
class Link:
    """A signed URL. Whoever has it may use it: never log one."""

    url: str = field(repr=False)
    """Absolute, or beginning with `/` for a store whose links the API itself serves."""
    expires: int
    """Seconds since 1970."""
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    """To be sent as they are."""


class ObjectStore(Protocol):
    """See the module's promises."""

    location: str
    """Where it is, for people: never holds a credential."""
    made_as: str
    """What `format.json` records, to tell a copy of the store from the original; the same from every machine."""

    def get(self, key: str, *, first: int = 0, length: int | None = None) -> Object:
        """The object's bytes from offset `first`, at most `length` of them. `first=-n` means the last n bytes.

        A range beyond the end gives what there is, perhaps nothing. Raises ObjectNotFound.
        """
        ...

    def stat(self, key: str) -> Stat:
        """Raises ObjectNotFound."""
        ...

    def put(self, key: str, data: bytes, *, only_if: Absent | Match | None = None) -> str:
        """Write the object and give its ETag. Raises PreconditionFailed, PutUnsettled."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Remove the objects, in batches where the store can."""
        ...

    def list(self, prefix: str, *, after: str = "") -> Iterator[Stat]:
        """Every object whose key begins with `prefix` and is greater than `after`."""
        ...

    def relist(self, prefix: str, before: Listing | None = None) -> Listing:
        """What `list(prefix)` gives, for who asks again and again: cheap where little changed since `before`.

        `before` is what this method of this store gave for this prefix the last time.
        """
        ...

    def room(self) -> Room | None:
        """How much there is, of a store that ends somewhere; None for a bucket."""
        ...

    def sign_get(self, key: str, *, seconds: int) -> Link:
        """A link that reads the object, any single range of it, for so long."""
        ...

    def sign_gets(self, keys: Iterable[str], *, seconds: int) -> Sequence[Link]:
        """The links of `sign_get` for many objects, in their order: faster, where there are thousands."""
        ...

    def sign_put(self, key: str, *, size: int, sha256: str, seconds: int) -> Link:
        """A link that creates the object from exactly these bytes."""
        ...


def check_key(key: str) -> str:
    """`key` if it is one that every store takes, or KeyInvalid."""
    if len(key) > LONGEST_KEY or not _KEY.fullmatch(key):
        raise KeyInvalid(key=key[:80], reason="use letters, digits and . _ @ = + ~ - between slashes")
    if "/." in f"/{key}" and not {".", ".."}.isdisjoint(key.split("/")):
        raise KeyInvalid(key=key[:80], reason="it climbs")
    return key
