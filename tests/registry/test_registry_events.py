"""Events: written together when they come together, and found again from no more of the store than that takes."""

import calendar
import json
import threading
import time

import pytest

import faults
from clocks import Clock
from s3reg.errors import FormatUnknown, NameInvalid, RecordDamaged, StoreUnavailable
from s3reg.model import format as fmt
from s3reg.model import names
from s3reg.model.identity import EVERYONE, Action, Identity, Rights
from s3reg.model.template import Event, EventKind, Head
from s3reg.registry import Registry, Wanted, events
from s3reg.store import paths
from s3reg.store.files import FilesStore

NOON = calendar.timegm((2026, 11, 21, 12, 0, 0))
DAY = 24 * 3600
WAIT_SECONDS = 60


def event(second, number=0, *, kind=EventKind.AUDIT, by="key:ci", **said):
    return Event(f"{number:032x}", second, kind, by, {"deed": "push", **said})


@pytest.fixture
def store(tmp_path):
    return FilesStore(tmp_path)


@pytest.fixture
def templates(store):
    """The ids of two templates."""
    found = [names.template_id(f"11111111-aaaa-4bbb-8ccc-00000000000{number}") for number in range(2)]
    for template in found:
        store.put(fmt.head_key(template), fmt.write_head(Head(template, "base", names.MAIN_DOMAIN)))
    return found


@pytest.fixture
def write(store):
    """Puts events into one object."""

    def put(*together):
        store.put(fmt.events_key(together[0]), fmt.write_events(together))

    return put


def found(store, since=0, until=NOON, limit=100, asker=EVERYONE, **more):
    return Registry(store).events(asker, Wanted(since, until, limit, **more))


def test_what_is_written_is_read_back(store, write):
    both = (event(NOON - 1, 1, text="ü\x00'"), event(NOON, 2, kind=EventKind.REPORT, count=3, none=None))
    write(*both)
    assert found(store, NOON - 1) == list(both)


def test_the_first_records_held_one_report_each_and_are_still_read(store):
    record = {"v": 1, "id": "a" * 32, "time": NOON, "by": "everyone", "said": {"content": "x"}}
    store.put("events/2026/11/21/120000-" + "a" * 32 + ".json", json.dumps(record).encode())
    assert found(store, NOON - 1) == [Event("a" * 32, NOON, EventKind.REPORT, "everyone", {"content": "x"})]


@pytest.mark.parametrize("damage", [{"v": 2}, {"events": {}}, {"events": [{}]}, {"events": [{"id": 1}] * 2000}])
def test_a_record_of_another_shape_is_refused_by_name(damage):
    record = json.loads(fmt.write_events([event(NOON)])) | damage
    with pytest.raises((RecordDamaged, FormatUnknown)):
        fmt.read_events(json.dumps(record).encode(), "events/x")


def test_a_key_tells_its_time_and_a_foreign_one_is_none():
    assert fmt.time_of_events_key(fmt.events_key(event(NOON + 7))) == NOON + 7
    for key in ("events/", "events/2026/13/01/000000-x.json", "events/2026/01/01/x.json"):
        with pytest.raises(NameInvalid):
            fmt.time_of_events_key(key)


