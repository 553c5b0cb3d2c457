"""The port beside the API's, for Prometheus and whoever watches over processes: metrics and health, and no questions asked.

Each worker serves it with threads of its own, at a socket that they share: it answers also while all threads of requests
wait for a store, and any of them answers for all. It speaks plain HTTP, though the API speak TLS.
"""

from __future__ import annotations

import threading
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

AT_ONCE = 16
"""Connections of one worker; who comes when all are taken is hung up on."""
CALLER_SECONDS = 5.0
"""That each read from, and write to, a caller may take."""


class _Handler(WSGIRequestHandler):
    timeout = CALLER_SECONDS

    def log_message(self, *_: object) -> None:
        """Nothing: what the app is asked, it logs itself, and whoever scrapes comes again and again."""


class _Server(ThreadingMixIn, WSGIServer):
    """At a socket that listens already, and that other processes have too."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, sock: socket.socket, app: Callable[..., Any]) -> None:
        name = sock.getsockname()
        super().__init__(name, _Handler, bind_and_activate=False)
        self.socket.close()
        # Several are woken by one connection: who finds it taken must not wait for the next.
        sock.setblocking(False)
        self.socket = sock
        self.server_name, self.server_port = str(name[0]), int(name[1])
        self.setup_environ()
        self.set_app(app)
        self._room = threading.Semaphore(AT_ONCE)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # the system has no thread to spare
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: the caller is gone, or too slow."""


def serve(sock: socket.socket, app: Callable[..., Any]) -> None:
    """Answer at `sock` from now on, as long as the process lives."""
    server = _Server(sock, app)
    threading.Thread(target=server.serve_forever, name="beside", daemon=True).start()
