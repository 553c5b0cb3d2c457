"""Tries the port's promises on the store that an operator points at, under `check/`, and says by name which are not kept.

Worth doing before the first template lies there: a store that takes two writers for one loses templates, and a store that
does not check what it is sent stores garbage; neither shows until much later. Some servers that call themselves
S3-compatible ignore a precondition silently, so nothing is believed that was not seen.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import urllib3

from s3reg.errors import (
    Kind,
    ObjectNotFound,
    PreconditionFailed,
    PutUnsettled,
    S3regError,
    StoreUnsuitable,
)
from s3reg.store import ABSENT, Absent, Link, Match, ObjectStore

Opener = Callable[[str, str, Mapping[str, str], bytes], tuple[int, Mapping[str, str], bytes]]
"""Does HTTP on a signed link: method, URL, headers, body → status, headers, body."""

PREFIX = "check/"
RACERS, ROUNDS = 16, 10
MANY = 1005
"""More keys than S3 gives in one answer."""
_OLD_SECONDS = 24 * 3600
_LINK_SECONDS = 300
_WAIT_SECONDS = 30
_PARTIAL = 206


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise, tried."""

    name: str
    kept: bool
    reason: str = ""
    """What was seen instead; or why it was not tried."""
    advice: bool = False
    """Not a promise of the port but something that an operator should know: no reason to refuse the store."""


@runtime_checkable
class _HasSettings(Protocol):
    def settings_that_hurt(self) -> tuple[str, ...]: ...


class _Broken(Exception):
    """A promise was seen not to be kept."""


def check(store: ObjectStore, *, opener: Opener | None = None, many: int = MANY, rounds: int = ROUNDS) -> list[Promise]:
    """Each promise, tried on `store`. What was written for it is removed again.

    `opener` opens signed links as a node would; without one they are opened over HTTP with the system's certificates, or
    not at all where the API serves them. `many` keys are written for the listing, and `rounds` races run. Raises what the
    store raises when it cannot be used at all: StoreUnavailable, StoreDenied, BucketMissing, RegionWrong, StoreReadOnly.
    """
    root = f"{PREFIX}{uuid.uuid4().hex}/"
    _sweep_old(store)
    served = store.sign_get(root + "link", seconds=_LINK_SECONDS).url.startswith("/")
    if opener is None and not served:
        opener = over_http()
    trial = _Trial(store, root, opener or over_http(), many, rounds)
    try:
        found = [_tried(name, act, trial) for name, act in _OF_OBJECTS.items()]
        if opener is None:
            found.append(
                Promise("signed links", kept=True, reason="not tried: the API itself serves them", advice=True)
            )
        else:
            found += [_tried(name, act, trial) for name, act in _OF_LINKS.items()]
        if isinstance(store, _HasSettings):
            found += [Promise("settings", kept=False, reason=text, advice=True) for text in store.settings_that_hurt()]
    finally:
        # A store that cannot delete was told of above, or is telling of worse now.
        with contextlib.suppress(S3regError):
            store.delete([stat.key for stat in store.list(root)])
    return found


def require(found: list[Promise], store: ObjectStore) -> None:
    """Raise StoreUnsuitable with the names of the promises that the store does not keep."""
    broken = [promise.name for promise in found if not promise.kept and not promise.advice]
    if broken:
        raise StoreUnsuitable(store=store.location, promises=", ".join(broken))


