"""HTTP between a client and its server, where every request is noted and may be spoilt: `Wire`, and faults for it.

with Wire(server.endpoint) as wire:
    wire.rule = lambda passage: says(503) if passage.kind == "packs" else None
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import socketserver
import struct
import threading
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, NoReturn, Self, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PIECE = 65536
WAIT = 30
_ONE_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class Ended(Exception):
    """The connection ends here."""


@dataclass(eq=False)
class Passage:
    """A request that came by, and what became of it."""

    method: str
    target: str = field(repr=False)
    """May be signed."""
    headers: dict[str, str] = field(repr=False)
    """Names in lower case."""
    client: socket.socket = field(repr=False)
    stream: IO[bytes] = field(repr=False)
    wire: Wire = field(repr=False)
    taken: int = 0
    """Bytes of its body that came."""
    status: int | None = None
    """Of the server's answer; None: it never heard of the request, or never answered."""
    given: int = 0
    """Bytes of an answer's body that the client was given."""
    spoilt: bool = False

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def kind(self) -> str:
        """What it is about: `packs`, `maps`, or the call's last word."""
        return next((kind for kind in ("packs", "maps") if f"/{kind}/" in self.path), self.path.rpartition("/")[2])

    @property
    def first(self) -> int:
        """Where the range begins that it asks for."""
        return int(self.headers.get("range", "bytes=0-")[6:].partition("-")[0])

    def body(self) -> Iterator[bytes]:
        """What is left of its body, piece by piece."""
        left = int(self.headers.get("content-length", 0)) - self.taken
        while left and (piece := self.stream.read1(min(left, PIECE))):  # type: ignore[attr-defined]
            left -= len(piece)
            self.taken += len(piece)
            yield piece

    @contextlib.contextmanager
    def forwarded(self, **headers: str | None) -> Iterator[http.client.HTTPResponse]:
        """The server's answer to the request; `headers` says which go there otherwise, or not at all."""
        with contextlib.closing(http.client.HTTPConnection(self.wire.server, timeout=WAIT)) as behind:
            behind.putrequest(self.method, self.target, skip_host=True, skip_accept_encoding=True)
            for name, value in (self.headers | headers).items():
                if value is not None:
                    behind.putheader(name, value)
            behind.endheaders()
            for piece in self.body():
                with contextlib.suppress(ConnectionError):  # it has answered already
                    behind.send(piece)
            with behind.getresponse() as answer:
                self.status = answer.status
                yield answer

    def head(self, status: int, length: int | None, headers: Iterable[tuple[str, str]] = ()) -> None:
        lines = [f"HTTP/1.1 {status} As it is", *(f"{name}: {value}" for name, value in headers)]
        lines += [] if length is None else [f"Content-Length: {length}"]
        self.client.sendall("\r\n".join([*lines, "", ""]).encode())

    def give(self, data: bytes) -> None:
        self.client.sendall(data)
        self.given += len(data)

    def pass_on(
        self,
        answer: http.client.HTTPResponse,
        *,
        most: int | None = None,
        altered: Callable[[int, bytes], bytes] = lambda _, data: data,
    ) -> None:
        """Give the answer to the client: `most` bytes of its body, each piece `altered(offset, data)`."""
        kept = [row for row in answer.getheaders() if row[0].lower() not in _ONE_HOP]
        if self.method == "HEAD":  # its length is that of what a GET would give
            length = answer.getheader("Content-Length")
            self.head(answer.status, None if length is None else int(length), kept)
            return
        self.head(answer.status, None if answer.status in {204, 304} else answer.length or 0, kept)
        while (left := PIECE if most is None else most - self.given) and (data := answer.read(min(left, PIECE))):
            self.give(altered(self.given, data))

    def reset(self) -> NoReturn:
        """End the connection as a machine does that knows nothing of it."""
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Ended

    def say_nothing(self) -> NoReturn:
        """Until the client goes away, or the test is over."""
        self.client.settimeout(WAIT)
        while self.client.recv(PIECE):
            pass
        raise Ended


