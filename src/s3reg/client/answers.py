"""What an answer means: a value, the error that it tells of, or that trying again may help (`Again`).

The registry answers as JSON, its errors as `errors.from_dict` reads them. A store answers as S3 does, of which only the
code is looked at, or, if it is a directory, in the registry's name. Nothing that comes from the other end is believed, and
no text of a store's answer is passed on: it may quote the link.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, NoReturn

from s3reg import errors
from s3reg.client.troubles import SPEAKS_TLS
from s3reg.errors import (
    AnswerInvalid,
    BucketMissing,
    CertificateRefused,
    ChecksumMismatch,
    Forbidden,
    Interrupted,
    Kind,
    LinkRefused,
    RegionWrong,
    S3regError,
    StoreFull,
    StoreReadOnly,
    StoreUnsuitable,
    TooManyFailures,
    Unauthenticated,
)

if TYPE_CHECKING:
    import threading

    import urllib3

    from s3reg.client.flow import Flow

LARGEST_ANSWER = 256 * 1024**2
LARGEST_PLAIN = 64 * 1024
LONGEST_REASON = 300
_LASTING = (BucketMissing, RegionWrong, StoreFull, StoreReadOnly)
"""Somebody has to do something about these: a minute of retries would only hide what is wrong."""
_OK = 200
_PARTIAL = 206
_TAKEN = 412
_STORED = {200, 201, 204, _TAKEN}
_BAD_REQUEST = 400
_UNAUTHENTICATED = 401
_FORBIDDEN = 403
_BAD_RANGE = 416
_TOO_MANY = 429
_RETRIED = {408, 429, 500, 502, 503, 504}
_GARBLED = {"BadDigest", "XAmzContentSHA256Mismatch", "InvalidDigest", "XAmzContentChecksumMismatch", "IncompleteBody"}
"""What S3 servers call a body that is not the one that was signed."""
_PASSING = {"RequestTimeout", "ConditionalRequestConflict", "OperationAborted"}
"""What S3 servers answer with a 4xx although trying again helps."""


class Again(Exception):
    """The other end says: not now."""

    def __init__(self, reason: str, pause: float | None = None, error: S3regError | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.pause = pause
        self.error = error


def check_wanted(stop: threading.Event) -> None:
    """Raise Interrupted once whoever asked does not want it any more."""
    if stop.is_set():
        raise Interrupted


def values(answer: urllib3.BaseHTTPResponse, url: str) -> dict[str, Any]:
    """The JSON values that the registry at `url` answered. Raises its error, AnswerInvalid, or Again."""
    said = answer.read(LARGEST_ANSWER + 1)
    body = _parsed(said)
    if answer.status < 300 and body is not None:  # noqa: PLR2004 - RFC 9110 §15.3
        return body
    if answer.status == _UNAUTHENTICATED:
        refused = _told(body)
        # Of what else it may say, the client knows more: which credential it gave.
        raise refused if isinstance(refused, CertificateRefused) else Unauthenticated
    if answer.status == _TOO_MANY:
        raise _not_yet(answer, body)
    error = _told(body)
    if error is not None and (error.kind not in {Kind.UNAVAILABLE, Kind.INTERNAL} or isinstance(error, _LASTING)):
        raise error
    if answer.status in _RETRIED:
        raise Again(str(error or f"it answered {answer.status}"), _retry_after(answer), error)
    if answer.status == _FORBIDDEN and body is not None and body.get("status") == "FAIL":
        raise Forbidden(reason=_why(body.get("message")))
    words = "something else than this API has" if error is None else str(error.detail.get("reason"))
    words = SPEAKS_TLS if body is None and _wants_tls(answer, said) else words
    raise AnswerInvalid(url=url, reason=f"it says {answer.status}, {words}")


def plain(answer: urllib3.BaseHTTPResponse) -> tuple[int, bytes]:
    """Status and body of what the registry answers elsewhere than in the API. Raises Again."""
    said = answer.read(LARGEST_PLAIN)
    if answer.status == _TOO_MANY:
        raise _not_yet(answer, _parsed(said))
    if answer.status in _RETRIED:
        raise Again(f"it answered {answer.status}", _retry_after(answer))
    return answer.status, said


def _parsed(data: bytes) -> dict[str, Any] | None:
    """The JSON object that an answer is; nothing at all counts as one without fields."""
    if not data:
        return {}
    with contextlib.suppress(ValueError, RecursionError):
        body = json.loads(data)
        return body if isinstance(body, dict) else None
    return None


def _not_yet(answer: urllib3.BaseHTTPResponse, body: dict[str, Any] | None) -> Again:
    """What a 429 means: by the registry's own words failed logins, of this node or of others behind its address."""
    pause = _retry_after(answer)
    error = _told(body)
    if error is None and body is not None and body.get("status") == "FAIL":
        error = TooManyFailures(seconds="some" if pause is None else round(pause))
    return Again(str(error or f"it answered {answer.status}"), pause, error)