def over_http(base_url: str = "", *, ca_bundle: str | None = None, verify: bool = True) -> Opener:
    """An opener that sends links over the network; those that begin with `/` go to `base_url`."""
    http = urllib3.PoolManager(
        maxsize=RACERS, ca_certs=ca_bundle, cert_reqs="CERT_REQUIRED" if verify else "CERT_NONE", retries=False
    )

    def send(method: str, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        # The true length, whatever was signed: a server waits for the bytes that are announced.
        told = {name: value for name, value in headers.items() if name.lower() != "content-length"}
        where = base_url.rstrip("/") + url if url.startswith("/") else url
        try:
            answer = http.request(method, where, body=body or None, headers=told, timeout=_WAIT_SECONDS)
        except urllib3.exceptions.HTTPError as e:
            # Its text holds the link.
            raise _Broken(f"the address that links carry does not answer ({type(e).__name__})") from None
        return answer.status, answer.headers, answer.data

    return send


@dataclass(frozen=True, slots=True)
class _Trial:
    """What a trial works with."""

    store: ObjectStore
    root: str
    opener: Opener
    many: int
    rounds: int

    def open(self, method: str, link: Link, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        """Status and body of the answer to a link."""
        status, _, data = self.opener(method, link.url, {**link.headers, **headers}, body)
        return status, data

    def sign_put(self, name: str, data: bytes) -> Link:
        """A link that creates an object of this trial from `data`."""
        sha256 = hashlib.sha256(data).hexdigest()
        return self.store.sign_put(self.root + name, size=len(data), sha256=sha256, seconds=_LINK_SECONDS)

    def absent(self, key: str) -> bool:
        """Whether nothing lies under `key`."""
        try:
            self.store.get(key)
        except ObjectNotFound:
            return True
        return False


def _tried(name: str, act: Callable[[_Trial], None], trial: _Trial) -> Promise:
    try:
        act(trial)
    except _Broken as e:
        return Promise(name, kept=False, reason=str(e))
    except S3regError as e:
        if e.kind is Kind.UNAVAILABLE and not isinstance(e, PutUnsettled):
            raise
        return Promise(name, kept=False, reason=str(e))
    return Promise(name, kept=True)


def _expect(kept: bool, otherwise: str) -> None:
    if not kept:
        raise _Broken(otherwise)


def _sweep_old(store: ObjectStore) -> None:
    """What a check left that was killed; another may run now."""
    before = time.time() - _OLD_SECONDS
    store.delete([stat.key for stat in store.list(PREFIX) if stat.modified < before])


# --- Objects ---------------------------------------------------------------------------------------------------------


def _create_only(trial: _Trial) -> None:
    store, key = trial.store, trial.root + "create"
    store.put(key, b"first", only_if=ABSENT)
    _expect(not _put(store, key, b"second", ABSENT), "a second create of one key was accepted")
    _expect(store.get(key).data == b"first", "a second create was refused and yet changed the object")


def _raced_create(trial: _Trial) -> None:
    for turn in range(trial.rounds):
        _race(trial.store, f"{trial.root}created-{turn}", ABSENT)


def _stale_match(trial: _Trial) -> None:
    store, key = trial.store, trial.root + "match"
    old = store.put(key, b"old")
    new = store.put(key, b"new", only_if=Match(old))
    _expect(old != new, "two objects with different bytes have the same ETag")
    _expect(not _put(store, key, b"stale", Match(old)), "a put was accepted for an ETag that had been replaced")
    _expect(store.get(key).data == b"new", "a put with a stale ETag was refused and yet changed the object")


def _match_on_absent(trial: _Trial) -> None:
    store, key = trial.store, trial.root + "gone"
    etag = store.put(key, b"here for a moment")
    store.delete([key])
    _expect(not _put(store, key, b"back again", Match(etag)), "a put for an ETag was accepted where nothing lies")
    _expect(trial.absent(key), "a put for an ETag was refused and yet made the object")


def _raced_match(trial: _Trial) -> None:
    key = trial.root + "replaced"
    for turn in range(trial.rounds):
        _race(trial.store, key, Match(trial.store.put(key, b"round %d" % turn)))


def _seen_at_once(trial: _Trial) -> None:
    store, under = trial.store, trial.root + "seen/"
    for turn in range(trial.rounds):
        key = f"{under}{turn}"
        etag = store.put(key, b"first")
        etag = store.put(key, b"then", only_if=Match(etag))
        found, stat, listed = store.get(key), store.stat(key), [item.etag for item in store.list(under)]
        _expect(found.data == b"then", "a get right after a put gave older bytes")
        _expect(
            {found.stat.etag, stat.etag, *listed} == {etag}, "get, stat and list do not give the ETag that put gave"
        )
        store.delete([key])
        _expect(trial.absent(key), "an object could be read after its deletion")
        _expect(not list(store.list(under)), "an object was listed after its deletion")


def _ranges(trial: _Trial) -> None:
    store, key, data = trial.store, trial.root + "ranges", bytes(range(100))
    store.put(key, data)
    for first, length in ((0, 10), (10, 80), (90, None), (90, 1000), (-7, None), (-1000, None), (100, 5)):
        found = store.get(key, first=first, length=length)
        wanted = data[first:] if length is None else data[first : first + length]
        _expect(found.data == wanted, f"the range from {first}, {length or 'all'} bytes, gave {len(found.data)} others")
        _expect(found.stat.size == len(data), "the answer to a range does not tell the size of the whole object")


def _listing(trial: _Trial) -> None:
    store, under = trial.store, trial.root + "list/"
    # Spelt so that the order of bytes differs from that of words and of numbers.
    keys = [f"{under}{'aB-.~_+'[number % 7]}{number}" for number in range(trial.many)]
    with ThreadPoolExecutor(RACERS) as pool:
        list(pool.map(lambda key: store.put(key, b""), keys))
    found = [item.key for item in store.list(under)]
    _expect(len(found) >= len(keys), f"a listing gave {len(found)} keys of {len(keys)}")
    _expect(sorted(found) == sorted(keys), "a listing gave keys twice or altered")
    _expect(found == sorted(keys), "a listing is not in the order of bytes")
    after = found[len(found) // 2]
    rest = [item.key for item in store.list(under, after=after)]
    _expect(rest == found[found.index(after) + 1 :], "a listing after a key does not give the rest")
    again = [item.key for item in store.relist(under, store.relist(under)).stats]
    _expect(again == found, "a listing in stretches gives other keys")
    store.delete(keys)
    _expect(not list(store.list(under)), "deleted keys are still listed")


def _put(store: ObjectStore, key: str, data: bytes, only_if: Absent | Match) -> str | None:
    """The ETag of a conditional put, None if it was refused."""
    try:
        return store.put(key, data, only_if=only_if)
    except PreconditionFailed:
        return None


def _race(store: ObjectStore, key: str, only_if: Absent | Match) -> None:
    """Many conditional puts at once. One that nobody answered for is neither winner nor loser."""
    barrier = threading.Barrier(RACERS)

    def run(number: int) -> bool | None:
        barrier.wait(_WAIT_SECONDS)
        try:
            return _put(store, key, b"by %d" % number, only_if) is not None
        except PutUnsettled:
            return None

    with ThreadPoolExecutor(RACERS) as pool:
        outcomes = list(pool.map(run, range(RACERS)))
    winners = [number for number, won in enumerate(outcomes) if won]
    _expect(len(winners) <= 1, f"of {RACERS} at once {len(winners)} won")
    _expect(bool(winners) or None in outcomes, f"of {RACERS} at once none won")
    possible = winners or [number for number, won in enumerate(outcomes) if won is None]
    _expect(store.get(key).data in {b"by %d" % number for number in possible}, "the object is not the winner's")


# --- Signed links ----------------------------------------------------------------------------------------------------

_BYTES, _OTHERS = b"the bytes that were signed for", b"other bytes of the same number"


def _link_reads(trial: _Trial) -> None:
    key = trial.root + "link"
    trial.store.put(key, _BYTES)
    link = trial.store.sign_get(key, seconds=_LINK_SECONDS)
    status, data = trial.open("GET", link)
    _expect(data == _BYTES, f"a GET was answered with {status} and not the object")
    for asked, wanted in (("4-8", _BYTES[4:9]), ("-6", _BYTES[-6:])):
        status, data = trial.open("GET", link, Range=f"bytes={asked}")
        _expect(
            (status, data) == (_PARTIAL, wanted), f"a GET of a range was answered with {status}, not with the range"
        )


def _altered_link(trial: _Trial) -> None:
    key = trial.root + "altered"
    trial.store.put(key, _BYTES)
    link = trial.store.sign_get(key, seconds=_LINK_SECONDS)
    at = link.url.lower().index("signature=", link.url.index("?")) + len("signature=")
    changed = "0" if link.url[at] != "0" else "1"
    forged = Link(link.url[:at] + changed + link.url[at + 1 :], link.expires, link.headers)
    _refused(trial, trial.open("GET", forged), "a GET with an altered signature")
    other = trial.root + "another"
    trial.store.put(other, _OTHERS)
    elsewhere = Link(link.url.replace(key, other), link.expires, link.headers)
    _refused(trial, trial.open("GET", elsewhere), "a GET of another key than the signed one")


def _expired_link(trial: _Trial) -> None:
    key = trial.root + "expired"
    trial.store.put(key, _BYTES)
    link = trial.store.sign_get(key, seconds=1)
    while time.time() < link.expires + 1:
        time.sleep(0.1)
    _refused(trial, trial.open("GET", link), "a GET with a link that had expired")


def _link_writes(trial: _Trial) -> None:
    status, _ = trial.open("PUT", trial.sign_put("written", _BYTES), _BYTES)
    _expect(not trial.absent(trial.root + "written"), f"a PUT was answered with {status} and wrote nothing")
    _expect(trial.store.get(trial.root + "written").data == _BYTES, "a PUT wrote other bytes than it was sent")


def _wrong_bytes(trial: _Trial) -> None:
    link = trial.sign_put("wrong-bytes", _BYTES)
    _refused(trial, trial.open("PUT", link, _OTHERS), "a PUT of other bytes", trial.root + "wrong-bytes")


def _wrong_length(trial: _Trial) -> None:
    for name, data in (("longer", _BYTES + b"!"), ("shorter", _BYTES[:-1])):
        link = trial.sign_put(name, _BYTES)
        _refused(trial, trial.open("PUT", link, data), f"a PUT of {name} bytes", trial.root + name)


def _missing_header(trial: _Trial) -> None:
    link = trial.sign_put("headers", _BYTES)
    for name in link.headers:
        if name.lower() != "content-length":
            rest = {other: value for other, value in link.headers.items() if other != name}
            answer = trial.open("PUT", Link(link.url, link.expires, rest), _BYTES)
            _refused(trial, answer, f"a PUT without the signed header {name}", trial.root + "headers")


def _written_once(trial: _Trial) -> None:
    key = trial.root + "once"
    first, second = trial.sign_put("once", _BYTES), trial.sign_put("once", _OTHERS)
    trial.open("PUT", first, _BYTES)
    _refused(trial, trial.open("PUT", second, _OTHERS), "a PUT on a taken key")
    _expect(trial.store.get(key).data == _BYTES, "a PUT on a taken key was refused and yet changed the object")


def _refused(trial: _Trial, answer: tuple[int, bytes], what: str, key: str | None = None) -> None:
    """MinIO says 400 where AWS says 403 of a missing header; any 4xx is a refusal."""
    status, data = answer
    _expect(Kind.INVALID.status <= status < Kind.INTERNAL.status, f"{what} was answered with {status}")
    _expect(_BYTES not in data and _OTHERS not in data, f"{what} was refused and yet gave the object")
    if key is not None:
        _expect(trial.absent(key), f"{what} was refused and yet wrote the object")


_OF_OBJECTS: dict[str, Callable[[_Trial], None]] = {
    "create-only put": _create_only,
    "create-only put, raced": _raced_create,
    "put if unchanged": _stale_match,
    "put if unchanged, on an absent key": _match_on_absent,
    "put if unchanged, raced": _raced_match,
    "read, list and delete seen at once": _seen_at_once,
    "ranges": _ranges,
    "listing in order, beyond a page": _listing,
}
_OF_LINKS: dict[str, Callable[[_Trial], None]] = {
    "signed GET": _link_reads,
    "signed GET, altered": _altered_link,
    "signed GET, expired": _expired_link,
    "signed PUT": _link_writes,
    "signed PUT, wrong bytes": _wrong_bytes,
    "signed PUT, wrong length": _wrong_length,
    "signed PUT, missing header": _missing_header,
    "signed PUT, taken key": _written_once,
}
