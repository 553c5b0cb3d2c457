"""Pushes among removals and sweeps: what the protocol model explores in small, tried on the real code (docs/design.md §4).

Push A builds on a version of T0 and commits to T1; push B builds on what A made and commits to T2. Meanwhile T0 and T1 are
deleted, restored and purged, two sweeps run, which may give the pushes up and empty the trash, and somebody takes markers of
living sweeps for dead ones'. They take turns at every store call, in an order that a seed decides. What must hold: whatever
a head names, exists; no sweep stops but for its marker; and one more sweep leaves nothing that nobody names. `make campaign`
tries many seeds, a test run a few. What chance does not find, a script tells.
"""

import contextlib
import random
import shutil

import pytest

from faults import Before, FailsOnCall
from registry.material import (
    BASE,
    OTHER,
    Pusher,
    check_sound,
    config,
    heads,
    image,
    needed_by,
    purge,
    put_marker,
    read_head,
    swept,
)
from registry.turns import ByChance, ByScript, Turns, Until
from s3reg.errors import (
    CommitInvalid,
    NotInTrash,
    ObjectNotFound,
    PreconditionFailed,
    RestoreTagTaken,
    SessionExpired,
    SessionNotFound,
    StoreUnavailable,
    SweepStopped,
    TemplateNotFound,
)
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE
from s3reg.model.template import Base
from s3reg.registry import Limits, ProposedFile, Registry, roots
from s3reg.store.files import FilesStore

STEPS_EACH = 30
"""Store calls of an actor, about."""
SEEDS, MANY_SEEDS = 60, 10_000
IDS = T2, T1, T0 = [f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 2, 3)]
"""A sweep reads heads in the order of their ids."""


@pytest.fixture(autouse=True)
def one_at_a_time(monkeypatch):
    """A sweep reads each record in a turn of its own: what it reads together, it reads in one."""
    monkeypatch.setattr(roots, "AT_ONCE", 1)


def push_on(source, target):
    """A push to `target` that builds on the latest version of `source`, as far as it may; or is given up on the way."""

    def act(store):
        node = Pusher(Registry(store), store)
        try:
            latest = read_head(store, source).latest()
        except ObjectNotFound:
            latest = None
        wanted = (Base(source, latest.id),) if latest else ()
        try:
            opened = node.open(target, "v1", bases=wanted, same_name=True)
            files = [config(), image(store, opened.session, f"of-{target}", [target], drive=0)]
            for version in opened.bases:
                files += [
                    ProposedFile(file.name, file.role, file.size, file.digest, map=file.map)
                    for file in version.files
                    if file.map
                ]
            node.commit(opened.session, tuple(files), "v1", same_name=True)
        except (SessionExpired, SessionNotFound):
            pass

    return act


def purge_of(template):
    def act(store):
        for _ in range(100):
            try:
                return purge(store, template)
            except ObjectNotFound:
                return None
            except PreconditionFailed:
                continue
        raise AssertionError("a hundred times")

    return act


def removal_of(template, operation):
    """The template is deleted, and its trash keeps nothing: the next sweep empties it."""

    def act(store):
        with contextlib.suppress(TemplateNotFound):
            Registry(store, limits=Limits(trash_seconds=0)).delete(EVERYONE, template, operation=operation)

    return act


def restore_of(template, operation):
    """All that the trash of the template holds comes back, as far as it can."""

    def act(store):
        registry = Registry(store)
        with contextlib.suppress(TemplateNotFound, NotInTrash, RestoreTagTaken):
            ids = [one.entry.id for one in registry.trash(EVERYONE, template)]
            if ids:
                registry.restore(EVERYONE, template, versions=ids, same_name=True, operation=operation)

    return act


def sweep(*, expires=False):
    """A sweep; it `expires` every push that it meets."""
    limits = Limits(idle_seconds=-1 if expires else 3600)

    def act(store):
        try:
            Registry(store, limits=limits).sweep()
        except SweepStopped as e:
            if not e.detail["what"].startswith(fmt.MARKERS):
                raise

    return act


def tidy(store):
    """Take every marker that there is for a dead sweep's."""
    store.delete([stat.key for stat in store.list(fmt.MARKERS)])


