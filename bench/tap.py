"""A proxy before the store that notes which bytes of which object went through it, and whether they arrived.

One request after the other on each connection, as HTTP/1.1 clients without pipelining send them.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import socketserver
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD_ENDS = b"\r\n\r\n"
_PIECE = 256 * 1024
_GOOD = {200, 204, 206, 412}
"""412: the object is there already, with these bytes."""


@dataclass(eq=False, slots=True)
class Exchange:
    """One request for an object, and what became of it."""

    method: str
    name: str
    """The last part of the object's key."""
    first: int
    """Where its bytes begin in the object."""
    passed: int = 0
    """Bytes of the object that went through: those that a client sent with PUT, or was sent after GET."""
    whole: bool = False
    """Answered well, to the end."""
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None
    """None: it is underway."""


@dataclass
class Tap:
    """What went through so far."""

    url: str
    exchanges: list[Exchange] = field(default_factory=list)
    """In the order in which they began."""

    def quiet(self) -> bool:
        """Whether nothing is underway."""
        return all(one.ended is not None for one in self.exchanges)


class _GoneError(Exception):
    """One end hung up in the middle."""


class _End:
    """One end of a line: heads and bodies as they come."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._left = b""

    def head(self) -> bytes:
        """The next head, with the empty line that ends it."""
        data = self._left
        while _HEAD_ENDS not in data:
            if not (more := self.sock.recv(_PIECE)):
                raise _GoneError
            data += more
        head, ends, self._left = data.partition(_HEAD_ENDS)
        return head + ends

    def body(self, length: int | None) -> Iterator[bytes]:
        """So many bytes; None: all until this end hangs up."""
        while length is None or length > 0:
            piece, self._left = self._left or self.sock.recv(_PIECE if length is None else min(_PIECE, length)), b""
            if not piece and length is not None:
                raise _GoneError
            if not piece:
                return
            length = None if length is None else length - len(piece)
            yield piece


@contextlib.contextmanager
def tap(url: str) -> Iterator[Tap]:
    """A tap on the line to this store, until the block ends."""
    host, port = url.removeprefix("http://").rsplit(":", 1)

    class Through(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            # Whoever waits is told by the end of the connection.
            with (
                contextlib.suppress(OSError, _GoneError),
                socket.create_connection((host, int(port))) as behind,
            ):
                _serve(found, _End(self.request), _End(behind))

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Through) as server:
        found = Tap(f"http://127.0.0.1:{server.server_address[1]}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield found
        finally:
            server.shutdown()


def _serve(found: Tap, client: _End, store: _End) -> None:
    while True:
        ready, _, _ = select.select([client.sock, store.sock], [], [])
        if store.sock in ready:
            # A store that went while nothing was asked: a client with a connection of its own would see it go.
            return
        head = client.head()
        method, target, _ = head.split(b" ", 2)
        ranged = re.search(rb"\r\nrange: *bytes=(\d+)-", head, re.IGNORECASE)
        name = target.partition(b"?")[0].rpartition(b"/")[2].decode()
        exchange = Exchange(method.decode(), name, int(ranged[1]) if ranged else 0)
        found.exchanges.append(exchange)
        try:
            _exchange(exchange, head, client, store)
        finally:
            exchange.ended = time.monotonic()


def _exchange(exchange: Exchange, head: bytes, client: _End, store: _End) -> None:
    store.sock.sendall(head)
    for piece in client.body(_length(head) or 0):
        exchange.passed += len(piece)
        try:
            store.sock.sendall(piece)
        except OSError:
            break  # it may have answered before it hung up
    answer = store.head()
    client.sock.sendall(answer)
    good = int(answer.split(b" ", 2)[1]) in _GOOD
    for piece in store.body(_length(answer)):
        client.sock.sendall(piece)
        if good and exchange.method == "GET":
            exchange.passed += len(piece)
    exchange.whole = good


def _length(head: bytes) -> int | None:
    found = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    return int(found[1]) if found else None


# --- What was for nothing ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Loss:
    """Bytes that passed for nothing: those of `first`, because they came once more with `again`, if that is known."""

    size: int
    first: Exchange
    again: Exchange | None = None


def refused(seen: list[Exchange]) -> list[int]:
    """Bytes of the objects that were sent and not acknowledged."""
    return [one.passed for one in seen if one.method == "PUT" and one.ended is not None and not one.whole]


def unneeded(seen: list[Exchange], needed: set[str]) -> list[Loss]:
    """What was sent beyond these objects, each of them once."""
    losses: list[Loss] = []
    there: set[str] = set()
    for one in seen:
        if one.method != "PUT":
            continue
        if one.whole and one.name in needed - there:
            there.add(one.name)
        else:
            losses.append(Loss(one.passed, one))
    if there != needed:
        raise SystemExit(f"bench: {len(needed - there)} objects of the version were never sent through the tap")
    return losses


def twice(seen: list[Exchange]) -> list[Loss]:
    """What was received more than once, and with which requests."""
    losses: list[Loss] = []
    there: dict[str, list[tuple[int, int, Exchange]]] = defaultdict(list)
    for one in seen:
        if one.method != "GET" or not one.passed:
            continue
        start, end, kept = one.first, one.first + one.passed, []
        for low, high, first in there[one.name]:
            if (common := min(high, end) - max(low, start)) <= 0:
                kept.append((low, high, first))
                continue
            losses.append(Loss(common, first, one))
            # The newer one counts from here on.
            kept += [(a, b, first) for a, b in ((low, start), (end, high)) if a < b]
        there[one.name] = [*kept, (start, end, one)]
    return losses
