"""The directory store on a disk that is full, read-only, gone, too coarse or failing."""

import contextlib
import errno
import hashlib
import io
import os
import stat
import subprocess
import sys

import pytest

from s3reg.errors import (
    ObjectNotFound,
    PutUnsettled,
    StoreFull,
    StoreInodesUsedUp,
    StoreReadOnly,
    StoreUnavailable,
    StoreUnsuitable,
)
from s3reg.store import ABSENT, Match
from s3reg.store.files import FilesStore
from servers import lacking, needs

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.fixture
def mount():
    """`mount(what, folder, *options)`, undone after the test; skips where it is not allowed."""
    with contextlib.ExitStack() as undo:

        def do(what, folder, *options):
            if sys.platform != "linux" or os.geteuid() != 0:
                lacking("file systems of their own (run as root on Linux)")
            folder.mkdir(exist_ok=True)
            done = subprocess.run(
                ["mount", *options, str(what), str(folder)], capture_output=True, text=True, check=False
            )
            if done.returncode:
                lacking(f"mount {' '.join(options)} (the machine refuses)")
            undo.callback(subprocess.run, ["umount", str(folder)], check=True)
            return folder

        yield do


def leftovers(root):
    return list((root / ".tmp").iterdir())


def test_a_full_disk_is_said_so_and_nothing_half_written_stays(mount, tmp_path):
    root = mount("tmpfs", tmp_path / "small", "-t", "tmpfs", "-o", "size=1m")
    store = FilesStore(root)
    etag = store.put("heads/a", b"old")
    too_much = bytes(2 << 20)
    for act in (
        lambda: store.put("packs/a", too_much),
        lambda: store.put("heads/a", too_much, only_if=Match(etag)),
        lambda: store.receive("packs/a", io.BytesIO(too_much), size=len(too_much), sha256="0" * 64),
    ):
        with pytest.raises(StoreFull):
            act()
        assert leftovers(root) == []
    assert [item.key for item in store.list("")] == ["heads/a"]
    assert store.get("heads/a").data == b"old"
    store.put("heads/a", b"new", only_if=Match(etag))
    assert store.get("heads/a").data == b"new"


