"""What was read a moment ago: how long it counts, and who shares a read."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from auth.replicas import KEPT
from s3reg.auth.kept import MOST_KEPT, Kept


@pytest.fixture
def reads():
    return []


@pytest.fixture
def kept(reads, clock):
    numbers = itertools.count()

    def read(name):
        reads.append(name)
        return next(numbers)

    return Kept(read, clock)


def test_what_was_read_counts_for_two_seconds_from_when_reading_it_began(kept, reads, clock):
    assert [kept.get("a"), kept.get("a"), kept.get("b")] == [0, 0, 1]
    clock.now += KEPT - 0.001
    assert (kept.get("a"), kept.is_young("a")) == (0, True)
    clock.now += 0.001
    assert not kept.is_young("a")
    assert kept.get("a") == 2
    assert reads == ["a", "b", "a"]


def test_a_read_that_takes_long_counts_from_its_beginning(clock):
    def read(name):
        del name
        clock.now += 1.5
        return clock.now

    kept = Kept(read, clock)
    first = kept.get("a")
    clock.now += 0.4
    assert kept.get("a") == first
    clock.now += 0.2
    assert kept.get("a") != first


def test_a_clock_that_is_set_back_keeps_nothing_for_longer(kept, clock):
    kept.get("a")
    clock.now -= 3600
    assert kept.get("a") == 1


def test_what_is_not_enough_is_read_anew_and_counts_then(kept, reads):
    kept.get("a")
    assert kept.get("a", lambda value: value == 1) == 1
    assert kept.get("a", lambda value: value == 1) == 1
    assert kept.get("a", lambda value: value == 7) == 2, "also if that is not enough either"
    assert len(reads) == 3


def test_what_reading_raises_is_not_kept_nor_what_was_before(clock):
    answers = iter([1, LookupError("gone"), 3])

    def read(name):
        del name
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    kept = Kept(read, clock)
    assert kept.get("a") == 1
    clock.now += KEPT
    with pytest.raises(LookupError):
        kept.get("a")
    assert kept.seen("a") is None
    assert kept.get("a") == 3


def test_what_was_forgotten_is_read_anew(kept):
    kept.get("a")
    kept.get("b")
    kept.forget("a")
    assert (kept.get("a"), kept.get("b")) == (2, 1)


def test_what_was_being_read_while_it_changed_is_not_kept(clock):
    store = {"a": "old"}

    def read(name):
        found = store[name]
        if found == "old":
            store[name] = "new"
            kept.forget(name)
        return found

    kept = Kept(read, clock)
    assert kept.get("a") == "old"
    assert kept.get("a") == "new"


def test_those_who_ask_at_once_share_a_read_that_begins_after_they_all_asked(kept, reads):
    kept.get("a")
    asked = threading.Barrier(8)

    def not_enough(value):
        del value
        asked.wait()
        return False

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: kept.get("a", not_enough), range(8)))
    assert found == [1] * 8
    assert reads == ["a", "a"]


def test_those_who_ask_at_once_share_what_the_read_raises_so_that_nobody_waits_for_a_store_that_is_away_in_turn(clock):
    answers = itertools.chain(["there"], itertools.repeat(OSError("away")))
    reads = []

    def read(name):
        reads.append(name)
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    kept = Kept(read, clock)
    kept.get("a")
    asked = threading.Barrier(8)

    def not_enough(value):
        del value
        asked.wait()
        return False

    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(kept.get, "a", not_enough) for _ in range(8)]
    assert {str(one.exception()) for one in found} == {"away"}
    assert reads == ["a", "a"]
    with pytest.raises(OSError, match="away"):
        kept.get("a")
    assert reads == ["a"] * 3, "who asks later asks the store"


def test_memory_is_bounded_and_what_was_asked_for_last_is_kept(kept, reads):
    for number in range(MOST_KEPT):
        kept.get(str(number))
    kept.get("0")
    kept.get("one more")
    reads.clear()
    kept.get("0")
    assert reads == []
    kept.get("1")
    assert reads == ["1"]
