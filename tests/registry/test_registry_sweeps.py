"""Pushes among purges and sweeps: what the protocol model explores in small, tried on the real code (docs/design.md §4).

A push makes some forty store calls. A purge of its base, the first half of a sweep (which ends with its marker) and its
second half (which removes) come before any three of them, in this order; the sweep may give the push's session up. What
must hold is one thing: whatever a head names, exists. `make campaign` tries every triple, a test run a seeded sample.
"""

import itertools
import random
from dataclasses import replace

import pytest

from faults import Counting, Wrapped
from registry.material import (
    BASE,
    OTHER,
    Pusher,
    Sweep,
    check_sound,
    config,
    image,
    purge,
    read_head,
)
from s3reg.errors import CommitInvalid, SessionExpired, SessionNotFound
from s3reg.model import format as fmt
from s3reg.model.template import Base
from s3reg.registry import ProposedFile, Registry
from s3reg.store.files import FilesStore

SAMPLE = 60
SEED = 20240607


class Scheduled(Wrapped):
    """Does things just before the calls that they are scheduled for, and the rest when there are no more calls."""

    def __init__(self, store, schedule):
        super().__init__(store)
        self.left = sorted(schedule, key=lambda each: each[0])
        self.calls = 0

    def _call(self, call, act):
        self.calls += 1
        while self.left and self.left[0][0] <= self.calls:
            self.left.pop(0)[1]()
        return act()

    def finish(self):
        for _, act in self.left:
            act()


def push_on_a_base(store, through):
    """A push to BASE that builds on OTHER's version, as far as it may; None if it was stopped."""
    node = Pusher(Registry(through), store)
    other = read_head(store, OTHER)
    wanted = tuple(Base(OTHER, entry.id) for entry in other.versions)
    try:
        opened = node.open(BASE, "v2", bases=wanted)
        files = [config(), image(store, opened.session, "own", "n", drive=0)]
        for version in opened.bases:
            files += [
                ProposedFile(f"{version.id}-{file.name}", file.role, file.size, file.digest, map=file.map)
                for file in version.files
                if file.map
            ]
        node.registry.sign_uploads(node.asker, opened.session.id, [])
        return node.commit(opened.session, tuple(files), "v2")
    except (SessionExpired, SessionNotFound):
        return None


def fresh(path, *, there):
    store = FilesStore(path, secret=bytes(32))
    Registry(store).prepare()
    node = Pusher(Registry(store), store)
    if there:
        node.push(BASE, "v1", words="a")
    node.push(OTHER, "v1", name="other", words="x")
    return store


def moments(path, there):
    store = fresh(path, there=there)
    counted = Counting(store)
    push_on_a_base(store, counted)
    return len(counted.calls) + 2


def check(path, when, *, expire, there):
    store = fresh(path, there=there)
    sweep = Sweep(store, expire=expire)
    acts = (lambda: purge(store, OTHER), sweep.mark, sweep.remove)
    scheduled = Scheduled(store, list(zip(when, acts, strict=True)))

    done = push_on_a_base(store, scheduled)
    scheduled.finish()

    check_sound(store)
    if done is not None:
        assert read_head(store).with_id(done.entry.id)
    return done


CASES = [(expire, there) for expire in (False, True) for there in (False, True)]


@pytest.mark.parametrize(("expire", "there"), CASES)
def test_whatever_a_head_names_exists(tmp_path, expire, there):
    count = moments(tmp_path / "count", there)
    chosen = random.Random(SEED)
    outcomes = set()
    for n in range(SAMPLE):
        when = sorted(chosen.randint(1, count) for _ in range(3))
        outcomes.add(check(tmp_path / str(n), when, expire=expire, there=there) is not None)
    assert outcomes == ({True, False} if expire else {True})


@pytest.mark.campaign
@pytest.mark.parametrize(("expire", "there"), CASES)
def test_whatever_a_head_names_exists_at_every_triple_of_moments(tmp_path, expire, there):
    count = moments(tmp_path / "count", there)
    for n, when in enumerate(itertools.combinations_with_replacement(range(1, count + 1), 3)):
        check(tmp_path / str(n), when, expire=expire, there=there)


def test_a_sweep_removes_what_a_push_left_behind_and_nothing_else(tmp_path):
    """The sweep of these tests really removes: else they would prove nothing."""
    store = fresh(tmp_path, there=True)
    node = Pusher(Registry(store), store)
    left = node.open(BASE, "v2").session
    node.files(left, "q")
    before = {stat.key for stat in store.list("")}
    sweep = Sweep(store, expire=True)
    sweep.mark()
    sweep.remove()

    gone = before - {stat.key for stat in store.list("")}

    assert {key.split("/")[0] for key in gone} == {"packs", "maps", "sessions"}
    assert all(left.id in key for key in gone)
    check_sound(store)


def test_a_base_that_was_dropped_would_not_have_survived(tmp_path):
    """Why a commit may not trust the session's bases: this one was marked when it was asked for, and is removed after."""
    store = fresh(tmp_path, there=True)
    node = Pusher(Registry(store), store)
    other = read_head(store, OTHER)
    version = node.registry.version(node.asker, OTHER)[2]
    purge(store, OTHER)
    sweep = Sweep(store)
    sweep.mark()
    # Back again, by somebody who has no business to: the head names it, the marker stands.
    found = store.get(fmt.head_key(OTHER))
    store.put(fmt.head_key(OTHER), fmt.write_head(replace(fmt.read_head(found.data, OTHER), versions=other.versions)))
    opened = node.open(BASE, "v2", bases=(Base(OTHER, version.id),))
    theirs = next(file for file in version.files if file.map)
    file = ProposedFile("disk", theirs.role, theirs.size, theirs.digest, map=theirs.map)

    with pytest.raises(CommitInvalid):
        node.commit(opened.session, (file, config()), "v2")
    assert [entry.tag for entry in read_head(store).versions] == ["v1"]
