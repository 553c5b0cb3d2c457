"""A bucket that goes away, in every way, and comes back."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import http_wires
import servers
from s3reg.errors import PutUnsettled, StoreBusy, StoreUnavailable
from s3reg.store import ABSENT
from s3reg.store.breaker import IN_A_ROW
from s3reg.store.repeats import SAVED, SHARE, Repeats
from s3reg.store.s3 import S3Store

PATIENCE_SECONDS = 60
"""Until what must come soon counts as not coming."""
SLOW_DOWN = http_wires.says(503, "SlowDown")


@pytest.fixture
def wire(minio):
    with http_wires.Wire(minio.endpoint) as wire:
        yield wire


@pytest.fixture
def store(minio, bucket, wire):
    made = S3Store(bucket(minio), endpoint=wire.endpoint, region=minio.region, read_seconds=0.5)
    made.put("a", b"here")
    return made


def fails(store):
    try:
        store.get("a")
    except StoreUnavailable as e:
        return e
    return None


def until_away(store):
    """Asks until it is refused unasked; that refusal."""
    before = time.monotonic()
    while time.monotonic() - before < PATIENCE_SECONDS:
        error = fails(store)
        if error is not None and "not sent" in str(error):
            return error
    raise AssertionError("it is asked for ever")


def until_back(store):
    before = time.monotonic()
    while fails(store) is not None:
        assert time.monotonic() - before < PATIENCE_SECONDS
        time.sleep(0.05)
    assert store.get("a").data == b"here"


@pytest.mark.parametrize("way", [http_wires.silent, http_wires.resets, SLOW_DOWN], ids=["silent", "resets", "SlowDown"])
def test_a_store_that_is_away_is_asked_no_more_and_used_again_when_it_is_back(store, wire, way):
    wire.rule = lambda _: way
    until_away(store)
    sent = len(wire.passed)
    while len(wire.passed) < sent + 2:
        assert "not sent" in str(fails(store))
        time.sleep(0.01)
    # What came by were the questions that the store itself is asked, once a second.
    assert all("max-keys=1&" in f"{passage.target}&" for passage in wire.passed[sent:])
    wire.mend()
    until_back(store)


def test_a_store_that_refuses_connections_is_asked_no_more_and_used_again_when_it_is_back(minio, bucket):
    name, port = bucket(minio), servers.free_port()
    S3Store(name, endpoint=minio.endpoint, region=minio.region).put("a", b"here")
    store = S3Store(name, endpoint=f"http://127.0.0.1:{port}", region=minio.region)
    assert "no connection" in str(until_away(store))
    with http_wires.Wire(minio.endpoint, port):
        until_back(store)


def test_a_conditional_put_that_is_refused_was_not_sent_and_is_not_in_doubt(store, wire):
    wire.rule = lambda _: http_wires.silent
    with pytest.raises(PutUnsettled):
        store.put("b", b"new", only_if=ABSENT)  # sent: nobody knows
    until_away(store)
    puts = sum(passage.method == "PUT" for passage in wire.passed)
    with pytest.raises(StoreUnavailable, match="not sent"):
        store.put("b", b"new", only_if=ABSENT)
    assert sum(passage.method == "PUT" for passage in wire.passed) == puts
    wire.mend()
    until_back(store)
    store.put("b", b"new", only_if=ABSENT)


def test_of_many_who_ask_a_silent_store_at_once_each_waits_once_and_few_twice(store, wire):
    wire.rule = lambda _: http_wires.silent
    before, many = len(wire.passed), 80
    with ThreadPoolExecutor(many) as pool:
        assert all(pool.map(lambda _: fails(store), range(many)))
    assert len(wire.passed) - before <= many * (1 + SHARE) + SAVED


def test_one_object_that_the_store_cannot_give_keeps_nobody_from_the_others(store, wire):
    """MinIO says SlowDownRead of an object whose parts are lost."""
    store.put("rotten", b"gone")
    store._line.repeats = Repeats(sleep=lambda _: None)
    wire.rule = lambda passage: http_wires.says(503, "SlowDownRead") if passage.path.endswith("/rotten") else None
    for _ in range(3 * IN_A_ROW):
        with pytest.raises(StoreBusy):
            store.get("rotten")
    assert store.get("a").data == b"here"
    with pytest.raises(StoreBusy, match="SlowDownRead"):
        store.get("rotten")


def test_who_is_asked_for_fewer_requests_says_so(store, wire):
    wire.rule = lambda _: SLOW_DOWN
    with pytest.raises(PutUnsettled):
        store.put("c", b"", only_if=ABSENT)
    with pytest.raises(StoreBusy, match="fewer requests") as caught:
        store.get("a")
    assert "try again" in caught.value.next_step


@pytest.mark.parametrize(
    ("act", "about"),
    [
        (lambda store: store.get("heads/a"), "heads/a"),
        (lambda store: store.stat("heads/a"), "heads/a"),
        (lambda store: store.put("heads/a", b"1"), "heads/a"),
        (lambda store: list(store.list("heads/")), "heads/"),
        (lambda store: store.delete(["heads/a", "heads/b"]), "heads/a and 1 more"),
    ],
    ids=["get", "stat", "put", "list", "delete"],
)
def test_who_works_on_the_store_is_told_which_object_it_was_about(minio, bucket, wire, act, about):
    store = S3Store(bucket(minio), prefix="mine", endpoint=wire.endpoint, region=minio.region)
    store._line.repeats = Repeats(sleep=lambda _: None)
    wire.rule = lambda _: SLOW_DOWN
    with pytest.raises(StoreUnavailable) as caught:
        act(store)
    assert caught.value.about == f"mine/{about}"
    assert "heads" not in str(caught.value.as_dict()), "a node learns nothing of others' objects"
