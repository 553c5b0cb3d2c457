"""A first look at s3reg, run by `make run`: one registry, two nodes, a sample VM pushed, changed, pushed again, and pulled.

Every step is a command that you could type; it is printed before it runs. All of it happens in the folder .run, which is
made afresh each time. Any byte that comes back different ends the program with an error.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

HOME = Path(__file__).parents[1]
RUN = Path(".run")
PORT = 8089
START_SECONDS = 60
MIB = 1024**2
CHUNK = 256 * 1024
"""What s3reg cuts files into: a chunk is sent whole or not at all."""
NAME = "sample"

console = Console(highlight=False, soft_wrap=True)
s3reg = Path(sys.executable).with_name("s3reg")


def main() -> int:
    """Everything, in order; gives the exit code."""
    os.chdir(HOME)
    shutil.rmtree(RUN, ignore_errors=True)
    (RUN / "vm").mkdir(parents=True)
    make_vm(RUN / "vm")
    with serving() as (url, server):
        step("Node A makes a VM of plain files: two drives, the memory of a suspended machine, firmware variables")
        import_vm()
        step("Node A pushes it as v1")
        first = push(url, "v1")
        kept = copies(RUN / "node-a", RUN / "vm-at-v1")

        step("The VM changes here and there, and node A pushes v2")
        changed = change_vm(RUN / "vm")
        import_vm()
        second = push(url, "v2")

        step("Node B, which has never seen it, pulls both versions")
        pulled = 0
        for tag, want in (("v1", kept), ("v2", copies(RUN / "node-a", RUN / "vm-at-v2"))):
            run("--library", RUN / "node-b", "-a", url, "pull", NAME, "-t", tag)
            pulled += compare(want, RUN / "node-b", tag, first["size"])
        report(first, second, changed, pulled)
        if sys.stdin.isatty() and sys.stdout.isatty():
            go_on(url, server)
    return 0


# --- The sample VM ---------------------------------------------------------------------------------------------------


def make_vm(folder: Path) -> None:
    """A VM's files: data that compresses like a disk's, and holes."""
    dice = random.Random(1)
    make_disk(folder / "system.img", 96 * MIB, 24, dice)
    make_disk(folder / "data.img", 48 * MIB, 8, dice)
    make_disk(folder / "memory.state", 16 * MIB, 12, dice)
    (folder / "nvram").write_bytes(dice.randbytes(64 * 1024))


def make_disk(path: Path, size: int, filled: int, dice: random.Random) -> None:
    """A sparse file with so many MiB of data, half of it text and half noise."""
    with path.open("wb") as file:
        file.truncate(size)
        for place in sorted(dice.sample(range(size // MIB), filled)):
            file.seek(place * MIB)
            file.write(b"".join(b"/usr/lib/%08d.dylib\n" % dice.randrange(10**8) for _ in range(MIB // 48)))
            file.seek(place * MIB + MIB // 2)
            file.write(dice.randbytes(MIB // 2))


def change_vm(folder: Path) -> tuple[int, int]:
    """Rewrite some blocks, as a few minutes of use would; gives how many bytes, and in how many chunks they lie."""
    dice = random.Random(2)
    changed, chunks = 0, set()
    for name, writes in (("system.img", 12), ("data.img", 4), ("memory.state", 2)):
        with (folder / name).open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            for _ in range(writes):
                start = file.seek(dice.randrange(size // 4096 - 16) * 4096)
                written = file.write(dice.randbytes(dice.randrange(1, 16) * 4096))
                chunks |= {(name, place // CHUNK) for place in range(start, start + written, 4096)}
                changed += written
    return changed, len(chunks)


def import_vm() -> None:
    """Make it a VM of node A's library, or update the one that is there."""
    vm = RUN / "vm"
    disks = ("--disk", vm / "system.img", "--disk", vm / "data.img")
    run("--library", RUN / "node-a", "import", NAME, *disks, "--state", vm / "memory.state", "--nvram", vm / "nvram")


# --- What comes back -------------------------------------------------------------------------------------------------


def files(library: Path) -> dict[str, Path]:
    """The VM files of a library that has one VM, by their paths in it; s3reg's own records left out."""
    found = {path.relative_to(library).as_posix(): path for path in library.rglob("*") if path.is_file()}
    return {name: path for name, path in found.items() if not name.startswith(".")}


def copies(library: Path, to: Path) -> Path:
    """A copy of a library's VM files as they are now."""
    for name, path in files(library).items():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to / name)
    return to


