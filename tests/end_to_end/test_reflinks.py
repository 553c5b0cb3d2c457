"""Pulling onto what is there, on file systems that share blocks: what a pull costs the disk, and whom it leaves alone.

Sharing is read off the file system's own extents, room off what it says is free.
"""

import random
import shutil
import subprocess

import pytest

import file_systems
import machines
import running
from machines import KIB, MIB
from s3reg.client.connection import Access, Connection
from s3reg.client.library import Library
from s3reg.client.progress import Silent
from wired import Node

CHUNK = 256 * KIB
SIZE = 16 * MIB
SPOTS = (1, 9, 10, 33, 60)
"""Chunks of the disk that an update changes."""
HOLE = (40, 16)
"""The first, and how many, of those that it zeroes."""
SLACK = MIB
"""What records, folders and the file system's own blocks may cost."""


class Watch(Silent):
    """Looks when all data is there and nothing is shown yet."""

    def __init__(self, look):
        self._look = look

    def note(self, text):
        if text == "making it durable":
            self._look()


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reflinks")
    with running.serving(folder, "--store", folder / "store", "--workers", "1") as registry:
        yield registry


@pytest.fixture(params=file_systems.SHARING)
def disk(request, tmp_path):
    with file_systems.mounted(tmp_path / "node", request.param, size=384 * MIB) as disk:
        yield disk


@pytest.fixture
def runner(registry, disk):
    line = Connection(Access(registry.url))
    yield Node(Library(disk.folder / "library"), line)
    line.close()


@pytest.fixture
def pushed(registry, tmp_path):
    """A VM with one disk of noise and no hole, and what its versions v1 and v2 have."""
    baker = running.Node(tmp_path / "baker", registry.url)
    chance = random.Random(tmp_path.name)
    machine = machines.make(baker.library, sizes=(SIZE,), state_size=0, name=tmp_path.name)
    data = bytearray(chance.randbytes(SIZE))
    versions = {}
    for tag in ("v1", "v2"):
        machine.disk().write_bytes(data)
        baker.done("push", machine.name, "-t", tag)
        versions[tag] = machines.contents(baker.library, machine)
        for spot in SPOTS:
            data[spot * CHUNK : (spot + 1) * CHUNK] = chance.randbytes(CHUNK)
        first, count = HOLE
        data[first * CHUNK : (first + count) * CHUNK] = bytes(count * CHUNK)
    return machine, versions


def disk_of(runner, machine):
    return runner.library.img_lib / machine.drives[0]


def test_an_update_costs_what_changed_and_the_old_vm_is_as_it_was_until_the_new_one_is_there(disk, runner, pushed):
    machine, versions = pushed
    runner.pull(machine, "v1")
    kept = SIZE - (len(SPOTS) + HOLE[1]) * CHUNK
    before, seen = disk.free, []

    def look():
        (staged,) = runner.library.own.glob("staging/*/img/*")
        seen.append((file_systems.shared_bytes(staged), before - disk.free))
        assert runner.bytes_of(machine) == versions["v1"]

    pulled = runner.pull(machine, "v2", progress=Watch(look))
    assert runner.bytes_of(machine) == versions["v2"]
    assert seen[0][0] == kept
    assert seen[0][1] <= len(SPOTS) * CHUNK + SLACK
    assert pulled.received <= len(SPOTS) * CHUNK + SLACK
    assert pulled.local >= kept
    assert disk_of(runner, machine).stat().st_blocks * 512 <= SIZE - HOLE[1] * CHUNK + SLACK
    # btrfs keeps an extent whole while any of it is in use: that the hole is room again is seen by the file's own blocks.
    assert before - disk.free <= len(SPOTS) * CHUNK + SLACK


def test_going_back_to_the_older_version_costs_no_more(disk, runner, pushed):
    machine, versions = pushed
    runner.pull(machine, "v2")
    seen = []

    def look():
        (staged,) = runner.library.own.glob("staging/*/img/*")
        seen.append(file_systems.shared_bytes(staged))

    pulled = runner.pull(machine, "v1", progress=Watch(look))
    changed = (len(SPOTS) + HOLE[1]) * CHUNK
    assert runner.bytes_of(machine) == versions["v1"]
    assert seen == [SIZE - changed]
    assert pulled.received <= changed + SLACK


def test_clones_of_the_old_vm_keep_their_bytes_and_their_shared_blocks(disk, runner, pushed):
    """A clone, and a clone of that clone which was written to, as people make them beside s3reg."""
    machine, versions = pushed
    runner.pull(machine, "v1")
    root = runner.library.root
    clones = []
    source = machine
    for number in (1, 2):
        clone = machines.Machine(root, f"{machine.name}-{number}", drives=[f"{number:032x}.ank"])
        original = root / "img_lib" / source.drives[0]
        subprocess.run(["cp", "--reflink=always", original, clone.disk()], check=True)
        machines.scatter(clone.disk(), number - 1)
        clone.write_config()
        clones.append(clone)
        source = clone
    before = [machines.contents(root, clone) for clone in clones]
    runner.pull(machine, "v2")
    assert runner.bytes_of(machine) == versions["v2"]
    assert [machines.contents(root, clone) for clone in clones] == before
    assert file_systems.shared_bytes(disk_of(runner, machine)) >= SIZE - (len(SPOTS) + HOLE[1]) * CHUNK
    assert file_systems.shared_bytes(clones[1].disk()) >= SIZE - CHUNK

    # And the clone is pushed, and pulled onto what is there, for the price of what no version has.
    changed = (len(SPOTS) + HOLE[1] + 1) * CHUNK
    assert runner.push(clones[1], "v1", bases=(machine.id,)).stored_raw <= changed
    shutil.rmtree(clones[1].folder)
    clones[1].disk().unlink()
    free = disk.free
    runner.pull(clones[1], "v1")
    assert machines.contents(root, clones[1]) == before[1]
    assert free - disk.free <= changed + SLACK


def test_layers_of_other_names_share_blocks_too(disk, runner, registry, pushed, tmp_path):
    """Each version's layer has a name of its own: the one that was pulled before is the base, and stays for its tag."""
    machine, _ = pushed
    runner.pull(machine, "v2")
    old = disk_of(runner, machine)
    baker = running.Node(tmp_path / "baker", registry.url)
    renamed = machines.Machine(baker.library, machine.name, machine.id, [f"{7:032x}.ank"])
    machine.disk().rename(renamed.disk())
    machines.scatter(renamed.disk(), 3)
    renamed.write_config()
    baker.done("push", machine.name, "-t", "v3")
    before = disk.free
    runner.pull(machine, "v3")
    assert runner.bytes_of(renamed) == machines.contents(baker.library, renamed)
    assert old.is_file()
    assert before - disk.free <= 3 * CHUNK + SLACK
    assert file_systems.shared_bytes(disk_of(runner, renamed)) >= SIZE - (HOLE[1] + 3) * CHUNK
