"""A node whose disk or quota is used up at any moment, or that may not write: nothing is lost, nothing half shows.

Many amounts of free space stand for the places where a write can fail. What takes the room is another program's file.
"""

import contextlib
import random
import re
import shutil
import subprocess
import uuid

import pytest

import file_systems
import machines
import running
from killing import shows
from machines import KIB, MIB
from refusals import refused
from s3reg import wire
from s3reg.client.connection import Access, Connection
from s3reg.client.library import Library
from s3reg.client.progress import Silent
from s3reg.errors import DiskFull, QuotaUsedUp, RoomMissing
from wired import Node

KINDS = pytest.mark.parametrize("kind", sorted(file_systems.MAKE))
LITTLE = [4 * KIB * blocks for blocks in (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 48, 64, 128)]
"""Free bytes: too little for one record or another."""


class Late(Silent):
    """Another program takes the room when a pull has seen that there is enough, or when all data is there."""

    def __init__(self, act, *, after_data=False):
        self._act, self._after_data = act, after_data

    def start(self, *_):
        if not self._after_data:
            self._act()

    def note(self, *_):
        if self._after_data:
            self._act()


def tags(node, machine):
    """The versions that the registry shows."""
    answer = node.line.ask(wire.TemplatesAnswerSchema, "GET", f"{wire.PREFIX}/templates")
    if machine.id not in {template.id for template in answer.templates}:
        return []
    found = node.line.ask(wire.TemplateEntrySchema, "GET", f"{wire.PREFIX}/template", query={"ref": machine.id})
    return [version.tag for version in found.versions]


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("full")
    with running.serving(folder, "--store", folder / "store", "--workers", "1") as registry:
        yield registry


@pytest.fixture
def node(registry):
    with contextlib.ExitStack() as stack:

        def make(root):
            made = Node(Library(root), Connection(Access(registry.url)))
            stack.callback(made.line.close)
            return made

        yield make


@pytest.fixture
def disk(kind, tmp_path):
    with file_systems.mounted(tmp_path / "narrow", kind) as disk:
        yield disk


@pytest.fixture
def baker(node, tmp_path):
    return node(tmp_path / "baker")


@pytest.fixture
def versions(baker):
    """A VM and what its two versions have."""
    machine = made(baker.library.root)
    found = {}
    for tag in ("v1", "v2"):
        baker.push(machine, tag)
        found[tag] = (shows(baker.library), baker.bytes_of(machine))
        machine.disk().write_bytes(random.Random(tag).randbytes(3 * MIB))
        (machine.folder / "nvram").write_bytes(tag.encode() * 350)
    return machine, found


def made(root):
    """A VM, under a name that no other has."""
    name = f"vm-{uuid.uuid4().hex[:12]}"
    return machines.make(root, sizes=(3 * MIB, 700 * KIB), state_size=400 * KIB, name=name)


def check_refused(act):
    """The error of `act`, or None; it says how much is needed, and where."""
    refusal = None
    try:
        act()
    except DiskFull as e:
        refusal = e
    if refusal is not None:
        assert re.search(r"[0-9] bytes needed|more bytes needed", str(refusal))
        assert refusal.detail["folder"] in str(refusal)
    return refusal


@KINDS
def test_an_update_that_finds_no_room_at_any_write_leaves_the_old_vm_or_ends_in_the_new_one(
    versions, disk, node, tmp_path
):
    machine, found = versions
    (old, _), (new, new_bytes) = found["v1"], found["v2"]
    runner = node(disk.folder / "library")
    runner.pull(machine, "v1")

    met = set()
    for free in LITTLE:
        disk.leave(free)
        met.add(type(check_refused(lambda: runner.pull(machine, "v2"))))
        assert shows(runner.library) == old
    assert RoomMissing in met

    for free in range(0, 3 * MIB, 300 * KIB):
        disk.give_back()
        refusal = check_refused(lambda free=free: runner.pull(machine, "v2", progress=Late(lambda: disk.leave(free))))
        assert shows(runner.library) == old
        assert refusal.detail["needed"] > refusal.detail["free"]

    # What is left to write then are records.
    for free in LITTLE:
        disk.give_back()
        late = Late(lambda free=free: disk.leave(free), after_data=True)
        if check_refused(lambda late=late: runner.pull(machine, "v2", progress=late)) is None:
            break
        assert shows(runner.library) in (old, {}, new)
    disk.give_back()
    runner.pull(machine, "v2")
    assert shows(runner.library) == new
    assert runner.bytes_of(machine) == new_bytes
    assert runner.pull(machine, "v2").already


