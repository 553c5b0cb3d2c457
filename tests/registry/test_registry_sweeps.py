"""Pushes among purges and sweeps: what the protocol model explores in small, tried on the real code (docs/design.md §4).

Push A builds on a version of T0 and commits to T1; push B builds on what A made and commits to T2; both bases are purged
and a sweep runs, which may give the pushes up. They take turns at every store call, in an order that a seed decides. What
must hold is one thing: whatever a head names, exists. `make campaign` tries many seeds, a test run a few; they find a commit
that does not read its session again, or swaps unconditionally. What chance does not find, a script tells.
"""

import random
import shutil

import pytest

from faults import Before
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
from s3reg.errors import CommitInvalid, ObjectNotFound, PreconditionFailed, SessionExpired, SessionNotFound
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE
from s3reg.model.template import Base
from s3reg.registry import ProposedFile, Registry
from s3reg.store.files import FilesStore

STEPS = 150
"""Store calls of all actors together, about."""
SEEDS, MANY_SEEDS = 60, 10_000
IDS = [f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 2, 3)]


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


def play(path, seed):
    """One game by this seed; its store afterwards."""
    store = FilesStore(path, secret=bytes(32))
    dice = random.Random(seed)
    # A sweep reads heads in the order of their ids: any order of the three matters.
    t0, t1, t2 = dice.sample(IDS, 3)
    Registry(store).prepare()
    Pusher(Registry(store), store).push(t0, "v0", words="x")
    actors = [
        push_on(t0, t1),
        push_on(t1, t2),
        purge_of(t0),
        purge_of(t1),
        lambda through: swept(through, expire=dice.random() < 0.3),
    ]
    Turns(ByChance(seed, actors=len(actors), steps=STEPS)).run(store, actors)
    return store


def play_all(path, seeds):
    made = 0
    for seed in seeds:
        store = play(path / str(seed), seed)
        try:
            check_sound(store)
        except AssertionError as e:
            raise AssertionError(f"seed {seed}") from e
        made += sum(len(head.versions) for head in heads(store))
        shutil.rmtree(path / str(seed))
    return made


def test_s13_whatever_a_head_names_exists(tmp_path):
    assert play_all(tmp_path, range(SEEDS)) > SEEDS // 2


@pytest.mark.campaign
def test_whatever_a_head_names_exists_in_many_games(tmp_path):
    play_all(tmp_path, range(SEEDS, MANY_SEEDS))


def test_s13_a_push_that_a_sweep_cannot_see_sees_its_marker(tmp_path):
    """The model's shortest way to a lost pack where pushes do not read markers, played on the real code.

    What the sweep removes looks unnamed to it at both looks: at the first, push A is about to name it under a head that was
    read already; at the second, push B, whose session came too late to be seen.
    """
    store = FilesStore(tmp_path, secret=bytes(32))
    Registry(store).prepare()
    t2, t1, t0 = IDS
    Pusher(Registry(store), store).push(t0, "v0", words="x")
    a, b, purge_0, purge_1, sweep = range(5)
    script = ByScript(
        [
            Until(sweep, "list", fmt.SESSIONS),
            Until(sweep, "list", fmt.HEADS),
            Until(a, "put", fmt.HEADS),
            Until(purge_0),
            Until(sweep, "get", fmt.HEADS),
            Until(a),
            Until(sweep, "put", fmt.MARKERS),
            Until(sweep, "list", fmt.HEADS),
            Until(b, "put", fmt.HEADS),
            Until(purge_1),
            Until(sweep, "delete"),
            Until(b),
            Until(sweep),
        ]
    )
    Turns(script).run(store, [push_on(t0, t1), push_on(t1, t2), purge_of(t0), purge_of(t1), swept])

    assert script.steps_left == 1
    assert [file.name for file in Registry(store).version(EVERYONE, t2)[2].layers()] == [f"of-{t2}"]
    check_sound(store)


def test_a_game_can_be_had_again(tmp_path):
    """Else a seed that fails would tell nothing."""
    outcomes = [
        [(head.id, head.gen, len(head.versions)) for head in heads(play(tmp_path / f"{seed}-{again}", seed))]
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