def compare(want: Path, library: Path, tag: str, least: int) -> int:
    """Read every byte of both; gives how many there were: at least those of the drives and the memory."""
    here, compared = files(library), 0
    config = next(name for name in here if name.endswith("config.yaml"))
    for name, path in files(want).items():
        if not needed(name, (want / config).read_text()):
            continue
        if name not in here or not same(path, here[name]):
            raise SystemExit(f"{tag}: {name} came back different")
        compared += path.stat().st_size
    if compared < least:
        raise SystemExit(f"{tag}: only {compared} of {least} bytes came back")
    console.print(f"[green]identical[/green]: {tag}, {decimal(compared)} compared")
    return compared


def needed(name: str, config: str) -> bool:
    """Whether a file belongs to the version of this config: layers of other versions lie in the same folders."""
    return name.startswith("vm_lib/") or Path(name).name in config


def same(one: Path, other: Path) -> bool:
    """Whether two files have the same bytes."""
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as a, other.open("rb") as b:
        while block := a.read(MIB):
            if block != b.read(MIB):
                return False
    return True


# --- Running commands ------------------------------------------------------------------------------------------------


def step(text: str) -> None:
    """A headline."""
    console.print(f"\n[bold]{text}[/bold]")


def run(*arguments: str | Path) -> None:
    """Show a command and run it; its failure is ours."""
    shown(*arguments)
    done = subprocess.run([s3reg, *map(str, arguments)], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


def push(url: str, tag: str) -> dict[str, int]:
    """Push, and give what the command says of it to programs."""
    command = ("--library", RUN / "node-a", "-a", url, "push", NAME, "-t", tag)
    shown(*command)
    done = subprocess.run([s3reg, "-j", *map(str, command)], stdout=subprocess.PIPE, check=False)
    answer = json.loads(done.stdout.splitlines()[-1])
    if answer["status"] != "OK":
        raise SystemExit(answer["message"])
    body: dict[str, int] = answer["body"]
    console.print(f"{answer['message']}: {decimal(body['sent'])} were sent")
    return body


def shown(*arguments: str | Path) -> None:
    """A command as one would type it."""
    console.print("[cyan]$[/cyan] s3reg " + shlex.join(map(str, arguments)), markup=True)


@contextlib.contextmanager
def serving() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A registry over a directory, as a process of its own."""
    address = f"127.0.0.1:{PORT if free(PORT) else free(0)}"
    step("A registry, with a directory for a store")
    command = ("serve", "--store", RUN / "store", "--listen", address)
    shown(*command)
    with (RUN / "registry.log").open("wb") as log:
        server = subprocess.Popen([s3reg, *map(str, command)], stdout=log, stderr=log)
    try:
        await_answer(f"http://{address}/readyz", server)
        console.print(f"it answers at http://{address}; its log is {RUN / 'registry.log'}")
        yield f"http://{address}", server
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def free(port: int) -> int:
    """`port` if nobody listens there, or any free one for 0; 0 if it is taken."""
    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)) as listening:
        return int(listening.getsockname()[1])
    return 0


def await_answer(url: str, server: subprocess.Popen[bytes]) -> None:
    """Wait until the registry is ready."""
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.1)
    raise SystemExit("the registry did not start:\n" + (RUN / "registry.log").read_text(errors="replace")[-2000:])


def report(first: dict[str, int], second: dict[str, int], changed: tuple[int, int], pulled: int) -> None:
    """What was sent against what changed."""
    step("What was sent against what changed")
    table = Table("", "size of the VM", "changed", "in chunks of 256 KiB", "sent", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("push v1", decimal(first["size"]), "all of it", "", decimal(first["sent"]))
    written, chunks = changed
    table.add_row("push v2", decimal(second["size"]), decimal(written), str(chunks), decimal(second["sent"]))
    console.print(table)
    console.print(f"Both versions came back identical on the other node: {decimal(pulled)} compared, byte for byte.")


def go_on(url: str, server: subprocess.Popen[bytes]) -> None:
    """Leave the registry to whoever watches, until Ctrl-C."""
    step(f"The registry goes on serving at {url}; Ctrl-C ends it. In another terminal:")
    for command in (
        f"add sample-registry {url}",
        "list",
        f"describe {NAME}",
        f"--library {RUN}/node-c pull {NAME} -t v1",
        f"--library {RUN}/node-c export {NAME} {RUN}/plain-files",
    ):
        console.print(f"  {s3reg.relative_to(HOME) if s3reg.is_relative_to(HOME) else s3reg} {command}")
    with contextlib.suppress(KeyboardInterrupt):
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