def cases(t0, t1, t2):
    """Who plays together: few at a time, because few meet each other more often."""
    a, b, gone = push_on(t0, t1), push_on(t1, t2), purge_of(t0)
    deleted, restored = removal_of(t0, "0" * 32), restore_of(t0, "2" * 32)
    both_gone = [gone, purge_of(t1)]
    yield [a, sweep(expires=True)]
    yield [a, gone, sweep()]
    yield [a, gone, sweep(expires=True)]
    yield [a, gone, sweep(expires=True), sweep(expires=True)]
    yield [a, gone, sweep(expires=True), sweep()]
    yield [a, b, *both_gone, sweep()]
    yield [a, b, *both_gone, sweep(), tidy]
    yield [a, b, *both_gone, sweep(), sweep(expires=True)]
    yield [a, deleted, restored, sweep()]
    yield [a, deleted, restored, sweep(expires=True), sweep()]
    yield [a, b, deleted, removal_of(t1, "1" * 32), restored, restore_of(t1, "3" * 32), sweep()]
    yield [a, b, deleted, removal_of(t1, "1" * 32), sweep(), sweep(expires=True), tidy]


def play(path, seed):
    """One game by this seed; its store afterwards."""
    store = FilesStore(path, secret=bytes(32))
    dice = random.Random(seed)
    # Any order of the three matters.
    all_cases = list(cases(*(ids := dice.sample(IDS, 3))))
    Registry(store).prepare()
    Pusher(Registry(store), store).push(ids[0], "v0", words="x")
    actors = all_cases[seed % len(all_cases)]
    Turns(ByChance(seed, actors=len(actors), steps=STEPS_EACH * len(actors))).run(store, actors)
    return store


def check_tidy(store):
    """One more sweep leaves nothing that nobody names."""
    swept(store, expire=True)
    there = {stat.key for prefix in (fmt.PACKS, fmt.MAPS, fmt.VERSIONS) for stat in store.list(prefix)}
    rows = [(head.id, entry.id) for head in heads(store) for entry in (*head.versions, *head.removed)]
    assert there == set().union(*(needed_by(store, *row) for row in rows))
    assert [stat.key for prefix in (fmt.SESSIONS, fmt.MARKERS, fmt.CHECK) for stat in store.list(prefix)] == []


def play_all(path, seeds):
    made = 0
    for seed in seeds:
        store = play(path / str(seed), seed)
        try:
            check_sound(store)
            check_tidy(store)
            check_sound(store)
        except AssertionError as e:
            raise AssertionError(f"seed {seed}") from e
        made += sum(len(head.versions) + len(head.removed) for head in heads(store))
        shutil.rmtree(path / str(seed))
    return made


def test_s13_whatever_a_head_names_exists(in_memory):
    assert play_all(in_memory, range(SEEDS)) > SEEDS // 2


@pytest.mark.campaign
def test_whatever_a_head_names_exists_in_many_games(in_memory):
    play_all(in_memory, range(SEEDS, MANY_SEEDS))


# --- Told by a script: what chance meets too rarely -------------------------------------------------------------------


@pytest.fixture
def pushed(in_memory):
    """A store in which T0 has a version."""
    store = FilesStore(in_memory, secret=bytes(32))
    Registry(store).prepare()
    Pusher(Registry(store), store).push(T0, "v0", words="x")
    return store


def played(store, actors, *script):
    """Whether every step of the script was taken; the end of the last actor alive is seen by nobody."""
    order = ByScript(script)
    Turns(order).run(store, actors)
    assert order.steps_left <= 1
    check_sound(store)


def made(store, template):
    """The layers of what was pushed to the template; none if nothing was."""
    with contextlib.suppress(TemplateNotFound):
        return [file.name for file in Registry(store).version(EVERYONE, template)[2].layers()]
    return []


def seen_too_late(sweep, push, purge):
    """A sweep that finds, at its first look, neither the push nor what it builds on named."""
    return [
        Until(sweep, "list", fmt.SESSIONS),
        Until(sweep, "list", fmt.HEADS),
        Until(push, "put", fmt.HEADS),
        Until(purge),
        Until(sweep, "put", fmt.MARKERS),
    ]


def test_s13_sessions_are_read_again_behind_the_marker(pushed):
    a, purge_0, swept_by = range(3)
    script = [*seen_too_late(swept_by, a, purge_0), Until(swept_by), Until(a)]
    played(pushed, [push_on(T0, T1), purge_of(T0), sweep()], *script)
    assert len(made(pushed, T1)) == 2


