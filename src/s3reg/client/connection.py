"""A node's line to a registry and to the store behind it: JSON calls, ranges of objects, uploads; with retries.

Every call of the native API is safe to repeat, so a lost answer, a 5xx and a 429 are tried again: after what
`Retry-After` asks for, else after an exponential pause with full jitter. A budget shared by the whole connection keeps a
store that is down from being hammered by every worker at once. A link that the store refuses (expired, or its signer's
credential is gone) raises LinkRefused: the caller asks the registry for a fresh one, once for all its workers.

A transfer that was given up sets the event that it handed in as `stop`: whoever waits, sends or receives for it ends soon.

Each request has an id of its own. It goes along as `X-Request-Id`, and to a store, where that header would be a stranger's,
in the user agent; an error that comes of an answer has it as `request_id`.

What proves who asks (client/login.py) goes with the calls of the API, and nowhere else: a link brings its own proof, and
leads to whoever keeps the store. URLs of links are credentials too: none is ever part of an error's text.
"""

from __future__ import annotations

import contextlib
import json
import random
import ssl
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlencode

from urllib3.exceptions import HTTPError
from urllib3.util import parse_url

from s3reg import wire
from s3reg.client import answers, login, troubles
from s3reg.client.address import address_of
from s3reg.client.answers import Again, Found, check_wanted
from s3reg.client.flow import SLICE, Flow
from s3reg.client.pace import Pace
from s3reg.client.requestids import RequestIds, agent
from s3reg.client.sockets import Sockets, pool
from s3reg.errors import (
    AnswerInvalid,
    CertificateRefused,
    Interrupted,
    RegistryUnreachable,
    RequestInvalid,
    S3regError,
    TooManyFailures,
)
from s3reg.wire import requestid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import urllib3

Answer = TypeVar("Answer")

TRIES = 7
"""Of one call; with the pauses below, a quarter of a minute on average, and half of one at most."""
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 30.0
BUDGET = 100
"""Retries that a connection may spend before successes refill it."""
STALL_SECONDS = 60.0
"""Without a single byte, or with next to none: then a connection is given up, and another tried."""
TRIES_OF_A_NAME = 2
"""Of a host that never answered and that the name service does not know: a machine that wakes up is told so at first."""


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach a registry."""

    url: str = field(repr=False)
    """Somebody may have put a user and a password into it."""
    ca_bundle: str | None = None
    certificate: str | None = None
    key: str | None = field(default=None, repr=False)
    insecure: bool = False
    """Do not check the server's certificate."""
    user: str | None = None
    """With `password`: for HTTP Basic, unless there is an API key."""
    password: str | None = field(default=None, repr=False)
    key_id: str | None = None
    """The id of an API key."""
    api_key: str | None = field(default=None, repr=False)
    """The key: the name of a file, or its text in PEM, or in base64 as a registry prints it."""

    @classmethod
    def at(cls, text: str) -> Self:
        """The registry at an address that somebody wrote, a user and a password in it included. Raises NameInvalid."""
        found = address_of(text)
        return cls(found.url, user=found.user, password=found.password)


