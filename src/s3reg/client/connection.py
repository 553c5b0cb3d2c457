"""A node's line to a registry and to the store behind it: JSON calls, ranges of objects, uploads; with retries.

Every call of the native API is safe to repeat, so a lost answer, a 5xx and a 429 are tried again: after what
`Retry-After` asks for, else after an exponential pause with full jitter. A budget shared by the whole connection keeps a
store that is down from being hammered by every worker at once. A link that the store refuses (expired, or its signer's
credential is gone) raises LinkRefused: the caller asks the registry for a fresh one, once for all its workers.

A transfer that was given up sets the event that it handed in as `stop`: whoever waits, sends or receives for it ends soon.

URLs of links are credentials: none is ever part of an error's text.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import socket
import ssl
import threading
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlencode

import urllib3
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, LocationParseError
from urllib3.util import Timeout, Url, parse_url

from s3reg import __version__, wire
from s3reg.client import answers
from s3reg.client.answers import Again, Found, check_wanted
from s3reg.client.pace import Pace
from s3reg.errors import (
    AnswerInvalid,
    Invalid,
    LocalDenied,
    RegistryUnreachable,
    RequestInvalid,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Answer = TypeVar("Answer")

TRIES = 7
"""Of one call; with the pauses below, a quarter of a minute on average, and half of one at most."""
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 30.0
BUDGET = 100
"""Retries that a connection may spend before successes refill it."""
CONNECT_SECONDS = 20.0
"""Also the longest that one slice of an upload may take to leave."""
STALL_SECONDS = 60.0
"""Without a single byte: then a connection is given up, and another tried."""
SLICE = 64 * 1024
"""Bytes handed to a socket at once: a time-out is then about progress, not about the size of a pack."""
_CA_UNKNOWN = {2, 18, 19, 20, 21}
"""OpenSSL's X509_V_ERR_… of a certificate that nobody known vouches for."""
_NO_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"}
"""OpenSSL's words for an answer that is none of TLS."""
_ERRNO = re.compile(r"\[Errno -?\d+\] ")


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach a registry."""

    url: str = field(repr=False)
    """Somebody may have put a password into it."""
    ca_bundle: str | None = None
    certificate: str | None = None
    key: str | None = field(default=None, repr=False)
    insecure: bool = False
    """Do not check the server's certificate."""


class Connection:
    """A registry, and the store it signs for. Safe to share between threads.

    `pause(stop, seconds)` is how it waits between two tries; `stall` is how many seconds may pass without a single byte.
    """

    def __init__(
        self,
        access: Access,
        *,
        connections: int = 32,
        pace: Pace | None = None,
        tries: int = TRIES,
        stall: float = STALL_SECONDS,
        pause: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        self.pace = pace or Pace()
        self._base = _base(access.url)
        self._tries = tries
        self._pause = pause
        self._never = threading.Event()
        self._live = _Live()
        self._pool = _pool(access, connections, stall, self._live)
        self._budget = _Budget()

    @property
    def url(self) -> str:
        """The registry's address, without a password."""
        return self._base.url

    def close(self) -> None:
        """Close idle connections."""
        self._pool.clear()

    def hang_up(self) -> None:
        """End every connection, those included on which somebody waits for a silent server.

        Whoever was given up comes back with Interrupted; whoever was not tries again.
        """
        self._live.end()

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
                return answers.values(answer, self.url)

        return self._persist(once, self.url, self._never)

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

    def read(
        self,
        link: str,
        *,
        first: int | None = None,
        length: int | None = None,
        into: bytearray | None = None,
        stop: threading.Event | None = None,
    ) -> memoryview:
        """The bytes of an object behind a signed link: all of them (`length`: so many), or the range from `first` on.

        They lie in `into`, if that is large enough, and stay as long as the caller leaves it alone.
        Raises LinkRefused, RegistryUnreachable, Interrupted once `stop` is set, and StoreUnsuitable if the store answers
        a range with the whole object, which is then cut off at once.
        """
        ranged = first is not None and length is not None
        given_up = stop or self._never
        store = self._store(link)
        found = Found(length, into)

        def once() -> memoryview:
            if not ranged:
                found.size = 0
            # What came before the line broke need not come again.
            at = (first or 0) + found.size
            headers = {"range": f"bytes={at}-{at + found.left - 1}"} if ranged else {}
            with self._request("GET", self._absolute(link), None, headers) as answer:
                answers.data(answer, store, found, given_up, ranged=ranged, passed=self._passed(given_up))
            return found.bytes()

        return self._persist(once, store, given_up)

    def send(
        self, link: str, headers: dict[str, str], body: memoryview, *, stop: threading.Event | None = None
    ) -> None:
        """PUT `body` to a signed link. A key that is taken already holds these bytes: its name says so.

        Raises LinkRefused, RegistryUnreachable, and Interrupted once `stop` is set.
        """
        everything = {**headers, "content-length": str(len(body))}
        given_up = stop or self._never

        def once() -> None:
            with self._request("PUT", self._absolute(link), self._slices(body, given_up), everything) as answer:
                answers.check_stored(answer)
                answer.read(SLICE)

        self._persist(once, self._store(link), given_up)

    def _slices(self, body: memoryview, stop: threading.Event) -> Iterator[bytes]:
        for start in range(0, len(body), SLICE):
            check_wanted(stop)
            part = body[start : start + SLICE]
            yield cast("bytes", part)
            self.pace.passed(len(part), stop)

    def _passed(self, stop: threading.Event) -> Callable[[int], None]:
        return lambda count: self.pace.passed(count, stop)

    def _absolute(self, link: str) -> str:
        """A store in a directory signs links that the registry itself serves, at whatever address it is reached."""
        return self.url.rstrip("/") + link if link.startswith("/") else link

    def _store(self, link: str) -> str:
        """The address of the store that a link leads to, and nothing of what is signed."""
        parts = parse_url(link)
        return self.url if parts.host is None else f"{parts.scheme}://{parts.netloc}"

    @contextlib.contextmanager
    def _request(
        self, method: str, url: str, body: bytes | Iterator[bytes] | None, headers: dict[str, str]
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        answer = self._pool.request(
            method,
            url,
            body=body,
            headers={**self._pool.headers, **headers},
            preload_content=False,
            redirect=False,
            retries=False,
        )
        try:
            yield answer
        finally:
            if not answer.closed:
                # What is left of the body is of no use to anyone: do not drain it, and do not reuse the connection.
                answer.close()
            answer.release_conn()

    def _persist(self, once: Callable[[], Answer], where: str, stop: threading.Event) -> Answer:
        """What `once` gives, tried again while that may help. `where`: whom it asks, for the error."""
        attempt = 0
        while True:
            check_wanted(stop)
            try:
                value = once()
            except Again as e:
                again = e
            except (HTTPError, ConnectionError, TimeoutError, ssl.SSLError) as e:
                if trouble := _lasting_trouble(e):
                    raise RegistryUnreachable(url=where, reason=trouble) from None
                again = Again(_plain(e))
            else:
                self._budget.refill()
                return value
            attempt += 1
            self.pace.refused()
            if attempt == self._tries or not self._budget.spend():
                raise again.error or RegistryUnreachable(url=where, reason=again.reason)
            jitter = random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt))  # noqa: S311 - spreads load
            self._pause(stop, jitter if again.pause is None else min(again.pause, LONGEST_PAUSE) + jitter / 4)


