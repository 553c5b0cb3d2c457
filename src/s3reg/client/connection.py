"""A node's line to a registry and to the store behind it: JSON calls, ranges of objects, uploads; with retries.

Every call of the native API is safe to repeat, so a lost answer, a 5xx and a 429 are tried again: after what
`Retry-After` asks for, else after an exponential pause with full jitter. A budget shared by the whole connection keeps a
store that is down from being hammered by every worker at once. A link that the store refuses (expired, or its signer's
credential is gone) raises LinkRefused: the caller asks the registry for a fresh one, once for all its workers.

URLs of links are credentials: none is ever part of an error's text.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import ssl
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlencode

import urllib3
from urllib3.exceptions import HTTPError, SSLError
from urllib3.util import Timeout, Url, parse_url

from s3reg import __version__, errors, wire
from s3reg.errors import (
    AnswerInvalid,
    BucketMissing,
    ChecksumMismatch,
    Invalid,
    Kind,
    LinkRefused,
    LocalDenied,
    RegionWrong,
    RegistryUnreachable,
    RequestInvalid,
    S3regError,
    StoreFull,
    StoreReadOnly,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Answer = TypeVar("Answer")

TRIES = 7
"""Of one call; with the pauses below, about a minute and a half of a registry that restarts."""
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 30.0
BUDGET = 100
"""Retries that a connection may spend before successes refill it."""
CONNECT_SECONDS = 20.0
"""Also the longest that one slice of an upload may take to leave."""
STALL_SECONDS = 60.0
"""Without a single byte."""
SLICE = 64 * 1024
"""Bytes handed to a socket at once: a time-out is then about progress, not about the size of a pack."""
LARGEST_ANSWER = 256 * 1024**2
_ERRNO = re.compile(r"\[Errno -?\d+\] ")
_LASTING = (BucketMissing, RegionWrong, StoreFull, StoreReadOnly)
"""Somebody has to do something about these: a minute of retries would only hide what is wrong."""
_OK = 200
_PARTIAL = 206
_BAD_RANGE = 416
_EXISTS = 412
_RETRIED = {408, 429, 500, 502, 503, 504}


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach a registry."""

    url: str
    ca_bundle: str | None = None
    certificate: str | None = None
    key: str | None = field(default=None, repr=False)
    insecure: bool = False
    """Do not check the server's certificate."""