def test_the_newest_come_in_the_order_of_time_over_days(store, write):
    for number in range(30):
        write(event(NOON - number * DAY // 4, number))
    assert [one.time for one in found(store, limit=5)] == [NOON - n * DAY // 4 for n in (4, 3, 2, 1, 0)]
    assert len(found(store, NOON - DAY, NOON - 1)) == 4
    assert len(found(store, NOON - 8 * DAY)) == 30


def test_an_object_that_began_before_the_first_wanted_second_is_looked_into(store, write):
    write(event(NOON - 30, 1), event(NOON + 30, 2))
    assert [one.time for one in found(store, NOON, NOON + 60)] == [NOON + 30]
    assert [one.time for one in found(store, NOON - 60, NOON)] == [NOON - 30]


def test_what_two_replicas_wrote_at_one_time_is_put_in_order(store, write):
    write(event(NOON - 50, 1), event(NOON, 2))
    write(event(NOON - 40, 3))
    assert [one.time for one in found(store, limit=2)] == [NOON - 40, NOON]
    assert [one.time for one in found(store, limit=1)] == [NOON]


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({"by": "root"}, [1]),
        ({"kind": EventKind.REPORT}, [2]),
        ({"template": "t-1"}, [3]),
        ({"template": "base"}, [3]),
        ({"template": "t-1", "by": "root"}, []),
        ({"limit": 0}, []),
    ],
)
def test_only_what_is_wanted_comes(store, write, wanted, numbers):
    write(
        event(NOON, 1, by="root"),
        event(NOON, 2, kind=EventKind.REPORT),
        event(NOON, 3, template="t-1", name="base"),
    )
    assert [int(one.id, 16) for one in found(store, **wanted)] == numbers


def test_a_damaged_object_and_a_foreign_one_hide_no_other(store, write):
    write(event(NOON, 1))
    store.put("events/2026/11/21/110000-x.json", b"{")
    store.put("events/2026/11/21/notes", b"?")
    assert len(found(store, NOON - DAY)) == 1


def test_who_may_not_list_all_templates_sees_its_own_and_those_that_it_may(store, write, templates):
    mine, theirs = templates
    write(
        event(NOON, 1, by="key:me", template=theirs),
        event(NOON, 2, by="key:you", template=mine),
        event(NOON, 3, by="key:you", template=theirs),
        event(NOON, 4, by="key:you"),
        event(NOON, 5, by="key:you", kind=EventKind.REPORT, template=mine),
    )
    rights = Rights(templates={mine: frozenset({Action.LIST})})
    assert [int(one.id, 16) for one in found(store, asker=Identity("key:me", rights=rights))] == [1, 2]


class Listed(faults.Wrapped):
    """A store that counts the keys that were listed, and the objects that were read."""

    def __init__(self, store):
        super().__init__(store)
        self.listed = self.read = 0

    def list(self, prefix, *, after=""):
        for stat in self.store.list(prefix, after=after):
            self.listed += 1
            yield stat

    def get(self, key, *, first=0, length=None):
        self.read += key.startswith("events/")
        return self.store.get(key, first=first, length=length)


def test_of_many_only_the_last_stretch_is_listed_to_its_end_and_only_what_is_wanted_is_read(
    store, tmp_path, monkeypatch
):
    monkeypatch.setattr(events, "LISTED", 50)
    for number in range(1000):
        # Past the store: it would see to each one's lasting.
        one = event(NOON - 80 * number, number)
        path = tmp_path / paths.of_key(fmt.events_key(one))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(fmt.write_events([one]))
    counting = Listed(store)
    assert [one.time for one in found(counting, limit=3)] == [NOON - 160, NOON - 80, NOON]
    assert counting.read <= 5
    assert counting.listed < 400  # of all, of the year, the month, the day, its hours down to noon
    assert len(found(store, limit=2000)) == 1000


# --- Writing ---------------------------------------------------------------------------------------------------------


def test_what_waits_while_the_store_takes_its_time_goes_together_but_never_over_a_minute(store):
    clock = Clock(float(NOON))
    paused = faults.Paused(store, "put", prefix="events/")
    registry = Registry(paused, clock=clock)
    registry.prepare()
    registry.note("root", {"number": 0})
    assert paused.reached.wait(WAIT_SECONDS)
    for number in range(1, 4):
        clock.now += 40
        registry.note("root", {"number": number})
    for number in range(4, 4 + events.TOGETHER + 1):
        registry.note("root", {"number": number})
    paused.release()
    registry.finish(WAIT_SECONDS)
    objects = [fmt.read_events(store.get(stat.key).data, stat.key) for stat in store.list("events/")]
    assert sorted(one.said["number"] for together in objects for one in together) == list(range(events.TOGETHER + 5))
    assert all(together[-1].time - together[0].time <= events.SPAN_SECONDS for together in objects)
    assert max(map(len, objects)) == events.TOGETHER
    assert len(objects) <= 5


def test_a_burst_of_plans_is_kept_whole_by_a_store_that_takes_a_moment(store):
    registry = Registry(store)
    assert all(registry.note("key:ci", {"number": number}) for number in range(2000))
    registry.finish(WAIT_SECONDS)
    assert len(found(store, until=int(time.time()) + 1, limit=3000)) == 2000


def test_one_kind_leaves_the_other_its_room(store):
    paused = faults.Paused(store, "put", prefix="events/")
    registry = Registry(paused)
    registry.prepare()
    registry.event(EVERYONE, {"number": 0})
    assert paused.reached.wait(WAIT_SECONDS)
    for number in range(2 * events.WAITING[EventKind.REPORT]):
        registry.event(EVERYONE, {"number": number})
    assert registry.note("root", {})
    paused.release()
    registry.finish(WAIT_SECONDS)


def test_what_finds_no_room_is_told_so(store):
    paused = faults.Paused(store, "put", prefix="events/")
    registry = Registry(paused)
    registry.prepare()
    registry.note("root", {})
    assert paused.reached.wait(WAIT_SECONDS)
    kept = [registry.note("root", {}) for _ in range(events.WAITING[EventKind.AUDIT] + 3)]
    assert kept.count(False) == 3
    paused.release()
    registry.finish(WAIT_SECONDS)


def test_the_end_waits_for_the_store_but_not_for_ever_and_tells_what_is_lost(store, caplog):
    paused = faults.Paused(store, "put", prefix="events/")
    registry = Registry(paused)
    registry.prepare()
    for number in range(3):
        registry.note("root", {"number": number})
    assert paused.reached.wait(WAIT_SECONDS)
    with caplog.at_level("WARNING", "s3reg"):
        registry.finish(0.01)
    assert "event-dropped count=3" in caplog.text
    paused.release()
    registry.finish(WAIT_SECONDS)


def test_a_failing_store_loses_that_object_and_no_later_one(store, caplog):
    away = faults.FailsOnCall(store, 1, StoreUnavailable(store="s", reason="no route"), verb="put", prefix="events/")
    registry = Registry(away)
    with caplog.at_level("WARNING", "s3reg"):
        registry.note("root", {"number": 1})
        registry.finish(WAIT_SECONDS)
        registry.note("root", {"number": 2})
        registry.finish(WAIT_SECONDS)
    assert "no route" in caplog.text
    assert [one.said for one in found(store, until=int(time.time()) + 1)] == [{"number": 2}]


def test_many_threads_lose_nothing(store):
    registry = Registry(store)
    threads = [
        threading.Thread(target=lambda n=n: [registry.note("root", {"number": n * 50 + m}) for m in range(50)])
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    registry.finish(WAIT_SECONDS)
    assert {one.said["number"] for one in found(store, until=int(time.time()) + 1, limit=1000)} == set(range(400))
