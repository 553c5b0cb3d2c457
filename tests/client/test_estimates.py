"""What a pull is said to cost is what it then costs, to the byte; what does not fit is said before anything is written."""

import random
import shutil

import pytest

import machines
import sites
from machines import KIB, MIB
from s3reg.client.estimate import check_room
from s3reg.client.library import Library
from s3reg.client.progress import Silent
from s3reg.client.pull import PullOptions, download_size, estimate, pull
from s3reg.client.push import PushOptions, push
from s3reg.errors import DiskFull, LocalChanges, RoomMissing
from s3reg.model import maps

SIZES = (7 * MIB + 1234, 2 * MIB)


class Killed(BaseException):
    """Stands for kill -9: nobody catches it."""


class DiesAfter(Silent):
    """Dies when so many bytes are done."""

    def __init__(self, count):
        self.left = count

    def advance(self, count):
        self.left -= count
        if self.left < 0:
            raise Killed


@pytest.fixture
def connection(tmp_path):
    with sites.served(tmp_path / "store") as connection:
        yield connection


@pytest.fixture
def baker(tmp_path):
    return Library(tmp_path / "baker")


@pytest.fixture
def runner(tmp_path):
    library = Library(tmp_path / "runner")
    library.create()
    return library


def pushes(connection, library, machine, tag):
    return push(connection, library, library.find(machine.id), PushOptions(tag=tag), Silent())


def check(connection, library, machine, **options):
    """Pull, and hold what was foreseen against what came of it; both."""
    asked = PullOptions(**options)
    size = download_size(connection, library, machine.id, asked)
    before = sorted(path for path in library.root.rglob("*") if path.is_file())
    foreseen = estimate(connection, library, machine.id, asked)
    assert sorted(path for path in library.root.rglob("*") if path.is_file()) == before, "a dry run leaves nothing"
    pulled = pull(connection, library, machine.id, asked, Silent())
    assert (foreseen.receive, foreseen.local, foreseen.staged) == (pulled.received, pulled.local, pulled.staged)
    assert (foreseen.size, foreseen.already) == (pulled.size, pulled.already)
    assert size.to_fetch == foreseen.receive
    return foreseen, pulled


def digest_of(library, machine):
    return library.ledger.known(library.img_lib / machine.drives[0])


@pytest.fixture
def machine(connection, baker):
    machine = machines.make(baker.root, sizes=SIZES)
    pushes(connection, baker, machine, "v1")
    return machine


def test_a_first_pull(connection, baker, runner, machine):
    foreseen, pulled = check(connection, runner, machine)
    assert pulled.local == pulled.staged == 0
    assert 0 < pulled.received < pulled.size
    data = sum(path.stat().st_blocks * 512 for path in baker.root.glob("*_lib/*.ank"))
    assert foreseen.write <= data + MIB
    assert {file.name for file in foreseen.files if file.receive} == {*machine.drives, machine.state}
    assert machines.contents(runner.root, machine) == machines.contents(baker.root, machine)


def test_nothing_to_do(connection, runner, machine):
    check(connection, runner, machine)
    foreseen, pulled = check(connection, runner, machine)
    assert foreseen.already
    assert (foreseen.receive, foreseen.write) == (0, 0)
    assert all(file.kept for file in foreseen.files)
    assert pulled.local == pulled.size


def test_an_update_counts_its_ranges_with_their_gaps(connection, baker, runner, machine):
    check(connection, runner, machine, tag="v1")
    chance = random.Random(3)
    with machine.disk().open("r+b") as disk:
        for at in range(0, 28, 2):  # every second chunk: what lies between is read over where it lies in one new pack
            disk.seek(at * 256 * KIB)
            disk.write(chance.randbytes(64 * KIB))
    pushes(connection, baker, machine, "v2")
    machines.scatter(machine.disk(), 3)
    pushes(connection, baker, machine, "v3")
    foreseen, _ = check(connection, runner, machine, tag="v3")
    assert foreseen.local > 0
    assert [file.name for file in foreseen.files if file.kept] == [machine.drives[1], machine.state]
    assert machines.contents(runner.root, machine) == machines.contents(baker.root, machine)


