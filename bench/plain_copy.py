"""Bytes over plain TCP connections: what a line really gives, to hold a transfer against."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE = 256 * 1024


class _Copying(socketserver.BaseRequestHandler):
    """Reads `up N` or `down N` and takes or gives so many bytes."""

    def handle(self) -> None:
        """One connection."""
        with self.request.makefile("rb") as lines:
            way, count = lines.readline().split()
            if way == b"down":
                _give(self.request, int(count))
            else:
                left = int(count)
                while left and (piece := lines.read(min(_PIECE, left))):
                    left -= len(piece)
                self.request.sendall(b".")


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@contextlib.contextmanager
def serving(host: str) -> Iterator[int]:
    """The other end, at `host`; its port."""
    with _Server((host, 0), _Copying) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()


def client(host: str, port: int, way: str, count: int, connections: int) -> dict[str, object]:
    """Copy `count` bytes over so many connections at once; the bytes a second that came through."""
    share = count // connections
    threads = [threading.Thread(target=_one, args=(host, port, way, share)) for _ in range(connections)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"rate": share * connections / (time.perf_counter() - began)}


def _one(host: str, port: int, way: str, count: int) -> None:
    with socket.create_connection((host, port)) as line:
        line.sendall(f"{way} {count}\n".encode())
        if way == "up":
            _give(line, count)
            line.recv(1)
            return
        buffer = bytearray(_PIECE)
        while count > 0 and (got := line.recv_into(buffer)):
            count -= got


def _give(line: socket.socket, count: int) -> None:
    piece = bytes(_PIECE)
    while count > 0:
        line.sendall(piece[: min(count, _PIECE)])
        count -= _PIECE
