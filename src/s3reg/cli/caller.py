"""A connection to a registry, whose request is read as it comes: what a slow client has sent waits here, and no thread."""

from __future__ import annotations

import re
import ssl
import string
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from gunicorn import sock as sockets
from gunicorn.http import errors as refused
from gunicorn.http import get_parser
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers import gthread

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

PIECE = 64 * 1024
"""Bytes that are read or answered at once: `stall_seconds` is a trickle for each."""
LARGEST_HEAD = 64 * 1024
"""Bytes of a request's line and headers; a proxy's header with a chain of certificates has 16 KiB."""
SMALL_BODY = 64 * 1024
"""Bytes of a body that no thread waits for: more than anybody may send who is not known yet."""
_BEGINS = frozenset(string.ascii_letters.encode() + b"\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*0*([0-9]{1,18})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]+)[ \t]*(?:;|\r\n)")
_EXPECTS = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*\r\n", re.IGNORECASE)


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


class Host(Protocol):
    """Whoever serves callers."""

    limits: Limits
    callers: set[Caller]
    """All that are connected."""

    def let_go(self, caller: Caller) -> None:
        """Close the connection once its client has had time to read the answer."""
        ...


class Caller(gthread.TConn):  # type: ignore[misc]  # gunicorn has no types
    """A connection whose next request is read as it comes, without waiting."""

    sock: socket.socket
    parser: Any

    def __init__(self, cfg: Any, sock: socket.socket, client: Any, server: Any, host: Host) -> None:
        super().__init__(cfg, sock, client, server)
        self._host = host
        self._limits = host.limits
        self._came = bytearray()
        self._looked = 0
        self._wanted: int | None = None
        """Bytes of head and body together, once the head is whole; -1 for chunks."""
        self._head = 0
        """Bytes of the head; of chunks that have come whole, `_data`."""
        self._data = 0
        self.due: float | None = time.monotonic() + self._limits.head_seconds
        """When what is waited for must be here; None between two requests."""
        self.room = 0
        """Bytes that it may still send when all is over."""
        self._is_closed = False

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

    @property
    def has_begun(self) -> bool:
        """Whether something of a request has come, or of TLS before it."""
        return bool(self._came) or isinstance(self.sock, ssl.SSLSocket)

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
            if self._is_closed:
                self.sock.close()  # while it was being made
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
                raise NoHttp
            if end < 0:
                if len(self._came) > LARGEST_HEAD:
                    raise HeadTooLarge
                return b"\n\n" in self._came  # gunicorn refuses it
            self._head_came(bytes(self._came[: end + 4]))
        if self._wanted is not None and self._wanted < 0:
            return self._has_chunks()
        return len(self._came) >= (self._wanted or 0)

    def _has_chunks(self) -> bool:
        """Whether all chunks have come, and what may follow them; or a large body's begin; or what gunicorn refuses.

        Read as gunicorn reads them: what it would wait for, a thread would.
        """
        came, here = len(self._came), 0
        while (end := self._came.find(b"\r\n", self._looked)) >= 0:
            size = _CHUNK_SIZE.match(self._came, self._looked)
            if size is None:
                return True
            length = int(size[1], 16)
            if not length and self._came.find(b"\r\n\r\n", end) >= 0:
                return True
            if not length or end + length + 4 > came:
                here = min(length, came - end - 2)
                break
            self._looked = end + length + 4
            self._data += length
        if came - self._head <= SMALL_BODY:
            return False
        if self._data + here < SMALL_BODY // 2:
            raise HeadTooLarge  # it is all sizes, extensions and trailers, and a thread would wait for the rest
        return True

    def _head_came(self, head: bytes) -> None:
        """Find out how much of the body is waited for."""
        self._looked, self._head, self._data = len(head), len(head), 0
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
            self._host.let_go(self)
        else:
            self._is_closed = True
            self._host.callers.discard(self)
            super().close()


class NoHttp(OSError):
    """What came is something else: TLS, most likely, whose client has to be told something to know that it is wrong here."""


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

    def is_at_end(self, body: Any) -> bool:
        """Whether the body has been read whole, or can be from what is here: nobody waits for what nobody wanted."""
        self._is_over = True
        left = SMALL_BODY
        try:
            while left > 0 and (data := body.read(PIECE)):
                left -= len(data)
        except (OSError, refused.ParseException):
            return False
        return left > 0

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