def test_on_a_full_disk_what_replaces_or_clears_is_written_and_nothing_new(mount, tmp_path):
    root = mount("tmpfs", tmp_path / "small", "-t", "tmpfs", "-o", "size=4m")
    store = FilesStore(root, clearing=("gc/",))
    etag = store.put("heads/a", b"old")
    with (root / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    for _ in range(30):
        etag = store.put("heads/a", bytes(9000), only_if=Match(etag))
    store.put("gc/a", bytes(20_000), only_if=ABSENT)
    for act in (
        lambda: store.put("sessions/a", b"1", only_if=ABSENT),
        lambda: store.receive("packs/a", io.BytesIO(b"1"), size=1, sha256=hashlib.sha256(b"1").hexdigest()),
    ):
        with pytest.raises(StoreFull):
            act()
    store.delete(["gc/a"])
    store.put("gc/b", bytes(20_000), only_if=ABSENT)
    store.delete(["gc/b"])
    (root / "ballast").unlink()
    store.put("sessions/a", b"1", only_if=ABSENT)
    assert [item.key for item in store.list("")] == ["heads/a", "sessions/a"]
    assert leftovers(root) == []


def test_a_disk_that_is_out_of_inodes_is_good_for_reading_and_for_removing(mount, tmp_path):
    """A store that was made by a release without a reserve, say."""
    root = mount("tmpfs", tmp_path / "small", "-t", "tmpfs", "-o", "size=8m,nr_inodes=40")
    FilesStore(root).put("heads/a", b"1")
    (root / ".locks" / "reserve").unlink()
    with contextlib.suppress(OSError):
        for number in range(40):
            (root / f"ballast{number}").touch()
    store = FilesStore(root)
    assert store.get("heads/a").data == b"1"
    store.delete(["heads/a"])
    assert list(store.list("heads/")) == []


def test_of_a_disk_without_inodes_these_are_said_to_lack_and_nothing_is_lost(mount, tmp_path):
    root = mount("tmpfs", tmp_path / "small", "-t", "tmpfs", "-o", "size=8m,nr_inodes=60")
    store = FilesStore(root, clearing=("gc/",))
    etag = store.put("heads/a", b"old")
    with contextlib.suppress(OSError):
        for number in range(60):
            (root / f".ballast{number}").touch()
    for act in (
        lambda: store.put("packs/a", b"1"),
        lambda: store.put("heads/a", b"new", only_if=Match(etag)),
        lambda: store.put("gc/a", b"1", only_if=ABSENT),
        lambda: store.receive("packs/a", io.BytesIO(b"1"), size=1, sha256=hashlib.sha256(b"1").hexdigest()),
    ):
        with pytest.raises(StoreInodesUsedUp, match="inodes"):
            act()
        assert leftovers(root) == []
    assert [item.key for item in store.list("")] == ["heads/a"]
    assert store.get("heads/a").data == b"old"
    for number in range(10):
        (root / f".ballast{number}").unlink()
    store.put("heads/a", b"new", only_if=Match(etag))
    store.put("packs/a", b"1")
    assert store.get("heads/a").data == b"new"


@pytest.mark.parametrize("call", ["open", "pwrite", "fsync"])
def test_a_quota_that_is_used_up_is_a_full_disk(tmp_path, monkeypatch, call):
    store = FilesStore(tmp_path)
    etag = store.put("heads/a", b"old")
    (tmp_path / ".locks/reserve").unlink()
    usual = getattr(os, call)

    def refuse(what, *arguments, **more):
        if call != "open" or "/.tmp/" in str(what):
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        return usual(what, *arguments, **more)

    with monkeypatch.context() as patched:
        patched.setattr(os, call, refuse)
        with pytest.raises(StoreFull) as caught:
            store.put("packs/a", b"1", only_if=ABSENT)
        assert not isinstance(caught.value, StoreInodesUsedUp)
    assert leftovers(tmp_path) == []
    assert [item.key for item in store.list("")] == ["heads/a"]
    store.put("heads/a", b"new", only_if=Match(etag))
    store.put("packs/a", b"1", only_if=ABSENT)


def test_the_first_turn_is_had_on_a_full_disk(mount, tmp_path):
    root = mount("tmpfs", tmp_path / "small", "-t", "tmpfs", "-o", "size=4m")
    store = FilesStore(root)
    with (root / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert [store.takes_turn("sweep", 60) for _ in range(2)] == [True, False]


@pytest.fixture
def read_only(tmp_path, mount):
    """A store's directory, with one object, that cannot be written."""
    root = tmp_path / "store"
    FilesStore(root).put("heads/a", b"1")
    if os.geteuid() == 0:
        # Modes do not bind root.
        yield mount(root, tmp_path / "view", "--bind", "-o", "ro")
        return
    for folder in (root / "heads.d", root / ".tmp", root):
        folder.chmod(0o500)
    yield root
    for folder in (root, root / ".tmp", root / "heads.d"):
        folder.chmod(0o700)


def test_a_read_only_directory_is_good_for_reading(read_only):
    store = FilesStore(read_only)
    assert [item.key for item in store.list("")] == ["heads/a"]
    etag = store.get("heads/a").stat.etag
    for act in (
        lambda: store.put("heads/b", b"", only_if=ABSENT),
        lambda: store.put("heads/a", b"", only_if=Match(etag)),
        lambda: store.put("heads/a", b""),
        lambda: store.delete(["heads/a"]),
        lambda: store.receive("packs/a", io.BytesIO(b""), size=0, sha256=EMPTY_SHA256),
    ):
        with pytest.raises(StoreReadOnly):
            act()
    assert store.get("heads/a").data == b"1"


def test_a_directory_that_cannot_be_prepared_reads_as_empty_and_refuses_puts(tmp_path, mount):
    (tmp_path / "empty").mkdir()
    root = mount(tmp_path / "empty", tmp_path / "view", "--bind", "-o", "ro")
    store = FilesStore(root)
    assert list(store.list("")) == []
    with pytest.raises(ObjectNotFound):
        store.get("format.json")
    with pytest.raises(StoreReadOnly):
        store.put("format.json", b"{}", only_if=ABSENT)
    subprocess.run(["mount", "-o", "remount,bind,rw", str(root)], check=True)
    store.put("format.json", b"{}", only_if=ABSENT)
    assert store.get("format.json").data == b"{}"


def test_a_missing_root_that_cannot_be_made_is_no_empty_store(tmp_path, mount):
    (tmp_path / "empty").mkdir()
    view = mount(tmp_path / "empty", tmp_path / "view", "--bind", "-o", "ro")
    store = FilesStore(view / "store")
    with pytest.raises(StoreUnavailable):
        store.get("format.json")
    with pytest.raises(StoreUnavailable):
        list(store.list("heads/"))


def test_a_file_where_the_root_should_be_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreUnavailable):
        FilesStore(tmp_path / "file")


@pytest.mark.parametrize("leave_mount_point", [False, True])
def test_a_volume_that_went_away_is_not_taken_for_an_empty_store(tmp_path, leave_mount_point):
    root = tmp_path / "store"
    store = FilesStore(root)
    store.put("heads/a", b"1")
    root.rename(tmp_path / "unmounted")
    if leave_mount_point:
        root.mkdir()
    for act in (
        lambda: store.get("heads/a"),
        lambda: store.stat("heads/a"),
        lambda: list(store.list("heads/")),
        lambda: list(store.list("")),
        lambda: store.put("heads/b", b"2"),
        lambda: store.delete(["heads/a"]),
    ):
        with pytest.raises(StoreUnavailable):
            act()
    if leave_mount_point:
        assert list(root.iterdir()) == []
        root.rmdir()
    (tmp_path / "unmounted").rename(root)
    assert store.get("heads/a").data == b"1"


def test_a_file_system_with_coarse_times_is_refused(tmp_path, mount):
    # Inodes of 128 bytes hold whole seconds only.
    image = tmp_path / "image"
    image.write_bytes(bytes(4 << 20))
    subprocess.run([needs("mke2fs"), "-q", "-I", "128", "-t", "ext2", str(image)], check=True, capture_output=True)
    root = mount(image, tmp_path / "coarse", "-o", "loop")
    store = FilesStore(root)
    with pytest.raises(StoreUnsuitable):
        store.put("heads/a", b"1")
    assert leftovers(root) == []
    assert list(store.list("")) == []


def test_a_clock_that_was_set_back_does_not_bring_an_etag_back(tmp_path):
    store = FilesStore(tmp_path)
    store.put("a", b"1")
    # As if it had been written before the clock was set back by a year.
    ahead = (tmp_path / "a").stat().st_mtime_ns + 365 * 24 * 3600 * 10**9
    os.utime(tmp_path / "a", ns=(ahead, ahead))
    times = [ahead]
    for number in range(3):
        store.put("a", b"%d" % number, only_if=Match(store.stat("a").etag))
        times.append((tmp_path / "a").stat().st_mtime_ns)
    assert times == sorted(set(times))


class Syncs:
    """Records what the operating system is asked for, in order, and lets chosen syncs fail. A power cut cannot be had."""

    def __init__(self, monkeypatch, root):
        self.calls, self.fails = [], None
        self._sync, self._rename = os.fsync, os.rename
        monkeypatch.setattr(os, "fsync", self.sync)
        monkeypatch.setattr(os, "rename", self.rename)

    def sync(self, fd):
        what = "folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "file"
        self.calls.append(what)
        if self.fails == what:
            raise OSError(errno.EIO, "as the test wants it")
        self._sync(fd)

    def rename(self, source, target):
        self.calls.append("rename")
        self._rename(source, target)


@pytest.fixture
def syncs(monkeypatch, tmp_path):
    if sys.platform != "linux":
        lacking("the order of syncs (run on Linux)")
    return Syncs(monkeypatch, tmp_path)


def test_bytes_are_durable_before_they_are_in_place_and_their_name_before_the_answer(tmp_path, syncs):
    store = FilesStore(tmp_path)
    store.put("heads/a", b"1")
    first_rename = syncs.calls.index("rename", syncs.calls.index("file"))
    assert "file" in syncs.calls[:first_rename]
    # heads.d and the root, in which it was made.
    assert syncs.calls[first_rename:].count("folder") == 2
    syncs.calls.clear()
    store.put("heads/a", b"2")
    assert syncs.calls == ["file", "rename", "file", "folder"]
    syncs.calls.clear()
    store.delete(["heads/a", "heads/b"])
    assert syncs.calls == ["folder"]


def test_a_put_whose_bytes_cannot_be_made_durable_does_not_appear(tmp_path, syncs):
    store = FilesStore(tmp_path)
    syncs.fails = "file"
    with pytest.raises(StoreUnavailable):
        store.put("heads/a", b"1", only_if=ABSENT)
    assert list(store.list("")) == []
    assert leftovers(tmp_path) == []


def test_a_put_whose_name_cannot_be_made_durable_is_unsettled(tmp_path, syncs):
    store = FilesStore(tmp_path)
    syncs.fails = "folder"
    with pytest.raises(PutUnsettled):
        store.put("heads/a", b"1", only_if=ABSENT)
    assert store.get("heads/a").data == b"1"


def test_a_volume_that_goes_away_during_a_listing_makes_it_fail(tmp_path):
    root = tmp_path / "store"
    store = FilesStore(root)
    for name in "abc":
        store.put(f"heads/{name}", b"1")
    found = store.list("heads/")
    assert next(found).key == "heads/a"
    root.rename(tmp_path / "unmounted")
    with pytest.raises(StoreUnavailable):
        list(found)
