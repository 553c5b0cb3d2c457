"""A directory that did not change is not read again, and one that did always is."""

import itertools
import os
import threading

import pytest

from s3reg.errors import StoreUnavailable
from s3reg.store.files import FilesStore
from s3reg.store.files_list import TRUSTED_SECONDS, Folders

PUTS = 60
MANY, LOOKS = 2000, 10
"""Objects, more than the kernel gives in one piece; listings of them."""
TICKS = 10_000
"""Listings within which the clock of any file system has ticked."""


class Clock:
    """Seconds that a test lets go by."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


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
    clock.seconds += TRUSTED_SECONDS
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
