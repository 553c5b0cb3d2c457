"""What differs by platform: on this machine's file system, and on XFS and btrfs where root can mount them."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from s3reg.client import copies, platform, writers
from s3reg.errors import DiskFull, LocalDenied

MIB = 1024**2


@pytest.fixture
def file(tmp_path):
    """8 MiB: data in the first and the last MiB, a hole between."""
    path = tmp_path / "file"
    with path.open("wb") as out:
        out.write(random.Random(1).randbytes(MIB))
        out.seek(7 * MIB)
        out.write(random.Random(2).randbytes(MIB))
    return path


def opened(path, flags=os.O_RDWR):
    return os.fdopen(os.open(path, flags), "r+b" if flags & os.O_RDWR else "rb", buffering=0)


def settled_free(folder):
    """Free bytes once this file system has nothing left to write."""
    subprocess.run(["sync", "-f", folder], check=True)
    return platform.free_bytes(folder)


class TestCloning:
    def test_a_clone_has_the_bytes_and_its_own_life(self, reflinking):
        src, dst = reflinking / "src", reflinking / "clone"
        src.write_bytes(random.Random(3).randbytes(64 * MIB))
        before = settled_free(reflinking)
        assert platform.clone(src, dst)
        assert before - settled_free(reflinking) < 16 * MIB
        with opened(dst) as file:
            os.pwrite(file.fileno(), b"changed", 0)
        assert src.read_bytes()[:7] != b"changed"
        assert dst.read_bytes()[7:] == src.read_bytes()[7:]

    def test_a_clone_of_a_read_only_file_can_be_written(self, reflinking):
        src, dst = reflinking / "frozen", reflinking / "thawed"
        src.write_bytes(b"x" * MIB)
        src.chmod(0o444)
        assert platform.clone(src, dst)
        assert dst.stat().st_mode & 0o200

    def test_a_copy_shares_its_blocks_with_the_original(self, reflinking):
        src = reflinking / "original"
        src.write_bytes(random.Random(4).randbytes(64 * MIB))
        before = settled_free(reflinking)
        copies.copy(src, reflinking / "copy")
        assert before - settled_free(reflinking) < 16 * MIB
        assert (reflinking / "copy").read_bytes() == src.read_bytes()

    def test_across_file_systems_it_says_no_and_leaves_nothing(self, reflinking, tmp_path):
        (tmp_path / "src").write_bytes(b"x")
        assert not platform.clone(tmp_path / "src", reflinking / "foreign")
        assert not (reflinking / "foreign").exists()

    def test_an_existing_file_is_never_cloned_over(self, tmp_path):
        (tmp_path / "src").write_bytes(b"new")
        (tmp_path / "dst").write_bytes(b"old")
        with pytest.raises(FileExistsError):
            platform.clone(tmp_path / "src", tmp_path / "dst")
        assert (tmp_path / "dst").read_bytes() == b"old"

    def test_here_it_works_or_leaves_nothing(self, file, tmp_path):
        dst = tmp_path / "dst"
        assert platform.clone(file, dst) == dst.exists()


class TestHoles:
    def test_extents_cover_the_data_and_leave_out_the_hole(self, file):
        with opened(file) as handle:
            extents = list(platform.data_extents(handle.fileno(), 8 * MIB))
        assert extents == [(0, MIB), (7 * MIB, 8 * MIB)]

    def test_extents_on_the_reflinking_file_systems(self, reflinking):
        path = reflinking / "sparse"
        with path.open("wb") as out:
            out.truncate(8 * MIB)
            out.seek(4 * MIB)
            out.write(b"x" * MIB)
            out.flush()
            os.fsync(out.fileno())
        with opened(path) as handle:
            covered = list(platform.data_extents(handle.fileno(), 8 * MIB))
        assert covered[0][0] <= 4 * MIB
        assert covered[-1][1] >= 5 * MIB
        assert sum(end - start for start, end in covered) < 8 * MIB

    def test_extents_end_where_they_are_told(self, file):
        with opened(file) as handle:
            assert list(platform.data_extents(handle.fileno(), 100)) == [(0, 100)]

    def test_a_file_of_one_hole_and_an_empty_one_have_no_extents(self, tmp_path):
        for size in (0, 4 * MIB):
            path = tmp_path / f"hole-{size}"
            with path.open("wb") as out:
                out.truncate(size)
            with opened(path) as handle:
                assert list(platform.data_extents(handle.fileno(), size)) == []

    @pytest.mark.skipif(sys.platform != "linux", reason="no file system that knows no holes is at hand")
    def test_where_nobody_knows_of_holes_all_is_one_extent(self):
        fd = os.open("/proc/version", os.O_RDONLY)  # its file system refuses to seek for data
        try:
            assert list(platform.data_extents(fd, 10)) == [(0, 10)]
        finally:
            os.close(fd)

    @pytest.mark.parametrize(("offset", "length"), [(0, 8 * MIB), (100, 5), (4095, 70_000), (MIB - 1, 2), (10, 0)])
    def test_a_punched_range_reads_as_zeros_and_nothing_else_changes(self, file, offset, length):
        before = bytearray(file.read_bytes())
        with opened(file) as handle:
            platform.punch_hole(handle.fileno(), offset, length)
        before[offset : offset + length] = bytes(length)
        assert file.read_bytes() == before

    def test_a_punched_range_costs_nothing(self, file):
        with opened(file) as handle:
            platform.punch_hole(handle.fileno(), 0, 8 * MIB)
            os.fsync(handle.fileno())
        assert file.stat().st_blocks * 512 < MIB
        assert file.stat().st_size == 8 * MIB

    def test_where_no_hole_can_be_punched_zeros_are_written(self, file):
        with opened(file) as handle:
            platform._write_zeros(handle.fileno(), 10, 3 * MIB)
        assert file.read_bytes()[10 : 10 + 3 * MIB] == bytes(3 * MIB)
        assert file.stat().st_size == 8 * MIB

    def test_a_copy_keeps_bytes_and_holes(self, file, tmp_path):
        copies.copy(file, tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == file.read_bytes()
        assert (tmp_path / "copy").stat().st_blocks <= file.stat().st_blocks


class TestDurability:
    def test_syncing_files_and_folders_succeeds(self, file, tmp_path):
        with opened(file) as handle:
            platform.start_writeback(handle.fileno(), 0, 8 * MIB)
            platform.sync(handle.fileno())
        platform.sync_folder(tmp_path)

    def test_a_file_opened_for_reading_can_be_synced(self, file):
        with opened(file, os.O_RDONLY) as handle:
            platform.sync(handle.fileno())


class TestExclusiveRename:
    @pytest.fixture(params=["kernel", "fallback"])
    def rename(self, request, monkeypatch):
        if request.param == "fallback":
            monkeypatch.setattr(platform, "_libc_call", lambda *_: False)
        return platform.rename_exclusive

    def test_a_file_moves(self, rename, tmp_path):
        (tmp_path / "a").write_bytes(b"a")
        rename(tmp_path / "a", tmp_path / "b")
        assert [path.name for path in tmp_path.iterdir()] == ["b"]

    def test_a_folder_moves_with_what_is_in_it(self, rename, tmp_path):
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "x").write_bytes(b"x")
        rename(tmp_path / "a", tmp_path / "b")
        assert (tmp_path / "b" / "x").read_bytes() == b"x"
        assert not (tmp_path / "a").exists()

    @pytest.mark.parametrize("there", ["file", "folder", "empty folder", "broken link"])
    @pytest.mark.parametrize("moving", ["file", "folder"])
    def test_nothing_is_ever_replaced(self, rename, tmp_path, moving, there):
        src, dst = tmp_path / "src", tmp_path / "dst"
        make(src, moving)
        make(dst, there)
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(FileExistsError):
            rename(src, dst)
        assert sorted(tmp_path.rglob("*")) == before


def make(path: Path, kind: str) -> None:
    if kind == "file":
        path.write_bytes(b"bytes")
    elif kind == "broken link":
        path.symlink_to("nowhere")
    else:
        path.mkdir()
        if kind == "folder":
            (path / "inside").write_bytes(b"bytes")


class TestWhoWrites:
    @pytest.fixture
    def other(self):
        """Another process that opens a file in a mode and keeps it open."""
        processes = []

        def start(path, mode):
            program = "import sys; f = open(sys.argv[1], sys.argv[2]); print(flush=True); sys.stdin.read()"
            process = subprocess.Popen(
                [sys.executable, "-c", program, path, mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            processes.append(process)
            process.stdout.readline()

        yield start
        for process in processes:
            process.communicate()

    @pytest.mark.parametrize(("mode", "written"), [("rb", False), ("r+b", True), ("ab", True)])
    def test_a_file_open_in_another_process_is_noticed_only_if_it_may_write(self, file, other, mode, written):
        other(file, mode)
        assert writers.open_for_writing([file]) == ({file} if written else set())

    def test_a_second_name_of_the_file_is_the_file(self, file, other, tmp_path):
        os.link(file, tmp_path / "link")
        other(file, "r+b")
        assert writers.open_for_writing([tmp_path / "link"]) == {tmp_path / "link"}

    def test_our_own_process_does_not_count(self, file):
        with file.open("r+b"):
            assert writers.open_for_writing([file]) == set()

    def test_a_missing_file_is_open_nowhere(self, tmp_path):
        assert writers.open_for_writing([tmp_path / "none"]) == set()

    def test_a_file_behind_a_loop_device_is_written(self, reflinking):
        image = reflinking.parent / "image"
        assert writers.open_for_writing([image]) == {image}


class TestRefusals:
    def test_a_full_disk_is_named_with_what_is_free(self, tmp_path):
        with pytest.raises(DiskFull) as told, platform.refusals_named(tmp_path / "not" / "there", needed=lambda: 5):
            raise OSError(28, "No space left on device")
        assert told.value.detail["folder"] == str(tmp_path)
        assert told.value.detail["needed"] == 5
        assert told.value.detail["free"] > 0

    def test_any_other_refusal_names_its_file(self, tmp_path):
        with pytest.raises(LocalDenied, match="none"), platform.refusals_named(tmp_path):
            (tmp_path / "none").read_bytes()


def test_the_boot_id_stays_within_a_boot():
    assert platform.boot_id() == platform.boot_id() != ""


def test_the_default_library_is_under_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert platform.default_library().is_relative_to(tmp_path)
