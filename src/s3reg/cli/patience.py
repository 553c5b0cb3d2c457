"""gunicorn's threads, kept from waiting for slow clients.

A thread gets a request when it is here: TLS agreed on, the head whole, and a small body too. Until then a connection
lies with the poller, which waits for a thousand of them at once. What a thread does wait for — the rest of a large body,
room for an answer — must move at more than a trickle.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import resource
import selectors
import socket
import ssl
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from gunicorn.http import errors as refused
from gunicorn.workers import gthread

from s3reg.api import audit, headers, health, metrics, requestlog, traces
from s3reg.cli.arbiter import FINISH_SECONDS
from s3reg.cli.caller import PIECE, Caller, HeadTooLarge, Limits, NoHttp
from s3reg.cli.ending import Ending, Flag
from s3reg.errors import S3regError
from s3reg.telemetry import emit, of_request, request_id
from s3reg.wire import requestid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

LONGEST_PATH = 200
_ID = requestid.HEADER.upper()
"""As gunicorn spells it."""
MOST_FILES = 65_536
"""Files and sockets that a worker may have open, if the system lets it: a thousand connections are more than the usual."""
_STATUS: dict[type[Exception], tuple[int, str]] = {
    refused.LimitRequestLine: (414, "the request line is too long"),
    refused.LimitRequestHeaders: (431, "the headers are too many, or too long"),
    refused.UnsupportedTransferCoding: (501, "the transfer coding is not known"),
    refused.ParseException: (400, "this is no HTTP request"),
}
_REASONS = {400: "Bad Request", 414: "URI Too Long", 431: "Request Header Fields Too Large", 501: "Not Implemented"}


class PatientWorker(gthread.ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Threads for requests that are here, and a poller for all others."""

    limits = Limits()
    wsgi: Any
    alive: bool
    max_requests: int
    sockets: list[Any]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        # gunicorn would stop taking connections when it is enough, and start another worker when this one has ended.
        self._enough, self.max_requests = self.max_requests, sys.maxsize
        self.ending = Ending()
        """The replica's own takes its place before the fork."""
        self.serves = Flag()
        """It takes connections. For the arbiter, like the next three."""
        self.is_spent = Flag()
        """It has answered as many requests as one worker may."""
        self.is_leaving = False
        """It was told to end."""
        self.could_not_start = Flag()
        """Its application could not be made, and the log says why."""
        self.callers: set[Caller] = set()
        """All connections that are open."""
        self._leaving: deque[Caller] = deque()
        self._look_again = 0.0

    def init_process(self) -> None:
        """Where gunicorn lets the worker begin; ends when it does."""
        more_files()
        try:
            super().init_process()
        except Exception as e:
            if self.booted:
                raise
            _tell_why(e)
            self.could_not_start.set()
            # Not gunicorn's own code for it, which ends the replica whoever else serves.
            sys.exit(0)

    def load_wsgi(self) -> None:
        """The application; what it answers is sent in pieces, each of which must be taken in time."""
        super().load_wsgi()
        self._app = self.wsgi
        health.ending(self._app, self.ending.told.__bool__)
        self.wsgi = in_pieces(self._app, self.ending.told)

    def run(self) -> None:
        """Serve until told to end, then give the store what waits for it."""
        self.serves.set()
        try:
            super().run()
            self._see_out()
        finally:
            for conn in list(self.callers):
                conn.close()
            audit.finish(self._app, FINISH_SECONDS)
            traces.finish(self._app)

    def is_parent_alive(self) -> bool:
        """Whether there is an arbiter; without one, the worker ends as if it were told to."""
        self.alive = self.alive and bool(super().is_parent_alive())
        return self.alive

    def set_accept_enabled(self, enabled: bool) -> None:
        """Take connections, or none for now; of a worker that ends, for ever: all ports of the replica are free then."""
        super().set_accept_enabled(enabled)
        if enabled or self.alive:
            return
        listeners, self.sockets = self.sockets, []
        for listener in listeners:
            # If all workers end, nobody else takes what waits here: closed upon it, the system would reset it.
            while (self.ending.over or self.ppid != os.getppid()) and self.accept(listener):
                pass
            listener.close()

    def accept(self, listener: Any) -> bool:
        """Take a connection, and wait with the poller for what it brings. False if there was none."""
        try:
            sock, client = listener.accept()
        except OSError:
            return False  # it is gone already, or another worker was faster
        self.nr_conns += 1
        conn = Caller(self.cfg, sock, client, listener.getsockname(), self)
        self.callers.add(conn)
        self._wait_for(conn)
        return True

    def _wait_for(self, conn: Caller) -> None:
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, functools.partial(self.on_pending_socket_readable, conn))

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """One round of the poller."""
        super().wait_for_and_dispatch_events(min(timeout, self.limits.tick_seconds))
        # SIGTERM may have come before there was anybody to take it.
        self.alive = self.alive and not self.ending.over

    def handle(self, conn: Caller) -> Any:
        """Work on a request, in a thread, or give the connection back if it is not all here."""
        try:
            if not conn.is_here():
                return gthread._DEFER  # noqa: SLF001 - the way of gthread's own to say so
        except (HeadTooLarge, NoHttp) as e:
            conn.sock.setblocking(True)
            why = refused.InvalidRequestLine("") if isinstance(e, NoHttp) else refused.LimitRequestHeaders("")
            self.handle_error(None, conn.sock, conn.client, why)
            return False
        except OSError:
            return False  # no TLS, or gone
        return super().handle(conn)

    def handle_request(self, req: Any, conn: Caller) -> Any:
        """Answer a request that is here."""
        conn.parser.unreader.begin()
        conn.sock.settimeout(self.limits.stall_seconds)
        with of_request(_named(req)):
            try:
                return super().handle_request(req, conn)
            except TimeoutError:
                emit("client-too-slow", peer=conn.client[0], path=req.path[:LONGEST_PATH])
                return False
            finally:
                if self.nr >= self._enough:
                    self.is_spent.set()

    def finish_request(self, conn: Caller, fs: Future[Any]) -> None:
        """What comes after a thread's work, in the poller's."""
        if fs.cancelled() or fs.exception() is not None or fs.result() is not gthread._DEFER:  # noqa: SLF001 - as in `handle`
            super().finish_request(conn, fs)
            return
        # gunicorn would forget, once the worker ends, that this is a request that has begun to come.
        conn.sock.setblocking(False)
        self._wait_for(conn)

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
            if not conn.has_begun:
                conn.due = min(conn.due or deadline, deadline)

    def _see_out(self) -> None:
        """Give clients a moment to read the last answers: a connection that is closed upon what they still send is reset."""
        until = time.monotonic() + self.limits.tick_seconds
        for conn in self._leaving:
            while (left := until - time.monotonic()) > 0:
                conn.sock.settimeout(left)
                if _is_gone(conn):
                    break

    def let_go(self, conn: Caller) -> None:
        """Close the connection after its client has: nobody's time but the poller's."""
        try:
            conn.sock.setblocking(False)
            # Not the TLS socket's own, which would forget how to tell a stranger's bytes from nothing.
            socket.socket.shutdown(conn.sock, socket.SHUT_WR)
            conn.due = time.monotonic() + self.limits.linger_seconds
            conn.room = self.limits.linger_bytes
            if _is_gone(conn):
                conn.close()
                return
            self.poller.register(conn.sock, selectors.EVENT_READ, functools.partial(self._drain, conn))
        except (OSError, ValueError, KeyError):
            conn.close()
            return
        self._leaving.append(conn)
        if len(self._leaving) > self.worker_connections:
            self._gone(self._leaving[0])

    def _drain(self, conn: Caller, _: object) -> None:
        if _is_gone(conn):
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
        known = request_id() or requestid.fresh()
        with of_request(known):
            if status in _REASONS:
                emit("request-malformed", peer=peer, status=status, reason=type(exc).__name__)
                metrics.of(self._app).answered(metrics.OTHER, metrics.OTHER, status, 0.0)
            elif isinstance(exc, ssl.SSLError):
                return
            else:
                emit("request-failed", level=logging.ERROR, peer=peer, trouble=exc)
        body = json.dumps({"status": "FAIL", "message": said}).encode()
        told = {**headers.ALWAYS, "Content-Type": "application/json", "Content-Length": str(len(body))}
        told[requestid.HEADER] = known
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Internal Server Error')}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in told.items()]
        try:
            client.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        except OSError:
            return  # it did not wait for the answer