def test_going_back_reads_no_map_again(connection, baker, runner, machine):
    check(connection, runner, machine, tag="v1")
    with machine.disk().open("r+b") as disk:
        disk.truncate(disk.seek(0, 2) - 2 * MIB)
    pushes(connection, baker, machine, "v2")
    check(connection, runner, machine, tag="v2")
    with machine.disk().open("r+b") as disk:
        disk.truncate(0)
    pushes(connection, baker, machine, "v3")
    check(connection, runner, machine, tag="v3")
    foreseen, _ = check(connection, runner, machine, tag="v2")
    kept = maps.decode(runner.ledger.map_bytes(digest_of(runner, machine)), size=SIZES[0] - 2 * MIB)
    assert foreseen.receive == sum(kept.live_bytes().values())


def test_the_rest_of_an_interrupted_pull(connection, baker, runner, machine):
    options = PullOptions()
    with pytest.raises(Killed):
        pull(connection, runner, machine.id, options, DiesAfter(3 * MIB))
    _, pulled = check(connection, runner, machine)
    assert pulled.staged > 0
    assert machines.contents(runner.root, machine) == machines.contents(baker.root, machine)


def test_another_vm_of_the_library_with_the_same_chunks(connection, baker, runner, machine):
    check(connection, runner, machine)
    other = machines.make(baker.root, sizes=SIZES, name="other", seed=8)
    shutil.copyfile(machine.disk(), other.disk())
    with other.disk().open("r+b") as disk:
        disk.truncate(disk.seek(0, 2) + 4096)
        disk.write(b"other")
    pushes(connection, baker, other, "o1")
    foreseen, _ = check(connection, runner, other)
    disk = next(file for file in foreseen.files if file.name == other.drives[0])
    assert disk.local > 3 * disk.receive
    assert machines.contents(runner.root, other) == machines.contents(baker.root, other)


def test_drives_of_one_vm_that_share_chunks_are_read_once(connection, baker, runner):
    twins = machines.make(baker.root, sizes=(3 * MIB, 3 * MIB), name="twins", seed=4)
    shutil.copyfile(twins.disk(0), twins.disk(1))
    pushes(connection, baker, twins, "v1")
    foreseen, _ = check(connection, runner, twins)
    first, second = (next(f for f in foreseen.files if f.name == name) for name in twins.drives)
    assert min(first.receive, second.receive) < 64 * KIB < max(first.receive, second.receive)


def test_a_file_that_no_record_vouches_for_is_read_by_a_dry_run_as_by_a_pull(connection, runner, machine):
    check(connection, runner, machine)
    runner.ledger.forget(runner.root / "img_lib" / machine.drives[0])
    foreseen = estimate(connection, runner, machine.id, PullOptions(force=True))
    assert foreseen.receive == 0
    assert pull(connection, runner, machine.id, PullOptions(force=True), Silent()).received == 0


def test_a_dry_run_refuses_what_a_pull_refuses_and_the_size_is_told_all_the_same(connection, runner, machine):
    check(connection, runner, machine)
    with (runner.root / "img_lib" / machine.drives[0]).open("r+b") as disk:
        disk.write(b"a day's work")
    with pytest.raises(LocalChanges):
        estimate(connection, runner, machine.id, PullOptions())
    found = download_size(connection, runner, machine.id, PullOptions())
    assert 0 < found.to_fetch < found.size - found.cached


def test_more_than_fits_is_refused_with_what_is_missing(tmp_path):
    with pytest.raises(DiskFull) as refused:
        check_room(tmp_path, 10_000, 4_000)
    assert isinstance(refused.value, RoomMissing)
    assert refused.value.detail == {"folder": str(tmp_path), "needed": 10_000, "free": 4_000, "missing": 6_000}
    assert "6000 missing" in str(refused.value)
    check_room(tmp_path, 4_000, 4_000)
    check_room(tmp_path, 0, 0)
