"""How often, and how soon, what failed is sent again."""

import pytest

from s3reg.errors import PutUnsettled, StoreBusy, StoreDenied, StoreUnavailable
from s3reg.store.repeats import ATTEMPTS, SAVED, SHARE, Repeats

AWAY = StoreUnavailable(store="s", reason="no answer in time")


class Sent:
    """Requests that fail with `error`, all or the first so many."""

    def __init__(self, error, fails=10**9):
        self.error = error
        self.fails = fails
        self.count = 0

    def __call__(self):
        self.count += 1
        if self.count <= self.fails:
            raise self.error
        return "here"


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def repeats(pauses):
    return Repeats(sleep=pauses.append)


def test_what_fails_once_or_twice_is_had_at_the_next_try(repeats):
    for fails in range(ATTEMPTS):
        sent = Sent(AWAY, fails)
        assert repeats(sent) == "here"
        assert sent.count == fails + 1


def test_nothing_is_tried_more_than_thrice(repeats):
    sent = Sent(AWAY)
    with pytest.raises(StoreUnavailable):
        repeats(sent)
    assert sent.count == ATTEMPTS


@pytest.mark.parametrize("error", [StoreDenied(store="s", reason="no"), PutUnsettled(key="k", reason="?")], ids=str)
def test_what_another_try_would_not_change_or_might_do_twice_is_not_repeated(repeats, error):
    sent = Sent(error)
    with pytest.raises(type(error)):
        repeats(sent)
    assert sent.count == 1


def test_of_all_that_a_process_sends_a_fifth_is_repeats(repeats):
    calls, sent = 2000, Sent(AWAY)
    for _ in range(calls):
        with pytest.raises(StoreUnavailable):
            repeats(sent)
    assert calls * 1.1 <= sent.count <= calls * 1.2 + SAVED


def test_a_process_that_was_well_for_long_has_saved_up_no_more_than_at_its_start(repeats):
    for _ in range(10_000):
        repeats(lambda: "here")
    sent = Sent(AWAY)
    for _ in range(SAVED):
        with pytest.raises(StoreUnavailable):
            repeats(sent)
    assert sent.count <= SAVED + SAVED * (1 + SHARE)


def test_pauses_are_drawn_from_nothing_to_a_longest_that_doubles(pauses):
    for error, longest in ((AWAY, 0.2), (StoreBusy(store="s", reason="SlowDown"), 1.0)):
        pauses.clear()
        for _ in range(200):
            with pytest.raises(StoreUnavailable):
                Repeats(sleep=pauses.append)(Sent(error))
        first, second = pauses[::2], pauses[1::2]
        assert longest / 2 < max(first) <= longest
        assert longest < max(second) <= 2 * longest
        assert min(first + second) < longest / 10


def test_nothing_is_repeated_where_there_is_no_use_in_it(pauses):
    sent = Sent(AWAY)
    with pytest.raises(StoreUnavailable):
        Repeats(lambda: False, sleep=pauses.append)(sent)
    assert (sent.count, pauses) == (1, [])