class Connection:
    """A registry, and the store it signs for. Safe to share between threads."""

    def __init__(self, access: Access, *, connections: int = 32, tries: int = TRIES) -> None:
        self._base = _base(access.url)
        self._tries = tries
        self._pool = _pool(access, connections)
        self._budget = _Budget()

    @property
    def url(self) -> str:
        """The registry's address, without a password."""
        return self._base.url

    def close(self) -> None:
        """Close idle connections."""
        self._pool.clear()

    def call(
        self, method: str, path: str, body: dict[str, Any] | None = None, query: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """The registry's answer to a call of the native API, as JSON values.

        Raises the error that the registry answered, RegistryUnreachable, or AnswerInvalid.
        """
        url = self.url.rstrip("/") + path
        if query:
            url += "?" + urlencode({name: value for name, value in query.items() if value is not None})
        payload = None if body is None else json.dumps(body).encode()

        def once() -> dict[str, Any]:
            with self._request(method, url, payload, {"content-type": "application/json"}) as answer:
                return _json(answer, self.url)

        return self._persist(once)

    def ask(
        self,
        schema: type[wire.Message],
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        query: dict[str, Any] | None = None,
    ) -> Any:
        """`call`, and its answer as the value that `schema` makes. Nothing in it is believed: also raises AnswerInvalid."""
        answer = self.call(method, path, body, query)
        try:
            return wire.read(schema, answer)
        except RequestInvalid as e:
            raise AnswerInvalid(url=self.url, reason=e.detail["reason"]) from e

    def read(self, link: str, *, first: int | None = None, length: int | None = None) -> bytes:
        """The bytes of an object behind a signed link: all of them, or exactly the range asked for.

        A store that answers a range with the whole object is cut off at once. Raises LinkRefused, RegistryUnreachable.
        """
        headers = {} if first is None or length is None else {"range": f"bytes={first}-{first + length - 1}"}

        def once() -> bytes:
            with self._request("GET", self._absolute(link), None, headers) as answer:
                return _bytes(answer, length if headers else None)

        return self._persist(once)

    def send(self, link: str, headers: dict[str, str], body: memoryview) -> None:
        """PUT `body` to a signed link. A key that is taken already holds these bytes: its name says so.

        Raises LinkRefused, ChecksumMismatch, RegistryUnreachable.
        """
        everything = {**headers, "content-length": str(len(body))}

        def once() -> None:
            slices = (cast("bytes", body[start : start + SLICE]) for start in range(0, len(body), SLICE))
            with self._request("PUT", self._absolute(link), slices, everything) as answer:
                if answer.status not in {200, 201, 204, _EXISTS}:
                    _refuse(answer)
                answer.read()

        self._persist(once)

    def _absolute(self, link: str) -> str:
        """A store in a directory signs links that the registry itself serves, at whatever address it is reached."""
        return self.url.rstrip("/") + link if link.startswith("/") else link

    @contextlib.contextmanager
    def _request(
        self, method: str, url: str, body: bytes | Iterator[bytes] | None, headers: dict[str, str]
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        answer = self._pool.request(
            method, url, body=body, headers=headers, preload_content=False, redirect=False, retries=False
        )
        try:
            yield answer
        except BaseException:
            # What is left of the body is of no use to anyone: do not drain it, and do not reuse the connection.
            answer.close()
            raise
        finally:
            answer.release_conn()

    def _persist(self, once: Callable[[], Answer]) -> Answer:
        """What `once` gives, tried again while that may help."""
        attempt = 0
        while True:
            try:
                value = once()
            except _Again as e:
                again = e
            except (HTTPError, ConnectionError, TimeoutError, ssl.SSLError) as e:
                if _certificate_trouble(e):
                    raise RegistryUnreachable(url=self.url, reason=_certificate_trouble(e)) from None
                again = _Again(_plain(e))
            else:
                self._budget.refill()
                return value
            attempt += 1
            if attempt == self._tries or not self._budget.spend():
                raise again.error or RegistryUnreachable(url=self.url, reason=again.reason)
            jitter = random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt))  # noqa: S311 - spreads load
            time.sleep(jitter if again.pause is None else min(again.pause, LONGEST_PAUSE) + jitter / 4)