class Connection:
    """A registry, and the store it signs for. Safe to share between threads.

    `pause(stop, seconds)` is how it waits between two tries; `stall` is how many seconds may pass without a single
    byte, or with fewer than a connection is worth (`flow.FLOOR`). `ids`: what its requests are called, if others of the same
    command are too.
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
        ids: RequestIds | None = None,
    ) -> None:
        self._ids = ids or RequestIds()
        self._heard = _Heard()
        self.pace = pace or Pace()
        written = Access.at(access.url)
        self.url = written.url
        """The registry's address, without a password."""
        self._tries = tries
        self._pause = pause
        self._never = threading.Event()
        self._stall = stall
        self._sockets = Sockets(self.pace.heard)
        self._pool = pool(access, connections, stall, self._sockets)
        self._budget = _Budget()
        self._answered: set[str] = set()
        """Whoever answered anything."""
        access = access if access.user is not None else replace(access, user=written.user, password=written.password)
        self._credential = login.credential(access, self.url, self._post)

    def close(self) -> None:
        """Close idle connections."""
        self._pool.clear()

    def hang_up(self) -> None:
        """End every connection, those included on which somebody waits for a silent server.

        Whoever was given up comes back with Interrupted; whoever was not tries again.
        """
        self._sockets.end()
        self.pace.look_again()

    def call(
        self, method: str, path: str, body: dict[str, Any] | None = None, query: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """The registry's answer to a call of the native API, as JSON values.

        Raises the error that the registry answered, RegistryUnreachable, or AnswerInvalid.
        """
        url = self.url + path
        if query:
            url += "?" + urlencode({name: value for name, value in query.items() if value is not None})
        payload = None if body is None else json.dumps(body).encode()

        def ask(proof: dict[str, str]) -> dict[str, Any]:
            with self._request(method, url, payload, {"content-type": "application/json", **proof}) as answer:
                return answers.values(answer, self.url)

        return self._persist(lambda: self._credential.used(ask), self.url, self._never)

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
            error = AnswerInvalid(url=self.url, reason=e.detail["reason"])
            error.request_id = self._heard.request_id
            raise error from e

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
                answers.data(answer, store, found, Flow(self.pace, given_up, self._stall), ranged=ranged)
            return found.bytes()

        return self._persist(once, store, given_up, lambda: found.size if ranged else 0)

    def send(
        self, link: str, headers: dict[str, str], body: memoryview, *, stop: threading.Event | None = None
    ) -> None:
        """PUT `body` to a signed link. A key that is taken already holds these bytes: its name says so.

        Raises LinkRefused, RegistryUnreachable, and Interrupted once `stop` is set.
        """
        everything = {**headers, "content-length": str(len(body))}
        given_up = stop or self._never

        def once() -> None:
            slices = Flow(self.pace, given_up, self._stall).outgoing(body)
            with self._request("PUT", self._absolute(link), slices, everything) as answer:
                answers.check_stored(answer)
                answer.read(SLICE)

        self._persist(once, self._store(link), given_up)

    def _post(self, path: str, body: dict[str, str]) -> tuple[int, bytes]:
        """The answer to a call of the login: status and body. Raises Again."""
        headers = {"content-type": "application/json"}
        with self._request("POST", self.url + path, json.dumps(body).encode(), headers) as answer:
            return answers.plain(answer)

    def _absolute(self, link: str) -> str:
        """A store in a directory signs links that the registry itself serves, at whatever address it is reached."""
        return self.url + link if link.startswith("/") else link

    def _store(self, link: str) -> str:
        """The address of the store that a link leads to, and nothing of what is signed."""
        parts = parse_url(link)
        return self.url if parts.host is None else f"{parts.scheme}://{parts.netloc}"

    @contextlib.contextmanager
    def _request(
        self, method: str, url: str, body: bytes | Iterator[bytes] | None, headers: dict[str, str]
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        known, self._heard.request_id = self._ids.following(), None
        named = {"user-agent": agent(known), **({requestid.HEADER: known} if url.startswith(self.url + "/") else {})}
        answer = self._pool.request(
            method,
            url,
            body=body,
            headers={**self._pool.headers, **headers, **named},
            preload_content=False,
            redirect=False,
            retries=False,
        )
        # By the name that it gave the request, if it gave one: that is in its log.
        self._heard.request_id = requestid.valid(answer.headers.get(requestid.HEADER)) or known
        try:
            yield answer
        finally:
            if not answer.closed:
                # What is left of the body is of no use to anyone: do not drain it, and do not reuse the connection.
                answer.close()
            answer.release_conn()

    def _persist(
        self, once: Callable[[], Answer], where: str, stop: threading.Event, came: Callable[[], int] = lambda: 0
    ) -> Answer:
        """`_tried`; its error tells which request was answered so."""
        try:
            return self._tried(once, where, stop, came)
        except Interrupted:
            raise
        except S3regError as e:
            e.request_id = e.request_id or self._heard.request_id
            raise

    def _tried(self, once: Callable[[], Answer], where: str, stop: threading.Event, came: Callable[[], int]) -> Answer:
        """What `once` gives, tried again while that may help. `where`: whom it asks, for the error.

        `came`: how many bytes need not come again. A try that brought some starts the count of tries anew: what breaks off
        now and then comes to its end, as long as the budget lasts.
        """
        attempt, had = 0, came()
        while True:
            check_wanted(stop)
            error: BaseException | None = None
            try:
                value = once()
            except Again as e:
                again = e
                self._answered.add(where)
            except (HTTPError, ConnectionError, TimeoutError, ssl.SSLError) as e:
                again, error = Again(troubles.plain(e)), e
            else:
                self._answered.add(where)
                self._budget.refill()
                return value
            # Whoever was given up lost its connection by that: it says nothing of the line.
            check_wanted(stop)
            if came() > had:
                attempt, had = 0, came()
            attempt += 1
            if error is not None:
                self._check_helps(error, where, attempt)
            if not isinstance(again.error, TooManyFailures):
                # That is about who asks, and says nothing of the line.
                self.pace.refused()
            if attempt == self._tries or not self._budget.spend():
                raise again.error or RegistryUnreachable(url=where, reason=self._reason(again, error, where))
            jitter = random.uniform(0, min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt))  # noqa: S311 - spreads load
            self._pause(stop, jitter if again.pause is None else min(again.pause, LONGEST_PAUSE) + jitter / 4)

    def _check_helps(self, error: BaseException, where: str, attempt: int) -> None:
        """Raise CertificateRefused or RegistryUnreachable if no further try helps."""
        refused = troubles.against_certificate(error)
        if refused:
            raise CertificateRefused(reason=f"{where} ends TLS because of it ({refused})") from None
        trouble = troubles.lasting(error)
        if attempt == TRIES_OF_A_NAME and where not in self._answered and troubles.is_no_such_name(error):
            trouble = troubles.plain(error)
        if trouble:
            raise RegistryUnreachable(url=where, reason=trouble) from None

    def _reason(self, again: Again, error: BaseException | None, where: str) -> str:
        """Why the last try failed."""
        dumb = error is not None and where not in self._answered and troubles.is_hang_up(error)
        return troubles.SPEAKS_TLS if dumb and troubles.speaks_tls(where) else again.reason


class _Heard(threading.local):
    """What this thread heard last."""

    request_id: str | None = None
    """Of the last request, if it was answered."""


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
