"""Pulling onto what other libraries of the machine hold: they are read as far as their records vouch, never written to."""

import os
import random
import shutil

import pytest

import machines
import sites
from machines import KIB, MIB
from s3reg.client.holdings import other_libraries
from s3reg.client.library import Library
from s3reg.client.progress import Silent
from s3reg.client.pull import PullOptions, estimate, pull
from s3reg.client.push import PushOptions, push
from s3reg.errors import LibraryUnknown

SIZES = (6 * MIB + 77,)


@pytest.fixture
def connection(tmp_path):
    with sites.served(tmp_path / "store") as connection:
        yield connection


@pytest.fixture
def baker(tmp_path):
    return Library(tmp_path / "baker")


@pytest.fixture
def machine(connection, baker):
    """A VM that is in the registry and in the baker's library."""
    machine = machines.make(baker.root, sizes=SIZES, state_size=0)
    push(connection, baker, baker.find(machine.id), PushOptions(tag="v1"), Silent())
    return machine


@pytest.fixture
def runner(tmp_path):
    return Library(tmp_path / "runner")


def pulls(connection, library, machine, *others, **more):
    options = PullOptions(others=tuple(other.root for other in others), **more)
    library.create()
    foreseen = estimate(connection, library, machine.id, options)
    pulled = pull(connection, library, machine.id, options, Silent())
    assert (foreseen.receive, foreseen.local) == (pulled.received, pulled.local)
    return pulled


def everything(library):
    """Every file, with what would change if it were written to."""
    seen = ((path, path.lstat()) for path in [library.root, *library.root.rglob("*")])
    return {path: (look.st_ino, look.st_size, look.st_mtime_ns, look.st_ctime_ns) for path, look in seen}


def test_a_vm_that_another_library_has_comes_from_there(connection, baker, runner, machine):
    before = everything(baker)
    pulled = pulls(connection, runner, machine, baker)
    map_size = sum(path.stat().st_size for path in (runner.ledger.folder / "maps").iterdir())
    assert pulled.received == map_size
    assert machines.contents(runner.root, machine) == machines.contents(baker.root, machine)
    assert everything(baker) == before


def test_on_a_file_system_that_shares_blocks_it_takes_no_room(connection, baker, machine, reflinking):
    folder = reflinking / "libraries"
    try:
        near, far = Library(folder / "near"), Library(folder / "far")
        pulls(connection, far, machine)
        options = PullOptions(others=(far.root,))
        near.create()
        foreseen = estimate(connection, near, machine.id, options)
        assert next(file for file in foreseen.files if file.role == "image").write == 0
        pull(connection, near, machine.id, options, Silent())
        assert machines.contents(near.root, machine) == machines.contents(baker.root, machine)
    finally:
        shutil.rmtree(folder)


def test_a_file_that_changed_since_its_record_vouches_for_nothing(connection, baker, runner, machine):
    good = machine.disk().read_bytes()
    with machine.disk().open("r+b") as disk:
        disk.write(random.Random(5).randbytes(300 * KIB))
    pulled = pulls(connection, runner, machine, baker)
    assert pulled.received > MIB
    assert (runner.img_lib / machine.drives[0]).read_bytes() == good


def test_bytes_that_are_not_as_recorded_are_fetched_instead(connection, baker, runner, machine):
    """Damaged behind the record's back: size, time and inode are as they were."""
    good, seen = machine.disk().read_bytes(), machine.disk().stat()
    at = next(at for at in range(0, len(good), 256 * KIB) if any(good[at : at + 256 * KIB]))
    with machine.disk().open("r+b") as disk:
        disk.seek(at)
        disk.write(bytes(byte ^ 1 for byte in good[at : at + 10]))
    os.utime(machine.disk(), ns=(seen.st_atime_ns, seen.st_mtime_ns))
    options = PullOptions(others=(baker.root,))
    pull(connection, runner, machine.id, options, Silent())
    assert (runner.img_lib / machine.drives[0]).read_bytes() == good


def test_a_map_that_is_damaged_there_is_left_for_its_own_library(connection, baker, runner, machine):
    (place,) = [path for path in (baker.ledger.folder / "maps").iterdir() if path.is_file()]
    place.write_bytes(b"no map")
    before = everything(baker)
    pulled = pulls(connection, runner, machine, baker)
    assert pulled.local == 0
    assert everything(baker) == before


def test_several_libraries_may_each_have_a_part(connection, baker, runner, machine, tmp_path):
    halves = []
    for name, keep in (("first", slice(None, 3 * MIB)), ("second", slice(3 * MIB, None))):
        library = Library(tmp_path / name)
        half = machines.make(library.root, sizes=(MIB,), state_size=0, name=name, seed=len(halves) + 20)
        half.disk().write_bytes(machine.disk().read_bytes()[keep])
        push(connection, library, library.find(half.id), PushOptions(tag="v1"), Silent())
        halves.append(library)
    pulled = pulls(connection, runner, machine, *halves)
    assert pulled.received < 64 * KIB
    assert machines.contents(runner.root, machine) == machines.contents(baker.root, machine)


def test_another_template_of_the_library_itself_is_a_base_unasked(connection, baker, runner, machine):
    other = machines.make(baker.root, sizes=SIZES, state_size=0, name="other", seed=6)
    other.disk().write_bytes(b"boot" * 100_000 + machine.disk().read_bytes()[400_000:])
    push(connection, baker, baker.find(other.id), PushOptions(tag="o1"), Silent())
    pulls(connection, runner, machine)
    pulled = pulls(connection, runner, other)
    assert pulled.received < MIB < pulled.local
    assert machines.contents(runner.root, other) == machines.contents(baker.root, other)


@pytest.mark.parametrize("made", [lambda folder: None, lambda folder: folder.mkdir(), lambda folder: folder.touch()])
def test_a_folder_without_records_is_refused(made, runner, tmp_path):
    folder = tmp_path / "plain"
    made(folder)
    with pytest.raises(LibraryUnknown, match="no library that s3reg has records of"):
        other_libraries(runner, [folder])


def test_files_without_records_are_refused_too(runner, tmp_path):
    machines.make(tmp_path / "unknown")
    with pytest.raises(LibraryUnknown):
        other_libraries(runner, [tmp_path / "unknown"])


def test_a_library_named_twice_or_as_its_own_base_counts_once(connection, baker, runner, machine):
    assert [other.root for other in other_libraries(runner, [baker.root, baker.root / ".." / "baker"])] == [baker.root]
    assert other_libraries(baker, [baker.root]) == []
