"""A Mac with Anka's application, and the Anka registry that it pulls from, as far as a migration meets them.

The registry answers in the shapes that Anka documents for its lists. Anka's own program is a double that keeps each tag's
files in a folder: it pulls, lists and deletes VMs in a library of Anka's shape. `s3reg` is the real one, run in the tests'
own process, because starting it takes as long as all that it does here.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socketserver
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import running
from machines import contents
from s3reg.cli.main import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import pytest

    from machines import Machine

HOME = Path(__file__).parents[1]
MIGRATE = HOME / "examples" / "migrate.py"
_PROGRAM = r"""#!{python} -IS
import json, os, shutil, signal, socket, sys
folder = {folder!r}
words = sys.argv[1:]
name = os.path.basename(sys.argv[0])
calls = os.path.join(folder, "calls")
number = len(open(calls).readlines()) if os.path.exists(calls) else 0
with open(calls, "a") as file:
    file.write(json.dumps([name, *words]) + "\n")
plan = os.path.join(folder, "kill")
lock = os.path.join(folder, "state", "lock")
open_files = filter(os.path.exists, ("/dev/fd/" + number for number in os.listdir("/dev/fd")))
if os.path.exists(lock) and not any(os.path.samefile(path, lock) for path in open_files):
    sys.exit("it does not hold the lock")
how = json.load(open(plan)).get(str(number), "") if os.path.exists(plan) else ""
if how in ("both", "parent"):
    os.kill(os.getppid(), signal.SIGKILL)
if how == "both":
    sys.exit(9)

def anka():
    old, library = os.path.join(folder, "old"), os.path.join(folder, "library")
    vms = os.path.join(library, "vm_lib")
    layers = [os.path.join(library, kind) for kind in ("img_lib", "state_lib")]
    for place in [vms, *layers]:
        os.makedirs(place, exist_ok=True)
    if words == ["--machine-readable", "list"]:
        found = [dict(uuid=one, name="a VM") for one in os.listdir(vms) if not one.startswith(".")]
        print(json.dumps(dict(status="OK", body=found, message="", code=0)))
    elif words[:2] == ["registry", "-r"] and words[3:5] == ["pull", "--shrink"]:
        tag, vm = words[5].partition("=")[2].encode().hex(), words[6]
        source = os.path.join(old, vm, tag)
        if not os.path.isdir(source):
            print(vm + ": not found")
            sys.exit(3)
        for kind in ("img_lib", "state_lib"):
            of_tag = set(os.listdir(os.path.join(source, kind)))
            for layer in sorted(of_tag):
                target = os.path.join(library, kind, layer)
                if not os.path.exists(target):
                    shutil.copyfile(os.path.join(source, kind, layer), target + ".part")
                    os.rename(target + ".part", target)
        shutil.rmtree(os.path.join(vms, vm), ignore_errors=True)
        shutil.copytree(os.path.join(source, "vm_lib", vm), os.path.join(vms, vm))
        drop(vm, [tag])
        print("100%\nVM pulled successfully with uuid: " + vm)
    elif words[:2] == ["delete", "--yes"]:
        named = [vm for vm in os.listdir(vms) if vm == words[2] or name_of(vms, vm) == words[2]]
        if not named:
            print(words[2] + ": not found")
            sys.exit(3)
        shutil.rmtree(os.path.join(vms, named[0]))
        drop(named[0], [])
    else:
        print("no such command")
        sys.exit(2)

def name_of(vms, vm):
    found = [one for one in os.listdir(os.path.join(vms, vm)) if one.endswith(".yaml")]
    lines = [line for one in found for line in open(os.path.join(vms, vm, one)).read().splitlines()]
    return next((line[6:].strip("'\"") for line in lines if line.startswith("name: ")), "")

def drop(vm, keep):
    of_vm = os.path.join(folder, "old", vm)
    if not os.path.isdir(of_vm):
        return
    for kind in ("img_lib", "state_lib"):
        kept = set().union(*(os.listdir(os.path.join(of_vm, tag, kind)) for tag in keep))
        for tag in os.listdir(of_vm):
            for layer in set(os.listdir(os.path.join(of_vm, tag, kind))) - kept:
                path = os.path.join(folder, "library", kind, layer)
                if os.path.exists(path):
                    os.unlink(path)

code = 0
if name == "anka":
    anka()
else:
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(os.path.join(folder, "line"))
        line.sendall(json.dumps(words).encode() + b"\n")
        told = json.loads(line.makefile().read())
    sys.stderr.write(told["err"])
    sys.stderr.flush()
    sys.stdout.write(told["out"])
    sys.stdout.flush()
    code = told["code"]
if how == "after":
    os.kill(os.getppid(), signal.SIGKILL)
