"""The part of the store's contract that is about `list`."""

from __future__ import annotations

import time
from collections.abc import Iterator

from contracts.promises import ROUNDS, Promises, fill

ORDER = [
    "0", "A", "A/b", "Z", "_", "a", "a+", "a-", "a-/x", "a.b", "a.d", "a.d/x", "a/", "a/-", "a/.x", "a/B", "a/b", "a/b-c",
    "a/b/c", "a/b0", "a0", "a0/x", "a=", "a@", "aA", "aa", "a~", "b", "~",
]  # fmt: skip
KEYS = [key for key in ORDER if not key.endswith("/")]
LEAVES = [key for key in KEYS if not any(other.startswith(f"{key}/") for other in KEYS)]
"""Where no key is also a folder: for servers that list nothing below a key."""
MANY = [f"many/{number:05d}" for number in range(1005)]
"""More than a server gives at once: S3 stops at 1,000."""
TURNS = 8


class Listing(Promises):
    """Every key with the prefix once, in the byte order of UTF-8."""

    def test_keys_that_are_no_folders_are_listed_in_the_order_of_bytes_under_any_prefix_and_after_any_key(self, store):
        fill(store, reversed(LEAVES))
        assert [item.key for item in store.list("")] == sorted(LEAVES, key=str.encode)
        for prefix in ("a", "a/", "a/b", "a-", "a.", "a0/", "z", "A", "b/", "~"):
            for after in ("", *LEAVES, "a", "a/", "a-/", "zzz"):
                expected = sorted(key for key in LEAVES if key.startswith(prefix) and key > after)
                assert [item.key for item in store.list(prefix, after=after)] == expected, (prefix, after)

    def test_nothing_lies_under_a_prefix_of_nothing(self, store):
        assert list(store.list("")) == []
        store.put("packs/main/x", b"")
        assert list(store.list("maps/")) == []
        assert list(store.list("packs/main/x/")) == []
        assert list(store.list("packs/main/xy")) == []

    def test_a_listing_tells_what_stat_tells(self, store):
        fill(store, ["x/a", "x/b"], b"12345")
        for item in store.list("x/"):
            stat = store.stat(item.key)
            assert (item.etag, item.size) == (stat.etag, stat.size)
            # S3 gives whole seconds in some answers.
            assert int(item.modified) == int(stat.modified)

    def test_a_listing_is_read_lazily(self, store):
        fill(store, ["x/a", "x/b"])
        found = store.list("x/")
        assert isinstance(found, Iterator)
        assert next(found).key == "x/a"

    def test_s16_more_keys_than_a_server_gives_at_once_are_all_listed_and_deleted(self, store):
        fill(store, [*MANY, "other/x"])
        assert [item.key for item in store.list("many/")] == MANY
        assert [item.key for item in store.list("many/", after=MANY[2])] == MANY[3:]
        listing = store.relist("many/")
        for _ in range(2):
            assert [item.key for item in listing.stats] == MANY
            listing = store.relist("many/", listing)
        gone = MANY[890:1001]
        store.delete([*gone, "never/there"])
        listing = store.relist("many/", listing)
        assert [item.key for item in listing.stats] == [key for key in MANY if key not in gone]
        store.delete(MANY)
        assert store.relist("many/", listing).stats == ()
        assert [item.key for item in store.list("")] == ["other/x"]

    def test_a_listing_asked_for_again_shows_at_once_whatever_was_put_or_deleted_by_anyone(self, store, second):
        listing = store.relist("a/")
        assert listing.stats == ()
        for turn in range(TURNS):
            for change in (
                lambda turn=turn: second.put(f"a/{turn}", b"first"),
                lambda turn=turn: second.put(f"a/{turn}", b"again"),  # no longer than before
                lambda turn=turn: second.delete([f"a/{turn - 3}"]),
                lambda turn=turn: store.put("b", b"%d" % turn),
            ):
                change()
                listing = store.relist("a/", listing)
                assert {item.key: (item.etag, item.size) for item in listing.stats} == {
                    item.key: (item.etag, item.size) for item in second.list("a/")
                }
        assert [item.key for item in listing.stats] == [f"a/{turn}" for turn in range(TURNS - 3, TURNS)]
        assert second.relist("a/").stats == store.relist("a/").stats

    def test_a_listing_asked_for_again_ends_up_in_knowing_that_nothing_changed(self, store):
        fill(store, LEAVES)
        listing, before = store.relist("a"), None
        for _ in range(ROUNDS):
            before, listing = listing, store.relist("a", listing)
            if listing.stats is before.stats:
                break
            time.sleep(0.01)  # until the clock of the file system has gone on
        assert listing.stats is before.stats
        assert [item.key for item in listing.stats] == sorted(key for key in LEAVES if key.startswith("a"))

    def test_what_is_deleted_meanwhile_makes_no_listing_miss_the_rest(self, store):
        fill(store, MANY)
        found = store.list("many/")
        seen = [next(found).key]
        # Behind the reader, before it, at a page's end, and the last: none of them may take another key along.
        gone = {MANY[0], MANY[1], MANY[500], *MANY[990:1003], MANY[-1]}
        store.delete(gone)
        seen += [item.key for item in found]
        assert seen == sorted(seen)
        assert set(MANY) - gone <= set(seen) <= set(MANY)

    def test_what_is_deleted_as_it_is_listed_is_listed_once(self, store):
        fill(store, MANY[:30])
        seen = []
        for item in store.list("many/"):
            seen.append(item.key)
            store.delete([item.key])
        assert seen == MANY[:30]
        assert list(store.list("")) == []


class KeysBelowKeys(Promises):
    """More than the port promises: a key may lie below another. MinIO lists only the upper one."""

    def test_a_listing_is_in_the_order_of_bytes(self, store):
        fill(store, reversed(KEYS))
        found = [item.key for item in store.list("")]
        assert found == sorted(KEYS, key=str.encode)

    def test_a_prefix_need_not_end_at_a_slash(self, store):
        fill(store, KEYS)
        for prefix in ("a", "a/", "a/b", "a/b/", "a-", "a.", "a0/", "z", "a/b/c", "a/b/c/", "A", "b/"):
            expected = sorted(key for key in KEYS if key.startswith(prefix))
            assert [item.key for item in store.list(prefix)] == expected, prefix

    def test_after_leaves_out_what_is_not_greater(self, store):
        fill(store, KEYS)
        for after in ("", *ORDER, "a/b/", "a/b/c/d", "a/bb", "zzz", "a/b/c0"):
            for prefix in ("", "a/"):
                expected = sorted(key for key in KEYS if key.startswith(prefix) and key > after)
                assert [item.key for item in store.list(prefix, after=after)] == expected, (prefix, after)

    def test_a_key_and_keys_below_it_lie_side_by_side(self, store):
        for order in (["a", "a/b", "a/b/c"], ["d/e/f", "d/e", "d"]):
            for key in order:
                store.put(key, key.encode())
        assert {item.key: store.get(item.key).data for item in store.list("")} == {
            key: key.encode() for key in ("a", "a/b", "a/b/c", "d", "d/e", "d/e/f")
        }
        store.delete(["a/b"])
        assert [item.key for item in store.list("a")] == ["a", "a/b/c"]
        store.delete(["d", "d/e/f"])
        assert [item.key for item in store.list("d")] == ["d/e"]
