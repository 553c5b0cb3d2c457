"""A registry and its store in the tests' own process, without a socket: nodes call them, and a `Script` strikes.

The registry is the real application over a `Port`; beside it stands the store's own server, which takes and gives what links
are for. A node is the real client; only its pool of connections is another: it hands each request to one of the two.
"""

from __future__ import annotations

import contextlib
import io
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import ProtocolError
from werkzeug.test import EnvironBuilder, run_wsgi_app

from campaign.port_faults import LINK_GET, LINK_PUT, Fault, Killed, Port, Script
from faults import Call
from s3reg.api import create_app
from s3reg.api.wiring import Wiring
from s3reg.client.connection import Access, Connection
from s3reg.client.library import Library
from s3reg.client.pace import Pace
from s3reg.registry import Registry
from s3reg.settings import Settings
from s3reg.store import links
from s3reg.store.files import FilesStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from urllib.parse import SplitResult

    from s3reg.store import ObjectStore

URL = "http://registry.invalid"
_TAKEN = {200, 412}
_REFUSALS = {
    Fault.FAILS: (500, "InternalError"),
    Fault.AWAY: (500, "InternalError"),
    Fault.DENIED: (403, "AccessDenied"),
    Fault.THROTTLED: (503, "SlowDown"),
    Fault.LIMITED: (429, "TooManyRequests"),
}
"""Status and S3's word for it."""
PATIENT, IMPATIENT = 7, 1
"""Tries of one call."""


@dataclass
class Site:
    """One process of a registry over the store in `folder`, and the store's server."""

    folder: Path
    script: Script = field(default_factory=Script)

    def __post_init__(self) -> None:
        self.store = FilesStore(self.folder)
        self.store.sign_with(Registry(self.store).signing_secret())
        self.port = Port(self.store, self.script)
        settings = Settings(store=str(self.folder))
        self._api, self._links = _apps(settings, self.port, self.store)
        wiring = Wiring(settings, self.port)
        # What would write events, nobody waits for, and nothing ends: it is no part of any operation.
        wiring._registry._events._writer = threading.current_thread()
        self._api.extensions["s3reg"] = wiring
        self._links.extensions["s3reg"] = Wiring(settings, self.store)
        self.taken: list[str] = []
        """Keys of what the store's server took, and said so."""
        self.asked: list[str] = []
        """Keys of what it was sent."""
        self.headers: dict[str, str] = {}

    def clear(self) -> None:
        """As of a pool of connections."""

    def request(
        self, method: str, url: str, *, body: Any = None, headers: dict[str, str], **_: object
    ) -> urllib3.HTTPResponse:
        """As of a pool of connections."""
        parts = urlsplit(url)
        data = body if isinstance(body, bytes) else b"".join(body or ())
        if not parts.path.startswith(links.PREFIX):
            return _answer(self._api, method, parts, headers, data)
        call = Call(LINK_GET if method == "GET" else LINK_PUT, (parts.path.removeprefix(links.PREFIX),))
        if method == "PUT":
            self.asked.append(call.keys[0])
        fault = self.script.next(call)
        if fault is Fault.DIES:
            raise Killed
        if fault in _REFUSALS:
            return _refused(*_REFUSALS[fault])
        if fault is Fault.SLOW:
            self.script.rival()
        if data:
            data = self._spoilt(fault, data)
        answer = _answer(self._links, method, parts, headers, data)
        if fault is Fault.LATE:
            self.script.rival()
        if fault is Fault.DIES_BEHIND:
            raise Killed
        return self._answered(fault, call, answer)

    def _spoilt(self, fault: Fault | None, data: bytes) -> bytes:
        if fault is Fault.CUT:
            return data[: len(data) // 2]
        return self.script.flipped(data, high=False) if fault is Fault.CORRUPT else data

    def _answered(self, fault: Fault | None, call: Call, answer: urllib3.HTTPResponse) -> urllib3.HTTPResponse:
        """What a node hears."""
        if call.verb == LINK_GET:
            if fault not in {Fault.CUT, Fault.CORRUPT}:
                return answer
            return _response(answer.status, dict(answer.headers), self._spoilt(fault, answer.read()))
        if fault in {Fault.CUT, Fault.CORRUPT}:
            assert answer.status >= 400, "other bytes than were signed were taken"
        if fault in {Fault.LOST, Fault.CUT}:
            raise ProtocolError("Connection aborted.", ConnectionResetError(104, "Connection reset by peer"))
        if answer.status in _TAKEN:
            self.taken.append(call.keys[0])
        return answer

    @contextlib.contextmanager
    def line(self, *, tries: int = PATIENT) -> Iterator[Connection]:
        """A node's connection: one request at a time, and no pause between two tries."""
        line = Connection(Access(URL), pace=Pace(jobs=1), tries=tries, pause=lambda *_: None)
        line._pool = self  # type: ignore[assignment]
        yield line

    def library(self, name: str) -> Library:
        """A library of a node of this name, beside the store."""
        return Library(self.folder.parent / name)


_made: list[Any] = []


def _apps(settings: Settings, *stores: ObjectStore) -> list[Any]:
    """The two applications, whose wiring is another for each site: to make them takes longer than what is done with one."""
    if not _made:
        _made.extend(create_app(settings, store) for store in stores)
    return _made


def _answer(app: Any, method: str, parts: SplitResult, headers: dict[str, str], data: bytes) -> urllib3.HTTPResponse:
    environ = EnvironBuilder(
        path=parts.path, query_string=parts.query, method=method, headers=headers, data=data
    ).get_environ()
    pieces, status, answered = run_wsgi_app(app, environ)
    with contextlib.closing(pieces) if hasattr(pieces, "close") else contextlib.nullcontext():
        said = b"".join(pieces)
    return _response(int(status.split()[0]), dict(answered), said)


def _response(status: int, headers: dict[str, str], data: bytes) -> urllib3.HTTPResponse:
    return urllib3.HTTPResponse(io.BytesIO(data), headers, status, preload_content=False, enforce_content_length=True)


def _refused(status: int, code: str) -> urllib3.HTTPResponse:
    body = f"<Error><Code>{code}</Code></Error>".encode()
    return _response(status, {"content-length": str(len(body)), "retry-after": "1"}, body)