def test_s13_heads_are_read_again_behind_sessions(pushed):
    """The push commits, and its session goes, while the sweep is about to read sessions again."""
    a, purge_0, swept_by = range(3)
    script = [*seen_too_late(swept_by, a, purge_0), Until(swept_by, "list", fmt.SESSIONS), Until(a), Until(swept_by)]
    played(pushed, [push_on(T0, T1), purge_of(T0), sweep()], *script)
    assert len(made(pushed, T1)) == 2


def about_to_remove(a, purge_0, purge_1, swept_by, *meanwhile):
    """X, which T0 had, is named by nobody at either look of the sweep.

    At the first, push A is about to name it under a head that was read already; at the second, push B, which builds on what
    A made, and whose session came too late to be seen, does what it does `meanwhile`.
    """
    return [
        Until(swept_by, "list", fmt.SESSIONS),
        Until(swept_by, "list", fmt.HEADS),
        Until(a, "put", fmt.HEADS),
        Until(purge_0),
        Until(swept_by, "get", fmt.HEADS),
        Until(a),
        Until(swept_by, "put", fmt.MARKERS),
        Until(swept_by, "list", fmt.HEADS),
        *meanwhile,
        Until(purge_1),
    ]


def test_s13_a_push_that_a_sweep_cannot_see_sees_its_marker(pushed):
    a, b, purge_0, purge_1, swept_by = range(5)
    to_the_end = about_to_remove(a, purge_0, purge_1, swept_by, Until(b, "put", fmt.HEADS))
    script = [*to_the_end, Until(swept_by, "delete"), Until(b), Until(swept_by)]
    played(pushed, [push_on(T0, T1), push_on(T1, T2), purge_of(T0), purge_of(T1), sweep()], *script)
    assert made(pushed, T2) == [f"of-{T2}"]


def test_s13_a_push_reads_heads_behind_the_markers(pushed):
    """The sweep ends, and removes its marker, between the push's session and its look at the markers."""
    a, b, purge_0, purge_1, swept_by = range(5)
    to_the_end = about_to_remove(a, purge_0, purge_1, swept_by, Until(b, "list", fmt.MARKERS))
    played(
        pushed,
        [push_on(T0, T1), push_on(T1, T2), purge_of(T0), purge_of(T1), sweep()],
        *to_the_end,
        Until(swept_by),
        Until(b),
    )
    assert made(pushed, T2) == [f"of-{T2}"]


def test_s13_a_sweep_whose_marker_was_removed_stops(pushed):
    """Else it would take what a push builds on that could not see the marker any more."""
    a, b, purge_0, purge_1, swept_by, tidied = range(6)
    meanwhile = [Until(tidied), Until(b, "put", fmt.HEADS)]
    to_the_end = about_to_remove(a, purge_0, purge_1, swept_by, *meanwhile)
    played(
        pushed,
        [push_on(T0, T1), push_on(T1, T2), purge_of(T0), purge_of(T1), sweep(), tidy],
        *to_the_end,
        Until(swept_by),
        Until(b),
    )
    assert len(made(pushed, T2)) == 3


def test_s13_a_commit_that_has_read_its_session_fails_once_the_push_was_given_up(pushed):
    a, swept_by = range(2)
    script = [Until(a, "put", fmt.HEADS), Until(swept_by), Until(a)]
    played(pushed, [push_on(T0, T1), sweep(expires=True)], *script)
    assert made(pushed, T1) == []


def test_s13_a_commit_reads_its_session_behind_the_head(pushed):
    a, swept_by = range(2)
    script = [Until(a, "put", fmt.VERSIONS), Until(a, "get", fmt.HEADS), Until(swept_by), Until(a)]
    played(pushed, [push_on(T0, T1), sweep(expires=True)], *script)
    assert made(pushed, T1) == []


def test_s13_a_push_that_a_dead_sweep_gave_up_half_way_is_given_up_by_the_next(pushed):
    a, dies, next_one = range(3)

    def dying(through):
        broken = FailsOnCall(through, 1, StoreUnavailable(store="", reason="it died"), verb="put", prefix=fmt.HEADS)
        with pytest.raises(StoreUnavailable):
            sweep(expires=True)(broken)
        assert broken.happened

    script = [Until(a, "put", fmt.HEADS), Until(dies), Until(next_one), Until(a)]
    played(pushed, [push_on(T0, T1), dying, sweep()], *script)
    assert made(pushed, T1) == []
    check_tidy(pushed)


