"""What a sweep clears besides packs, maps and versions: each kind after its time and by its rule, and nothing else."""

import time
from dataclasses import replace

import pytest

import tap
from access_kit import public_der
from faults import Before, Counting, FailsOnCall, Wrapped
from registry.material import BASE, OTHER, end_trash, put_pack, read_head, swept
from registry.test_registry_sweep import READS, keys, older
from s3reg.errors import StoreDenied, StoreUnavailable, SweepStopped
from s3reg.model import format as fmt
from s3reg.model import format_access
from s3reg.model.access import ApiKey
from s3reg.model.identity import EVERYONE
from s3reg.registry import Limits, Registry, leavings
from s3reg.store import Stat

HOUR, DAY = 3600, 24 * 3600
VID = "c" * 32


def cleared(store, **limits):
    return Registry(store, limits=Limits(**limits)).sweep().cleared


# --- Spent secrets ----------------------------------------------------------------------------------------------------


def spend(store, seconds):
    """A login's secret that ended so many seconds ago, and was used."""
    key = format_access.spent_key(time.time() - seconds, f"{int(seconds) % 16**24:024x}")
    store.put(key, b"")
    return key


def test_a_spent_secret_goes_an_hour_after_its_hour(store):
    young = {spend(store, 0), spend(store, -600), spend(store, HOUR - 5)}
    old = {spend(store, 2 * HOUR + 5), spend(store, 40 * DAY)}
    # An hour after its hour: what ended one to two hours ago may be of either.
    assert cleared(store) == {"spent secrets": len(old)}
    assert keys(store, format_access.SPENT) == young


# --- Pull marks -------------------------------------------------------------------------------------------------------


@pytest.fixture
def pulled(node, store):
    """A version that was pulled, and its mark."""
    entry = node.push().entry
    node.registry.pulled(EVERYONE, BASE, entry.id)
    return fmt.pull_key(BASE, entry.id)


def test_a_pull_mark_stays_with_its_version_in_the_trash_too_and_goes_with_it(node, store, pulled):
    store.put(fmt.pull_key(OTHER, VID), b"")
    assert cleared(store) == {"pull marks": 1}
    node.registry.delete(EVERYONE, BASE, operation="0" * 32)
    assert cleared(store) == {}
    assert keys(store, fmt.PULLS) == {pulled}
    end_trash(store)
    assert cleared(store) == {"pull marks": 1}
    assert keys(store, fmt.PULLS) == set()


def test_a_pull_mark_of_a_version_that_is_made_while_it_is_looked_for_stays(node, store):
    """When a version was pulled decides what a rule of retention takes."""
    made = []

    def push():
        made.append(node.push().entry.id)
        node.registry.pulled(EVERYONE, BASE, made[0])

    late = Before(store, "list", push, prefix=fmt.PULLS)
    assert cleared(late) == {}
    assert keys(store, fmt.PULLS) == {fmt.pull_key(BASE, made[0])}


# --- Events -----------------------------------------------------------------------------------------------------------


def note(store, seconds):
    """An event of so many seconds ago; where it lies."""
    before = keys(store, fmt.EVENTS)
    registry = Registry(store, clock=lambda: time.time() - seconds)
    registry.note("jo", {"deed": "push"})
    registry.finish(60)
    (made,) = keys(store, fmt.EVENTS) - before
    return made


def test_events_go_once_they_are_older_than_they_are_kept(store):
    young, old = {note(store, 0), note(store, 89 * DAY)}, {note(store, 90 * DAY + 60), note(store, 400 * DAY)}
    assert cleared(store) == {"events": len(old)}
    assert keys(store, fmt.EVENTS) == young
    assert cleared(store, event_seconds=DAY) == {"events": 1}


# --- Scratch ----------------------------------------------------------------------------------------------------------


def test_scratch_goes_after_a_day(store):
    names = ["a" * 32 + "/link", "a" * 32 + "/deep/er", "sweep-" + "b" * 32]
    for name in names:
        store.put(fmt.CHECK + name, b"")
    assert cleared(store) == {}
    for name in names[1:]:
        older(store, fmt.CHECK + name, DAY + 60)
    assert cleared(store) == {"scratch": 2}
    assert keys(store, fmt.CHECK) == {fmt.CHECK + names[0]}
    older(store, fmt.CHECK + names[0], -DAY - 60)  # before the clock was set back
    assert cleared(store) == {"scratch": 1}


# --- Damage marks -----------------------------------------------------------------------------------------------------


def mark_bad(store, pack):
    key = fmt.damaged_key(pack.sid, pack.sha256)
    store.put(key, b"")
    return key


