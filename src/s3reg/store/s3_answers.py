"""What an S3 server's answers mean: refusals as our errors, a bucket's settings as findings.

Pure functions, without a client. Of what a server says, only its error code and a region get into our texts: a message may
repeat what was sent.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from s3reg.errors import (
    BucketMissing,
    CredentialsExpired,
    ObjectNotFound,
    PreconditionFailed,
    PutUnsettled,
    RegionWrong,
    S3regError,
    StoreBusy,
    StoreClockWrong,
    StoreDenied,
    StoreUnavailable,
    StoreUnsuitable,
)
from s3reg.store import Stat

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from s3reg.store import Absent, Match

OK, PARTIAL, MOVED, FORBIDDEN, NOT_FOUND, CONFLICT, FAILED, NO_RANGE = 200, 206, 301, 403, 404, 409, 412, 416
TRY_AGAIN = frozenset({408, 429, 500, 502, 503, 504, *range(520, 600)})
"""Statuses after which the same read may succeed, and after which nobody knows whether a put was applied. Those from 520 on
are proxies' own: 524 is Cloudflare's for an answer that did not come in time."""
SKEW_SECONDS = 15 * 60
"""That two clocks may differ by; Amazon S3 API reference, "Error responses", RequestTimeTooSkewed."""
_NOT_IMPLEMENTED = 501
_REGION_CODES = {"AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect"}
_REGION_CODES |= {"IllegalLocationConstraintException"}
_DENIED_CODES = {"AccessDenied", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch"}
_EXPIRED_CODES = {"ExpiredToken", "TokenRefreshRequired"}
_BUSY_CODES = {"RequestLimitExceeded", "SlowDown", "Throttling", "ThrottlingException", "TooManyRequestsException"}
# MinIO's, which says so of one rotten object too.
_BUSY_CODES |= {"SlowDownRead", "SlowDownWrite"}
_BUSY = 429
_CODE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_COLD = {"GLACIER", "DEEP_ARCHIVE"}


@dataclass(frozen=True, slots=True)
class Place:
    """Which store is meant, for texts."""

    store: str
    bucket: str
    region: str
    now: float
    """By our clock, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is no success."""

    operation: str
    status: int
    code: str
    """S3's word for it; the status where there is none, as in answers to HEAD."""
    region: str | None = None
    """Where the bucket lies, if the server said so."""
    date: str = ""
    """By the server's clock, as HTTP spells it."""
    ids: tuple[str, str] = ("", "")
    """What the store calls the request in its own log: x-amz-request-id, x-amz-id-2."""

    @property
    def words(self) -> str:
        """The refusal for a text."""
        code = self.code if _CODE.fullmatch(self.code) and self.code != str(self.status) else "no reason"
        return f"{self.operation}: {self.status}, {code}"


def error_of(refusal: Refusal, place: Place, *, key: str = "", only_if: Absent | Match | None = None) -> S3regError:
    """The error that a refusal is, of a request for `key`; `only_if` is a put's precondition."""
    status, code = refusal.status, refusal.code
    if only_if is not None:
        if status in {FAILED, CONFLICT} or (status == NOT_FOUND and code == "NoSuchKey"):
            return PreconditionFailed(key=key)
        if status in TRY_AGAIN or code == "RequestTimeout":
            return PutUnsettled(key=key, reason=refusal.words)
    if code == "NoSuchKey":
        return ObjectNotFound(key=key)
    return _error_of_store(refusal, place)


def _error_of_store(refusal: Refusal, place: Place) -> S3regError:
    """What has nothing to do with the key."""
    status, code = refusal.status, refusal.code
    if code == "NoSuchBucket" or (status == NOT_FOUND and refusal.operation == "HeadBucket"):
        return BucketMissing(bucket=place.bucket, store=place.store)
    elsewhere = refusal.region is not None and refusal.region != place.region and status != FORBIDDEN
    if code in _REGION_CODES or status == MOVED or elsewhere:
        said = refusal.region if refusal.region and _CODE.fullmatch(refusal.region) else None
        return RegionWrong(bucket=place.bucket, region=place.region, hint=f"; it says {said}" if said else "")
    if denied := _denial(refusal, place):
        return denied
    if status == _NOT_IMPLEMENTED:
        return StoreUnsuitable(store=place.store, promises=refusal.words)
    if status == _BUSY or code in _BUSY_CODES:
        return StoreBusy(store=place.store, reason=refusal.words)
    return StoreUnavailable(store=place.store, reason=refusal.words)


