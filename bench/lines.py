"""Slow lines: how much of a line's rate a push and a pull make use of, far from the store and with connections that break.

    client, in a network namespace  ── veth, tbf each way ──  toxiproxy (latency)  ──  MinIO, the registry

tbf gives the rate for all connections together; what it really gives is measured by plain copies in the same run. toxiproxy
delays every byte, but answers the opening of a connection itself: TCP's own windows do not see the latency. Connections are
reset by the kernel (`ss -K`), one at a time: toxiproxy 2.5 hung when its reset came and went over links under load.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench import measure, plain_copy, programs, servers
from bench.corpus import say
from bench.lab import library_environment
from bench.measure import Side
from bench.noise import noise
from bench.table import Row, missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.lab import Lab
    from bench.measure import Run

GOAL = 0.90
_WAYS = ("push", "pull")
_COPY_SECONDS = 3
_CONNECTIONS = 8
_UNBROKEN = (5.0, 10.0)
"""Seconds until the next connection is reset."""


@dataclass(frozen=True, slots=True)
class Line:
    """A kind of line, and the disk that is moved over it."""

    name: str
    rate: int
    """Bits a second."""
    burst: int
    """Bytes that tbf lets through at once: at 1 Gb/s, several of the kernel's ticks."""
    latency: int
    """Milliseconds there and back."""
    noise: float = 0
    """GB of a second disk, that does not compress: 0 for none."""
    resets: bool = False


GB_OF_FILES = 2.4
"""Data on the disk that is moved over every line: 25 % of it when compressed."""
# The cores here, which everybody shares, are busy before 1 Gb/s is. Noise asks little of them.
FAST = Line("1 Gb/s, 20 ms", 10**9, 1_000_000, 20, noise=1.2)
SLOW = Line("100 Mb/s, 80 ms, connections reset", 10**8, 100_000, 80, resets=True)


def fast(lab: Lab) -> list[Row]:
    """1 Gb/s and 20 ms."""
    return _rows(lab, FAST)


def slow(lab: Lab) -> list[Row]:
    """100 Mb/s and 80 ms, and connections reset now and then."""
    return _rows(lab, SLOW)


def _rows(lab: Lab, line: Line) -> list[Row]:
    cargoes = ["", " of noise"] if line.noise else [""]
    goal = f"≥ {GOAL:.0%} of the line"
    lacking = _lacking()
    if lacking:
        return [missing(f"{way}{cargo} over {line.name}", lacking, goal) for cargo in cargoes for way in _WAYS]
    # A smaller bench has smaller disks here too.
    share = min(1.0, lab.asked.gb / 2)
    disks = [lab.disks(GB_OF_FILES * share).base, *([noise(line.noise * share, lab.asked.cache)] if line.noise else [])]
    with _far_away(line) as far, _toxiproxy(lab) as proxies, contextlib.ExitStack() as ending:
        rates = _plain(far)
        store = proxies.add("store", far.host, lab.minio.endpoint, line.latency)
        inner = ending.enter_context(lab.registry_on(lab.minio.bucket(lab.new("registry")), signing=store))
        registry = proxies.add("api", far.host, inner, line.latency)
        rows = []
        for cargo, disk in zip(cargoes, disks, strict=True):
            moved = _Moved(lab, line, far, store, registry, disk)
            moved.move()
            rows += [_row(f"{way}{cargo} over {line.name}", moved, way, rates[way], goal) for way in _WAYS]
        return rows


