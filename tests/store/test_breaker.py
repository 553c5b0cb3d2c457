"""When nothing is sent to a store any more, and when again."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from s3reg.store.breaker import ASK_SECONDS, IN_A_ROW, Breaker


class Store:
    """What the breaker asks, at a time and in threads that the test decides on."""

    def __init__(self):
        self.there = False
        self.now = 100.0
        self.asked = 0
        self.waiting = []
        self.held = False
        self.breaker = Breaker(self.answers, clock=lambda: self.now, start=self.start)

    def answers(self):
        self.asked += 1
        return self.there

    def start(self, act):
        if self.held:
            self.waiting.append(act)
        else:
            act()

    def fails(self, times=IN_A_ROW, *, slowly=False):
        for _ in range(times):
            self.breaker.failed("no answer in time", slowly=slowly)


@pytest.fixture
def store():
    return Store()


def test_some_failures_between_answers_refuse_nothing(store):
    for _ in range(20):
        store.fails(IN_A_ROW - 1, slowly=True)
        store.breaker.answered()
    assert (store.breaker.refusal(), store.asked) == (None, 0)


def test_a_row_of_failures_refuses_with_the_reason_once_the_store_itself_does_not_answer(store):
    store.fails()
    assert store.asked == 1
    refusal = store.breaker.refusal()
    assert "not sent" in refusal
    assert "no answer in time" in refusal


def test_a_row_of_failures_of_a_store_that_answers_is_one_objects_trouble(store):
    store.there = True
    store.fails()
    assert store.asked == 1
    assert store.breaker.refusal() is None
    store.fails(IN_A_ROW - 1)
    assert store.asked == 1


def test_what_costs_threads_their_time_is_refused_before_the_store_was_asked(store):
    store.held = True
    store.fails(slowly=True)
    assert store.breaker.away
    store.there = True
    store.waiting.pop()()
    assert not store.breaker.away


def test_what_fails_fast_is_sent_on_until_the_store_was_asked(store):
    store.held = True
    store.fails()
    assert not store.breaker.away
    store.waiting.pop()()
    assert store.breaker.away


def test_a_store_that_is_away_is_asked_once_a_second_however_many_come(store):
    store.fails()
    for second in range(1, 6):
        store.now += ASK_SECONDS
        assert all(store.breaker.refusal() for _ in range(1000))
        assert store.asked == 1 + second


def test_no_second_question_begins_before_the_first_has_ended(store):
    store.held = True
    store.fails(slowly=True)
    for _ in range(10):
        store.now += ASK_SECONDS
        store.breaker.refusal()
    assert len(store.waiting) == 1


def test_it_ends_with_the_first_question_that_is_answered(store):
    store.fails()
    store.there = True
    assert store.breaker.refusal()
    assert store.asked == 1  # a second has not gone by
    store.now += ASK_SECONDS
    assert store.breaker.refusal()
    assert store.breaker.refusal() is None
    store.fails(IN_A_ROW - 1)
    assert store.breaker.refusal() is None


def test_a_late_answer_to_what_was_sent_before_ends_it_too(store):
    store.fails(slowly=True)
    assert store.breaker.away
    store.breaker.answered()
    assert store.breaker.refusal() is None


def test_a_question_that_cannot_be_asked_refuses_nothing(store):
    store.answers = None
    breaker = Breaker(lambda: 1 / 0 > 0, start=lambda act: act())
    for _ in range(IN_A_ROW):
        breaker.failed("its certificate is not trusted", slowly=False)
    assert breaker.refusal() is None


def test_going_and_coming_back_are_one_line_each_in_the_log(store, caplog):
    caplog.set_level(logging.INFO, "s3reg")
    store.fails(3 * IN_A_ROW, slowly=True)
    store.now += ASK_SECONDS
    store.there = True
    for _ in range(3):
        store.breaker.refusal()
        store.breaker.answered()
    assert [record.event for record in caplog.records] == ["store-away", "store-back"]


def test_of_many_threads_that_are_refused_at_once_one_begins_the_question():
    store = Store()
    store.fails()
    store.held = True
    store.now += ASK_SECONDS
    barrier = threading.Barrier(16)

    def ask(_):
        barrier.wait(30)
        return store.breaker.refusal()

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(16)))
    assert len(store.waiting) == 1