@KINDS
def test_what_is_missing_is_enough(versions, disk, registry):
    """A command says how many bytes are missing; given these, and a little for records, it succeeds."""
    machine, found = versions
    runner = running.Node(disk.folder / "library", registry.url)
    disk.leave(MIB)
    told = refused(runner.run("pull", machine.name, "-t", "v2"), 11)
    free, missing = map(int, re.search(r"bytes needed, (\d+) free, (\d+) missing", told).groups())
    assert not list(runner.library.glob("vm_lib/*"))
    disk.leave(free + missing + 512 * KIB)
    runner.done("pull", machine.name, "-t", "v2")
    assert machines.contents(runner.library, machine) == found["v2"][1]


@KINDS
def test_a_push_that_finds_no_room_for_its_log_or_records_loses_nothing(disk, node, baker):
    pusher = node(disk.folder / "library")
    machine = made(pusher.library.root)
    mine = pusher.bytes_of(machine)
    failed = 0
    for number, free in enumerate(LITTLE):
        tag = f"v{number}"
        disk.leave(free)
        if check_refused(lambda tag=tag: pusher.push(machine, tag)) is not None:
            failed += 1
            assert pusher.bytes_of(machine) == mine
            assert tags(pusher, machine)[number:] in ([], [tag])
            disk.give_back()
            pusher.push(machine, tag)
        assert tags(pusher, machine)[number:] == [tag]
        shutil.rmtree(pusher.library.own)
    assert failed
    baker.pull(machine, tag)
    assert baker.bytes_of(machine) == mine


@pytest.mark.parametrize("kind", ["btrfs"])
def test_a_quota_is_told_as_one_and_once_it_is_raised_the_command_goes_on(versions, disk, registry, node):
    """A limit on a folder, of which the free bytes of the disk tell nothing."""
    machine, found = versions
    folder = disk.folder / "limited"
    for words in (["quota", "enable", disk.folder], ["subvolume", "create", folder]):
        subprocess.run(["btrfs", *words], check=True, capture_output=True)
    runner, pusher = running.Node(folder / "library", registry.url), node(folder / "library")
    runner.done("pull", machine.name, "-t", "v1")
    limit(folder, 6 * MIB)
    told = refused(runner.run("pull", machine.name, "-t", "v2"), 11)
    assert re.search(rf"the quota that holds in {runner.library} is used up: [1-9]\d* bytes needed", told)
    assert machines.contents(runner.library, machine) == found["v1"][1]
    with pytest.raises(QuotaUsedUp):
        pusher.push(machine, "v3")
    assert tags(pusher, machine) == ["v1", "v2"]
    limit(folder, 60 * MIB)
    runner.done("pull", machine.name, "-t", "v2")
    assert machines.contents(runner.library, machine) == found["v2"][1]
    pusher.push(machine, "v3")


def limit(folder, size):
    """What this folder may hold, from now on."""
    subprocess.run(["sync", "-f", folder], check=True)
    subprocess.run(["btrfs", "qgroup", "limit", str(size), folder], check=True, capture_output=True)


@pytest.mark.parametrize("how", ["a disk", "a folder"])
@pytest.mark.parametrize("kind", ["ext4"])
def test_a_library_that_is_read_only_is_told_as_such_and_left_as_it_is(how, versions, disk, registry, baker):
    machine, found = versions
    runner = running.Node(disk.folder / "library", registry.url)
    runner.done("pull", machine.name, "-t", "v1")
    with read_only(disk, runner.library, whole=how == "a disk"):
        for command in (("pull", machine.name, "-t", "v2"), ("push", machine.name, "-t", "v3")):
            told = refused(runner.run(*command), 11)
            assert str(runner.library) in told
            assert "Read-only file system" in told
        assert machines.contents(runner.library, machine) == found["v1"][1]
        answer = runner.done("-j", "check-download-size", machine.name).answer["body"]
        assert answer["bytes"] > 0
    assert tags(baker, machine) == ["v1", "v2"]
    runner.done("pull", machine.name, "-t", "v2")
    assert machines.contents(runner.library, machine) == found["v2"][1]


@contextlib.contextmanager
def read_only(disk, folder, *, whole):
    """The disk mounted read-only, or the folder bound over itself so."""
    if whole:
        disk.remount("ro")
    else:
        subprocess.run(["mount", "--bind", folder, folder], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
    try:
        yield
    finally:
        if whole:
            disk.remount("rw")
        else:
            subprocess.run(["umount", folder], check=True)
