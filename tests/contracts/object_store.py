"""The contract of the object store port: one test for each promise of `s3reg/store/__init__.py`.

An adapter's test derives from ObjectStoreContract and gives the fixture `store`, fresh and empty, and the fixture `opener`,
which does HTTP on a signed link: `opener(method, url, headers, body) -> (status, headers, bytes)`. It may give `second`,
another adapter on the same store, and must name in `lacks` what its server does not promise.
"""

from __future__ import annotations

import threading

import pytest

from contracts.listing import Listing
from contracts.promises import ROUNDS, Promises, at_once, promise, won
from contracts.signed_links import SignedLinks
from s3reg.errors import KeyInvalid, ObjectNotFound, PreconditionFailed
from s3reg.store import ABSENT, LONGEST_KEY, Match

NO_KEYS = [
    "", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/../b", "a/./b", "a b", "a\0b", "a\nb", "a\n", "a\\b",
    "a?b", "a#b", "a%b", "a:b", "ä", "a\u0308", "\ud800", "x" * 129, "/".join("x" * 64 for _ in range(8)),
]  # fmt: skip
LONG_KEYS = [
    "/".join(["A" * 128] * 3 + ["B" * 125]),
    "/".join(["aB" * 64, "AAAb" * 32, "." + "Z" * 127, "x" * 125]),
]