def packs_of(store, template):
    head = read_head(store, template)
    key = fmt.version_key(template, (*head.versions, *head.removed)[0].id)
    version = fmt.read_version(store.get(key).data, template, (*head.versions, *head.removed)[0].id)
    return {use.pack for file in version.files for use in file.packs}


def test_a_damage_mark_stays_while_its_pack_is_there_or_named_and_goes_with_it(node, store):
    node.push()
    node.push(OTHER, words="z", name="other")
    kept = [mark_bad(store, pack) for pack in packs_of(store, BASE)]
    # One that is missing is bad too.
    for pack in packs_of(store, BASE):
        store.delete([fmt.pack_key("main", pack.sid, pack.sha256)])
    going = [mark_bad(store, pack) for pack in packs_of(store, OTHER)]
    assert cleared(store) == {}

    node.registry.delete(EVERYONE, OTHER, operation="0" * 32)
    end_trash(store)
    told = Registry(store).sweep(dry_run=True).cleared
    assert told == cleared(store) == {"damage marks": len(going)}
    assert keys(store, fmt.DAMAGED) == set(kept)


def test_a_damage_mark_stays_for_a_pack_of_a_push_under_way(node, store):
    session = node.open().session
    mark = mark_bad(store, put_pack(store, session, [b"x" * 100])[0].pack)
    assert cleared(store) == {}
    assert keys(store, fmt.DAMAGED) == {mark}


# --- Ended keys -------------------------------------------------------------------------------------------------------


def put_key(store, name, *, ended=None, **changes):
    """An API key that ended so many seconds ago; None: it has no end."""
    expires = None if ended is None else time.time() - ended
    made = ApiKey(name, "5" * 32, public_der(tap.key()), ("ci",), 1.0, expires, gen=3)
    store.put(format_access.api_key_key(name), format_access.write_api_key(replace(made, **changes)))


def read_key(store, name):
    where = format_access.api_key_key(name)
    return format_access.read_api_key(store.get(where).data, where)


def test_a_key_that_ended_long_ago_is_as_if_revoked_without_its_public_half(store):
    put_key(store, "endless")
    put_key(store, "lately", ended=29 * DAY)
    put_key(store, "long-ago", ended=31 * DAY)
    put_key(store, "revoked", ended=31 * DAY, public_key=b"", deleted=True)
    before = {name: read_key(store, name) for name in ("endless", "lately", "revoked")}
    assert cleared(store) == {"ended keys": 1}
    assert {name: read_key(store, name) for name in before} == before
    ended = read_key(store, "long-ago")
    assert (ended.deleted, ended.public_key, ended.groups, ended.serial, ended.gen) == (True, b"", (), "5" * 32, 4)
    assert cleared(store) == {}


def test_a_key_that_gets_another_end_meanwhile_keeps_it(store):
    put_key(store, "ci", ended=31 * DAY)
    late = Before(store, "put", lambda: put_key(store, "ci"), prefix=format_access.KEYS)
    assert cleared(late) == {}
    assert late.happened
    assert not read_key(store, "ci").deleted


def test_a_key_whose_record_cannot_be_read_is_left(store):
    where = format_access.api_key_key("ci")
    store.put(where, b"{")
    assert cleared(store) == {}
    assert store.get(where).data == b"{"


# --- All of them ------------------------------------------------------------------------------------------------------


@pytest.fixture
def littered(store):
    """Something of each kind that goes, and how many."""
    spend(store, 10 * HOUR)
    note(store, 100 * DAY)
    store.put(fmt.pull_key(OTHER, VID), b"")
    store.put(fmt.CHECK + "sweep-" + "b" * 32, b"")
    older(store, fmt.CHECK + "sweep-" + "b" * 32, 2 * DAY)
    store.put(fmt.damaged_key("d" * 32, "e" * 64), b"")
    put_key(store, "ci", ended=100 * DAY)
    return dict.fromkeys(("spent secrets", "events", "pull marks", "scratch", "damage marks", "ended keys"), 1)


def test_a_dry_run_counts_them_and_writes_nothing(store, littered):
    counted = Counting(store)
    assert Registry(counted).sweep(dry_run=True).cleared == littered
    assert {call.verb for call in counted.calls} <= READS
    assert cleared(store) == littered
    assert cleared(store) == {}


# --- What it leaves itself --------------------------------------------------------------------------------------------


def test_a_sweep_that_ends_leaves_its_time_and_no_later_one_takes_that_for_litter(store):
    registry = Registry(store)
    assert registry.last_sweep() is None
    assert registry.sweep().foreign == []
    first = registry.last_sweep()
    assert first == store.stat(fmt.SWEPT_KEY).modified
    older(store, fmt.SWEPT_KEY, 100 * DAY)
    registry.sweep(dry_run=True)
    assert registry.last_sweep() == pytest.approx(first - 100 * DAY, abs=60)
    again = registry.sweep()
    assert (again.cleared, again.foreign) == ({}, [])
    assert registry.last_sweep() >= first


