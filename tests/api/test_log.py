"""What machines report: kept as events when the store can take it, and never a reason to wait."""

import json
import logging
import re
import threading

import pytest

import faults
from refusals import anka
from s3reg.api import create_app
from s3reg.api.anka import LARGEST_EVENT
from s3reg.errors import StoreUnavailable
from s3reg.model.template import EventKind
from s3reg.registry.events import WAITING

REPORT = {"machine_name": "mac-1", "service": "agent", "host": "10.0.0.7", "content": 'it "works"\nü'}
WAIT_SECONDS = 60
MOST = WAITING[EventKind.REPORT]


class Taking(faults.Wrapped):
    """A store that tells which events it has taken."""

    def __init__(self, store):
        super().__init__(store)
        self._changed = threading.Condition()

    def _call(self, call, act):
        done = act()
        if call.is_on("put", "events/"):
            with self._changed:
                self._changed.notify_all()
        return done

    def wait(self, count=1):
        """The events that lie there, once there are so many: their object's key, and what it has of them."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.events()) >= count, WAIT_SECONDS)
        return self.events()

    def events(self):
        """The events that lie there."""
        records = [(stat.key, json.loads(self.store.get(stat.key).data)) for stat in self.store.list("events/")]
        return [(key, event) for key, record in records for event in record["events"]]


class Drops(logging.Handler):
    """Lets a test wait for an event's being dropped."""

    def __init__(self):
        super().__init__()
        self.reasons = []
        self._dropped = threading.Semaphore(0)

    def emit(self, record):
        if getattr(record, "event", "") == "event-dropped":
            self.reasons.append(record.fields["reason"])
            self._dropped.release()

    def wait(self):
        assert self._dropped.acquire(timeout=WAIT_SECONDS)
        return self.reasons[-1]


@pytest.fixture
def taking(store):
    return Taking(store)


@pytest.fixture
def drops():
    handler = Drops()
    logging.getLogger("s3reg").addHandler(handler)
    yield handler
    logging.getLogger("s3reg").removeHandler(handler)


def report(http, said):
    answer = http.post("/log", data=said if isinstance(said, bytes) else json.dumps(said))
    assert (answer.status_code, answer.json) == (200, {"status": "OK", "body": None, "message": ""})


def test_what_a_machine_reports_lies_under_its_day_with_time_and_who(settings, taking):
    report(create_app(settings, taking).test_client(), REPORT)
    ((key, event),) = taking.wait()
    assert re.fullmatch(r"events/\d{4}/\d\d/\d\d/\d{6}-[0-9a-f]{32}\.json", key)
    assert event == {"id": key[-37:-5], "time": event["time"], "kind": "report", "by": "everyone", "said": REPORT}
    assert type(event["time"]) is int


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b'{"content": "quoted "badly" by a shell"}',
        b"[1]",
        b'{"content": ["x"]}',
        b'{"content": {"deep": 1}}',
        b'{"content": NaN}',
        b'{"content": 1e999}',
        b"[" * 50_000,
        b"\xff\xfe",
    ],
)
def test_what_is_no_flat_json_object_is_kept_as_text(settings, taking, said):
    report(create_app(settings, taking).test_client(), said)
    ((_, event),) = taking.wait()
    assert event["said"] == {"content": said.decode("utf-8", "replace")}


def test_a_report_has_a_bound(settings, taking):
    http = create_app(settings, taking).test_client()
    report(http, b"x" * LARGEST_EVENT)
    assert str(LARGEST_EVENT) in anka(http.post("/log", data=b"x" * (LARGEST_EVENT + 1)), 413)
    assert len(taking.wait()) == 1


def test_s31_a_store_that_hangs_holds_nobody_up_and_what_is_too_much_is_dropped_and_told(settings, store, drops):
    hanging = faults.Paused(store, "put", prefix="events/")
    taking = Taking(hanging)
    http = create_app(settings, taking).test_client()
    report(http, REPORT)
    assert hanging.reached.wait(WAIT_SECONDS)
    for _ in range(MOST + 5):
        report(http, REPORT)
    assert len(drops.reasons) == 5
    assert list(store.list("events/")) == []
    assert http.get("/registry/vm").status_code == 200

    hanging.release()
    keys = {key for key, _ in taking.wait(MOST + 1)}
    assert len(taking.events()) == MOST + 1
    assert len(keys) == 2  # what waited went together


def test_s31_a_store_that_is_away_holds_nobody_up_and_later_reports_are_kept(settings, store, drops):
    away = faults.FailsOnCall(store, 1, StoreUnavailable(store="s", reason="no route to host"))
    taking = Taking(away)
    http = create_app(settings, taking).test_client()
    report(http, REPORT)
    assert "no route to host" in drops.wait()
    report(http, REPORT)
    assert len(taking.wait()) == 1


def test_a_copy_of_a_store_keeps_no_events(settings, http, store, drops):
    http.get("/registry/vm")
    store.made_as = "elsewhere"
    report(create_app(settings, store).test_client(), REPORT)
    assert "copy" in drops.wait()
    assert list(store.list("events/")) == []


def test_events_are_neither_listed_nor_readable_by_asking(settings, taking, http):
    report(create_app(settings, taking).test_client(), REPORT)
    taking.wait()
    assert http.get("/registry/vm").json["body"] == []
    anka(http.get("/log"), 405)
