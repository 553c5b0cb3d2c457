"""Replicas of a registry that come and go, and what stands before them: the files in deploy/, at addresses of here."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import urllib3

import haproxy
import nginx
import running
import servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

DEPLOY = Path(__file__).parents[2] / "deploy"
WRITTEN = ("10.0.0.11:8089", "10.0.0.12:8089", "10.0.0.13:8089")
"""The replicas in these files."""


Certificate = tuple[str, str]
"""The files of a certificate and of its key."""


class Replica:
    """A `s3reg serve` that can be ended and started again at the same address."""

    def __init__(self, folder: Path, arguments: list[object], settings: Mapping[str, str], **how: object) -> None:
        self.address = f"127.0.0.1:{servers.free_port()}"
        self.url = f"http://{self.address}"
        self._folder, self._arguments, self._settings, self._how = folder, arguments, settings, how
        self._running = contextlib.ExitStack()
        self.logs: list[Path] = []

    def start(self) -> None:
        self.registry = self._running.enter_context(
            running.serving(self._folder, *self._arguments, listen=self.address, **self._settings, **self._how)
        )
        self.logs.append(self.registry.log)

    def stop(self) -> None:
        """As a machine that is shut down does: what is under way is finished."""
        self._running.close()

    def kill(self) -> None:
        """kill -9, of all its processes."""
        self.registry.kill()
        self._running.close()

    @property
    def pid(self) -> int:
        """Its first process's."""
        return self.registry.process.pid

    def ready(self) -> bool:
        """What it says of itself."""
        return status(f"{self.url}/readyz") == 200


class Forked(Replica):
    """One that starts in a fifth of the time: by `campaign.forks`."""

    def __init__(
        self, launch: Callable[..., Any], folder: Path, arguments: list[object], settings: dict[str, str]
    ) -> None:
        super().__init__(folder, arguments, settings)
        self._launch = launch

    def start(self) -> None:
        self._child = self._launch("serve", "--listen", self.address, *self._arguments, **self._settings)
        deadline = time.monotonic() + running.SECONDS
        while status(f"{self.url}/livez") != 200:
            assert time.monotonic() < deadline, self._child.arguments
            assert not self._child.ended.is_set(), self._child.outcome()
            time.sleep(0.01)

    @property
    def pid(self) -> int:
        return self._child.pid

    def stop(self) -> None:
        if not self._child.ended.is_set():
            os.kill(self.pid, signal.SIGTERM)
            self._child.done()

    def kill(self) -> None:
        self._child.kill()

    def outcome(self) -> running.Outcome:
        """What it came to, once it has."""
        return self._child.outcome()

    def logged(self, words: str) -> list[str]:
        """The lines of its log that have these words."""
        lines = (self._child.folder / "err").read_text().splitlines()
        return [line for line in lines if words in line and " info " not in line]


def status(url: str) -> int:
    """Of a GET over a connection of its own; 0: it came to none."""
    with urllib3.PoolManager(retries=False, timeout=running.SECONDS) as http:
        try:
            return http.request("GET", url).status
        except urllib3.exceptions.HTTPError:
            return 0


def workers(pid: int) -> list[int]:
    """The processes that this one has started."""
    told = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in told.splitlines()]
    return [int(row[0]) for row in rows if int(row[1]) == pid and not row[2].startswith("Z")]


@contextlib.contextmanager
def behind_nginx(folder: Path, replicas: list[Any], certificate: Certificate | None = None) -> Iterator[str]:
    """The address of nginx with deploy/nginx.conf before these; without a certificate, it speaks no TLS."""
    port = servers.free_port()
    inner = nginx.upstream(_configuration("nginx.conf"), "nginx.conf", _here(replicas))
    if certificate is None:
        inner = _instead(inner, r"listen 443 ssl;", f"listen 127.0.0.1:{port};")
        inner = _instead(inner, r"ssl_certificate\w*\s.*;", "")
    else:
        inner = _instead(inner, r"listen 443 ssl;", f"listen 127.0.0.1:{port} ssl;")
        inner = _instead(inner, r"/etc/nginx/registry.pem", certificate[0])
        inner = _instead(inner, r"/etc/nginx/registry.key", certificate[1])
    with nginx.running(folder / "nginx", inner, port):
        yield _url(port, certificate)


@contextlib.contextmanager
def behind_haproxy(folder: Path, replicas: list[Any], certificate: Certificate | None = None) -> Iterator[str]:
    """The address of HAProxy with deploy/haproxy.cfg before these; without a certificate, it speaks no TLS."""
    port = servers.free_port()
    if certificate is None:
        text = _instead(_configuration("haproxy.cfg"), r"bind .*", f"bind 127.0.0.1:{port}")
    else:
        both = folder / "registry.pem"
        both.write_text("".join(Path(part).read_text() for part in certificate))
        text = _instead(_configuration("haproxy.cfg"), r"bind :443", f"bind 127.0.0.1:{port}")
        text = _instead(text, r"/etc/haproxy/registry.pem", str(both))
    for written, address in _here(replicas).items():
        text = _instead(text, re.escape(written), address)
    with haproxy.running(folder / "haproxy", text, port):
        yield _url(port, certificate)


BALANCERS = {"nginx": behind_nginx, "haproxy": behind_haproxy}


def _url(port: int, certificate: Certificate | None) -> str:
    return f"{'http' if certificate is None else 'https'}://127.0.0.1:{port}"


def _configuration(name: str) -> str:
    return (DEPLOY / name).read_text()


def _here(replicas: list[Any]) -> dict[str, str]:
    return dict(zip(WRITTEN, (one.address for one in replicas), strict=True))


def _instead(text: str, written: str, here: str) -> str:
    text, count = re.subn(written, here, text)
    assert count, f"there is no {written}"
    return text
