"""The registry under gunicorn: a socket, worker processes of many threads each, and a graceful end.

Threads, because a request mostly waits for the store: with 20 ms of latency two processes of 32 threads answered 1,580
requests a second where two without threads answered 83.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import math
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from s3reg.api import create_app, metrics
from s3reg.api.tally import Board
from s3reg.cli import beside
from s3reg.cli.arbiter import FINISH_SECONDS, SPARE_SECONDS, Replica
from s3reg.cli.daily import Daily
from s3reg.cli.exposure import check_exposure
from s3reg.errors import ListenFailed
from s3reg.settings import address
from s3reg.store.files import FilesStore
from s3reg.telemetry import emit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from s3reg.api.wiring import Wiring
    from s3reg.cli.patience import PatientWorker
    from s3reg.cli.tls import Tls
    from s3reg.settings import Settings

BACKLOG = 2048
GRACE_SECONDS = 30
"""For requests under way, when their process is to end."""
HUNG_SECONDS = 30
"""After so long without a sign of life a worker is killed, and another one started."""
MOST_AT_ONCE = 8
"""Processes that count, for each worker that is wanted: those that leave have a minute to finish."""
JITTER = 5
"""A worker takes up to a fifth more requests than it must: else all of them would be replaced at once."""
KEEPALIVE_SECONDS = 75
"""Longer than the 60 s after which load balancers usually drop an idle connection: the other way round, one of them
would now and then send a request into a connection that was just closed."""
LONGEST_REQUEST_LINE = 8190
"""gunicorn's most: a template's name and a tag of 255 characters each, percent-encoded, fit."""
LARGEST_HEADER = 32 * 1024
"""Bytes: a load balancer's with a chain of certificates has 16 KiB. What they may have together, patience.py says."""
COLLECT_AFTER = (20_000, 10, 10)
"""Objects made and not gone again before the young ones are looked at, then how often these before the older ones."""
_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - gunicorn's own files, not ours; only whether it is there matters


def listening(settings: Settings) -> socket.socket:
    """A socket that listens where the settings say. Raises Unguarded, ListenFailed."""
    check_exposure(settings)
    return bound(settings.listen)


def listening_beside(settings: Settings) -> contextlib.AbstractContextManager[socket.socket | None]:
    """Another one for metrics and health, if the settings say where. Raises ListenFailed."""
    return contextlib.nullcontext() if settings.metrics_listen is None else bound(settings.metrics_listen)


