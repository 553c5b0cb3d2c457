"""A directory that did not change is not read again, and one that did always is."""

import errno
import itertools
import os
import threading

import pytest

from clocks import Clock
from s3reg.errors import StoreUnavailable
from s3reg.store import Match
from s3reg.store.files import FilesStore
from s3reg.store.files_list import TRUSTED_SECONDS, Folders

PUTS = 60
MANY, LOOKS = 2000, 10
"""Objects, more than the kernel gives in one piece; listings of them."""
TICKS = 10_000
"""Listings within which the clock of any file system has ticked."""


@pytest.fixture
def store(tmp_path):
    return FilesStore(tmp_path)


def folders(root, *, touched="clock", **more):
    return Folders(str(root), str(root / touched), "here", lambda: None, **more)


def settled(found, prefix, before=None):
    """A listing that is trusted: one that was made after the file system's clock had ticked."""
    for _ in range(TICKS):
        before, listing = found.again(prefix, before), before
        if before is listing:
            return listing
    raise AssertionError("nothing is ever trusted")


def told(listing):
    return [(stat.key, stat.size) for stat in listing.stats]


def test_what_is_replaced_while_its_directory_is_read_is_listed(in_memory):
    """tmpfs and btrfs put it behind all others, where who reads the directory already does not look any more."""
    store, ended = FilesStore(in_memory), threading.Event()
    store.put("heads/0", b"")
    names = [f"heads/{number}" for number in range(MANY)]
    for name in names[1:]:
        (in_memory / "heads.d" / name.partition("/")[2]).touch()

    def replace():
        for name in itertools.cycle(names):
            if ended.is_set():
                return
            store.put(name, b"")

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        for _ in range(LOOKS):
            assert len(list(store.list("heads/"))) == MANY
            assert len(store.relist("heads/").stats) == MANY
    finally:
        ended.set()
        thread.join()


def test_what_others_write_into_a_file_in_place_shows_within_a_minute(store, tmp_path):
    store.put("heads/a", b"1")
    clock = Clock()
    found = folders(tmp_path, clock=clock)
    listing = settled(found, "heads/")

    (tmp_path / "heads.d" / "a").write_bytes(b"1234")

    assert found.again("heads/", listing) is listing
    clock.now += TRUSTED_SECONDS
    assert told(found.again("heads/", listing)) == [("heads/a", 4)]


def test_what_others_move_about_shows_at_once(store, tmp_path):
    for key in ("heads/a", "heads/b", "heads/c/d"):
        store.put(key, b"1")
    found = folders(tmp_path)
    listing = settled(found, "heads/")
    aside = tmp_path / "aside"

    (tmp_path / "heads.d/c.d/d").rename(aside)
    listing = settled(found, "heads/", listing)
    assert told(listing) == [("heads/a", 1), ("heads/b", 1)]
    aside.rename(tmp_path / "heads.d/b")
    (tmp_path / "heads.d").rename(aside)
    listing = settled(found, "heads/", listing)
    assert told(listing) == []
    aside.rename(tmp_path / "heads.d")
    assert told(settled(found, "heads/", listing)) == [("heads/a", 1), ("heads/b", 1)]


def test_where_the_file_system_cannot_be_asked_for_its_time_nothing_is_trusted(store, tmp_path):
    store.put("heads/a", b"1")
    found = folders(tmp_path, touched="missing/clock")
    listing = found.again("heads/", None)
    again = found.again("heads/", listing)
    assert again is not listing
    assert again.stats == listing.stats


def test_a_directory_whose_time_the_clock_has_not_passed_is_not_trusted(store, tmp_path):
    store.put("heads/a", b"1")
    later = (tmp_path / "heads.d").stat().st_mtime + 3600
    os.utime(tmp_path / "heads.d", (later, later))
    found = folders(tmp_path)
    listing = found.again("heads/", None)
    assert found.again("heads/", listing) is not listing


def test_a_store_that_is_gone_is_not_listed_from_memory(store, tmp_path):
    store.put("heads/a", b"1")
    listing = settled(store._folders, "heads/")
    (tmp_path / ".locks").rename(tmp_path / "unmounted")
    with pytest.raises(StoreUnavailable):
        store.relist("heads/", listing)