class Objects(Promises):
    """Bytes under keys."""

    def test_what_was_put_is_got_with_its_size_and_etag(self, store, second):
        etag = store.put("heads/a.json", b"\0\xff\r\nbytes")
        for at in (store, second):
            found = at.get("heads/a.json")
            assert found.data == b"\0\xff\r\nbytes"
            assert (found.stat.key, found.stat.etag, found.stat.size) == ("heads/a.json", etag, 9)
            stat = at.stat("heads/a.json")
            assert (stat.key, stat.etag, stat.size) == ("heads/a.json", etag, 9)
            assert stat.modified > 0
            assert [(item.key, item.etag, item.size) for item in at.list("")] == [("heads/a.json", etag, 9)]

    def test_a_put_without_a_precondition_replaces(self, store, second):
        store.put("a", b"long old bytes")
        store.put("a", b"new")
        assert store.get("a").data == second.get("a").data == b"new"

    def test_an_empty_object_is_an_object(self, store):
        etag = store.put("pulls/a", b"")
        assert store.get("pulls/a").data == b""
        assert store.get("pulls/a", first=-5).data == b""
        assert store.get("pulls/a", first=3, length=5).data == b""
        assert (store.stat("pulls/a").size, store.stat("pulls/a").etag) == (0, etag)

    def test_a_store_that_ends_somewhere_tells_how_much_room_there_is(self, store):
        room = store.room()
        if room is not None:
            assert 0 <= room.free <= room.total
            assert room.total > 0

    def test_a_large_object_comes_back_whole(self, store):
        data = bytes(range(256)) * 32768
        store.put("packs/large", data)
        assert store.get("packs/large").data == data
        assert store.get("packs/large", first=len(data) - 300).data == data[-300:]

    def test_what_is_absent_is_not_found(self, store):
        store.put("a/b", b"")
        for key in ("b", "a", "a/b/c", "a/bb"):
            with pytest.raises(ObjectNotFound):
                store.get(key)
            with pytest.raises(ObjectNotFound):
                store.stat(key)
            with pytest.raises(ObjectNotFound):
                store.get(key, first=-1)

    @pytest.mark.parametrize(
        ("first", "length", "expected"),
        [
            (0, None, b"0123456789"),
            (0, 0, b""),
            (0, 1, b"0"),
            (3, 4, b"3456"),
            (3, None, b"3456789"),
            (9, 1, b"9"),
            (8, 100, b"89"),
            (0, 1 << 50, b"0123456789"),
            (10, None, b""),
            (10, 1, b""),
            (1000, 5, b""),
            (-1, None, b"9"),
            (-3, None, b"789"),
            (-3, 2, b"78"),
            (-10, None, b"0123456789"),
            (-1000, None, b"0123456789"),
        ],
    )
    def test_a_range_gives_what_there_is_of_it_and_the_stat_of_the_whole(self, store, first, length, expected):
        etag = store.put("a", b"0123456789")
        found = store.get("a", first=first, length=length)
        assert found.data == expected
        assert (found.stat.key, found.stat.size, found.stat.etag) == ("a", 10, etag)

    def test_delete_removes_what_there_is_and_does_not_mind_the_rest(self, store, second):
        store.put("x/a", b"1")
        store.put("x/b", b"2")
        store.put("x/c", b"3")
        store.delete(["x/a", "x/absent", "never/there", "x/c"])
        store.delete(["x/a"])
        store.delete([])
        assert [item.key for item in second.list("")] == ["x/b"]
        with pytest.raises(ObjectNotFound):
            second.get("x/a")

    def test_a_key_may_be_used_again_after_its_deletion(self, store):
        before = store.put("x/a", b"1", only_if=ABSENT)
        store.delete(iter(["x/a"]))
        after = store.put("x/a", b"2", only_if=ABSENT)
        assert before != after
        assert store.get("x/a").data == b"2"

    @promise("case-sensitive")
    def test_keys_are_case_sensitive(self, store):
        keys = ["ABC/def", "Abc/def", "abc/DEF", "abc/def"]
        for key in keys:
            store.put(key, key.encode(), only_if=ABSENT)
        assert [item.key for item in store.list("")] == keys
        assert [store.get(key).data for key in keys] == [key.encode() for key in keys]

    @pytest.mark.parametrize(
        "key",
        ["a.d", "a.d/b.d", ".hidden", ".tmp/x", ".locks/00", "...", "a/.../b", "=+@~_-.", "x" * 128, *LONG_KEYS],
    )
    def test_every_key_of_the_grammar_is_taken(self, store, key):
        assert len(key) <= LONGEST_KEY
        store.put(key, b"1", only_if=ABSENT)
        assert store.get(key).data == b"1"
        assert [item.key for item in store.list("")] == [key]
        store.delete([key])
        assert list(store.list("")) == []

    @pytest.mark.parametrize("key", NO_KEYS)
    def test_a_key_outside_the_grammar_is_refused_by_every_verb(self, store, key):
        for act in (
            lambda: store.get(key),
            lambda: store.stat(key),
            lambda: store.put(key, b""),
            lambda: store.put(key, b"", only_if=ABSENT),
            lambda: store.delete([key]),
            lambda: store.sign_get(key, seconds=60),
            lambda: store.sign_gets(["a", key], seconds=60),
            lambda: store.sign_put(key, size=0, sha256="0" * 64, seconds=60),
        ):
            with pytest.raises(KeyInvalid):
                act()
        assert list(store.list("")) == []

    def test_it_says_where_it_is(self, store):
        assert store.location
        assert store.made_as


