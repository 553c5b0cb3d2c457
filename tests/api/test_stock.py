"""What there is, is looked at by one at a time, and nobody waits for a store that hangs."""

import threading

import pytest

from s3reg.api.stock import KEPT_SECONDS, RETRY_SECONDS, Seen, Stock
from s3reg.errors import StoreUnavailable

WAIT = 60
"""Longer than any look in these tests takes."""


def test_a_look_is_kept_for_a_while(clock):
    looks = []

    def look():
        looks.append(clock.now)
        return Seen((), None, None)

    stock = Stock(look, clock=clock, wait_seconds=WAIT)
    assert stock.seen() is not None
    clock.now += KEPT_SECONDS - 1
    assert stock.seen() is not None
    assert len(looks) == 1
    clock.now += 1
    assert stock.seen() is not None
    assert len(looks) == 2


def test_what_was_seen_before_is_given_while_a_look_takes_long_and_no_second_one_is_begun(clock):
    goes_on, looks = threading.Event(), []

    def look():
        looks.append(clock.now)
        if len(looks) > 1:
            assert goes_on.wait(WAIT)
        return Seen((len(looks),), None, None)

    stock = Stock(look, clock=clock, wait_seconds=WAIT)
    assert stock.seen().heads == (1,)
    stock._wait_seconds = 0
    clock.now += KEPT_SECONDS
    for _ in range(3):
        assert stock.seen().heads == (1,)
    assert len(looks) == 2
    stock._wait_seconds = WAIT
    goes_on.set()
    assert stock.seen().heads == (2,)


@pytest.mark.parametrize("error", [StoreUnavailable(store="it", reason="away"), ValueError("a defect")])
def test_after_a_look_that_failed_nothing_is_known_and_soon_it_is_looked_again(clock, error):
    fails = [False, True, False]

    def look():
        if fails.pop(0):
            raise error
        return Seen((), None, None)

    stock = Stock(look, clock=clock, wait_seconds=WAIT)
    assert stock.seen() is not None
    clock.now += KEPT_SECONDS
    assert stock.seen() is None
    assert stock.seen() is None
    clock.now += RETRY_SECONDS
    assert stock.seen() is not None
    assert fails == []