class _Live:
    """Connections with a socket, wherever urllib3 has them at the moment."""

    def __init__(self) -> None:
        self._all: weakref.WeakSet[HTTPConnection] = weakref.WeakSet()
        self._lock = threading.Lock()

    def add(self, connection: HTTPConnection) -> None:
        with self._lock:
            self._all.add(connection)

    def end(self) -> None:
        with self._lock:
            ending = list(self._all)
        for connection in ending:
            if connection.sock is not None:
                with contextlib.suppress(OSError):
                    # Not SSLSocket's own, which takes the connection apart under the hands of the thread that reads.
                    socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    def pools(self) -> dict[str, type[HTTPConnectionPool]]:
        """urllib3's pools by scheme, of connections that enter themselves here."""
        live = self

        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                live.add(self)

        class Encrypted(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                live.add(self)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class EncryptedPool(HTTPSConnectionPool):
            ConnectionCls = Encrypted

        return {"http": PlainPool, "https": EncryptedPool}


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
    try:
        parts = parse_url(url if "://" in url else f"http://{url}")
    except LocationParseError:
        parts = Url()
    if parts.scheme not in {"http", "https"} or not parts.host:
        raise Invalid(
            reason=f"{url.rsplit('@', maxsplit=1)[-1]!r} is not the address of a registry, like http://registry:8089"
        )
    return parts._replace(auth=None, query=None, fragment=None, path=(parts.path or "").rstrip("/") or None)


def _pool(access: Access, connections: int, stall: float, live: _Live) -> urllib3.PoolManager:
    context = ssl.create_default_context()
    if access.ca_bundle:
        with _usable(access.ca_bundle):
            context.load_verify_locations(access.ca_bundle)
    if access.certificate:
        with _usable(access.certificate):
            context.load_cert_chain(access.certificate, access.key)
    if access.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    manager = urllib3.PoolManager(
        num_pools=8,
        maxsize=connections,
        block=False,
        ssl_context=context,
        timeout=Timeout(connect=min(CONNECT_SECONDS, stall), read=stall),
        headers={"user-agent": f"s3reg/{__version__}", "accept-encoding": "identity"},
    )
    manager.pool_classes_by_scheme = live.pools()
    return manager


@contextlib.contextmanager
def _usable(file: str) -> Iterator[None]:
    try:
        yield
    except OSError as e:  # an SSLError is one too
        raise LocalDenied(file=file, reason=f"it is not a usable certificate ({e.strerror or e})") from e


def _lasting_trouble(error: BaseException) -> str:
    """What is wrong with a server's TLS, or nothing: no retry helps against that."""
    for reason in _reasons(error):
        if isinstance(reason, ssl.SSLCertVerificationError):
            advice = "; give its CA with --cacert" if reason.verify_code in _CA_UNKNOWN else ""
            return f"its certificate is refused ({reason.verify_message.rstrip('.')}){advice}"
        if isinstance(reason, ssl.SSLError) and reason.reason in _NO_TLS:
            return "it does not speak TLS there; its address may begin with http://"
    return ""


def _plain(error: BaseException) -> str:
    """What went wrong on the line, without the URL that urllib3 likes to add."""
    *_, innermost = _reasons(error)
    words = _ERRNO.sub("", str(innermost).rpartition(": ")[2]) or type(innermost).__name__
    return words if "?" not in words and "://" not in words else type(innermost).__name__


def _reasons(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was made of, as urllib3 wraps them: in `reason`, or among the arguments."""
    inner: object = error
    while isinstance(inner, BaseException):
        yield inner
        parts = (getattr(inner, "reason", None), *inner.args)
        inner = next((part for part in parts if isinstance(part, BaseException)), None)