@dataclass
class _Moved:
    """A disk that goes over a line and comes back, and what that took."""

    lab: Lab
    line: Line
    far: _Far
    store: str
    registry: str
    disk: Path
    runs: dict[str, list[Run]] = field(default_factory=dict)
    resets: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_WAYS, 0))
    """Connections that broke, in all runs."""

    def move(self) -> None:
        """Push and pull in turns."""
        lab = self.lab
        node, other = lab.node(self.registry, self.far.inside), lab.node(self.registry, self.far.inside)

        def fresh() -> None:
            nonlocal node
            node.forget()
            lab.clear_store()
            node = lab.node(self.registry, self.far.inside).has(self.disk)

        def transfer(way: str) -> Run:
            with contextlib.ExitStack() as breaking:
                resets = breaking.enter_context(_resetting(self.store)) if self.line.resets else []
                run = node.push("v1") if way == "push" else other.pull(node.vm, "v1")
            self.resets[way] += len(resets)
            return run

        sides = [Side("push", fresh, lambda: transfer("push")), Side("pull", other.forget, lambda: transfer("pull"))]
        self.runs = lab.alternate(sides)
        measure.run(["cmp", self.disk, other.disk])
        node.forget()
        other.forget()
        lab.clear_store()

    def middle(self, way: str) -> tuple[int, Run]:
        """The run in the middle by bytes a second, and its bytes: no two pushes need compress alike."""
        sent = [int(run.answer["body"]["sent"]) for run in self.runs["push"]]
        pairs = sorted(zip(sent, self.runs[way], strict=True), key=lambda pair: pair[0] / pair[1].seconds)
        return pairs[(len(pairs) - 1) // 2]


def _row(name: str, moved: _Moved, way: str, line: float, goal: str) -> Row:
    payload, run = moved.middle(way)
    rate = payload / run.seconds
    resets = f"; {moved.resets[way]} resets in {len(moved.runs[way])} runs" if moved.line.resets else ""
    mine = (run.user + run.system) / run.seconds / (os.cpu_count() or 1)
    told = (
        f"{payload / 10**6:.0f} MB in {run.seconds:.1f} s, {rate / 10**6:.1f} of {line / 10**6:.1f} MB/s; "
        f"cores {run.busy:.0%} busy, {mine:.0%} with the client"
    )
    return Row(name, told + resets, f"{rate / line:.0%} of the line", goal, rate / line >= GOAL)


def _lacking() -> str:
    if os.geteuid() != 0:
        return "it needs root, for a network namespace"
    if gone := [name for name in ("ip", "tc", "ss") if programs.installed(name) is None]:
        return f"{' and '.join(gone)} missing: install iproute2"
    return "" if programs.installed("toxiproxy") else "toxiproxy is missing: bench/install_toxiproxy.sh"


# --- The line ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Far:
    """The far end of a line."""

    host: str
    """This machine as seen from there."""
    inside: tuple[str, ...]
    """Words that let a command run there."""
    rate: int


@contextlib.contextmanager
def _far_away(line: Line) -> Iterator[_Far]:
    name = f"s3reg-bench-{os.getpid()}"
    here, there = f"s3b{os.getpid()}h", f"s3b{os.getpid()}n"
    host, guest = (f"10.231.{os.getpid() % 250}.{last}" for last in (1, 2))
    inside = ("ip", "netns", "exec", name)
    tbf = ["root", "tbf", "rate", f"{line.rate}bit", "burst", str(line.burst), "latency", "50ms"]
    _do("ip", "netns", "add", name)
    try:
        _do("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
        _do("ip", "addr", "add", f"{host}/30", "dev", here)
        _do("ip", "link", "set", here, "up")
        _do(*inside, "ip", "addr", "add", f"{guest}/30", "dev", there)
        _do(*inside, "ip", "link", "set", there, "up")
        _do("tc", "qdisc", "add", "dev", here, *tbf)
        _do(*inside, "tc", "qdisc", "add", "dev", there, *tbf)
        yield _Far(host, inside, line.rate)
    finally:
        _do("ip", "netns", "del", name)


def _do(*words: str) -> None:
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(words)}: {done.stderr.strip()}")


def _plain(far: _Far) -> dict[str, float]:
    """Bytes a second that the line gives, each way: the best of a copy over one connection and over several."""
    count = far.rate // 8 * _COPY_SECONDS
    rates = {}
    with plain_copy.serving(far.host) as port:
        for way, copied in (("push", "up"), ("pull", "down")):
            found = []
            for connections in (1, _CONNECTIONS):
                words = [
                    *far.inside,
                    sys.executable,
                    "-m",
                    "bench.driver",
                    "copy",
                    far.host,
                    port,
                    count,
                    connections,
                    copied,
                ]
                told = measure.run(words, library_environment()).answer
                found.append(float(told["rate"]))
            rates[way] = max(found)
            one, many = (rate / 10**6 for rate in found)
            say(f"  the line gives a {way} {one:.1f} MB/s to one connection, {many:.1f} MB/s to {_CONNECTIONS}")
    return rates


@contextlib.contextmanager
def _resetting(url: str) -> Iterator[list[str]]:
    """Reset one of the connections to `url` now and then; those that were, by the port of their far end."""
    host, port = url.removeprefix("http://").rsplit(":", 1)
    mine = ["state", "established", "src", host, "sport", "=", f":{port}"]
    gone: list[str] = []
    over, chance = threading.Event(), random.Random(11)

    def work() -> None:
        while not over.wait(chance.uniform(*_UNBROKEN)):
            told = subprocess.run(["ss", "-tnH", *mine], check=True, capture_output=True, text=True).stdout
            far = sorted(line.split()[3].rpartition(":")[2] for line in told.splitlines())
            if far:
                gone.append(chance.choice(far))
                _do("ss", "-K", "-tnH", *mine, "dport", "=", f":{gone[-1]}")

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield gone
    finally:
        over.set()
        worker.join()


# --- toxiproxy --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Proxies:
    """A running toxiproxy, by its HTTP API."""

    url: str

    def add(self, name: str, host: str, target: str, latency: int) -> str:
        """A proxy at `host` that leads to the URL `target`, so many milliseconds away and back; its URL."""
        asked = {"name": name, "listen": f"{host}:0", "upstream": target.removeprefix("http://"), "enabled": True}
        listen = self._call("POST", "/proxies", asked)["listen"]
        for stream in ("upstream", "downstream"):
            toxic = {"type": "latency", "name": stream, "stream": stream, "attributes": {"latency": latency // 2}}
            self._call("POST", f"/proxies/{name}/toxics", toxic)
        return f"http://{listen}"

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read()
        return dict(json.loads(text)) if text else {}


@contextlib.contextmanager
def _toxiproxy(lab: Lab) -> Iterator[_Proxies]:
    port = servers.free_port()
    command: list[object] = [programs.installed("toxiproxy"), "-host", "127.0.0.1", "-port", port]
    with servers.process(command, lab.folder / "toxiproxy.log"):
        servers.await_answer(f"http://127.0.0.1:{port}/version", lab.folder / "toxiproxy.log")
        yield _Proxies(f"http://127.0.0.1:{port}")