def _tell_why(e: Exception) -> None:
    """One event of the log: why a worker could not start."""
    if isinstance(e, S3regError):
        emit("worker-not-started", level=logging.ERROR, reason=str(e), next=e.next_step)
    else:
        emit("worker-not-started", level=logging.ERROR, reason=type(e).__name__, trouble=e)


def more_files() -> None:
    """Let this process have as many files open as it may want; or as before, if the system refuses."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # macOS says "unlimited", and gives kern.maxfilesperproc
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, MOST_FILES)), hard))


def _named(req: Any) -> str:
    """The request's id, which the application finds in its header too: what comes after the application has it as well."""
    mine: list[tuple[str, str]] = []
    others: list[tuple[str, str]] = []
    for name, value in req.headers:
        (mine if name == _ID else others).append((name, value))
    known = requestlog.settled(",".join(value for _, value in mine))
    req.headers = [*others, (_ID, known)]
    return known


def _is_gone(conn: Caller) -> bool:
    """Whether the client of a connection that is over has hung up, or has sent more behind it than is looked at."""
    try:
        data = socket.socket.recv(conn.sock, PIECE)
    except BlockingIOError:
        return False
    except OSError:
        return True
    conn.room -= len(data)
    return not data or conn.room <= 0


def in_pieces(app: Callable[..., Iterable[bytes]], last: Flag) -> Callable[..., Iterable[bytes]]:
    """`app`, whose answers come in pieces; a file is left to gunicorn, which sends it in pieces anyway.

    An answer before the end of its request's body says that the connection ends: else a client sends the next request there.
    So does each answer once it is to be the `last`: the next request may go elsewhere.
    """

    def answer(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        found = app(environ, start)
        response = start.__self__
        if last or not response.req.unreader.is_at_end(environ["wsgi.input"]):
            response.force_close()
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
