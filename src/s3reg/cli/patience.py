"""gunicorn's threads, kept from waiting for slow clients.

A thread gets a request when it is here: TLS agreed on, the head whole, and a small body too. Until then a connection
lies with the poller, which waits for a thousand of them at once. What a thread does wait for — the rest of a large body,
room for an answer — must move at more than a trickle.
"""

from __future__ import annotations

import functools
import json
import logging
import re
import resource
import selectors
import socket
import ssl
import string
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gunicorn import sock as sockets
from gunicorn.http import errors as refused
from gunicorn.http import get_parser
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers import gthread

from s3reg.api import audit, headers
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PIECE = 64 * 1024
"""Bytes that are read or answered at once: `stall_seconds` is a trickle for each."""
LARGEST_HEAD = 64 * 1024
"""Bytes of a request's line and headers; a proxy's header with a chain of certificates has 16 KiB."""
SMALL_BODY = 64 * 1024
"""Bytes of a body that no thread waits for: more than anybody may send who is not known yet."""
LONGEST_PATH = 200
FINISH_SECONDS = 5.0
"""For the events that wait for the store when a worker ends."""
MOST_FILES = 65_536
"""Files and sockets that a worker may have open, if the system lets it: a thousand connections are more than the usual."""
_BEGINS = frozenset(string.ascii_letters.encode() + b"\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,18})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_LAST_CHUNK = re.compile(rb"\r\n0+[ \t]*[;\r]")
_EXPECTS = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*\r\n", re.IGNORECASE)
_STATUS: dict[type[Exception], tuple[int, str]] = {
    refused.LimitRequestLine: (414, "the request line is too long"),
    refused.LimitRequestHeaders: (431, "the headers are too many, or too long"),
    refused.UnsupportedTransferCoding: (501, "the transfer coding is not known"),
    refused.ParseException: (400, "this is no HTTP request"),
}
_REASONS = {400: "Bad Request", 414: "URI Too Long", 431: "Request Header Fields Too Large", 501: "Not Implemented"}


@dataclass(frozen=True, slots=True)
class Limits:
    """How long is waited for a client."""

    head_seconds: float = 20.0
    """From a connection's begin, or a request's first byte, until its head is whole. Over a satellite it takes three."""
    body_seconds: float = 30.0
    """For a small body, whole. A larger one may rest so long in all, besides the time that `floor` gives it."""
    floor: int = 1024
    """Bytes a second of a large body, on average: at this pace a pack of 64 MiB takes 18 hours, so nobody honest is cut."""
    stall_seconds: float = 60.0
    """Until a piece of an answer is taken; `client/` gives a connection up after as long."""
    linger_seconds: float = 5.0
    """For what a client still sends behind an answer: closed on before, it might not read it."""
    linger_bytes: int = 8 * 1024**2
    tick_seconds: float = 1.0
    """Between two looks at who is late."""


class Caller(gthread.TConn):  # type: ignore[misc]  # gunicorn has no types
    """A connection whose next request is read as it comes, without waiting."""

    sock: socket.socket
    parser: Any

    def __init__(self, cfg: Any, sock: socket.socket, client: Any, server: Any, worker: PatientWorker) -> None:
        super().__init__(cfg, sock, client, server)
        self._worker = worker
        self._limits = worker.limits
        self._came = bytearray()
        self._looked = 0
        self._wanted: int | None = None
        """Bytes of head and body together, once the head is whole; -1 for chunks."""
        self.due: float | None = time.monotonic() + self._limits.head_seconds
        """When what is waited for must be here; None between two requests."""
        self.room = 0

    def init(self) -> None:
        """What gunicorn would do here is done in `is_here`."""

    def is_here(self) -> bool:
        """Take what has come of the next request; whether a thread can work on it. Raises OSError."""
        self.sock.setblocking(False)
        self.initialized = True
        now = time.monotonic()
        if self.due is None:
            self.due = now + self._limits.head_seconds
        if self.due <= now:
            raise TimeoutError("the request did not come in time")
        if self.parser is None:
            if not self._has_shaken_hands():
                return False
            self.parser = get_parser(self.cfg, self.sock, self.client)
            self.parser.unreader = Steady(self.sock, self._limits)
        self._came += self.parser.unreader.take_buffered()
        while not self._is_whole():
            try:
                data = self.sock.recv(PIECE)
            except (BlockingIOError, ssl.SSLWantReadError):
                return False
            if not data:
                break  # gunicorn knows what to make of a request that ends early
            self._came += data
        self.parser.unreader.unread(bytes(self._came))
        self._came.clear()
        self._looked, self._wanted, self.due = 0, None, None
        return True

    def _has_shaken_hands(self) -> bool:
        if not self.cfg.is_ssl:
            return True
        if not isinstance(self.sock, ssl.SSLSocket):
            self.sock = sockets.ssl_context(self.cfg).wrap_socket(
                self.sock,
                server_side=True,
                suppress_ragged_eofs=self.cfg.suppress_ragged_eofs,
                do_handshake_on_connect=False,
            )
        assert isinstance(self.sock, ssl.SSLSocket)
        try:
            self.sock.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        return True

    def _is_whole(self) -> bool:
        """Whether a thread would not wait for what has come, or need not: it is a large body."""
        if self._wanted is None:
            end = self._came.find(b"\r\n\r\n", max(0, self._looked - 3))
            self._looked = len(self._came)
            if self._came[:1] and self._came[0] not in _BEGINS:
                raise OSError("this is no HTTP")
            if end < 0:
                if len(self._came) > LARGEST_HEAD:
                    raise HeadTooLarge
                return b"\n\n" in self._came  # gunicorn refuses it
            self._head_came(bytes(self._came[: end + 4]))
        if self._wanted is not None and self._wanted < 0:
            return len(self._came) > SMALL_BODY or _LAST_CHUNK.search(self._came, self._looked - 2) is not None
        return len(self._came) >= (self._wanted or 0)

    def _head_came(self, head: bytes) -> None:
        """Find out how much of the body is waited for."""
        self._looked = len(head)
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        if _CHUNKED.search(head):
            self._wanted = -1
        else:
            self._wanted = len(head) + size if size <= SMALL_BODY else len(head)
        if self._wanted != len(head):
            self.due = time.monotonic() + self._limits.body_seconds
            if _EXPECTS.search(head):
                self.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def close(self, graceful: bool = False) -> None:
        """Close it; `graceful`: once the client has had time to read the answer, which nobody waits for."""
        if graceful:
            self._worker.let_go(self)
        else:
            self._worker.callers.discard(self)
            super().close()


class HeadTooLarge(OSError):
    """A head is larger than any honest one."""


class Steady(SocketUnreader):  # type: ignore[misc]  # gunicorn has no types
    """Reads a body, as long as it comes at more than a trickle. Raises TimeoutError."""

    def __init__(self, sock: socket.socket, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(sock)
        self._limits = limits
        self._clock = clock
        self.begin()

    def begin(self) -> None:
        """Another request."""
        self._waited = 0.0
        self._bytes = 0
        self._is_over = False

    def is_finished(self, parser: Any) -> bool:
        """Whether the body has been read whole, or can be from what is here: nobody waits for what nobody wanted."""
        self._is_over = True
        return bool(parser.finish_body(max_bytes=SMALL_BODY))

    def chunk(self, size_hint: int | None = None) -> bytes:
        """What comes next."""
        before = self.sock.gettimeout()
        allowed = self._limits.body_seconds + self._bytes / self._limits.floor - self._waited
        if allowed <= 0:
            raise TimeoutError("the body comes at a trickle")
        self.sock.settimeout(0 if self._is_over else allowed if before is None else min(before, allowed))
        began = self._clock()
        try:
            data: bytes = super().chunk(size_hint)
        except (BlockingIOError, ssl.SSLWantReadError):
            raise TimeoutError("no more of the body is here") from None
        finally:
            self._waited += self._clock() - began
            self.sock.settimeout(before)
        self._bytes += len(data)
        return data


class PatientWorker(gthread.ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Threads for requests that are here, and a poller for all others."""

    limits = Limits()
    wsgi: Any

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.callers: set[Caller] = set()
        """All connections that are open."""
        self._leaving: deque[Caller] = deque()
        self._look_again = 0.0

    def init_process(self) -> None:
        """Where gunicorn lets the worker begin; ends when it does."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, MOST_FILES)), hard))
        super().init_process()

    def load_wsgi(self) -> None:
        """The application; what it answers is sent in pieces, each of which must be taken in time."""
        super().load_wsgi()
        self._app = self.wsgi
        self.wsgi = in_pieces(self._app)

    def run(self) -> None:
        """Serve until told to end, then give the store what waits for it."""
        try:
            super().run()
        finally:
            for conn in list(self.callers):
                conn.close()
            audit.finish(self._app, FINISH_SECONDS)

    def accept(self, listener: Any) -> None:
        """Take a connection, and wait with the poller for what it brings."""
        try:
            sock, client = listener.accept()
        except OSError:
            return  # it is gone already, or another worker was faster
        self.nr_conns += 1
        conn = Caller(self.cfg, sock, client, listener.getsockname(), self)
        self.callers.add(conn)
        self.pending_conns.append(conn)
        self.poller.register(sock, selectors.EVENT_READ, functools.partial(self.on_pending_socket_readable, conn))

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """One round of the poller."""
        super().wait_for_and_dispatch_events(min(timeout, self.limits.tick_seconds))

    def handle(self, conn: Caller) -> Any:
        """Work on a request, in a thread, or give the connection back if it is not all here."""
        try:
            if not conn.is_here():
                return gthread._DEFER  # noqa: SLF001 - the way of gthread's own to say so
        except HeadTooLarge:
            conn.sock.setblocking(True)
            self.handle_error(None, conn.sock, conn.client, refused.LimitRequestHeaders(""))
            return False
        except OSError:
            return False  # no TLS, or gone
        return super().handle(conn)

    def handle_request(self, req: Any, conn: Caller) -> Any:
        """Answer a request that is here."""
        conn.parser.unreader.begin()
        conn.sock.settimeout(self.limits.stall_seconds)
        try:
            return super().handle_request(req, conn)
        except TimeoutError:
            emit("client-too-slow", peer=conn.client[0], path=req.path[:LONGEST_PATH])
            return False

    def _keepalive_after(self, conn: Caller, keepalive: Any) -> bool:
        return bool(keepalive and conn.parser.unreader.is_finished(conn.parser))

    def murder_pending(self) -> None:
        """Close what is late."""
        now = time.monotonic()
        if now < self._look_again:
            return
        self._look_again = now + self.limits.tick_seconds
        for conn in [conn for conn in self.pending_conns if conn.due is None or conn.due <= now]:
            self.pending_conns.remove(conn)
            self._forget(conn)
            self.nr_conns -= 1
            conn.close()
        while self._leaving and (self._leaving[0].due or 0) <= now:
            self._gone(self._leaving[0])

    def _cap_keepalive(self, deadline: float) -> None:
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.due = min(conn.due or deadline, deadline)

    def let_go(self, conn: Caller) -> None:
        """Close the connection after its client has: nobody's time but the poller's."""
        try:
            conn.sock.setblocking(False)
            # Not the TLS socket's own, which would forget how to tell a stranger's bytes from nothing.
            socket.socket.shutdown(conn.sock, socket.SHUT_WR)
            conn.due = time.monotonic() + self.limits.linger_seconds
            conn.room = self.limits.linger_bytes
            self.poller.register(conn.sock, selectors.EVENT_READ, functools.partial(self._drain, conn))
        except (OSError, ValueError, KeyError):
            conn.close()
            return
        self._leaving.append(conn)
        if len(self._leaving) > self.worker_connections:
            self._gone(self._leaving[0])

    def _drain(self, conn: Caller, _: object) -> None:
        try:
            data = socket.socket.recv(conn.sock, PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        conn.room -= len(data)
        if not data or conn.room <= 0:
            self._gone(conn)

    def _gone(self, conn: Caller) -> None:
        self._leaving.remove(conn)
        self._forget(conn)
        conn.close()

    def _forget(self, conn: Caller) -> None:
        try:
            self.poller.unregister(conn.sock)
        except (OSError, KeyError, ValueError):
            return  # it is forgotten already

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Answer what never became a request to the application; nothing of it is repeated, neither here nor in the log."""
        del req
        status, said = next((row for kind, row in _STATUS.items() if isinstance(exc, kind)), (500, "internal error"))
        peer = addr[0] if addr else ""
        if status in _REASONS:
            emit("request-malformed", peer=peer, status=status, reason=type(exc).__name__)
        elif isinstance(exc, ssl.SSLError):
            return
        else:
            emit("request-failed", level=logging.ERROR, peer=peer, trouble=exc)
        body = json.dumps({"status": "FAIL", "message": said}).encode()
        told = {**headers.ALWAYS, "Content-Type": "application/json", "Content-Length": str(len(body))}
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Internal Server Error')}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in told.items()]
        try:
            client.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        except OSError:
            return  # it did not wait for the answer


def in_pieces(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """`app`, whose answers come in pieces; a file is left to gunicorn, which sends it in pieces anyway."""

    def answer(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        found = app(environ, start)
        return found if isinstance(found, environ["wsgi.file_wrapper"]) else _pieces(found)

    return answer


def _pieces(answer: Iterable[bytes]) -> Iterator[bytes]:
    try:
        for data in answer:
            for first in range(0, len(data), PIECE):
                yield data[first : first + PIECE]
    finally:
        close = getattr(answer, "close", None)
        if close is not None:
            close()
