"""Chunks at their places in a file: past the cache or through it, whatever the file system, the same bytes."""

import contextlib
import errno
import os
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import file_systems
from s3reg.client import platform
from s3reg.client.platform import DIRECT_BLOCK
from s3reg.client.pulllog import PullLog
from s3reg.client.target import SIDE_BY_SIDE, SideBySide, Target
from servers import lacking

KIB, MIB = 1024, 1024**2
LOG2 = 16
CHUNK = 1 << LOG2
SHARED_MEMORY = Path("/dev/shm")


class File:
    """A file being filled, and what should be in it."""

    def __init__(self, folder, size, *, log2=LOG2, direct=True):
        self.path, self.log2 = folder / "disk.img", log2
        with self.path.open("wb") as file:
            file.truncate(size)
        self.log = PullLog(folder / "journal", "d" * 64)
        self.log.begin(())
        fd = os.open(self.path, os.O_RDWR)
        self.target = Target(
            "disk.img", fd, log2, self.log, platform.open_direct(self.path) if direct is True else direct
        )
        self.expected = bytearray(size)

    def chunk(self, position):
        at = position << self.log2
        length = min(1 << self.log2, len(self.expected) - at)
        return random.Random(position).randbytes(length)

    def lay(self, beside, position):
        data = self.chunk(position)
        written = beside.make_room(self.target, position, len(data))
        beside.room(len(data))[:] = data
        beside.laid(len(data))
        at = position << self.log2
        self.expected[at : at + len(data)] = data
        return written

    def noted(self):
        return {at for first, count in self.log.read()[0] for at in range(first, first + count)}

    def right(self, positions):
        found = self.path.read_bytes()
        for position in positions:
            data = self.chunk(position)
            at = position << self.log2
            if found[at : at + len(data)] != data:
                return False
        return True


@contextlib.contextmanager
def filling(folder, size, **more):
    file = File(folder, size, **more)
    try:
        yield file
    finally:
        file.target.close()


@pytest.fixture(scope="module", params=["here", "memory", *sorted(file_systems.MAKE)])
def place(request, tmp_path_factory):
    """A folder on a file system of this kind."""
    where = tmp_path_factory.mktemp(request.param)
    if request.param == "here":
        yield where
    elif request.param == "memory":
        if not SHARED_MEMORY.is_dir():
            lacking("a file system in memory (/dev/shm)")
        with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as folder:
            yield Path(folder)
    else:
        with file_systems.mounted(where / "its", request.param) as disk:
            yield disk.folder