def _why(message: Any) -> str:
    """Why somebody is not allowed something, in the words that Anka's dialect has instead of an error of ours."""
    said = message.strip() if isinstance(message, str) else ""
    words = said.removeprefix(Forbidden.says.partition("{")[0])[:LONGEST_REASON]
    return words or "the registry says that whoever asks may not do this"


def _told(body: dict[str, Any] | None) -> S3regError | None:
    """The error that an answer tells of: the registry's, or that of a store in a directory, which answers in its name."""
    told = body.get("error") if body is not None else None
    # Whoever answers may put anything into the detail, which fills the error's sentences.
    with contextlib.suppress(ValueError, TypeError, LookupError, AttributeError):
        return errors.from_dict(told) if isinstance(told, dict) else None
    return None


class Found:
    """What has come of an object, or of a range of it: `length` bytes in all, if somebody knows; in `into`, if it fits."""

    def __init__(self, length: int | None, into: bytearray | None = None) -> None:
        self.length = length
        self.size = 0
        """Bytes that came."""
        fits = into is not None and length is not None and length <= len(into)
        self._buffer = into if fits and into is not None else bytearray(length or 0)

    @property
    def left(self) -> int:
        """Bytes that may still come."""
        return (LARGEST_ANSWER if self.length is None else self.length) - self.size

    def add(self, piece: bytes) -> None:
        """The next bytes."""
        self._buffer[self.size : self.size + len(piece)] = piece
        self.size += len(piece)

    def bytes(self) -> memoryview:
        """All that came."""
        return memoryview(self._buffer)[: self.size]


def data(answer: urllib3.BaseHTTPResponse, store: str, found: Found, flow: Flow, *, ranged: bool) -> None:
    """Add the object, or the range of it, that `store` answers to what was `found`.

    Raises LinkRefused, Interrupted, Again, and StoreUnsuitable if a range was asked for and all of the object comes.
    """
    if ranged and answer.status == _OK:
        raise StoreUnsuitable(store=store, promises="ranges of objects (it sent all of one)")
    if answer.status != (_PARTIAL if ranged else _OK):
        refuse(answer)
    for piece in flow.incoming(answer, found.left):
        found.add(piece)
    if found.length is not None and found.left:
        raise Again(f"the answer broke off after {found.size} of {found.length} bytes")


def check_stored(answer: urllib3.BaseHTTPResponse) -> None:
    """Raise LinkRefused or Again unless the store has what was sent.

    A key that is taken holds these bytes: its name says so. What is stored has an ETag in its answer (PutObject in
    https://docs.aws.amazon.com/AmazonS3/latest/API), unlike the page with which a network asks to sign in.
    """
    if answer.status not in _STORED:
        refuse(answer)
    if answer.status != _TAKEN and "etag" not in answer.headers:
        raise Again(f"it answered {answer.status}, but not as a store does: somebody on the way may want a sign-in")


def refuse(answer: urllib3.BaseHTTPResponse) -> NoReturn:
    """Raise what a store's refusal means. The body is XML of the vendor's; only its code is looked at."""
    body = answer.read(4096)
    code = body.decode("utf-8", "replace").partition("<Code>")[2].partition("</Code>")[0][:60]
    code = code if code.isalnum() else ""
    told = _told(_parsed(body))
    if type(told) is S3regError:
        told = None  # somebody else's words
    if isinstance(told, _LASTING):
        raise told
    if answer.status in _RETRIED or code in _PASSING:
        raise Again(f"the store answered {answer.status} {code}".strip(), _retry_after(answer), told)
    if code in _GARBLED:
        # A bit may have flipped underway; the bytes here were hashed before they left.
        raise Again(f"the store received other bytes than were sent ({code})")
    if told is not None:
        raise Again(str(told)) if isinstance(told, ChecksumMismatch) else told
    reason = "the range lies outside the object" if answer.status == _BAD_RANGE else f"{answer.status} {code}".strip()
    reason = SPEAKS_TLS if not code and _wants_tls(answer, body) else reason
    raise LinkRefused(reason=reason)


def _wants_tls(answer: urllib3.BaseHTTPResponse, body: bytes) -> bool:
    """Whether a server says what nginx, Apache and all that are written in Go say to plain HTTP at their TLS port."""
    return answer.status == _BAD_REQUEST and b"HTTPS" in body[:4096]


def _retry_after(answer: urllib3.BaseHTTPResponse) -> float | None:
    """Seconds, where the header gives seconds (RFC 9110 §10.2.3); its date form depends on two clocks."""
    with contextlib.suppress(ValueError):
        return max(0.0, float(answer.headers.get("retry-after", "")))
    return None
