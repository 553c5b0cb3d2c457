"""An HTTP server on loopback that does as a script says, request by request: also what no proper server does."""

from __future__ import annotations

import contextlib
import fcntl
import json
import socket
import socketserver
import struct
import sys
import termios
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    Step = Callable[["Exchange"], None]

REASONS = {200: "OK", 206: "Partial Content", 307: "Temporary Redirect", 403: "Forbidden", 503: "Service Unavailable"}


@dataclass
class Request:
    method: str
    target: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes = b""
    connection: int = 0
    """Which connection it came over, from 1."""


@dataclass
class Exchange:
    """A request, and the socket to answer on."""

    request: Request
    socket: socket.socket = field(repr=False)
    server: Scripted = field(repr=False)

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def head(self, status: int, length: int | None, **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Whatever')}"]
        lines += [] if length is None else [f"Content-Length: {length}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join([*lines, "", ""]).encode())


class Hangup(Exception):
    """The connection ends here."""


def answers(status: int, body: bytes | dict[str, Any] = b"", **headers: str) -> Step:
    """A proper answer."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body

    def step(exchange: Exchange) -> None:
        exchange.head(status, len(data), **headers)
        exchange.send(data)

    return step


def breaks_off(status: int, body: bytes, claimed: int) -> Step:
    """An answer that promises `claimed` bytes, sends `body` and ends the connection."""

    def step(exchange: Exchange) -> None:
        exchange.head(status, claimed)
        exchange.send(body)
        raise Hangup

    return step


def resets(status: int | None = None, body: bytes = b"", claimed: int = 1000) -> Step:
    """The connection is reset: at once, or in the middle of an answer."""

    def step(exchange: Exchange) -> None:
        if status is not None:
            exchange.head(status, claimed)
            exchange.send(body)
        exchange.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Hangup

    return step


def pours(status: int) -> Step:
    """An answer that never ends, until nobody takes it any more; `server.poured` counts its bytes."""

    def step(exchange: Exchange) -> None:
        exchange.head(status, 1 << 40)
        with contextlib.suppress(OSError):
            while True:
                exchange.send(bytes(65536))
                exchange.server.poured += 65536
        raise Hangup

    return step


def refuses_early(status: int, body: bytes) -> Step:
    """An answer before the request's body was read, and the end of the connection: to be used with `unread`.

    Closing resets the connection, because of what was not read; and a reset throws away what is still on its way. Servers
    wait before they close (RFC 9112 §9.6); this one until the other end's kernel has all of the answer, read or not.
    """

    def step(exchange: Exchange) -> None:
        exchange.head(status, len(body), connection="close")
        exchange.send(body)
        while _underway(exchange.socket):
            time.sleep(0.001)  # nothing wakes anyone up for this
        raise Hangup

    return step


def _underway(connection: socket.socket) -> int:
    """Bytes that were sent and that the other end has not acknowledged."""
    return int.from_bytes(fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


class Scripted(socketserver.ThreadingTCPServer):
    """Answers the n-th request with the n-th step, and further ones with the last. Use it in a `with`."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, *steps: Step, tls: ssl.SSLContext | None = None, unread: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.steps = list(steps)
        self.requests: list[Request] = []
        self.poured = 0
        self.unread = unread
        """Bodies are left where they are: the last step answers without having seen them."""
        self.tls = tls
        self.connections = 0
        self.lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.server_address[1]}"

    def next_step(self, request: Request) -> Step:
        with self.lock:
            self.requests.append(request)
            return self.steps[min(len(self.requests), len(self.steps)) - 1]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """A client that goes away is part of the play."""


class _Conversation(socketserver.BaseRequestHandler):
    server: Scripted

    def handle(self) -> None:
        with self.server.lock:
            self.server.connections += 1
            number = self.server.connections
        if self.server.tls is not None:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
        with self.request, contextlib.suppress(Hangup, OSError), self.request.makefile("rb") as stream:
            while (request := self._read(stream)) is not None:
                request.connection = number
                self.server.next_step(request)(Exchange(request, self.request, self.server))

    def _read(self, stream: Any) -> Request | None:
        first = stream.readline().decode().split()
        if not first:
            return None
        headers = {}
        while line := stream.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        body = b"" if self.server.unread else stream.read(int(headers.get("content-length", 0)))
        return Request(first[0], first[1], headers, body)
