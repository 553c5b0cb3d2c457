"""The port beside the API's, for Prometheus and whoever watches over processes: metrics and health, and no questions asked.

Each worker serves it with threads of its own, at a socket that they share: it answers also while all threads of requests
wait for a store, and any of them answers for all. It speaks plain HTTP, though the API speak TLS.
"""

from __future__ import annotations

import logging
import sys
import threading
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer

from s3reg.telemetry import emit

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

AT_ONCE = 16
"""Connections of one worker; who comes when all are taken is hung up on."""
CALLER_SECONDS = 5.0
"""That each read from, and write to, a caller may take."""


LONGEST_LINE = 65_536
"""Bytes of a request's first line, and of each header: Python's own."""


class _Answer(ServerHandler):
    headers_sent: bool
    request_handler: WSGIRequestHandler

    def log_exception(self, exc_info: Any) -> None:
        """One event of our log, where Python's own would write a traceback beside it; none if the caller went away."""
        if not (self.headers_sent and isinstance(exc_info[1], OSError)):
            _tell(exc_info[1])


class _Handler(WSGIRequestHandler):
    timeout = CALLER_SECONDS
    rfile: Any
    wfile: Any
    server: Any

    def handle(self) -> None:
        """Answer one request, as Python's own does, but for what a failure leaves behind."""
        self.raw_requestline = self.rfile.readline(LONGEST_LINE + 1)
        if len(self.raw_requestline) > LONGEST_LINE:
            self.requestline = self.request_version = self.command = ""
            self.send_error(414)
        elif self.parse_request():
            answer = _Answer(self.rfile, self.wfile, sys.stderr, self.get_environ(), multithread=True)
            answer.request_handler = self
            answer.run(self.server.get_app())

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
        """Tell what nobody has answered to; a caller that is gone, or too slow, is no failure."""
        del request, client_address
        trouble = sys.exc_info()[1]
        if not isinstance(trouble, OSError):
            _tell(trouble)


def _tell(trouble: BaseException | None) -> None:
    emit("metrics-port-failed", level=logging.ERROR, trouble=trouble)


def serve(sock: socket.socket, app: Callable[..., Any]) -> None:
    """Answer at `sock` from now on, as long as the process lives."""
    server = _Server(sock, app)
    threading.Thread(target=server.serve_forever, name="beside", daemon=True).start()
