"""One sweep: what goes, what stays and why, what it stops at; that a dry run is one, and that a sweep may die anywhere."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from faults import Before, Counting, LosesAnswer, Wrapped
from registry.material import (
    BASE,
    OTHER,
    Pusher,
    base,
    change_head,
    change_session,
    check_sound,
    needed_by,
    purge,
    put_marker,
    read_head,
    sessions,
    swept,
)
from s3reg.errors import SessionNotFound, StoreUnavailable
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE
from s3reg.model.template import SessionState
from s3reg.registry import Limits, Registry, sweep
from s3reg.store import Match, paths

DAY = 24 * 3600
WEEK = 7 * DAY
OPERATION = "0" * 32
BYTES = (fmt.PACKS, fmt.MAPS, fmt.VERSIONS)
GCID = "a" * 32
READS = {"get", "stat", "list"}


def keys(store, *prefixes):
    """What lies there, besides when the last sweep was."""
    return {stat.key for prefix in prefixes or ("",) for stat in store.list(prefix)} - {fmt.SWEPT_KEY}


def older(store, key, seconds):
    """Let the object have been written so much earlier."""
    path = Path(store.location.removeprefix("directory ")) / paths.of_key(key)
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def deleted_before(store, seconds, template=OTHER, **limits):
    """Delete a template, so many seconds ago."""
    registry = Registry(store, limits=Limits(**limits), clock=lambda: time.time() - seconds)
    registry.delete(EVERYONE, template, operation=OPERATION)


@pytest.fixture
def orphans(node, store):
    """The keys of what nobody names: a template that was purged."""
    node.push(OTHER, "v1", words="xyz", name="other")
    found = needed_by(store, OTHER, read_head(store, OTHER).versions[0].id)
    purge(store, OTHER)
    return found


# --- What goes --------------------------------------------------------------------------------------------------------


def test_what_nobody_names_goes_and_all_else_stays(node, store, orphans):
    node.push()
    before = keys(store)
    sizes = {stat.key: stat.size for stat in store.list("")}

    done = swept(store)

    assert before - keys(store) == orphans
    assert keys(store) < before
    assert (done.removed, done.unnamed, done.rescued) == (len(orphans), len(orphans), 0)
    assert done.freed == done.unnamed_bytes == sum(sizes[key] for key in orphans)
    assert done.listed_bytes == done.freed + done.live_bytes
    check_sound(store)


def test_the_trash_stays_for_its_time_and_goes_after_it(node, store):
    node.push(OTHER, "v1", name="other")
    node.push(BASE, "v1")
    lying = keys(store, *BYTES)
    deleted_before(store, WEEK - 60)
    done = Registry(store).sweep()
    assert (done.purged, done.removed, done.trash_versions) == (0, 0, 1)
    assert done.trash_until == read_head(store, OTHER).removed[0].removed + WEEK
    assert 0 < done.trash_bytes < done.listed_bytes
    assert keys(store, *BYTES) == lying

    change_head(store, OTHER, removed=tuple(replace(e, until=e.until - 120) for e in read_head(store, OTHER).removed))
    done = Registry(store).sweep()
    assert (done.purged, done.removed, done.trash_versions, done.trash_until) == (1, 3, 0, None)
    assert read_head(store, OTHER).removed == ()
    assert read_head(store, OTHER).deleted
    check_sound(store)


def test_with_no_time_in_the_trash_what_is_removed_goes_at_once_whatever_the_clocks_say(node, store):
    node.push(OTHER, "v1", name="other")
    deleted_before(store, -DAY, trash_seconds=0)
    assert Registry(store).sweep().removed == 3
    assert keys(store, *BYTES) == set()


def test_of_a_trash_only_what_lay_there_long_enough_goes(node, store):
    old, new = (node.push(tag=tag, words=tag).entry for tag in "ab")
    change_head(
        store,
        versions=(),
        removed=(old.gone(when=10, by="jo", keeps=WEEK), new.gone(when=int(time.time()), by="jo", keeps=WEEK)),
    )
    assert swept(store).purged == 1
    assert read_head(store).removed[0].id == new.id
    assert keys(store, *BYTES) == needed_by(store, BASE, new.id)


@pytest.mark.parametrize(("kept", "swept_with", "goes"), [(30 * DAY, WEEK, 0), (30 * DAY, 0, 0), (DAY, 30 * DAY, 1)])
def test_a_removed_version_is_kept_as_long_as_was_said_when_it_went_whatever_the_sweep_is_told(
    node, store, kept, swept_with, goes
):
    node.push(OTHER, "v1", name="other")
    deleted_before(store, 10 * DAY, trash_seconds=kept)
    registry = Registry(store, limits=Limits(trash_seconds=swept_with))
    (one,) = registry.trash(EVERYONE)
    assert one.entry.until == one.entry.removed + kept
    assert registry.sweep(dry_run=True).purged == goes
    assert registry.sweep().purged == goes
    check_sound(store)


def test_what_is_restored_while_the_trash_is_emptied_stays(node, store, registry):
    gone = node.push().entry
    deleted_before(store, 2 * WEEK, BASE)

    def restore():
        registry.restore(EVERYONE, BASE, versions=[gone.id], operation="1" * 32)

    late = Before(store, "put", restore, prefix=fmt.HEADS)
    assert Registry(late).sweep().purged == 0
    assert late.happened
    assert [entry.id for entry in read_head(store).versions] == [gone.id]
    check_sound(store)


def test_a_base_that_a_push_builds_on_stays_for_it(node, store):
    done = node.push(OTHER, "v1", name="other")
    opened = node.open(BASE, "v1", bases=(base(done),))
    needed = needed_by(store, OTHER, done.entry.id)
    purge(store, OTHER)
    found = swept(store)
    assert (found.removed, found.held, found.sessions) == (0, found.listed_bytes, 1)
    node.registry.abort(EVERYONE, opened.session.id)
    assert swept(store).removed == len(needed)


def test_whatever_one_round_has_no_room_for_goes_in_the_next(node, store, orphans, monkeypatch):
    monkeypatch.setattr(sweep, "MOST_MARKED", 2)
    monkeypatch.setattr(sweep, "BATCH", 1)
    node.push()
    markers = []

    class Marked(Wrapped):
        def put(self, key, data, *, only_if=None):
            if key.startswith(fmt.MARKERS):
                markers.append(fmt.read_marker(data))
            return super().put(key, data, only_if=only_if)

    counted = Counting(Marked(store))
    assert Registry(counted).sweep().removed == len(orphans) == 3
    assert [len(marker.packs | marker.maps | marker.versions) for marker in markers] == [2, 1]
    gone = [
        call.keys
        for call in counted.calls
        if call.verb == "delete" and not call.keys[0].startswith((fmt.MARKERS, fmt.CHECK))
    ]
    assert [len(batch) for batch in gone] == [1, 1, 1]
    # A version goes before what it needs.
    assert [batch[0].split("/")[0] for batch in gone] == ["versions", "maps", "packs"]
    check_sound(store)


def test_what_is_named_again_before_it_goes_is_rescued(node, store):
    """No verb does that; but what the second look finds, counts."""
    node.push(OTHER, "v1", name="other")
    named = read_head(store, OTHER)
    purge(store, OTHER)
    late = Before(
        store, "put", lambda: store.put(fmt.head_key(OTHER), fmt.write_head(named.wrote("x"))), prefix=fmt.MARKERS
    )
    done = Registry(late).sweep()
    assert (done.unnamed, done.rescued, done.removed) == (3, 3, 0)
    check_sound(store)


# --- Pushes that are too old ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["idle", "old", "aborted"])
def test_a_push_that_is_over_is_given_up_with_all_that_it_uploaded(node, store, how):
    session = node.open().session
    files = node.files(session)
    assert swept(store).given_up == 0
    if how == "idle":
        older(store, fmt.session_key(session.id), DAY + 60)
    elif how == "old":
        change_session(store, session, opened=int(time.time()) - WEEK - 60)
    else:
        node.registry.abort(EVERYONE, session.id)

    done = swept(store)

    assert (done.given_up, done.sessions, done.removed, done.held) == (1, 0, 2, 0)
    assert keys(store, *BYTES, fmt.SESSIONS, fmt.MARKERS, fmt.CHECK) == set()
    with pytest.raises(SessionNotFound):
        node.commit(session, files)
    assert read_head(store).deleted
    assert node.registry.templates(EVERYONE) == []


def test_a_push_that_is_heard_of_at_the_last_moment_is_not_given_up(node, store):
    session = node.open().session
    files = node.files(session)
    late = Before(store, "put", lambda: node.registry.sign_uploads(EVERYONE, session.id, []), prefix=fmt.SESSIONS)
    done = Registry(late, limits=Limits(idle_seconds=-1)).sweep()
    assert late.happened
    assert (done.given_up, done.sessions) == (0, 1)
    node.commit(session, files)
    check_sound(store)


def test_a_push_is_expired_though_the_answer_is_lost(node, store):
    session = node.open().session
    lost = LosesAnswer(store, prefix=fmt.SESSIONS)
    assert Registry(lost, limits=Limits(idle_seconds=-1)).sweep().given_up == 1
    assert lost.happened
    assert sessions(store) == []
    with pytest.raises(SessionNotFound):
        node.commit(session, node.files(session))


def test_a_push_whose_expiry_never_arrived_goes_on(node, store):
    """The answer is lost, and what was sent too: its node was heard of a moment before."""
    session = node.open().session
    files = node.files(session)
    beaten = Before(store, "put", lambda: node.registry.sign_uploads(EVERYONE, session.id, []), prefix=fmt.SESSIONS)
    lost = LosesAnswer(beaten, prefix=fmt.SESSIONS)
    assert Registry(lost, limits=Limits(idle_seconds=-1)).sweep().given_up == 0
    assert lost.happened
    node.commit(session, files)
    check_sound(store)


def test_a_push_whose_template_keeps_changing_is_given_up_the_next_time(node, store):
    session = node.open().session
    node.files(session)

    class Busy(Wrapped):
        def put(self, key, data, *, only_if=None):
            if key.startswith(fmt.HEADS):
                only_if = Match("of another")
            return super().put(key, data, only_if=only_if)

    node.push(BASE, "v1")
    done = Registry(Busy(store), limits=Limits(idle_seconds=-1, attempts=2)).sweep()
    assert (done.given_up, done.sessions, done.removed) == (0, 1, 0)
    assert [one.state for one in sessions(store)] == [SessionState.EXPIRED]
    assert swept(store).given_up == 1
    assert sessions(store) == []
    check_sound(store)


def test_a_trash_whose_template_keeps_changing_is_emptied_the_next_time(node, store):
    node.push()
    deleted_before(store, 2 * WEEK, BASE)

    class Busy(Wrapped):
        def put(self, key, data, *, only_if=None):
            return super().put(key, data, only_if=Match("of another") if key.startswith(fmt.HEADS) else only_if)

    done = Registry(Busy(store), limits=Limits(attempts=2)).sweep()
    assert (done.purged, done.removed) == (0, 0)
    assert swept(store).purged == 1


# --- What stays, and what for -----------------------------------------------------------------------------------------


GONE, LONG_GONE = (f"00000000-0000-4000-8000-00000000000{n}" for n in "ab")


@pytest.fixture
def everything(node, store, orphans):
    """A store with something of each kind; the push that goes on."""
    node.push(BASE, "v1")
    for template, name, seconds in ((GONE, "gone", 60), (LONG_GONE, "long gone", 2 * WEEK)):
        node.push(template, "v1", words=name, name=name)
        deleted_before(store, seconds, template)
    left, going_on = (node.open(BASE, tag).session for tag in ("v2", "v3"))
    node.files(left, "q")
    node.files(going_on, "rs")
    older(store, fmt.session_key(left.id), 2 * DAY)
    put_marker(store, GCID, orphans)
    older(store, fmt.marker_key(GCID), 2 * 3600)
    store.put("packs/elsewhere", b"foreign")
    store.put(fmt.pull_key(OTHER, "c" * 32), b"")
    return going_on


def test_it_says_what_stays_and_what_for(store, everything):
    done = swept(store)
    assert (done.heads, done.live, done.trash, done.held_objects) == (4, 3, 3, 2)
    assert (done.removed, done.purged, done.given_up, done.sessions) == (8, 1, 1, 1)
    assert done.listed_bytes == done.live_bytes + done.trash_bytes + done.held + done.freed
    assert done.cleared == {"markers": 1, "pull marks": 1}
    assert (done.foreign_count, done.foreign) == (1, ["packs/elsewhere"])
    (push,) = done.pushes
    assert (push.id, push.name, push.session.owner, push.stored) == (everything.id, "sequoia", "everyone", done.held)
    assert push.until == pytest.approx(push.beat + DAY)


def test_a_dry_run_says_what_a_real_one_does_and_writes_nothing(store, everything):
    before = {stat.key: stat.etag for stat in store.list("")}
    counted = Counting(store)

    dry = Registry(counted).sweep(dry_run=True)

    assert {call.verb for call in counted.calls} <= READS
    assert {stat.key: stat.etag for stat in store.list("")} == before
    real = swept(store)
    assert real.removed
    assert replace(dry, dry_run=False) == real


def test_of_many_pushes_those_are_shown_of_which_nothing_was_heard_longest(node, store, monkeypatch):
    monkeypatch.setattr(sweep, "PUSHES_SHOWN", 2)
    ids = [node.open(tag=tag).session.id for tag in ("v1", "v2", "v3")]
    for sid, seconds in zip(ids, (60, 180, 120), strict=True):
        older(store, fmt.session_key(sid), seconds)
    done = swept(store)
    assert (done.sessions, [one.id for one in done.pushes]) == (3, [ids[1], ids[2]])


def test_a_push_to_a_new_template_has_no_name(node, store):
    node.open()
    assert [one.name for one in swept(store).pushes] == [""]
    swept(store, expire=True)
    node.open()
    assert [one.name for one in swept(store).pushes] == [""]


def test_it_tells_how_far_it_is(store, everything, monkeypatch):
    monkeypatch.setattr(sweep, "BATCH", 1)
    steps, removed = [], []

    def told(done):
        if done.step not in steps:
            steps.append(done.step)
        removed.append(done.removed)

    Registry(store).sweep(told=told)
    assert steps == ["", "looking at the store", "listing", "reading what is named", "removing", "tidying up"]
    assert sorted(set(removed)) == list(range(9))


class Enough(Exception):
    """Whoever watches has seen enough."""


def test_whoever_watches_may_end_it_between_two_steps(node, store, everything, monkeypatch):
    monkeypatch.setattr(sweep, "BATCH", 1)
    for most in range(40):
        told = iter(range(most))
        seen = []

        def tell(done, told=told, seen=seen):
            seen.append(done)
            if next(told, None) is None:
                raise Enough

        before = len(keys(store, *BYTES))
        try:
            Registry(store).sweep(told=tell)
        except Enough:
            assert seen[-1].removed == before - len(keys(store, *BYTES))
            assert keys(store, fmt.MARKERS, fmt.CHECK) <= {fmt.marker_key(GCID)}
        else:
            break
    assert most > 8
    check_sound(store)
    assert swept(store).removed == 0


# --- A sweep that dies ------------------------------------------------------------------------------------------------


def test_a_dead_sweeps_marker_goes_after_an_hour(store, orphans):
    put_marker(store, GCID, orphans)
    assert swept(store).cleared == {}
    older(store, fmt.marker_key(GCID), 3600 + 60)
    assert swept(store).cleared == {"markers": 1}
    assert keys(store, fmt.MARKERS) == set()


def test_a_marker_of_an_hour_to_come_is_a_dead_sweeps_too(store, orphans):
    """The store's clock was set back: until then nothing could be built on what it names."""
    put_marker(store, GCID, orphans)
    older(store, fmt.marker_key(GCID), -60)
    assert swept(store).cleared == {}
    older(store, fmt.marker_key(GCID), -3600)
    assert swept(store).cleared == {"markers": 1}