class _Again(Exception):
    """The other end says: not now."""

    def __init__(self, reason: str, pause: float | None = None, error: S3regError | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.pause = pause
        self.error = error


class _Budget:
    """Retries left; each success gives back a tenth of one."""

    def __init__(self) -> None:
        self._left = float(BUDGET)
        self._lock = threading.Lock()

    def spend(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def refill(self) -> None:
        with self._lock:
            self._left = min(float(BUDGET), max(self._left, 0) + 0.1)


def _base(url: str) -> Url:
    parts = parse_url(url if "://" in url else f"http://{url}")
    if parts.scheme not in {"http", "https"} or not parts.host:
        raise Invalid(
            reason=f"{url.rsplit('@', maxsplit=1)[-1]!r} is not the address of a registry, like http://registry:8089"
        )
    return parts._replace(auth=None, query=None, fragment=None, path=(parts.path or "").rstrip("/") or None)


def _pool(access: Access, connections: int) -> urllib3.PoolManager:
    context = ssl.create_default_context()
    try:
        if access.ca_bundle:
            context.load_verify_locations(access.ca_bundle)
        if access.certificate:
            context.load_cert_chain(access.certificate, access.key)
    except (OSError, ssl.SSLError) as e:
        file = access.ca_bundle if access.ca_bundle and not access.certificate else access.certificate
        raise LocalDenied(file=file, reason=f"it is not a usable certificate ({e.strerror or e})") from e
    if access.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return urllib3.PoolManager(
        num_pools=8,
        maxsize=connections,
        block=False,
        ssl_context=context,
        timeout=Timeout(connect=CONNECT_SECONDS, read=STALL_SECONDS),
        headers={"user-agent": f"s3reg/{__version__}", "accept-encoding": "identity"},
    )


def _json(answer: urllib3.BaseHTTPResponse, url: str) -> dict[str, Any]:
    data = answer.read(LARGEST_ANSWER + 1)
    try:
        body = json.loads(data) if data else {}
    except (ValueError, RecursionError):
        body = None
    if answer.status < 300 and isinstance(body, dict):  # noqa: PLR2004 - RFC 9110 §15.3
        return body
    told = body.get("error") if isinstance(body, dict) else None
    error = errors.from_dict(told) if isinstance(told, dict) else None
    if error is not None and (error.kind not in {Kind.UNAVAILABLE, Kind.INTERNAL} or isinstance(error, _LASTING)):
        raise error
    if answer.status in _RETRIED:
        raise _Again(str(error or f"it answered {answer.status}"), _retry_after(answer), error)
    words = "something else than this API has" if error is None else str(error.detail.get("reason"))
    raise AnswerInvalid(url=url, reason=f"it says {answer.status}, {words}")


def _bytes(answer: urllib3.BaseHTTPResponse, length: int | None) -> bytes:
    expected = _OK if length is None else _PARTIAL
    if answer.status == _OK and length is not None:
        raise LinkRefused(reason="the store ignores ranges and sent the whole object")
    if answer.status != expected:
        _refuse(answer)
    data = answer.read(LARGEST_ANSWER if length is None else length)
    if length is not None and len(data) != length:
        raise _Again(f"the answer broke off after {len(data)} of {length} bytes")
    return data


def _refuse(answer: urllib3.BaseHTTPResponse) -> None:
    """Turn a store's refusal into ours. The body is XML of the vendor's; only its code is looked at."""
    text = answer.read(4096).decode("utf-8", "replace")
    code = text.partition("<Code>")[2].partition("</Code>")[0][:60]
    told = _told(text)
    if isinstance(told, _LASTING):
        raise told
    if answer.status in _RETRIED:
        raise _Again(f"the store answered {answer.status} {code}".strip(), _retry_after(answer), told)
    if code in {"BadDigest", "XAmzContentSHA256Mismatch", "InvalidDigest", "XAmzContentChecksumMismatch"}:
        # A bit may have flipped underway; the bytes here were hashed before they left.
        raise _Again(f"the store received other bytes than were sent ({code})")
    if told is not None:
        raise _Again(str(told)) if isinstance(told, ChecksumMismatch) else told
    reason = "the range lies outside the object" if answer.status == _BAD_RANGE else f"{answer.status} {code}".strip()
    raise LinkRefused(reason=reason)


def _told(text: str) -> S3regError | None:
    """The error that a registry with its store in a directory answers in its own name, if `text` is one."""
    with contextlib.suppress(ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return errors.from_dict(json.loads(text)["error"])
    return None


def _retry_after(answer: urllib3.BaseHTTPResponse) -> float | None:
    """Seconds, where the header gives seconds (RFC 9110 §10.2.3); its date form depends on two clocks."""
    with contextlib.suppress(ValueError):
        return max(0.0, float(answer.headers.get("retry-after", "")))
    return None


def _certificate_trouble(error: BaseException) -> str:
    """Why a certificate was refused, or nothing: no retry helps against that."""
    reason: BaseException | None = error
    while reason is not None:
        if isinstance(reason, ssl.SSLCertVerificationError):
            return f"its certificate is refused ({reason.verify_message}); give its CA with --cacert"
        inner = getattr(reason, "reason", None) if isinstance(reason, SSLError | HTTPError) else None
        reason = inner if isinstance(inner, BaseException) else reason.__cause__
    return ""


def _plain(error: BaseException) -> str:
    """What went wrong on the line, without the URL that urllib3 likes to add."""
    inner = getattr(error, "reason", None)
    if isinstance(inner, BaseException):
        error = inner
    words = _ERRNO.sub("", str(error).rpartition(": ")[2]) or type(error).__name__
    return words if "?" not in words and "://" not in words else type(error).__name__
