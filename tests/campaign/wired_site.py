"""A registry in a process of its own, its store, and wires: before the API, and before the store from either side.

nodes ── api ──► registry ── inner ──► store
  └──────────────── outer ───────────────┘       (over a directory the registry serves the links: no outer, no inner)

with over_minio(start, minio, folder) as site:
    job = operations.PUSH(site)
    site.inner.rule = Nth(3, http_wires.done_but_lost)
    outcome = job.run().outcome()
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import machines
import running
import servers
from campaign.forks import PATIENCE
from http_wires import Wire
from machines import KIB
from s3reg import wire
from s3reg.client.connection import Access, Connection
from s3reg.client.library import Library
from s3reg.store.files import FilesStore
from s3reg.store.s3 import S3Store
from wired import Node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from campaign.forks import Forked
    from http_wires import Fault, Passage
    from machines import Machine
    from s3reg.store import ObjectStore
    from servers import S3Server

STORE_PATIENCE = 3.0
"""Seconds that a registry waits for its store."""
SIZES = (700 * KIB, 400 * KIB)


class Nth:
    """A rule: the n-th request that comes by, from 1, of those that are `wanted`, meets the fault; all others pass."""

    def __init__(self, n: int, fault: Fault, wanted: Callable[[Passage], bool] = lambda _: True) -> None:
        self._n, self._fault, self._wanted = n, fault, wanted
        self._lock = threading.Lock()
        self.seen = 0
        self.met: Passage | None = None
        """The request that met it; None: it never came."""

    def __call__(self, passage: Passage) -> Fault | None:
        with self._lock:
            if not self._wanted(passage):
                return None
            self.seen += 1
            if self.seen != self._n:
                return None
            self.met = passage
            return self._fault


@dataclass
class Site:
    """The place."""

    start: Callable[..., Forked]
    folder: Path
    store: ObjectStore
    """As the registry sees it."""
    place: tuple[str, ...]
    """What tells a command which store."""
    environment: dict[str, str]
    inner: Wire | None
    outer: Wire | None
    api: Wire
    listen: str
    server: Forked | None = None
    lines: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    patience: float = PATIENCE
    """Of commands from now on."""
    kept: dict[str, Any] = field(default_factory=dict)
    """What jobs use again and again, so that a store does not grow with them."""
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def live(self, **more: Any) -> Forked:
        """The registry serves from now on; `more`: of `start`."""
        serves = ("serve", *self.place, "--listen", self.listen, "--workers", "1", "--trash-seconds", "3600")
        self.server = self.start(*serves, **self.environment, patience=STORE_PATIENCE, **more)
        self.answers()
        return self.server

    def answers(self) -> None:
        """Returns once the registry serves, or is gone."""
        assert self.server is not None
        out, deadline = self.server.folder / "out", time.monotonic() + running.SECONDS
        while not self.server.ended.is_set() and not (out.is_file() and "serves" in out.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def command(self, *arguments: object, **more: Any) -> Forked:
        """A command on the store itself: gc, fsck, adopt."""
        words = (*arguments[:1], *self.place, *arguments[1:])
        return self.start(*words, **self.environment, patience=self.patience, **more)

    def on_node(self, library: Path, *arguments: object) -> Forked:
        """A node's command."""
        return self.start("--library", library, "-a", self.api.endpoint, *arguments, patience=self.patience)

    def node(self, library: Path | None = None) -> Node:
        """A node in this process, for what is only looked at or made ready."""
        line = Connection(Access(f"http://{self.listen}"))
        self.lines.callback(line.close)
        return Node(Library(library or self.folder / uuid.uuid4().hex), line)

    def machine(self, *, sizes: tuple[int, ...] = SIZES, **more: Any) -> Machine:
        """A VM that no one else has, in a library of its own."""
        seed = next(self.numbers)
        return machines.make(
            self.folder / f"vm-{seed}", sizes=sizes, state_size=0, name=f"vm-{seed}", seed=seed, **more
        )

    @property
    def wires(self) -> list[Wire]:
        return [one for one in (self.api, self.outer, self.inner) if one is not None]

    def mend(self) -> None:
        for one in self.wires:
            one.mend()

    def tags(self, machine: Machine) -> list[str]:
        """The versions that the registry shows of the machine's template."""
        line = self.node().line
        answer = line.ask(wire.TemplatesAnswerSchema, "GET", f"{wire.PREFIX}/templates")
        if machine.id not in {one.id for one in answer.templates}:
            return []
        found = line.ask(wire.TemplateEntrySchema, "GET", f"{wire.PREFIX}/template", query={"ref": machine.id})
        return [version.tag for version in found.versions]

    def check_pulls(self, machine: Machine, versions: dict[str, dict[str, bytes]]) -> None:
        """Each of these versions, and no other, is there, and comes back byte for byte into a library that has nothing."""
        assert self.tags(machine) == list(versions)
        for tag, expected in versions.items():
            fresh = self.node()
            fresh.pull(machine, tag)
            assert fresh.bytes_of(machine) == expected, tag

    def check_clean(self) -> None:
        """All that templates need is there and sound; once what was begun is given up, a sweep leaves nothing over."""
        self.mend()
        checked = self.command("fsck", "-j", "--read-data").done().answer["body"]
        assert checked["damage"] == [], checked
        line = self.node().line
        for row in line.call("GET", f"{wire.PREFIX}/sessions")["sessions"]:
            line.call("DELETE", f"{wire.PREFIX}/sessions/{row['session']}")
        self.command("gc", "-j").done()
        body = self.command("gc", "--dry-run", "-j").done().answer["body"]
        assert body["removed"]["objects"] == 0, body
        assert body["stays"]["pushes"]["count"] == 0, body
        left = self.command("fsck", "-j").done().answer["body"]
        assert left["damage"] == []
        assert not any(row["count"] for row in left["orphans"].values()), left


@contextlib.contextmanager
def over_minio(start: Callable[..., Forked], server: S3Server, folder: Path) -> Iterator[Site]:
    """Over a bucket of its own, with three wires."""
    with contextlib.ExitStack() as stack:
        bucket = stack.enter_context(servers.buckets())(server)
        inner, outer = (stack.enter_context(Wire(server.endpoint)) for _ in range(2))
        listen = f"127.0.0.1:{servers.free_port()}"
        api = stack.enter_context(Wire(f"http://{listen}"))
        place = ("--store", f"s3://{bucket}", "--s3-endpoint", inner.endpoint)
        store = S3Store(bucket, endpoint=inner.endpoint, region=server.region)
        site = Site(start, folder, store, place, server.environment(), inner, outer, api, listen)
        site.environment["S3REG_S3_SIGNING_ENDPOINT"] = outer.endpoint
        stack.push(site.lines)
        stack.callback(lambda: site.server and site.server.kill())
        site.live()
        yield site


@contextlib.contextmanager
def over_directory(start: Callable[..., Forked], root: Path, folder: Path) -> Iterator[Site]:
    """Over this directory, with a wire before the API."""
    with contextlib.ExitStack() as stack:
        listen = f"127.0.0.1:{servers.free_port()}"
        api = stack.enter_context(Wire(f"http://{listen}"))
        site = Site(
            start, folder, FilesStore(root, secret=bytes(32)), ("--store", str(root)), {}, None, None, api, listen
        )
        stack.push(site.lines)
        stack.callback(lambda: site.server and site.server.kill())
        site.live()
        yield site
