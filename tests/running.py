"""Real processes for the end-to-end tests: registries that serve, and the command line as people run it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import secrets_seen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LINE = re.compile(r"s3reg \S+ serves (.+) at (https?://\S+) \(.+\)\n")
SECONDS = 120
PROGRAM = [sys.executable, "-m", "s3reg.cli.main"]


def environment(**more: str) -> dict[str, str]:
    """This process's, without what would turn a test into another."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("S3REG_", "ANKA_"))}
    return {**kept, **more}


@dataclass
class Registry:
    """A `s3reg serve` process."""

    url: str
    log: Path
    process: subprocess.Popen[str] = field(repr=False)

    def kill(self) -> None:
        """kill -9, workers and all."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=SECONDS)


@contextlib.contextmanager
def serving(folder: Path, *arguments: object, listen: str = "127.0.0.1:0", **more: str) -> Iterator[Registry]:
    """A registry; its log goes to a file in `folder`."""
    log = folder / f"registry-{time.monotonic_ns()}.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [*PROGRAM, "serve", "--listen", listen, *map(str, arguments)],
            env=environment(**secrets_seen.kept(more)),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            match = LINE.fullmatch(process.stdout.readline())
            assert match, log.read_text()
            yield Registry(match[2], log, process)
        finally:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=SECONDS)
            secrets_seen.watch(log.read_text(errors="replace"))


@dataclass(frozen=True)
class Outcome:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def answer(self) -> dict[str, object]:
        """The last line of machine-readable output."""
        found = json.loads(self.out.splitlines()[-1])
        assert isinstance(found, dict)
        return found


@dataclass(frozen=True)
class Node:
    """A machine with the command line and a library."""

    library: Path
    registry: str

    def command(self, *arguments: object) -> list[str]:
        return [*PROGRAM, "--library", str(self.library), "-a", self.registry, *map(str, arguments)]

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        """A command underway."""
        return subprocess.Popen(
            self.command(*arguments), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *arguments: object) -> Outcome:
        """A command run to its end."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=SECONDS)
        secrets_seen.watch(err)
        assert "Traceback" not in err, err
        return Outcome(process.returncode, out, err)

    def done(self, *arguments: object) -> Outcome:
        """A command that must succeed."""
        outcome = self.run(*arguments)
        assert outcome.code == 0, outcome.err + outcome.out[-600:]
        return outcome


@contextlib.contextmanager
def taking_turns(urls: list[str]) -> Iterator[str]:
    """A load balancer without stickiness: each connection goes to the next registry, and serves one request."""
    targets = itertools.cycle([(str(urlsplit(url).hostname), int(urlsplit(url).port or 80)) for url in urls])

    class OneRequest(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(next(targets)) as behind, contextlib.suppress(OSError):
                up = threading.Thread(target=_pour, args=(self.request, behind), kwargs={"close": True}, daemon=True)
                up.start()
                _pour(behind, self.request)
                self.request.shutdown(socket.SHUT_RDWR)
                up.join(timeout=SECONDS)

    class Balancer(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Balancer(("127.0.0.1", 0), OneRequest) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def _pour(source: socket.socket, target: socket.socket, *, close: bool = False) -> None:
    """Pass bytes on until the source ends. `close`: ask for a connection of its own for each request."""
    first = True
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            if close and first:
                data = data.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
                first = False
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