class Conditions(Promises):
    """Compare and swap."""

    @promise("absent")
    def test_a_put_if_absent_refuses_a_taken_key_and_keeps_the_old_bytes(self, store):
        etag = store.put("a", b"old", only_if=ABSENT)
        for data in (b"new", b"old"):
            with pytest.raises(PreconditionFailed):
                store.put("a", data, only_if=ABSENT)
        assert (store.get("a").data, store.stat("a").etag) == (b"old", etag)

    @promise("match")
    def test_a_put_if_match_replaces_the_object_of_that_etag_and_no_other(self, store):
        first = store.put("a", b"1")
        second = store.put("a", b"2", only_if=Match(first))
        with pytest.raises(PreconditionFailed):
            store.put("a", b"3", only_if=Match(first))
        assert store.get("a").data == b"2"
        assert store.stat("a").etag == second
        store.put("a", b"3", only_if=Match(store.get("a").stat.etag))
        assert store.get("a").data == b"3"

    @promise("match")
    def test_a_put_if_match_on_an_absent_key_is_refused_and_the_key_stays_absent(self, store):
        etag = store.put("a", b"1")
        store.put("b", b"1")
        store.delete(["a"])
        with pytest.raises(PreconditionFailed):
            store.put("a", b"2", only_if=Match(etag))
        assert [item.key for item in store.list("")] == ["b"]

    @promise("match")
    def test_an_etag_of_another_key_does_not_match(self, store):
        etag = store.put("a", b"1")
        store.put("b", b"2")
        with pytest.raises(PreconditionFailed):
            store.put("b", b"3", only_if=Match(etag))
        assert store.get("b").data == b"2"

    def test_other_bytes_have_another_etag_however_soon_they_come(self, store):
        etags = [store.put("a", b"%04d" % number) for number in range(50)]
        assert len(set(etags)) == len(etags)
        store.delete(["a"])
        assert store.put("a", b"again"[:4]) not in etags

    @promise("match")
    def test_bytes_that_come_back_may_match_again_but_what_was_between_does_not(self, store):
        store.put("a", b"A")
        between = store.put("a", b"B")
        again = store.put("a", b"A")
        with pytest.raises(PreconditionFailed):
            store.put("a", b"C", only_if=Match(between))
        assert store.get("a").data == b"A"
        store.put("a", b"C", only_if=Match(again))
        assert store.get("a").data == b"C"

    @promise("raced-absent")
    def test_of_many_that_create_at_once_one_wins(self, store, second):
        for turn in range(ROUNDS):
            key = f"auth/{turn}"
            wins = at_once(lambda n, key=key: won((store, second)[n % 2], key, b"by %d" % n, ABSENT))
            winners = [number for number, etag in enumerate(wins) if etag]
            assert len(winners) == 1, f"round {turn}"
            assert store.get(key).data == b"by %d" % winners[0]
            assert store.stat(key).etag == wins[winners[0]]

    @promise("raced-match")
    def test_of_many_that_replace_at_once_one_wins(self, store, second):
        etag = store.put("heads/a", b"start")
        for turn in range(ROUNDS):
            old = Match(etag)
            wins = at_once(lambda n, old=old: won((store, second)[n % 2], "heads/a", b"by %d" % n, old))
            winners = [number for number, new in enumerate(wins) if new]
            assert len(winners) == 1, f"round {turn}"
            found = store.get("heads/a")
            assert found.data == b"by %d" % winners[0]
            assert found.stat.etag == wins[winners[0]]
            # Bytes of the round before would bring their ETag back: stores may take it from the content.
            etag = store.put("heads/a", b"round %d" % turn)

    @promise("raced-match")
    def test_s2_a_counter_under_compare_and_swap_loses_no_increment(self, store, second):
        store.put("counter", b"0")

        def count_up(number):
            mine, done = (store, second)[number % 2], 0
            while done < 10:
                found = mine.get("counter")
                new = b"%d" % (int(found.data) + 1)
                done += won(mine, "counter", new, Match(found.stat.etag)) is not None

        at_once(count_up)
        assert store.get("counter").data == b"80"

    def test_s2_no_reader_sees_a_part_or_a_mix(self, store, second):
        store.put("a", b"\0" * 1000)
        over, seen = threading.Event(), []

        def act(number):
            if number == 0:
                for turn in range(1, 60):
                    store.put("a", bytes([turn]) * (turn % 7 * 40_000 + turn))
                over.set()
                return
            while not over.is_set():
                found = second.get("a")
                seen.append((len(found.data), found.stat.size, len(set(found.data))))

        at_once(act, actors=3)
        assert seen
        assert all(length == size and values == 1 for length, size, values in seen)


class ObjectStoreContract(Objects, Conditions, Listing, SignedLinks):
    """All of it."""
