"""A registry over MinIO with a wire before each of both.

Nodes reach the registry over `Wired.api`; the links that it signs lead to the store over `Wired.store`.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from werkzeug.serving import WSGIRequestHandler, make_server

import machines
import servers
from http_wires import Wire
from machines import KIB
from s3reg import wire
from s3reg.api import create_app
from s3reg.client.connection import Access, Connection
from s3reg.client.library import Library
from s3reg.client.progress import Silent
from s3reg.client.pull import Pulled, PullOptions, pull
from s3reg.client.push import Pushed, PushOptions, push
from s3reg.model import format as fmt
from s3reg.settings import Settings
from s3reg.store.s3 import S3Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from machines import Machine
    from s3reg.client.progress import Progress
    from servers import S3Server

STALL = 0.25
DRIVE = 500 * KIB
"""Bytes of each of the drives that `in_packs` makes."""


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: object) -> None:
        pass


class Store(S3Store):
    """The bucket; a test may say how many seconds the links of packs work."""

    seconds: int | None = None

    def _life(self, key: str, seconds: int) -> int:
        return self.seconds if self.seconds is not None and key.startswith(fmt.PACKS) else seconds

    def sign_get(self, key: str, *, seconds: int) -> Any:
        return super().sign_get(key, seconds=self._life(key, seconds))

    def sign_gets(self, keys: Iterable[str], *, seconds: int) -> Any:
        return [self.sign_get(key, seconds=seconds) for key in keys]

    def sign_put(self, key: str, *, size: int, sha256: str, seconds: int) -> Any:
        return super().sign_put(key, size=size, sha256=sha256, seconds=self._life(key, seconds))


@dataclass
class Node:
    """A library, and a line whose pauses are noted and not made."""

    library: Library
    line: Connection
    pauses: list[float] = field(default_factory=list)

    def push(self, machine: Machine, tag: str = "v1", **more: Any) -> Pushed:
        return push(self.line, self.library, self.library.find(machine.id), PushOptions(tag=tag, **more), Silent())

    def pull(self, machine: Machine, tag: str | None = None, *, progress: Progress | None = None) -> Pulled:
        return pull(self.line, self.library, machine.id, PullOptions(tag=tag), progress or Silent())

    def bytes_of(self, machine: Machine) -> dict[str, bytes]:
        return machines.contents(self.library.root, machine)


@dataclass
class Wired:
    """The place."""

    api: Wire
    store: Wire
    objects: Store
    folder: Path
    nodes: contextlib.ExitStack

    def mend(self) -> None:
        self.objects.seconds = None
        self.api.mend()
        self.store.mend()

    def node(self, name: str | None = None, *, access: dict[str, Any] | None = None, **more: Any) -> Node:
        """A node with a library of this name, by default a new one."""
        pauses: list[float] = []

        def pause(_: threading.Event, seconds: float) -> None:
            pauses.append(seconds)

        line = Connection(Access(self.api.endpoint, **(access or {})), **{"stall": STALL, "pause": pause, **more})
        self.nodes.callback(line.close)
        return Node(Library(self.folder / (name or uuid.uuid4().hex)), line, pauses)

    def tags(self, machine: Machine) -> list[str]:
        """The versions that the registry shows of the machine's template."""
        line = self.node().line
        answer = line.ask(wire.TemplatesAnswerSchema, "GET", f"{wire.PREFIX}/templates")
        if machine.id not in {one.id for one in answer.templates}:
            return []
        found = line.ask(wire.TemplateEntrySchema, "GET", f"{wire.PREFIX}/template", query={"ref": machine.id})
        return [version.tag for version in found.versions]

    def check(self, machine: Machine, expected: dict[str, bytes], tag: str | None = None) -> None:
        """The version comes back byte for byte into a library that has nothing."""
        fresh = self.node()
        fresh.pull(machine, tag)
        assert fresh.bytes_of(machine) == expected


@contextlib.contextmanager
def wired(server: S3Server, folder: Path, *, links_to: str | None = None) -> Iterator[Wired]:
    """The place, over a bucket of its own; nodes' libraries lie in `folder`. `links_to`: not to the wire."""
    with contextlib.ExitStack() as stack:
        bucket = stack.enter_context(servers.buckets())(server)
        store_wire = stack.enter_context(Wire(server.endpoint))
        store = Store(
            bucket, endpoint=server.endpoint, signing_endpoint=links_to or store_wire.endpoint, region=server.region
        )
        app = create_app(Settings(store=f"s3://{bucket}"), store)
        log = logging.getLogger("s3reg")
        stack.callback(log.setLevel, log.level)
        log.setLevel(logging.ERROR)
        http = stack.enter_context(contextlib.closing(_Served(app)))
        api_wire = stack.enter_context(Wire(http.endpoint))
        yield Wired(api_wire, store_wire, store, folder, stack)


class _Served:
    """The application behind a port of its own."""

    def __init__(self, app: Any) -> None:
        self._server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
        self._server.daemon_threads = True  # type: ignore[attr-defined]
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def in_packs(node: Node, count: int, *, seed: int, size: int = DRIVE) -> Machine:
    """A VM whose newest version lies in so many packs: each was pushed with one drive more than the one before."""
    chance = random.Random(seed)
    machine = machines.make(node.library.root, sizes=(), state_size=0, name=f"vm-{seed}", seed=seed)
    for number in range(count):
        machine.drives.append(f"{chance.getrandbits(128):032x}.img")
        machine.disk(number).write_bytes(chance.randbytes(size))
        machine.write_config()
        node.push(machine, f"v{number + 1}")
    return machine


def first_of_each(fault: Callable[..., None], method: str, *kinds: str) -> Callable[..., Any]:
    """A rule: of these requests, the first for each object is spoilt, whatever range of it is asked for."""
    seen: set[str] = set()
    lock = threading.Lock()

    def rule(passage: Any) -> Any:
        if passage.method != method or passage.kind not in kinds:
            return None
        with lock:
            new = passage.path not in seen
            seen.add(passage.path)
        return fault if new else None

    return rule


def each(fault: Callable[..., None], method: str, *kinds: str) -> Callable[..., Any]:
    """A rule: all of these requests are spoilt."""
    return lambda passage: fault if passage.method == method and passage.kind in kinds else None