def bound(listen: str) -> socket.socket:
    """A socket that listens at `HOST:PORT`. Raises ListenFailed."""
    where = address(listen)
    try:
        family, kind, protocol, _, name = socket.getaddrinfo(
            where.host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with contextlib.ExitStack() as undo:
            made = socket.socket(family, kind, protocol)
            undo.callback(made.close)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(name)
            made.listen(BACKLOG)
            undo.pop_all()
            return made
    except OSError as e:
        raise ListenFailed(listen=listen, reason=e.strerror) from e


def url_of(sock: socket.socket, settings: Settings) -> str:
    """The address under which this machine reaches the socket, its real port included."""
    scheme = "http" if settings.tls_cert is None else "https"
    host, port = sock.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def serve(
    settings: Settings,
    sock: socket.socket,
    tls: Tls | None,
    ready: Callable[[], None],
    beside_sock: socket.socket | None = None,
) -> None:
    """Serve at `sock`, which becomes gunicorn's, until the process is told to end; `ready` is called when it listens.

    `beside_sock`: where metrics and health are served besides.
    SIGTERM ends it gracefully: it says so for `drain_seconds`, then requests under way get 30 s. Ends in SystemExit.
    """
    _Server(settings, sock, tls, ready, beside_sock).run()


def cores(quota: Path = _QUOTA) -> int:
    """The processors that this process may use: of those of the machine as many as its container has a share of."""
    if sys.platform == "linux":
        found = len(os.sched_getaffinity(0))
    else:
        found = os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        # "max 100000", or microseconds of each so many: Linux, Documentation/admin-guide/cgroup-v2.rst, cpu.max.
        allowed, each = map(int, quota.read_text().split())
        found = min(found, max(1, math.ceil(allowed / each)))
    return found


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """Our application and our settings, in gunicorn's hands."""

    def __init__(
        self,
        settings: Settings,
        sock: socket.socket,
        tls: Tls | None,
        ready: Callable[[], None],
        beside_sock: socket.socket | None,
    ) -> None:
        self._settings = settings
        self._beside = beside_sock
        self._daily: Daily | None = None
        workers = settings.workers or cores()
        self._board = Board(MOST_AT_ONCE * workers)
        self._part: int | None = None
        """Of the board: the next worker's, or in a worker its own."""
        self._options: dict[str, Any] = {
            "bind": f"fd://{sock.detach()}",
            "backlog": BACKLOG,
            "worker_class": "s3reg.cli.patience.PatientWorker",
            "workers": workers,
            "threads": settings.threads,
            "worker_connections": 1000 + settings.threads,
            "keepalive": KEEPALIVE_SECONDS,
            "timeout": HUNG_SECONDS,
            "max_requests": settings.max_requests,
            "max_requests_jitter": settings.max_requests // JITTER,
            # The arbiter's, which kills what is there after that; a worker's own is shorter: it writes its events then.
            "graceful_timeout": GRACE_SECONDS + FINISH_SECONDS + SPARE_SECONDS,
            "limit_request_line": LONGEST_REQUEST_LINE,
            "limit_request_field_size": LARGEST_HEADER,
            "logger_class": _Log,
            "control_socket_disable": True,
            # What a proxy says is believed in one place, api/peer.py; gunicorn would believe everybody on this machine.
            "forwarded_allow_ips": "",
            "when_ready": lambda arbiter: _tell(arbiter, ready),
            "pre_fork": self._share,
            "post_fork": _shorten,
            "worker_exit": self._end_daily,
        }
        if tls is not None:
            # The files only tell gunicorn that it is TLS: what is made of them is ours.
            files = {"certfile": settings.tls_cert, "keyfile": settings.tls_key}
            self._options |= {**files, "ssl_context": lambda config, default: _context(config, default, tls)}
        if _SHARED_MEMORY.is_dir():
            # A worker's heartbeat is a file's time; on a slow disk it could miss it and be killed.
            self._options["worker_tmp_dir"] = str(_SHARED_MEMORY)
        super().__init__()

    def load_config(self) -> None:
        """Where gunicorn asks for its settings. Its own files and environment are not looked at: ours are the settings."""
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def run(self) -> None:
        """Serve, until told to end."""
        Replica(self, self._settings.drain_seconds).run()

    def load(self) -> Any:
        """Where gunicorn asks for the application: in each worker, after the fork, so that no two share a connection."""
        if self._part is None:
            emit("metrics-full", level=logging.WARNING, reason="more processes than ever should be there at once")
        app = create_app(self._settings, tally=None if self._part is None else self._board.tally(self._part))
        self._begin_daily(app)
        if self._beside is not None:
            beside.serve(self._beside, metrics.beside(app))
        _spare_collections()
        return app

    def _share(self, arbiter: Replica, worker: PatientWorker) -> None:
        worker.ending = arbiter.ending
        self._part = worker.part = self._board.free([other.part for other in arbiter.WORKERS.values()])

    def _begin_daily(self, app: Any) -> None:
        held: Wiring = app.extensions["s3reg"]
        if isinstance(held.store, FilesStore) and self._settings.sweep_seconds:
            self._daily = Daily(held, held.store, self._settings.sweep_seconds)
            self._daily.start()

    def _end_daily(self, arbiter: object, worker: object) -> None:
        del arbiter, worker
        if self._daily is not None:
            self._daily.end()


def _shorten(arbiter: Replica, worker: PatientWorker) -> None:
    del arbiter
    worker.cfg.set("graceful_timeout", GRACE_SECONDS)


def _spare_collections() -> None:
    """Let the collector of reference cycles pass over what lives as long as the process, and come less often.

    With Python's own thresholds, the slowest hundredth of plans with 1,788 links took 60 ms and more, so 30.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def _context(config: object, default: object, tls: Tls) -> ssl.SSLContext:
    del config, default
    return tls.context()


def _tell(arbiter: object, ready: Callable[[], None]) -> None:
    del arbiter
    ready()


class _Log(Logger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's own lines, from warnings on, through our log."""

    def setup(self, cfg: object) -> None:
        """Leave writing to the root logger."""
        del cfg
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        self.error_log.setLevel(logging.WARNING)