def test_a_sweep_that_stops_leaves_the_time_of_the_one_before(store):
    Registry(store).sweep()
    older(store, fmt.SWEPT_KEY, DAY)
    before = Registry(store).last_sweep()
    store.put("heads/notes.txt", b"")
    with pytest.raises(SweepStopped):
        Registry(store).sweep()
    assert Registry(store).last_sweep() == before


def test_a_sweep_that_cannot_leave_its_time_has_swept_all_the_same(store, caplog):
    store.put(fmt.pack_key("default", "d" * 32, "e" * 64), b"")
    fails = FailsOnCall(store, 1, StoreUnavailable(store="it", reason="away"), verb="put", prefix=fmt.SWEPT_KEY)
    assert Registry(fails).sweep().removed == 1
    assert Registry(store).last_sweep() is None
    assert "sweep-unnoted" in caplog.text


def test_who_may_not_look_when_the_last_sweep_was_does_not_know(store):
    Registry(store).sweep()
    denied = FailsOnCall(store, 1, StoreDenied(store="it", reason="AccessDenied"), verb="stat", prefix=fmt.SWEPT_KEY)
    assert Registry(denied).last_sweep() is None


FOREIGN = [
    *(fmt.PULLS + name for name in ("notes", f"{OTHER}/x", f"AB{OTHER[2:]}/{VID}")),
    *(fmt.CHECK + name for name in ("notes", "sweep-x")),
    *(fmt.DAMAGED + name for name in ("notes", f"{VID}/x")),
    *(format_access.SPENT + name for name in ("1999010100/notes", "1999")),
    *(fmt.EVENTS + name for name in ("0001/notes", "1999/01/01/000000-notes.txt")),
    *(format_access.KEYS + name for name in ("notes.json", "x")),
    "packs/notes",
    "maps/main/notes",
]


def test_foreign_keys_are_told_of_and_left(store):
    for key in FOREIGN:
        store.put(key, b"")
        older(store, key, 1000 * DAY)
    done = swept(store)
    assert done.cleared == {}
    assert (sorted(done.foreign), done.foreign_count) == (sorted(FOREIGN), len(FOREIGN))
    assert set(FOREIGN) < keys(store)


def test_keys_of_others_above_and_beside_ours_are_told_of_too(store, monkeypatch):
    class Shared(Wrapped):
        """A bucket takes characters that a directory of ours does not."""

        def list(self, prefix, *, after=""):
            others = [Stat(key, "", 1, 0) for key in ("events/\u00e9", "notes.txt", "packages/a.deb")]
            both = [*self.store.list(prefix, after=after), *others]
            found = [stat for stat in both if stat.key.startswith(prefix) and stat.key > after]
            return iter(sorted(found, key=lambda stat: stat.key))

    for dry_run in (False, True):
        done = Registry(Shared(store)).sweep(dry_run=dry_run)
        assert sorted(done.foreign) == ["notes.txt", "packages/a.deb"]
    assert Registry(Shared(store)).fsck().foreign == ["notes.txt", "packages/a.deb", "events/\u00e9"]
    monkeypatch.setattr(leavings, "STRANGE_COUNTED", 1)
    assert Registry(Shared(store)).sweep().foreign == ["notes.txt"]


def test_what_stops_a_sweep_ends_no_more_keys(store, monkeypatch):
    monkeypatch.setattr(leavings, "BATCH", 1)
    for name in ("ci", "cd"):
        put_key(store, name, ended=31 * DAY)
    late = Before(store, "put", lambda: store.delete([fmt.FORMAT_KEY]), prefix=format_access.KEYS)
    with pytest.raises(SweepStopped):
        Registry(late).sweep()
    assert sorted(read_key(store, name).deleted for name in ("ci", "cd")) == [False, True]


def test_many_go_in_batches_and_what_stops_a_sweep_stops_them_too(store, monkeypatch):
    monkeypatch.setattr(leavings, "BATCH", 2)
    for number in range(5):
        spend(store, 10 * HOUR + number)
    late = Before(store, "delete", lambda: store.delete([fmt.FORMAT_KEY]), prefix=format_access.SPENT, n=2)
    told = []
    with pytest.raises(SweepStopped):
        Registry(late).sweep(told=told.append)
    assert told[-1].cleared == {"spent secrets": 4}
    assert len(keys(store, format_access.SPENT)) == 1