sys.exit(code)
"""


@dataclass
class Mac:
    """A Mac on which templates are moved from one registry to another."""

    folder: Path
    """Short: a socket lies in it."""
    new: str
    """The address of the registry of ours."""
    capsys: pytest.CaptureFixture[str]
    waiting: queue.Queue[tuple[list[str], queue.Queue[dict[str, object]]]] = field(default_factory=queue.Queue)

    old: str = ""
    """The address of the Anka registry."""
    root: str | None = None
    """What it wants for authorization."""
    templates: dict[str, dict[str, Any]] = field(default_factory=dict)
    before_push: Callable[[], dict[str, object] | None] = lambda: None
    """What it gives is what a push gives instead."""

    @property
    def library(self) -> Path:
        return self.folder / "library"

    def __post_init__(self) -> None:
        for name in ("anka", "s3reg"):
            place = self.folder / "bin" / name
            place.parent.mkdir(exist_ok=True)
            place.write_text(_PROGRAM.format(python=sys.executable, folder=str(self.folder)))
            place.chmod(0o755)

    def old_has(self, machine: Machine, tag: str, *, description: str = "") -> dict[str, bytes]:
        """The Anka registry has this tag of the machine as it is now; gives its bytes, by path inside a library."""
        found = contents(machine.library, machine)
        for path, data in found.items():
            target = self.of_tag(machine, tag) / path
            for folder in (target.parent, target.parents[1] / "state_lib", target.parents[1] / "img_lib"):
                folder.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        row = self.templates.setdefault(machine.id, {"id": machine.id.upper(), "name": machine.name, "versions": []})
        layers = [path for path in found if not path.startswith("vm_lib/")]
        version = {"number": len(row["versions"]), "tag": tag, "description": description}
        version["images"] = [Path(path).name for path in layers if path.startswith("img_lib/")]
        version["size"] = sum(len(found[path]) for path in layers)
        row["versions"].append(version)
        return found

    def lists(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        """The Anka registry."""
        path, asked = environ["PATH_INFO"], parse_qs(environ["QUERY_STRING"])
        fine = self.root is None or environ.get("HTTP_AUTHORIZATION") == self.root
        told: dict[str, Any] = {"status": "FAIL", "message": "Authentication Required"}
        if fine and path == "/registry/status":
            told = {"status": "OK", "body": {"status": "Running", "version": "1.40.0"}, "message": ""}
        elif fine and path == "/registry/v2/vm":
            rows = [{"id": row["id"], "name": row["name"], "size": 0} for row in self.templates.values()]
            body = self.templates[asked["id"][0].lower()] if "id" in asked else rows or None
            told = {"status": "OK", "body": body, "message": ""}
        start_response("200 OK" if fine else "401 Unauthorized", [("Content-Type", "application/json")])
        return [json.dumps(told).encode()]

    def of_tag(self, machine: Machine, tag: str) -> Path:
        """What Anka's program finds of it."""
        return self.folder / "old" / machine.id / tag.encode().hex()

    def calls(self, name: str, word: str) -> list[list[str]]:
        """The calls of a program that have this word, in order."""
        lines = map(json.loads, (self.folder / "calls").read_text().splitlines())
        return [words for words in lines if words[0] == name and word in words]

    def forget_calls(self) -> None:
        (self.folder / "calls").unlink(missing_ok=True)

    def kills(self, plan: dict[int, str]) -> None:
        """Of both programs' calls, the n-th kills the migration: `both`, and itself; `parent`, and goes on; `after` all."""
        (self.folder / "kill").write_text(json.dumps(plan))

    def migrate(self, *words: object, on_line: Callable[[str], None] = lambda _: None) -> running.Outcome:
        """Run the migration to its end, or to what kills it; `on_line` is told each line as it comes."""
        programs = ["--anka", self.folder / "bin" / "anka", "--s3reg", self.folder / "bin" / "s3reg"]
        where = ["--library", self.library, "--state", self.folder / "state", "--reserve", "0"]
        command = [sys.executable, MIGRATE, "--from", self.old, "--anka-remote", "old", "--to", self.new]
        return self.run([*command, *programs, *where, *words], on_line)

    def run(self, command: Sequence[object], on_line: Callable[[str], None] = lambda _: None) -> running.Outcome:
        """Run it where both programs come first in PATH."""
        with subprocess.Popen(
            [*map(str, command)],
            env={"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "HOME": str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:

            def listen() -> None:
                for line in process.stdout or ():
                    on_line(line)
                    said.append(line)

            said: list[str] = []
            ended = threading.Thread(target=listen)
            ended.start()
            while ended.is_alive() or not self.waiting.empty():
                with contextlib.suppress(queue.Empty):
                    asked, answer = self.waiting.get(timeout=0.01)
                    answer.put(self.s3reg(asked))
            ended.join()
            _, err = process.communicate(timeout=running.SECONDS)
        return running.Outcome(process.returncode, "".join(said), err)

    def s3reg(self, words: Sequence[str]) -> dict[str, object]:
        """What the program does; in this thread, because signals are set up in it."""
        if "push" in words and (instead := self.before_push()) is not None:
            return instead
        self.capsys.readouterr()
        code = run(words)
        out, err = self.capsys.readouterr()
        return {"code": code, "out": out, "err": err}

    @contextlib.contextmanager
    def line(self) -> Iterator[Mac]:
        """The program can be called: what it does, it does while `migrate` runs, as does what a killed run had started."""
        waiting = self.waiting

        class Asked(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                answer: queue.Queue[dict[str, object]] = queue.Queue()
                waiting.put((json.loads(self.rfile.readline()), answer))
                self.wfile.write(json.dumps(answer.get()).encode())

        class Line(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

        with Line(str(self.folder / "line"), Asked) as server:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
            try:
                yield self
            finally:
                server.shutdown()