def test_s34_whoever_lists_while_others_put_and_delete_sees_all_that_was_answered_before(store):
    """The writer never waits for the reader: changes fall before, into and behind each listing, several in a tick."""
    answered, going, over = {}, set(), threading.Event()

    def write():
        try:
            for number in range(PUTS):
                for key in (f"heads/{number}", f"heads/{number - 1}"):
                    answered[key] = store.put(key, b"same size")
                going.add(f"heads/{number - 5}")
                store.delete([f"heads/{number - 5}"])
                answered[f"heads/{number - 5}"] = None
        finally:
            over.set()

    writer = threading.Thread(target=write)
    writer.start()
    listing, last = None, False
    while not last:
        last = over.is_set()
        expected = dict(answered)
        listing = store.relist("heads/", listing)
        seen = {stat.key: stat.etag for stat in listing.stats}
        for key, etag in expected.items():
            if etag is None:
                assert key not in seen
            else:
                # Of one size, ETags grow with their times.
                assert key in going or seen[key] >= etag
    writer.join()
    assert sorted(seen) == sorted(key for key, etag in answered.items() if etag is not None)


def elsewhere(path):
    """The directory lies on another volume."""
    there = path.with_name(f"{path.name}-of-another-volume")
    path.rename(there)
    path.symlink_to(there)
    return there


def unmounted(path):
    elsewhere(path).rename(path.with_name("unmounted"))


def a_file(path):
    path.rename(path.with_name("aside"))
    path.write_bytes(b"")


def a_pipe(path):
    path.rename(path.with_name("aside"))
    os.mkfifo(path)


def a_loop(path):
    path.rename(path.with_name("aside"))
    path.symlink_to(path)


@pytest.mark.parametrize("harm", [unmounted, a_file, a_pipe, a_loop])
def test_a_directory_that_cannot_be_read_is_no_empty_one(store, tmp_path, harm):
    for key in ("heads/a", "packs/main/a/b"):
        store.put(key, b"1")
    before = store.relist("heads/")
    harm(tmp_path / "heads.d")
    for act in (
        lambda: list(store.list("heads/")),
        lambda: list(store.list("heads/a")),
        lambda: store.relist("heads/"),
        lambda: store.relist("heads/", before),
        lambda: store.get("heads/a"),
        lambda: store.stat("heads/b"),
    ):
        with pytest.raises(StoreUnavailable) as caught:
            act()
        assert str(tmp_path / "heads.d") in caught.value.about
    assert [stat.key for stat in store.list("packs/")] == ["packs/main/a/b"]


def test_what_lies_on_another_volume_is_listed_and_missed_once_that_is_not_mounted(store, tmp_path):
    store.put("packs/main/a/b", b"1")
    there = elsewhere(tmp_path / "packs.d/main.d")
    assert [stat.key for stat in store.list("packs/")] == ["packs/main/a/b"]
    there.rename(tmp_path / "unmounted")
    for act in (lambda: list(store.list("packs/")), lambda: store.get("packs/main/a/b")):
        with pytest.raises(StoreUnavailable, match="leads nowhere"):
            act()


@pytest.mark.parametrize("error", [errno.EIO, errno.EACCES, errno.EMFILE])
@pytest.mark.parametrize("folder", ["heads.d/", "heads.d/more.d/"])
def test_a_directory_that_the_disk_does_not_give_makes_the_listing_fail(store, tmp_path, monkeypatch, error, folder):
    store.put("heads/a", b"1")
    store.put("heads/more/a", b"1")
    usual = os.listdir

    def refuse(path):
        if path == f"{tmp_path}/{folder}":
            raise OSError(error, os.strerror(error), path)
        return usual(path)

    monkeypatch.setattr(os, "listdir", refuse)
    for act in (lambda: list(store.list("heads/")), lambda: store.relist("heads/")):
        with pytest.raises(StoreUnavailable) as caught:
            act()
        assert caught.value.about == f"{tmp_path}/{folder}"


@pytest.mark.parametrize("error", [errno.EIO, errno.EMFILE])
def test_a_directory_is_not_read_and_nothing_is_replaced_where_the_lock_fails_in_passing(
    store, tmp_path, monkeypatch, error
):
    """Others hold it, and replace what such a listing would miss."""
    etag = store.put("heads/a", b"1")
    usual = os.open

    def refuse(path, *arguments, **more):
        if str(path).endswith("/clock"):
            raise OSError(error, os.strerror(error), path)
        return usual(path, *arguments, **more)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        for act in (lambda: list(store.list("heads/")), lambda: store.put("heads/a", b"2", only_if=Match(etag))):
            with pytest.raises(StoreUnavailable):
                act()
    assert store.get("heads/a").data == b"1"