@st.composite
def fillings(draw):
    """(chunk size, file size, [positions in the order in which they come, with flushes (None) between them])."""
    log2 = draw(st.sampled_from([16, 18, 20, 22, 23]))
    count = draw(st.integers(1, {16: 80, 18: 24, 20: 10, 22: 4, 23: 3}[log2]))
    tail = draw(st.one_of(st.integers(1, 1 << log2), st.sampled_from([1, 511, 512, 4095, 4096, 4097, 1 << log2])))
    size = ((count - 1) << log2) + tail
    kept = sorted(
        draw(st.sets(st.integers(0, count - 1), min_size=1)) | (set() if draw(st.booleans()) else {count - 1})
    )
    runs = draw(st.integers(1, 5))
    order = [kept[first * len(kept) // runs : (first + 1) * len(kept) // runs] for first in range(runs)]
    steps = [position for run in draw(st.permutations(order)) for position in run]
    for at in sorted(draw(st.sets(st.integers(0, len(steps)), max_size=3)), reverse=True):
        steps.insert(at, None)
    return log2, size, steps


class TestAnyFile:
    @given(fillings())
    @settings(max_examples=40)
    def test_every_chunk_comes_to_its_place_and_is_noted_once_it_is_there(self, place, made):
        log2, size, steps = made
        beside, written = SideBySide(), 0
        with tempfile.TemporaryDirectory(dir=place) as folder, filling(Path(folder), size, log2=log2) as file:
            for step in steps:
                written += beside.flush() if step is None else file.lay(beside, step)
                noted = file.noted()
                assert len(noted) == written
                assert file.right(noted)
            written += beside.flush()
            laid = {step for step in steps if step is not None}
            assert file.noted() == laid
            assert written == len(laid)
            assert file.path.read_bytes() == file.expected

    def test_one_after_another_into_two_files(self, tmp_path):
        for name in ("one", "other"):
            (tmp_path / name).mkdir()
        beside = SideBySide()
        with filling(tmp_path / "one", 9 * CHUNK + 5) as one, filling(tmp_path / "other", 9 * CHUNK + 5) as other:
            for position in range(10):
                one.lay(beside, position)
                other.lay(beside, position)
            beside.flush()
            for file in (one, other):
                assert file.path.read_bytes() == file.expected
                assert file.noted() == set(range(10))

    def test_what_is_dropped_is_neither_written_nor_noted(self, tmp_path):
        beside = SideBySide()
        with filling(tmp_path, 4 * CHUNK) as file:
            file.lay(beside, 0)
            file.lay(beside, 1)
            beside.drop()
            assert beside.flush() == 0
            assert file.noted() == set()
            assert not any(file.path.read_bytes())

    def test_a_chunk_that_is_shorter_than_its_place_has_no_neighbour(self, tmp_path):
        """Only the last one of a file may be; of two whose lengths do not fit, the second keeps its place."""
        beside = SideBySide()
        with filling(tmp_path, 3 * CHUNK) as file:
            beside.make_room(file.target, 0, 100)
            beside.room(100)[:] = b"x" * 100
            beside.laid(100)
            file.lay(beside, 1)
            beside.flush()
            assert file.path.read_bytes() == b"x" * 100 + bytes(CHUNK - 100) + file.chunk(1) + bytes(CHUNK)


class TestPastTheCache:
    def cached(self, path):
        """Whether the system's cache has the file's first page."""
        fd = os.open(path, os.O_RDONLY)
        try:
            return bool(os.preadv(fd, [bytearray(100)], 0, os.RWF_NOWAIT))
        except BlockingIOError:
            return False
        finally:
            os.close(fd)

    @pytest.mark.parametrize("kind", ["ext4", "xfs"])
    def test_whole_blocks_go_past_it_and_the_end_of_the_file_through_it(self, kind, tmp_path):
        if not hasattr(os, "RWF_NOWAIT"):
            lacking("a look into the system's cache")
        with file_systems.mounted(tmp_path / kind, kind) as disk, filling(disk.folder, 3 * CHUNK + 100) as file:
            beside = SideBySide()
            for position in range(4):
                file.lay(beside, position)
            beside.flush()
            assert not self.cached(file.path)
            assert file.path.read_bytes() == file.expected
            assert self.cached(file.path)

    def test_what_does_not_lie_well_in_memory_goes_through_it(self, tmp_path):
        """The kernel refuses it; a file system that knows no such writes at all answers the same."""
        with filling(tmp_path, 4 * CHUNK) as file:
            data = memoryview(bytearray(2 * CHUNK + 1))[1:]
            data[:] = file.chunk(0) + file.chunk(1)
            for aligned in (True, False):
                file.target.write(0, data, aligned=aligned)
                assert file.right({0, 1})

    def test_a_file_without_such_writes_is_filled(self, tmp_path):
        beside = SideBySide()
        with filling(tmp_path, 2 * CHUNK + 7, direct=None) as file:
            for position in range(3):
                file.lay(beside, position)
            beside.flush()
            assert file.path.read_bytes() == file.expected

    @pytest.mark.parametrize("most", [DIRECT_BLOCK, 5 * DIRECT_BLOCK, 5000, 1, 511])
    @pytest.mark.parametrize("size", [3 * CHUNK, 3 * CHUNK - 4095, 2 * CHUNK + 3])
    def test_a_kernel_that_takes_only_some_of_it_gets_the_rest(self, most, size, tmp_path, monkeypatch):
        write = os.pwrite
        with filling(tmp_path, size) as file:
            direct, shorts = file.target.direct, iter([True, False] * 1000)

            def some(fd, data, at):
                # Each other one; of many tiny ones a test would take for ever.
                return write(fd, data[:most] if next(shorts) or fd == direct else data, at)

            beside = SideBySide()
            for position in range(3):
                file.lay(beside, position)
            monkeypatch.setattr(os, "pwrite", some)
            assert beside.flush() == 3
            assert file.path.read_bytes() == file.expected
            assert file.noted() == {0, 1, 2}


class TestADiskThatIsFull:
    @pytest.mark.parametrize("kind", sorted(file_systems.MAKE))
    def test_nothing_is_noted_that_is_not_there_and_it_goes_on_where_it_was(self, kind, tmp_path):
        count = 2 * SIDE_BY_SIDE // CHUNK
        with file_systems.mounted(tmp_path / kind, kind) as disk:
            disk.leave(SIDE_BY_SIDE + MIB)
            beside = SideBySide()
            with filling(disk.folder, count * CHUNK) as file:
                with pytest.raises(OSError, match="No space") as caught:
                    self.fill(file, beside, range(count))
                assert caught.value.errno == errno.ENOSPC
                noted = file.noted()
                assert noted < set(range(count))
                assert file.right(noted)
                disk.give_back()
                self.fill(file, beside, sorted(set(range(count)) - noted))
                assert file.noted() == set(range(count))
                assert file.right(range(count))

    def fill(self, file, beside, positions):
        for position in positions:
            file.lay(beside, position)
        beside.flush()