def test_a_push_heard_of_at_a_time_to_come_is_told_and_given_up_once_somebody_says_so(node, store):
    """Nobody can tell whether its node goes on with it: its beat may be of a moment before the clock was set back."""
    session = node.open().session
    node.files(session)
    assert swept(store).ahead == 0
    older(store, fmt.session_key(session.id), -365 * 24 * 3600)
    for _ in range(2):
        done = swept(store)
        assert (done.ahead, done.sessions, done.given_up, done.removed) == (1, 1, 0, 0)
    Registry(store).abort_any(EVERYONE, session.id)
    done = swept(store)
    assert (done.ahead, done.sessions, done.given_up, done.removed) == (0, 0, 1, 2)


def test_a_marker_that_cannot_be_taken_away_ends_nothing(store, orphans):
    class Stuck(Wrapped):
        def delete(self, keys):
            keys = list(keys)
            if keys[0].startswith(fmt.MARKERS):
                raise StoreUnavailable(store="", reason="not now")
            super().delete(keys)

    assert Registry(Stuck(store)).sweep().removed == len(orphans)
    assert len(keys(store, fmt.MARKERS)) == 1


def test_a_sweep_may_be_killed_at_any_call_and_the_next_one_ends_what_it_began(in_memory):
    """kill -9 of a real process, before a call and behind it."""
    told = subprocess.run(
        [sys.executable, Path(__file__).parents[1] / "dying_sweeps.py", in_memory],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert int(told.stdout) > 50


# --- A commit that died before its head -------------------------------------------------------------------------------


class DiesAtHeads(Wrapped):
    """Whoever writes a head through it does not live to see it."""

    def _call(self, call, act):
        if call.is_on("put", fmt.HEADS):
            raise KeyboardInterrupt
        return act()


def test_a_first_push_that_died_before_its_head_and_is_over_goes_and_a_dry_run_says_so(node, store):
    opened = node.open(BASE, "v1")
    files = node.files(opened.session)
    with pytest.raises(KeyboardInterrupt):
        Pusher(Registry(DiesAtHeads(store)), store).commit(opened.session, files, "v1")
    change_session(store, opened.session, state=SessionState.EXPIRED)
    told = Registry(store).sweep(dry_run=True)
    assert told.removed == Registry(store).sweep().removed > 0


def test_what_a_commit_replaces_has_its_whole_time_in_the_trash_though_the_commit_was_begun_days_before(store):
    now = [1_800_000_000.0]
    registry = Registry(store, clock=lambda: now[0])
    registry.prepare()
    node = Pusher(registry, store)
    node.push()
    opened = node.open(BASE, force=True)
    files = node.files(opened.session, ("new",))
    with pytest.raises(KeyboardInterrupt):
        Pusher(Registry(DiesAtHeads(store), clock=lambda: now[0]), store).commit(opened.session, files, force=True)
    now[0] += 5 * DAY
    node.commit(opened.session, files, force=True)
    assert read_head(store).removed[0].removed == int(now[0])
