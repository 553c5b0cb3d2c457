"""Dies at some step of a push or a pull, then the power goes: what was not synced is lost, and the machine boots anew.

    unshare -m python cutting.py SCENARIO FOLDER URL ROUNDS     one scenario of `SCENARIOS`, against the registry at URL

The library lies on an XFS of its own, which is shut down without a flush of its log. The name of the boot is a file here,
bound over the kernel's own: that is why the program wants a mount namespace to itself. It is a program because each round
runs in a fork (see killing.py), and a fork wants a process without threads.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import shutil
import subprocess
import sys
import time
import traceback
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import file_systems
import machines
import running
from killing import KILLED, dies
from machines import KIB, MIB
from s3reg.client.connection import Access, Connection
from s3reg.client.library import Library
from s3reg.client.progress import Silent
from s3reg.client.pull import Pulled, PullOptions, pull
from s3reg.client.push import Pushed, PushOptions, push

if TYPE_CHECKING:
    from collections.abc import Callable

    from file_systems import Disk
    from machines import Machine

BOOT = Path("/proc/sys/kernel/random/boot_id")
PULL_STEPS, PUSH_STEPS = 140, 80
"""Somewhat more than most of these transfers have."""
FILES = 10
"""About so many are pulled, each of which is noted in its journal at least once."""
NEVER = 10**9


@dataclass
class Node:
    """A library, used by one forked process at a time."""

    root: Path
    url: str

    def pull(self, machine: Machine, tag: str, **more: Any) -> Pulled:
        line = Connection(Access(self.url))
        try:
            return pull(line, Library(self.root), machine.id, PullOptions(tag=tag, **more), Silent())
        finally:
            line.close()

    def push(self, machine: Machine, tag: str) -> Pushed:
        line, library = Connection(Access(self.url)), Library(self.root)
        try:
            return push(line, library, library.find(machine.id), PushOptions(tag=tag), Silent())
        finally:
            line.close()

    def shows(self, machine: Machine) -> dict[str, str] | None:
        """The SHA-256 of each file of the VM; None if the library does not show it."""
        if not (self.root / "vm_lib" / machine.id).is_dir():
            return None
        return prints(self.root, machine)


@dataclass
class Play:
    """What a scenario has: a machine that may lose its power, one that does not, and chance."""

    folder: Path
    url: str
    disk: Disk
    rounds: int
    chance: random.Random = field(default_factory=lambda: random.Random(5))
    deaths: int = 0

    @property
    def cut(self) -> Node:
        """The node whose power goes."""
        return Node(self.disk.folder / "library", self.url)

    @property
    def safe(self) -> Node:
        return Node(self.folder / "safe", self.url)

    def power_goes(self, act: Callable[[], object], steps: int, *, early: bool = False) -> bool:
        """Run `act`, which dies at one of so many steps, and lose what was not synced; whether it came to its end before.

        `early`: it dies between two notes in journals, and what was staged is there afterwards with its journal and its
        length, without its bytes where those were not synced: a disk writes in any order.
        """
        if early:
            died = dies(told(notes(act, self.chance.randrange(1, FILES))), NEVER)
        else:
            died = dies(told(act), self.chance.randrange(1, steps))
        self.deaths += died
        staging = self.cut.root / ".s3reg" / "staging"
        journals = {path: path.read_bytes() for path in staging.glob("*/journals/*/*") if early}
        staged = {
            path: path.stat().st_size for kind in ("img", "state") for path in staging.glob(f"*/{kind}/*") if early
        }
        self.disk.cut_power()
        boot_anew(self.folder)
        for path, data in journals.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        for path, size in staged.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.truncate(size)
        return not died


def prints(root: Path, machine: Machine) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in machines.contents(root, machine).items()}


def whole(act: Callable[[], object]) -> None:
    """Run `act` to its end, in a process of its own like all the others."""
    assert not dies(told(act), NEVER)


def notes(act: Callable[[], object], count: int) -> Callable[[], object]:
    """`act`, which dies before it notes in a journal for so many times and once more."""
    left = itertools.count(count, -1)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and "/journals/" in str(arguments[0]) and arguments[1] == "a" and next(left) == 0:
            os._exit(KILLED)

    def run() -> None:
        sys.addaudithook(hook)
        act()

    return run


def told(act: Callable[[], object]) -> Callable[[], object]:
    """`act`, whose error is printed: the fork ends without a word."""

    def run() -> None:
        try:
            act()
        except Exception:
            traceback.print_exc()
            raise

    return run


def sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def boot_anew(folder: Path) -> None:
    (folder / "boot").write_text(f"{uuid.uuid4()}\n")


# --- Scenarios -------------------------------------------------------------------------------------------------------


def pulls(play: Play) -> None:
    """Between two versions, and from nothing: the library shows the old one, the new one or none, then the new one."""
    machine = machines.make(play.safe.root, sizes=(3 * MIB, *(300 * KIB,) * 8), state_size=400 * KIB)
    versions = {}
    for tag in ("v1", "v2"):
        whole(lambda tag=tag: play.safe.push(machine, tag))
        versions[tag] = prints(play.safe.root, machine)
        machines.scatter(machine.disk(), 200)
        with machine.disk().open("r+b") as disk:  # a hole in the next where there was data
            disk.seek(MIB)
            disk.write(bytes(MIB))
        (machine.folder / "nvram").write_bytes(b"another")
    machine = machines.Machine(play.cut.root, machine.name, machine.id, machine.drives, machine.state)
    old = None
    for number in range(play.rounds):
        if number % 4 == 0:
            shutil.rmtree(play.cut.root, ignore_errors=True)
            old = None
        tag = "v2" if number % 2 else "v1"
        for _ in range(2):
            ended = play.power_goes(lambda tag=tag: play.cut.pull(machine, tag), PULL_STEPS, early=number % 3 > 0)
            shown = play.cut.shows(machine)
            if ended:
                assert shown == versions[tag], f"round {number}: it was told to be there"
            assert shown in (None, old, versions[tag]), f"round {number}: a mix"
        whole(lambda tag=tag: play.cut.pull(machine, tag))
        assert play.cut.shows(machine) == versions[tag], f"round {number}: other bytes"
        play.disk.cut_power()
        boot_anew(play.folder)
        assert play.cut.shows(machine) == versions[tag], f"round {number}: what was told to be there went"
        whole(lambda tag=tag: there(play.cut.pull(machine, tag)))
        old = versions[tag]


def there(pulled: Pulled) -> None:
    assert pulled.already, "a cut later it was not known any more"


def pushes(play: Play) -> None:
    """A changed VM each round: the same command ends in a version with its bytes, whatever became of the log."""
    machine = machines.make(play.cut.root, sizes=(3 * MIB, 700 * KIB), state_size=400 * KIB)
    os.sync()
    for number in range(play.rounds):
        machines.scatter(machine.disk(), 60, seed=number)
        sync(machine.disk())
        tag = f"v{number}"
        ended = play.power_goes(lambda tag=tag: play.cut.push(machine, tag), PUSH_STEPS)
        ended = ended or play.power_goes(lambda tag=tag: play.cut.push(machine, tag), PUSH_STEPS)
        if not ended:
            whole(lambda tag=tag: play.cut.push(machine, tag))
        shutil.rmtree(play.safe.root, ignore_errors=True)
        whole(lambda tag=tag: play.safe.pull(machine, tag))
        assert play.safe.shows(machine) == play.cut.shows(machine), f"round {number}: other bytes"


def stores(play: Play) -> None:
    """The embedded store's machine loses its power during a push; once it is back, so is all that was acknowledged."""
    store, node = play.disk.folder / "store", running.Node(play.safe.root, play.url)
    machine = machines.make(node.library, sizes=(3 * MIB, 700 * KIB), state_size=400 * KIB)
    listen = play.url.removeprefix("http://")
    versions = {}
    for number in range(play.rounds):
        machines.scatter(machine.disk(), 60, seed=number)
        versions[f"v{number}"] = prints(node.library, machine)
        with running.serving(play.folder, "--store", store, "--workers", "1", listen=listen) as registry:
            there = len(objects(store)) + play.chance.randrange(7)
            with node.start("push", machine.name, "-t", f"v{number}") as push:
                while len(objects(store)) < there and push.poll() is None:
                    time.sleep(0.002)
                registry.kill()
                play.disk.cut_power()
                with running.serving(play.folder, "--store", store, "--workers", "1", listen=listen):
                    _, err = push.communicate(timeout=running.SECONDS)
                    assert push.returncode == 0, err
                    for tag in {f"v{number}", play.chance.choice(list(versions))}:
                        fresh = Node(play.folder / f"fresh-{number}-{tag}", play.url)
                        whole(lambda fresh=fresh, tag=tag: fresh.pull(machine, tag))
                        assert fresh.shows(machine) == versions[tag], f"round {number}: {tag} has other bytes"
    play.deaths = play.rounds