def _denial(refusal: Refusal, place: Place) -> StoreDenied | None:
    """What has to do with who we say we are."""
    status, code = refusal.status, refusal.code
    # A refused HEAD tells no code; that of a wrong clock is known by the clock of who refused it.
    untold = status == FORBIDDEN and code == str(FORBIDDEN)
    if code == "RequestTimeTooSkewed" or (untold and _skewed(refusal.date, place.now)):
        return StoreClockWrong(store=place.store)
    if code in _EXPIRED_CODES:
        return CredentialsExpired(store=place.store, reason=refusal.words)
    if status == FORBIDDEN or code in _DENIED_CODES:
        return StoreDenied(store=place.store, reason=refusal.words)
    return None


def _skewed(date: str, now: float) -> bool:
    try:
        return abs(parsedate_to_datetime(date).timestamp() - now) > SKEW_SECONDS
    except ValueError:
        return False


def read_refusal(operation: str, status: int, body: bytes, headers: Mapping[str, str]) -> Refusal:
    """A refusal from its XML body, or from the bare status where the body is none; header names in any case."""
    region, ids = headers.get("x-amz-bucket-region"), ids_of(headers)
    try:
        root, space = parse(body)
    except ValueError:
        return Refusal(operation, status, str(status), region, headers.get("date", ""), ids)
    code = root.findtext(f"{space}Code") or str(status)
    return Refusal(operation, status, code, region or root.findtext(f"{space}Region"), headers.get("date", ""), ids)


def ids_of(headers: Mapping[str, str]) -> tuple[str, str]:
    """How the store names a request: AWS support asks for both."""
    return headers.get("x-amz-request-id", ""), headers.get("x-amz-id-2", "")


def parse(body: bytes) -> tuple[ET.Element, str]:
    """The root of an XML answer and its namespace as ElementTree spells it. Raises ValueError.

    Decoded here, so that no encoding hides a document type, which S3 never sends: without one there are no entities to
    blow up.
    """
    text = body.decode()
    if "<!" in text:
        raise ValueError("a document type or a comment")
    try:
        root = ET.fromstring(text)  # noqa: S314 - what it warns of was refused above
    except ET.ParseError as e:
        raise ValueError("no XML") from e
    return root, root.tag[: root.tag.rfind("}") + 1]


def stat_of(key: str, headers: Mapping[str, str], length: int) -> Stat:
    """The stat of an object that was given, `length` bytes of it, with these headers. Raises ValueError, KeyError."""
    whole = headers.get("Content-Range")
    size = int(whole.rpartition("/")[2]) if whole else length
    return Stat(key, etag_of(headers["ETag"]), size, parsedate_to_datetime(headers["Last-Modified"]).timestamp())


def etag_of(text: str) -> str:
    """An ETag as the port gives it: without its quotes, which some answers have and others lack."""
    return text.strip('"')


def sha256_of(text: str | None) -> str | None:
    """A stored checksum in hex; None where there is none of the whole: that of an upload in parts ends in their number."""
    try:
        digest = base64.b64decode(text or "", validate=True)
    except ValueError:
        return None
    return digest.hex() if len(digest) == hashlib.sha256().digest_size else None


# --- Settings that hurt ----------------------------------------------------------------------------------------------


def versioning_findings(answer: dict[str, Any]) -> Iterator[str]:
    """What GetBucketVersioning tells that an operator should know."""
    if answer.get("Status") == "Enabled":
        yield "versioning is on: what is replaced or swept stays as an old version and is paid for"


def object_lock_findings(answer: dict[str, Any]) -> Iterator[str]:
    """What GetObjectLockConfiguration tells that an operator should know."""
    locked = answer.get("ObjectLockConfiguration", {})
    if locked.get("ObjectLockEnabled") == "Enabled":
        retained = "with a default retention" if locked.get("Rule") else "without a default retention"
        yield f"Object Lock is on, {retained}: what is swept may not be deletable"


def lifecycle_findings(rules: list[dict[str, Any]], root: str) -> Iterator[str]:
    """What the rules of GetBucketLifecycleConfiguration would do to objects under the key prefix `root`.

    Rules for tagged objects do not apply: we set no tags. Old versions and multipart uploads are nothing of ours.
    """
    for rule in rules:
        chosen = rule.get("Filter", {})
        chosen = {**chosen, **chosen.get("And", {})}
        prefix = chosen.get("Prefix", rule.get("Prefix", ""))
        meets = root.startswith(prefix) or prefix.startswith(root)
        if rule.get("Status") != "Enabled" or chosen.get("Tag") or chosen.get("Tags") or not meets:
            continue
        name = f"lifecycle rule {rule.get('ID', '?')!r}"
        expiration = rule.get("Expiration", {})
        if "Days" in expiration or "Date" in expiration:
            yield f"{name} deletes objects under {prefix or 'the whole bucket'}: templates would be lost"
        if any(step.get("StorageClass") in _COLD for step in rule.get("Transitions", [])):
            yield f"{name} moves objects under {prefix or 'the whole bucket'} to an archive: pulls would fail"
