"""What can be seen of a store's calls: by the store, the request that they are made for; by us, how the store calls them."""

import logging

import pytest

import http_wires
from s3reg import __version__, errors, telemetry
from s3reg.store import ABSENT
from s3reg.store.s3 import S3Store
from s3reg.store.together import gather

ID = "3f2a-7"


@pytest.fixture
def wire(moto):
    with http_wires.Wire(moto.endpoint) as wire:
        yield wire


@pytest.fixture
def store(wire, bucket, moto):
    return S3Store(bucket(moto), endpoint=wire.endpoint, region=moto.region)


@pytest.fixture
def troubles():
    """The fields of each line about a trouble with the store."""
    found = []

    class Taken(logging.Handler):
        def emit(self, record):
            if getattr(record, "event", "") == "store-trouble":
                found.append(record.fields)

    handler = Taken()
    logging.getLogger("s3reg").addHandler(handler)
    yield found
    logging.getLogger("s3reg").removeHandler(handler)


def every_verb(store):
    store.put("a/1", b"x", only_if=ABSENT)
    store.put("a/2", b"x")
    store.stat("a/1")
    gather(store.get, ["a/1", "a/2"])
    first = store.relist("a/")
    store.relist("a/", first)
    store.delete(["a/1"])


def test_every_call_names_the_request_it_is_made_for_whatever_thread_makes_it(store, wire):
    with telemetry.of_request(ID):
        every_verb(store)
    agents = [passage.headers["user-agent"] for passage in wire.passed]
    assert len(agents) >= 8
    assert set(agents) == {f"s3reg/{__version__} id/{ID}"}


def test_what_is_done_for_no_request_names_none(store, wire):
    every_verb(store)
    assert {passage.headers["user-agent"] for passage in wire.passed} == {f"s3reg/{__version__}"}


@pytest.mark.parametrize(
    ("act", "operation"),
    [
        (lambda store: store.get("a"), "GetObject"),
        (lambda store: store.stat("a"), "HeadObject"),
        (lambda store: store.put("a", b"x"), "PutObject"),
        (lambda store: store.put("a", b"x", only_if=ABSENT), "PutObject"),
        (lambda store: list(store.list("a")), "ListObjectsV2"),
        (lambda store: store.delete(["a"]), "DeleteObjects"),
    ],
)
def test_each_trouble_is_a_line_that_tells_how_the_store_calls_it(store, wire, troubles, act, operation):
    wire.rule = lambda _: http_wires.says(403, "AccessDenied", x_amz_request_id="4442587FB7D0A2F9", x_amz_id_2="vlR7P=")
    with pytest.raises(errors.S3regError), telemetry.of_request(ID):
        act(store)
    told = troubles[0]
    assert (told["operation"], told["status"], told["request"]) == (operation, 403, ID)
    assert (told["amz_request_id"], told["amz_id_2"]) == ("4442587FB7D0A2F9", "vlR7P=")


def test_no_answer_is_a_trouble_too(store, wire, troubles):
    wire.rule = lambda _: lambda passage: passage.reset()
    with pytest.raises(errors.StoreUnavailable):
        store.get("a")
    assert troubles == [], "whoever asked for no request tells of it"
    with pytest.raises(errors.StoreUnavailable), telemetry.of_request(ID):
        store.get("a")
    assert "connection" in troubles[0]["reason"]


def test_what_is_absent_or_taken_is_no_trouble(store, troubles):
    store.put("a", b"x")
    with pytest.raises(errors.PreconditionFailed):
        store.put("a", b"y", only_if=ABSENT)
    for act in (store.get, store.stat):
        with pytest.raises(errors.ObjectNotFound):
            act("b")
    store.settings_that_hurt()
    assert troubles == []
