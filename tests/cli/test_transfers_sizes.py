"""check-download-size: `transfer` is what is then received, to the byte; the rest is what a disk has to give.

Anka's agents pull where `size` less `cached` fits into what they find free. So both are bytes of the disk, and their
difference is what has to be free while the old version is still there.
"""

import pytest

import file_systems
import machines
from machines import KIB, MIB
from s3reg.client.connection import Access, Connection
from s3reg.client.library import Library
from s3reg.client.pace import Pace
from s3reg.client.progress import Silent
from s3reg.client.pull import PullOptions, pull

SIZES = (5 * MIB + 1234, 2 * MIB)
SMALL = 100 * KIB
"""What a file system and s3reg keep besides: folders, records, journals."""


class Killed(BaseException):
    """Stands for kill -9: nobody catches it."""


class DiesAfterOneRange(Silent):
    def advance(self, count):
        if count:
            raise Killed


@pytest.fixture
def machine(s3reg, registry, tmp_path):
    """`base` with v1 and v2, which differ in two blocks of one of two drives; the registry is the default one."""
    s3reg("add", "office", registry)
    machine = machines.make(tmp_path / "library", sizes=SIZES, name="base")
    for tag in ("v1", "v2"):
        assert s3reg("push", "base", "-t", tag).code == 0
        machines.scatter(machine.disk(), 2)
    return machine


@pytest.fixture
def node(s3reg, machine, tmp_path):
    """Runs the program with a library of its own, which is at `node.library`."""

    def program(*arguments):
        return s3reg("-j", "--library", program.library, *arguments).answer["body"]

    program.library = tmp_path / "node"
    return program


def killed_pull(registry, library):
    connection = Connection(Access(registry), pace=Pace(jobs=1))
    with pytest.raises(Killed):
        pull(connection, Library(library), "base", PullOptions(tag="v2"), DiesAfterOneRange())
    connection.close()


def taken(library):
    """Bytes that a library's VMs and their maps take up on the disk."""
    folders = ("vm_lib", "img_lib", "state_lib", ".s3reg/maps")
    files = (path for folder in folders for path in (library / folder).rglob("*") if path.is_file())
    return sum(path.stat().st_blocks * 512 for path in files if ".locks" not in path.parts)


@pytest.mark.parametrize("state", ["nothing", "an older tag", "a killed pull", "all of it", "another library"])
def test_c9_what_a_transfer_is_said_to_be_is_then_received(state, registry, machine, node):
    more = ()
    if state == "an older tag":
        node("pull", "base", "-t", "v1")
    elif state == "a killed pull":
        killed_pull(registry, node.library)
    elif state == "all of it":
        node("pull", "base")
    elif state == "another library":
        more = ("--from", machine.library)
    size = node("check-download-size", "base", *more)
    assert set(size) == {"bytes", "size", "cached", "available", "transfer"}
    assert size["bytes"] == size["size"] - size["cached"]
    asked = node("pull", "base", "--check-download-size", *more)
    assert {**asked, "available": 0} == ({"available": 0} if state == "all of it" else {**size, "available": 0})
    assert node("pull", "base", *more).get("received", 0) == size["transfer"]
    assert (size["transfer"] == 0) == (state == "all of it")
    assert (size["cached"] == 0) == (state in {"nothing", "another library"})


def test_c9_a_version_takes_up_what_is_said_with_its_holes_left_out(s3reg, machine, node):
    with machine.disk(1).open("r+b") as disk:
        disk.truncate(500 * MIB)
    s3reg("push", "base", "-t", "v3")
    before = node("check-download-size", "base")
    assert before["cached"] == 0
    node("pull", "base")
    assert abs(taken(node.library) - before["size"]) <= SMALL
    after = node("check-download-size", "base")
    assert (after["size"], after["cached"], after["transfer"]) == (before["size"], before["size"], 0)
    node("check-download-size", "base", "-t", "v1")
    assert abs(after["available"] - node("check-download-size", "base")["available"]) < 100 * MIB


def test_s19_c9_each_version_has_a_size_of_its_own(machine, node, s3reg):
    (machine.library / "state_lib" / machine.state).unlink()
    machine.state = None
    machine.write_config()
    s3reg("push", "base", "-t", "v3")
    sizes = [node("check-download-size", "base", "-t", tag)["size"] for tag in ("v1", "v2", "v3")]
    assert sizes[0] == sizes[1] > sizes[2]
    assert node("check-download-size", "base")["size"] == sizes[2]
    assert node("check-download-size", "base", "-v", "1")["size"] == sizes[1]


def test_what_stands_in_a_pulls_way_does_not_change_its_size(machine, node):
    """The agent asks about a VM that was used since."""
    node("pull", "base", "-t", "v1")
    with (node.library / "img_lib" / machine.drives[0]).open("r+b") as disk:
        disk.write(b"a day's work")
    size = node("check-download-size", "base")
    assert 0 < size["transfer"] < size["bytes"] < size["size"]


def test_layers_that_another_program_brought_count_as_here_once_they_were_read(machine, node, registry):
    """Anka's own pull left them: no record vouches for them, and the pull would find them all the same."""
    node("pull", "base", "-t", "v1")
    for record in (node.library / ".s3reg" / "files").iterdir():
        record.unlink()
    size = node("check-download-size", "base", "-t", "v1")
    assert size["transfer"] == 0
    assert size["bytes"] < 32 * KIB, "what lies in the VM's folder"
    ledger = Library(node.library).ledger
    assert all(ledger.known(node.library / "img_lib" / drive) for drive in machine.drives)


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_c3_c9_what_is_said_to_fit_fits_and_what_is_not_does_not(kind, s3reg, machine, tmp_path):
    """One of them lets files share blocks: there an update takes its changes, elsewhere a whole disk."""
    with file_systems.mounted(tmp_path / "disk", kind) as disk:
        ask = ("-j", "--library", disk.folder / "library")

        def size(tag):
            body = s3reg(*ask, "check-download-size", "base", "-t", tag).answer["body"]
            return body["size"] - body["cached"]

        for tag in ("v1", "v2"):
            needed = size(tag)
            disk.leave(needed - 64 * KIB)
            assert s3reg(*ask, "check-download-size", "base", "-t", tag).answer["body"]["available"] < needed
            assert s3reg(*ask, "pull", "base", "-t", tag).code == 11
            disk.leave(needed + 4 * SMALL)
            assert size(tag) <= needed
            assert s3reg(*ask, "pull", "base", "-t", tag).code == 0
            disk.give_back()
        assert (needed < MIB) == (kind == "xfs")
