"""What a load balancer asks."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import faults
from s3reg.api import create_app, health
from s3reg.api.readiness import FRESH_SECONDS, Readiness
from s3reg.errors import (
    BucketMissing,
    FormatUnknown,
    RegionWrong,
    StoreClockWrong,
    StoreDenied,
    StoreUnavailable,
    TagNotFound,
    by_code,
)

SECRET = "s3://the-bucket at http://minio.internal:9000"


class Flaky(faults.Wrapped):
    """A store that raises what it is told to."""

    trouble = None

    def _call(self, call, act):
        if self.trouble is not None:
            raise self.trouble
        return act()


@pytest.fixture
def flaky(store):
    return Flaky(store)


@pytest.fixture
def looked_after(settings, flaky, clock):
    """Asks `/readyz` after the last look has grown old."""
    http = create_app(settings, flaky, clock=clock).test_client()

    def ask():
        clock.now += FRESH_SECONDS
        return http.get("/readyz")

    return ask


def test_a_process_lives_and_is_ready_over_a_store_that_answers(http):
    for path in ("/livez", "/readyz", "/livez/", "//readyz"):
        # The path goes in as the server would give it: a client's URL parser would take // for a host.
        answer = http.get("/", environ_overrides={"PATH_INFO": path})
        assert (answer.status_code, answer.json["status"]) == (200, "OK"), path


def test_readiness_follows_the_store_and_life_does_not(settings, flaky, clock):
    http = create_app(settings, flaky, clock=clock).test_client()
    for trouble, status in ((StoreUnavailable(store="s", reason="no route to host"), 503), (None, 200)) * 2:
        flaky.trouble = trouble
        clock.now += FRESH_SECONDS
        assert (http.get("/livez").status_code, http.get("/readyz").status_code) == (200, status)


def test_readiness_costs_one_look_at_the_store_in_two_seconds(settings, store, clock):
    counting = faults.Counting(store)
    http = create_app(settings, counting, clock=clock).test_client()
    http.get("/readyz")
    counting.calls.clear()
    for _ in range(10):
        assert http.get("/readyz").status_code == 200
    assert counting.calls == []
    clock.now += FRESH_SECONDS
    for _ in range(10):
        assert http.get("/readyz").status_code == 200
    assert counting.calls == [faults.Call("get", ("format.json",))]


def test_a_clock_that_was_set_back_makes_no_look_last(settings, store, clock):
    counting = faults.Counting(store)
    http = create_app(settings, counting, clock=clock).test_client()
    http.get("/readyz")
    clock.now -= 3600
    counting.calls.clear()
    http.get("/readyz")
    assert counting.calls


TROUBLES = [
    (StoreUnavailable(store=SECRET, reason="GetObject: no answer in time"), "store-unavailable", "store unreachable"),
    (StoreDenied(store=SECRET, reason="GetObject: 403, AccessDenied"), "store-denied", "credentials refused"),
    (StoreClockWrong(store=SECRET), "store-clock-wrong", "clock wrong"),
    (BucketMissing(bucket="the-bucket", store=SECRET), "bucket-missing", "bucket missing"),
    (RegionWrong(bucket="the-bucket", region="eu-1", hint="; it says the-bucket"), "region-wrong", "region wrong"),
    (FormatUnknown(what="the-bucket", feature="format 2"), "format-unknown", "format unknown"),
    (TagNotFound(template="the-bucket", tag="s3://"), "tag-not-found", "the store cannot be used"),
    (ZeroDivisionError("the-bucket"), "internal", "something went wrong"),
]


@pytest.mark.parametrize("row", TROUBLES, ids=[row[1] for row in TROUBLES])
def test_strangers_are_told_what_is_wrong_and_what_to_do_and_not_where_the_store_is(looked_after, flaky, caplog, row):
    trouble, reason, words = row
    assert looked_after().json["body"] == {"reason": "ready", "next": ""}
    flaky.trouble = trouble
    answer = looked_after()
    assert (answer.status_code, answer.json["status"], answer.json["body"]["reason"]) == (503, "FAIL", reason)
    assert answer.json["message"].startswith(words)
    assert answer.json["body"]["next"]
    assert int(answer.headers["Retry-After"]) > 0
    for hidden in ("the-bucket", "minio", "9000", "eu-1", "s3://"):
        assert hidden not in answer.text
    assert reason in by_code()
    assert "the-bucket" in caplog.text  # the log may tell


def test_a_change_of_readiness_is_one_line_in_the_log(looked_after, flaky, caplog):
    caplog.set_level(logging.INFO, "s3reg")
    looked_after()
    flaky.trouble = StoreUnavailable(store="s", reason="no route to host")
    for _ in range(5):
        looked_after()
    flaky.trouble = None
    for _ in range(5):
        looked_after()
    told = [getattr(record, "event", "") for record in caplog.records]
    assert [event for event in told if "ready" in event] == ["unready", "ready-again"]


def test_a_store_that_lost_its_format_is_not_ready(looked_after, store):
    assert looked_after().status_code == 200
    store.delete(["format.json"])
    answer = looked_after()
    assert (answer.status_code, answer.json["body"]["reason"]) == (503, "store-format-damaged")


def test_a_process_that_is_told_to_end_says_so_and_goes_on(app, http, flaky):
    assert http.get("/readyz").status_code == 200
    flag = []
    health.ending(app, lambda: bool(flag))
    assert http.get("/readyz").status_code == 200
    flag.append(True)
    answer = http.get("/readyz")
    assert (answer.status_code, answer.json["body"]["reason"]) == (503, "ending")
    assert (http.get("/livez").status_code, http.get("/registry/vm").status_code) == (200, 200)


def test_however_many_ask_of_a_store_that_hangs_one_look_is_under_way_and_none_waits_for_long(clock):
    entered, release, looks = threading.Event(), threading.Event(), []

    def look():
        looks.append(threading.get_ident())
        entered.set()
        release.wait()

    ready = Readiness(look, clock, wait_seconds=0.1)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda _: ready.now(), range(8)))
        assert {verdict.reason for verdict in found} == {"store-unavailable"}
        assert entered.is_set()
        clock.now += FRESH_SECONDS
        # The look is late by now: whoever asks is answered without waiting.
        assert {ready.now().reason for _ in range(100)} == {"store-unavailable"}
        assert len(looks) == 1
    finally:
        release.set()


def test_a_browser_is_told_what_this_is(http):
    answer = http.get("/")
    assert (answer.status_code, answer.mimetype) == (200, "text/plain")
    assert "/transfer/v1/openapi.json" in answer.text