def objects(store: Path) -> list[str]:
    """What lies in the store, but for what is being written; folders come and go meanwhile."""
    return [name for folder, _, files in os.walk(store) for name in files if not folder.startswith(f"{store}/.")]


def throw_away(play: Play) -> None:
    """Pulled without waiting for the disk: after a cut nothing is believed unread, and a pull makes it whole."""
    machine = machines.make(play.safe.root, sizes=(3 * MIB, 700 * KIB), state_size=400 * KIB)
    whole(lambda: play.safe.push(machine, "v1"))
    expected = prints(play.safe.root, machine)
    for number in range(play.rounds):
        shutil.rmtree(play.cut.root, ignore_errors=True)
        whole(lambda: play.cut.pull(machine, "v1", durable=False))
        for kept in ("library/.s3reg/files/*", "library/vm_lib/*/*", "library/img_lib/*")[: number % 4]:
            for path in play.disk.folder.glob(kept):
                sync(path)
        play.disk.cut_power()
        boot_anew(play.folder)
        # What was lost cannot be told from what a VM wrote.
        whole(lambda: play.cut.pull(machine, "v1", force=True))
        assert play.cut.shows(machine) == expected, f"round {number}: other bytes"
        play.deaths += 1


def reboots(play: Play) -> None:
    """Pulled without waiting for the disk, which had all of it when the machine was shut down: no local changes."""
    machine = machines.make(play.safe.root, sizes=(3 * MIB, 700 * KIB), state_size=400 * KIB)
    for number in range(play.rounds):
        machines.scatter(machine.disk(), 60, seed=number)
        (machine.folder / "nvram").write_bytes(b"%d" % number)
        whole(lambda number=number: play.safe.push(machine, f"v{number}"))
        whole(lambda number=number: play.cut.pull(machine, f"v{number}", durable=False))
        assert play.cut.shows(machine) == play.safe.shows(machine)
        play.disk.unmount()
        play.disk.mount()
        boot_anew(play.folder)
        play.deaths += 1


SCENARIOS = {scenario.__name__: scenario for scenario in (pulls, pushes, stores, throw_away, reboots)}


def main(scenario: str, folder: Path, url: str, rounds: int) -> None:
    """Play the scenario; tells how many of its transfers died half-way."""
    boot_anew(folder)
    subprocess.run(["mount", "--bind", folder / "boot", BOOT], check=True)
    with file_systems.mounted(folder / "cut", "xfs") as disk:
        play = Play(folder, url, disk, rounds)
        SCENARIOS[scenario](play)
        sys.stdout.write(str(play.deaths))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