def test_s13_a_push_that_is_being_given_up_holds_what_it_held(pushed):
    """It may commit still, as long as its template's head was not bumped."""
    a, purge_0, gives_up, swept_by = range(4)
    script = [
        *seen_too_late(swept_by, a, purge_0),
        Until(gives_up, "put", fmt.HEADS),
        Until(swept_by),
        Until(a),
        Until(gives_up),
    ]
    played(pushed, [push_on(T0, T1), purge_of(T0), sweep(expires=True), sweep()], *script)
    assert len(made(pushed, T1)) == 2


def test_a_trash_that_is_emptied_and_swept_while_its_versions_are_read_stops_no_sweep(pushed):
    """The head was read, and named the version; its record is gone when it is looked for."""
    Registry(pushed).delete(EVERYONE, T0, operation="0" * 32)
    late, empties = range(2)
    script = [Until(late, "get", fmt.VERSIONS), Until(empties), Until(late)]
    played(pushed, [sweep(), sweep()], *script)
    check_tidy(pushed)


# --- And the like -----------------------------------------------------------------------------------------------------


def test_a_game_can_be_had_again(in_memory):
    """Else a seed that fails would tell nothing."""
    outcomes = [
        [(head.id, head.gen, len(head.versions)) for head in heads(play(in_memory / f"{seed}-{again}", seed))]
        for seed in (3, 5)
        for again in range(2)
    ]
    assert outcomes[0] == outcomes[1]
    assert outcomes[2] == outcomes[3]


def test_s17_a_sweep_removes_what_a_push_left_behind_and_nothing_else(node, store):
    """The sweep of these tests really removes: else they would prove nothing."""
    node.push(BASE, "v1")
    left = node.open(BASE, "v2").session
    node.files(left, "q")
    before = {stat.key for stat in store.list("")}
    swept(store, expire=True)

    gone = before - {stat.key for stat in store.list("")}

    assert {key.split("/")[0] for key in gone} == {"packs", "maps", "sessions"}
    assert all(left.id in key for key in gone)
    check_sound(store)


def test_a_sweep_that_slept_for_a_day_while_it_asked_for_the_time_asks_again(node, store):
    node.push(BASE, "v1")
    # By then another one took what it had written for somebody's leftover.
    late = Before(store, "stat", lambda: store.delete([stat.key for stat in store.list(fmt.CHECK)]), prefix=fmt.CHECK)
    swept(late)
    assert late.happened
    check_sound(store)
    assert list(store.list(fmt.CHECK)) == []


def test_a_push_whose_uploads_a_sweep_took_is_told_that_its_session_is_over(node, store):
    node.push(BASE, "v1")
    session = node.open(BASE, "v2").session
    files = node.files(session, "q")
    late = Before(store, "list", lambda: swept(store, expire=True), prefix=fmt.PACKS)
    with pytest.raises((SessionNotFound, SessionExpired)):
        Pusher(Registry(late), store).commit(session, files, "v2")
    assert late.happened


def test_s13_a_base_that_is_marked_when_it_is_asked_for_may_not_be_used_after_the_marker_is_gone(node, store):
    """Why a commit must not trust all bases of its session: this one is removed between the two."""
    done = node.push(OTHER, "v1", name="other")
    version = node.registry.version(node.asker, OTHER)[2]
    named = read_head(store, OTHER)
    needed = needed_by(store, OTHER, done.entry.id)
    purge(store, OTHER)
    put_marker(store, "1", needed)
    # As if the purge came after the head was read: the head names it, the marker stands.
    store.put(fmt.head_key(OTHER), fmt.write_head(named.wrote("x")))
    opened = node.open(BASE, "v1", bases=(Base(OTHER, done.entry.id),))
    store.delete([stat.key for stat in store.list(fmt.MARKERS)])
    theirs = next(file for file in version.files if file.map)
    file = ProposedFile("disk", theirs.role, theirs.size, theirs.digest, map=theirs.map)

    assert opened.bases == ()
    with pytest.raises(CommitInvalid):
        node.commit(opened.session, (file, config()))