class Wire(socketserver.ThreadingTCPServer):
    """HTTP between clients and the server at `endpoint`: what comes by is noted, and may be spoilt. Use it in a `with`.

    `rule(passage)` gives what becomes of a request; None: it passes.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, endpoint: str, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Conversation)
        self.server = endpoint.removeprefix("http://")
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self.rule: Callable[[Passage], Fault | None] = lambda _: None
        self.passed: list[Passage] = []
        self.lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def of(self, method: str, kind: str) -> list[Passage]:
        """The passages of this method and kind."""
        return [passage for passage in self.passed if (passage.method, passage.kind) == (method, kind)]

    def mend(self) -> None:
        """From now on everything passes; what went by is forgotten, and who waits on an open connection waits no more."""
        self.rule, self.passed = lambda _: None, []
        with self.lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.mend()
        self.server_close()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        # Else an answer's body waits for its head to be acknowledged: 40 ms each.
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self.lock:
            self._open.add(request)
        super().process_request_thread(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self.lock:
            self._open.discard(request)
        self.close_request(request)  # without the polite end, so that a reset stays one

    def handle_error(self, *_: object) -> None:
        """A client that goes away is part of the play."""


class _Conversation(socketserver.BaseRequestHandler):
    server: Wire

    def handle(self) -> None:
        with contextlib.suppress(Ended, OSError, http.client.HTTPException), self.request.makefile("rb") as stream:
            while (passage := self._read(stream)) is not None:
                with self.server.lock:
                    self.server.passed.append(passage)
                fault = self.server.rule(passage)
                passage.spoilt = fault is not None
                (fault or passes)(passage)
                for _ in passage.body():
                    """Left by whoever answered without it."""

    def _read(self, stream: IO[bytes]) -> Passage | None:
        first = stream.readline().decode().split()
        if len(first) != 3:
            return None
        headers = {}
        while line := stream.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return Passage(first[0], first[1], headers, self.request, stream, self.server)


Fault: TypeAlias = "Callable[[Passage], None]"


def passes(passage: Passage) -> None:
    with passage.forwarded() as answer:
        passage.pass_on(answer)


def says(status: int, code: str = "", **headers: str) -> Fault:
    """The server hears nothing of the request; this is answered."""

    def fault(passage: Passage) -> None:
        for _ in passage.body():
            """Taken, as servers do."""
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Resource>{passage.target}</Resource></Error>".encode()
        passage.head(status, len(text), [(name.replace("_", "-"), value) for name, value in headers.items()])
        passage.client.sendall(text)

    return fault


def page(passage: Passage) -> None:
    """Somebody on the way answers in the server's place: all is well, and here is a page of his."""
    for _ in passage.body():
        """Taken, as servers do."""
    text = b"<html><head><title>Sign in to the network</title></head><body>Please accept our terms.</body></html>"
    passage.head(200, len(text), [("Content-Type", "text/html")])
    passage.client.sendall(b"" if passage.method == "HEAD" else text)


def done_but(status: int) -> Fault:
    """The server does what is asked, and this is answered instead of what it says."""

    def fault(passage: Passage) -> None:
        with passage.forwarded():
            says(status, "InternalError")(passage)

    return fault


def done_but_lost(passage: Passage) -> None:
    """The server does what is asked; nobody hears of it."""
    with passage.forwarded():
        passage.reset()


def done_but_silent(passage: Passage) -> None:
    """The server does what is asked; then nothing comes any more."""
    with passage.forwarded():
        passage.say_nothing()


def resets(passage: Passage) -> None:
    """The connection is reset before anything was looked at."""
    passage.reset()


def silent(passage: Passage) -> None:
    """The request is taken, and nothing is ever said."""
    passage.say_nothing()


def takes(share: float) -> Fault:
    """This share of the body is taken; then the connection is reset."""

    def fault(passage: Passage) -> None:
        wanted = int(share * int(passage.headers.get("content-length", 0)))
        for _ in passage.body():
            if passage.taken >= wanted:
                break
        passage.reset()

    return fault


def gives(share: float, then: Callable[[Passage], None] = resets) -> Fault:
    """This share of the answer's body is given; then something else happens."""

    def fault(passage: Passage) -> None:
        with passage.forwarded() as answer:
            passage.pass_on(answer, most=int(share * (answer.length or 0)))
            then(passage)

    return fault


def ends(passage: Passage) -> None:
    """The connection ends, politely."""
    del passage
    raise Ended


def shortened(share: float) -> Fault:
    """A proper answer with only so much of the body, and a length that fits."""

    def fault(passage: Passage) -> None:
        with passage.forwarded() as answer:
            data = answer.read(int(share * (answer.length or 0)))
            passage.head(answer.status, len(data))
            passage.give(data)

    return fault


def endless(status: int | None = None) -> Fault:
    """What was asked for, and then bytes without an end."""

    def fault(passage: Passage) -> None:
        with passage.forwarded() as answer:
            data = answer.read()
            passage.head(status or answer.status, 1 << 40)
            while True:
                passage.give(data)
                data = bytes(PIECE)

    return fault


def whole(passage: Passage) -> None:
    """The range is overlooked: all of the object comes."""
    with passage.forwarded(range=None) as answer:
        passage.pass_on(answer)


def flips(at: int, bit: int = 1) -> Fault:
    """One bit of the object's byte at this offset comes otherwise."""

    def fault(passage: Passage) -> None:
        def altered(offset: int, data: bytes) -> bytes:
            here = at - passage.first - offset
            return data if not 0 <= here < len(data) else data[:here] + bytes([data[here] ^ bit]) + data[here + 1 :]

        with passage.forwarded() as answer:
            passage.pass_on(answer, altered=altered)

    return fault
