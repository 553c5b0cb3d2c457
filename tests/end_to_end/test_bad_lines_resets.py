"""A line that breaks every now and then, somewhere: all arrives, and what arrived whole is not moved again."""

import collections
import itertools
import random
import threading

import pytest

import http_wires as faults
import machines
import wired
from machines import MIB


class Unreliable:
    """A rule: of each sort of request, every other one breaks with `broken(where, passage)`, at a random place; seeded."""

    def __init__(self, seed, broken):
        self._chances = collections.defaultdict(lambda: (random.Random(seed), itertools.count()))
        self._broken, self._lock = broken, threading.Lock()

    def __call__(self, passage):
        with self._lock:
            chance, count = self._chances[passage.method, passage.kind]
            number, where = next(count), chance.random()
        return None if number % 2 else self._broken(where, passage)


def reset(where, passage):
    return faults.takes(where) if passage.method == "PUT" else faults.gives(where)


def stalled(where, passage):
    return faults.done_but_silent if passage.method == "PUT" else faults.gives(where, faults.silent)


@pytest.fixture
def place(minio, tmp_path):
    with wired.wired(minio, tmp_path) as place:
        yield place


@pytest.fixture
def machine(place):
    """One that fills two packs."""
    machine = machines.make(place.folder / "baker", sizes=(3 * MIB,))
    machine.drives.append("noise.img")
    machine.disk(1).write_bytes(random.Random(4).randbytes(33 * MIB))
    machine.write_config()
    return machine


def test_resets_at_random_cost_what_was_in_flight(place, machine):
    baker, runner = place.node("baker", tries=20), place.node("runner", tries=20)
    place.store.rule = place.api.rule = Unreliable(8, reset)
    baker.push(machine)
    puts = place.store.of("PUT", "packs")
    assert any(passage.spoilt for passage in puts)
    # Each pack was stored once, and none was sent again after that.
    assert sum(passage.status == 200 for passage in puts) == len({passage.path for passage in puts})
    assert all(passage.spoilt or passage.status in {200, 412} for passage in puts)
    place.mend()
    place.store.rule = place.api.rule = Unreliable(9, reset)
    runner.pull(machine)
    gets = place.store.of("GET", "packs")
    broken = [passage for passage in gets if passage.spoilt]
    assert broken
    place.mend()
    needed = clean(place, machine)
    # Whatever came whole was not fetched again: more than a pull needs is at most what broken answers had given.
    assert sum(passage.given for passage in gets) <= needed + sum(passage.given for passage in broken)
    assert runner.bytes_of(machine) == baker.bytes_of(machine)
    assert place.tags(machine) == ["v1"]


def clean(place, machine):
    """Bytes of packs that a pull needs over a line that holds."""
    place.node().pull(machine)
    return sum(passage.given for passage in place.store.of("GET", "packs"))


def test_c6_answers_that_stop_coming_are_asked_for_elsewhere(place, machine):
    """And nobody says that they have."""
    baker, runner = place.node("baker", tries=20), place.node("runner", tries=20)
    place.store.rule = Unreliable(3, stalled)
    baker.push(machine)
    runner.pull(machine)
    for method, kind in (("PUT", "packs"), ("PUT", "maps"), ("GET", "packs"), ("GET", "maps")):
        assert any(passage.spoilt for passage in place.store.of(method, kind))
    assert runner.bytes_of(machine) == baker.bytes_of(machine)
