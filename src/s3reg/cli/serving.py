"""The registry under gunicorn: a socket, worker processes of many threads each, and a graceful end.

Threads, because a request mostly waits for the store: with 20 ms of latency two processes of 32 threads answered 1,580
requests a second where two without threads answered 83.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from s3reg.api import create_app
from s3reg.cli.arbiter import FINISH_SECONDS, SPARE_SECONDS, Replica
from s3reg.cli.daily import Daily
from s3reg.cli.exposure import check_exposure
from s3reg.errors import ListenFailed, SettingInvalid
from s3reg.store.files import FilesStore

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
_LARGEST_PORT = 65_535
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - gunicorn's own files, not ours; only whether it is there matters


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    host: str
    port: int


def address(listen: str) -> Address:
    """`HOST:PORT` or `[IPv6]:PORT`, taken apart. Raises SettingInvalid."""
    host, _, port = listen.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not host or not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= _LARGEST_PORT):  # noqa: PLR2004 - digits of the largest
        raise SettingInvalid(name="--listen", reason=f"{listen!r}: write HOST:PORT, like 127.0.0.1:8089 or [::1]:8089")
    return Address(host, int(port))


def listening(settings: Settings) -> socket.socket:
    """A socket that listens where the settings say. Raises SettingInvalid, Unguarded, ListenFailed."""
    where = address(settings.listen)
    check_exposure(where.host, settings)
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
        raise ListenFailed(listen=settings.listen, reason=e.strerror) from e


def url_of(sock: socket.socket, settings: Settings) -> str:
    """The address under which this machine reaches the socket, its real port included."""
    scheme = "http" if settings.tls_cert is None else "https"
    host, port = sock.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def serve(settings: Settings, sock: socket.socket, tls: Tls | None, ready: Callable[[], None]) -> None:
    """Serve at `sock`, which becomes gunicorn's, until the process is told to end; `ready` is called when it listens.

    SIGTERM ends it gracefully: it says so for `drain_seconds`, then requests under way get 30 s. Ends in SystemExit.
    """
    _Server(settings, sock, tls, ready).run()


def cores() -> int:
    """The processors that this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """Our application and our settings, in gunicorn's hands."""

    def __init__(self, settings: Settings, sock: socket.socket, tls: Tls | None, ready: Callable[[], None]) -> None:
        self._settings = settings
        self._daily: Daily | None = None
        self._options: dict[str, Any] = {
            "bind": f"fd://{sock.detach()}",
            "backlog": BACKLOG,
            "worker_class": "s3reg.cli.patience.PatientWorker",
            "workers": settings.workers or cores(),
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
            "pre_fork": _share,
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
        app = create_app(self._settings)
        self._begin_daily(app.extensions["s3reg"])
        _spare_collections()
        return app

    def _begin_daily(self, held: Wiring) -> None:
        if isinstance(held.store, FilesStore) and self._settings.sweep_seconds:
            self._daily = Daily(held, held.store, self._settings.sweep_seconds)
            self._daily.start()

    def _end_daily(self, arbiter: object, worker: object) -> None:
        del arbiter, worker
        if self._daily is not None:
            self._daily.end()


def _share(arbiter: Replica, worker: PatientWorker) -> None:
    worker.ending = arbiter.ending


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
