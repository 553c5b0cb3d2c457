"""What a refusal looks like wherever a person meets it, and what must be as it was afterwards.

refused(outcome, 18)                  the two lines of a command: what is wrong, what to do next
native(answer, 404, "tag-not-found")  the error of the native API
anka(answer, 400)                     the failure of the Anka dialect
Standing                              a VM that was pushed before, and its proof that nothing happened to it
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import urllib3

import machines
import running
from machines import KIB
from s3reg.client.connection import Access, Connection
from s3reg.client.library import Library
from s3reg.client.progress import Silent
from s3reg.client.pull import PullOptions, pull
from servers import lacking

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from running import Node, Outcome

PROGRESS = re.compile(
    r"(hashing|sending|pulling): .*/s(, \d+ s left)?|making it durable|going on where an earlier push was interrupted"
)
"""What a transfer says on stderr before it fails."""
API = "/transfer/v1"
BOMB = (
    b"a: &a ["
    + b"x, " * 9
    + b"x]\n"
    + b"".join(b"%c: &%c [%s]\n" % (n, n, b", ".join([b"*%c" % (n - 1)] * 10)) for n in b"bcdefghij")
)
"""Ten thousand million values in 400 bytes."""
CONFIGS = {
    "no YAML": b"name: [\n",
    "no text": b"\xff\xfe\x00name",
    "a page of HTML": b"<html>\n  <p>404</p>: x\n- y",
    "a list": b"- name\n- uuid\n",
    "nothing": b"",
    "a bomb": BOMB,
    "deep": b"a: " + b"[" * 100_000,
    "too large": b"name: x\n#" + b" " * 1024**2,
}
"""Configurations that are none."""


WHERE = re.compile(r" {7}\((request|object) \S+\)")
"""The line that names what the registry's log has of it, or the object of the store that it is about."""


def refused(outcome: Outcome, code: int) -> str:
    """The command's two lines, the second without its indent: exactly these, and this exit code.

    There may be a third one, for whoever runs the registry.
    """
    assert outcome.code == code, (outcome.code, outcome.err)
    lines = outcome.err.splitlines()
    if WHERE.fullmatch(lines[-1]):
        lines.pop()
    *before, message, next_step = lines
    assert all(PROGRESS.fullmatch(line) for line in before), outcome.err
    assert re.fullmatch(r"s3reg: \S.*", message), outcome.err
    assert re.fullmatch(r" {7}\S.*", next_step), outcome.err
    for trace in ("Error(", "Errno", "object at 0x", "?,", "None"):
        assert trace not in outcome.err
    return f"{message}\n{next_step.strip()}"


@dataclass(frozen=True)
class Answer:
    """An answer over HTTP, with the names that Flask's test client has for its parts."""

    status_code: int
    headers: Any
    data: bytes

    @property
    def text(self) -> str:
        return self.data.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.data)


@dataclass
class Web:
    """A registry over HTTP, asked as Flask's test client is."""

    url: str
    pool: urllib3.PoolManager = field(default_factory=lambda: urllib3.PoolManager(retries=False, timeout=60))

    def open(self, path: str, *, method: str = "GET", json: Any = None, query: Any = None, **more: Any) -> Answer:
        if query:
            path += "?" + urlencode(query)
        more |= {} if json is None else {"json": json}
        url = path if "://" in path else self.url + path
        answer = self.pool.request(method, url, **more)
        return Answer(answer.status, answer.headers, answer.data)

    def get(self, path: str, **query: object) -> Answer:
        return self.open(path, query=query)

    def put(self, path: str, *, data: bytes, headers: dict[str, str]) -> Answer:
        return self.open(path, method="PUT", body=data, headers=headers)


def native(answer: Answer, status: int, code: str) -> str:
    """The message of the native API's error, which has all its parts."""
    assert answer.status_code == status, answer.text
    assert set(answer.json) == {"error"}
    error = answer.json["error"]
    assert set(error) == {"code", "message", "remedy", "detail"}
    assert error["code"] == code, answer.text
    assert error["remedy"]
    assert "Traceback" not in answer.text
    return str(error["message"])


def anka(answer: Answer, status: int) -> str:
    """The message of a failure in the Anka envelope."""
    assert answer.status_code == status, answer.text
    assert set(answer.json) == {"status", "message"}
    assert answer.json["status"] == "FAIL"
    assert "Traceback" not in answer.text
    return str(answer.json["message"])


def unready(answer: Answer) -> str:
    """What `/readyz` names as the reason why nothing can be served; what to do stands beside it."""
    assert answer.status_code == 503, answer.text
    assert set(answer.json) == {"status", "body", "message"}
    assert answer.json["status"] == "FAIL"
    assert answer.json["message"]
    assert answer.json["body"]["next"]
    return str(answer.json["body"]["reason"])


@dataclass(frozen=True)
class Standing:
    """A template with a version that no bad input may touch."""

    web: Web
    node: Node
    machine: machines.Machine
    told: Any
    bytes: dict[str, bytes]

    def check(self, folder: Path) -> None:
        """It is told of as it was, and comes back byte for byte into a library under `folder`."""
        assert about(self.web, self.machine.id) == self.told
        library = Library(folder / f"check-{uuid.uuid4().hex}")
        connection = Connection(Access(self.web.url))
        try:
            pull(connection, library, self.machine.id, PullOptions(tag="v1"), Silent())
        finally:
            connection.close()
        assert machines.contents(library.root, self.machine) == self.bytes
        shutil.rmtree(library.root)


def about(web: Web, template: str) -> Any:
    """All that both dialects tell of a template, without the time of its last pull."""
    told = [web.get(f"{API}/template", ref=template), web.get("/registry/v2/vm", id=template)]
    assert [answer.status_code for answer in told] == [200, 200]
    return [re.sub(r'"last_pull": ?\w+', "", answer.text) for answer in told]


def listing(web: Web) -> Any:
    """All that both dialects list."""
    templates = web.get(f"{API}/templates")
    envelope = web.get("/registry/v2/vm")
    assert (templates.status_code, envelope.status_code) == (200, 200)
    return templates.json, envelope.json


def small(library: Path, *, seed: int = 1, **more: Any) -> machines.Machine:
    """A VM of a few chunks, under a name that no other has."""
    name = f"vm-{uuid.uuid4().hex[:12]}"
    return machines.make(library, **{"sizes": (700 * KIB,), "state_size": 0, "name": name, "seed": seed, **more})


def standing(url: str, folder: Path) -> Standing:
    """A pushed VM, its proof taken."""
    node = running.Node(folder / f"node-{uuid.uuid4().hex}", url)
    machine = small(node.library)
    node.done("push", machine.name, "-t", "v1")
    web = Web(url)
    return Standing(web, node, machine, about(web, machine.id), machines.contents(node.library, machine))


def tmpfs(folder: Path, *options: str) -> Iterator[Path]:
    """A disk of its own at `folder`, mounted with these options; a skip where that is not allowed."""
    folder.mkdir()
    if shutil.which("mount") is None or _mount(folder, "-t", "tmpfs", "-o", ",".join(options)):
        lacking("a disk of its own (mounting a tmpfs takes root)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def remount(folder: Path, *options: str) -> None:
    """Mount the disk anew with these options."""
    assert not _mount(folder, "-o", ",".join(["remount", *options]))


def _mount(folder: Path, *options: str) -> int:
    return subprocess.run(["mount", *options, "tmpfs", folder], check=False, capture_output=True).returncode
