"""Each call of the store that an operation makes, from its first to its last, meets each fault.

An operation is what somebody does at a node or beside the store: the real client, the real application, the real store. The
operation ends well by itself or says what to do; what people see is the old state or the new one, whole; the same again
goes on where it stopped and comes to what it comes to without faults; and a sweep then leaves nothing over and takes nothing
that is needed. A test run takes some positions, a campaign every fault at each of them.
"""

import itertools
import os
import random
import shutil
from collections import defaultdict
from pathlib import Path

import pytest

from campaign import port_world
from campaign.port_faults import LINK_GET, LINK_PUT, Fault, faults_of
from campaign.port_operations import OPERATIONS
from campaign.port_rounds import Ground, Strike
from campaign.port_site import IMPATIENT, PATIENT

ROUNDS = 8
"""Of an operation, in a test run."""
SEEDS = 6
"""Bits that flip in what a node gets, each in a round of its own."""
RIVALRY = {Fault.SLOW, Fault.LATE}


@pytest.fixture(scope="module")
def memory(tmp_path_factory):
    """A folder, in memory where the machine has such."""
    made = tmp_path_factory.mktemp("campaign")
    shm = Path("/dev/shm")
    if not shm.is_dir():
        yield made
        return
    folder = shm / f"{made.parent.name}-{made.name}-{os.getpid()}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def world(memory):
    with pytest.MonkeyPatch.context() as patch:
        port_world.in_small(patch)
        yield memory / "world", port_world.make(memory / "world")


@pytest.fixture(scope="module")
def ground(memory, world):
    """`ground(name)`: an operation, prepared."""
    made = {}

    def prepared(name):
        if name not in made:
            made[name] = Ground(memory / name.replace(" ", "-"), *world, OPERATIONS[name])
        return made[name]

    return prepared


def all_strikes(ground, fault):
    """A fault at every position, with every rival, and with several bits; patient and impatient in turn."""
    for at, call in enumerate(ground.calls, start=1):
        if fault in faults_of(call):
            rivals = ground.operation.rivals if fault in RIVALRY else ground.operation.rivals[:1]
            seeds = range(at, at + SEEDS) if fault is Fault.CORRUPT and call.verb == LINK_GET else (at,)
            for turn, (rival, seed) in enumerate(itertools.product(rivals, seeds), start=at):
                yield Strike({at: fault}, (PATIENT, IMPATIENT)[turn % 2], rival, turn // 2 % 2 == 0, seed=seed)


def some_strikes(ground):
    """Some of these: the faults in turn, at calls of any verb; another operation begins with other ones."""
    begin = list(OPERATIONS).index(ground.operation.name) * ROUNDS
    chance = random.Random(begin)
    for number, fault in enumerate(itertools.islice(itertools.cycle(Fault), begin, begin + ROUNDS)):
        places = defaultdict(list)
        for at, call in enumerate(ground.calls, start=1):
            if fault in faults_of(call):
                places[call.verb].append(at)
        if places:
            at, rival = chance.choice(chance.choice(list(places.values()))), chance.choice(ground.operation.rivals)
            yield Strike({at: fault}, (PATIENT, IMPATIENT)[number % 2], rival, number % 3 == 0, seed=number)


def drawn_strikes(ground, count):
    """Two faults each: both in one try, or the second in the try that follows."""
    chance = random.Random(ground.operation.name)
    for _ in range(count):
        first, second = sorted(chance.choices(range(1, len(ground.calls) + 1), k=2))
        faults = {at: chance.choice(faults_of(ground.calls[at - 1])) for at in (first, second)}
        more = {"tries": chance.choice((PATIENT, IMPATIENT)), "rival": chance.choice(ground.operation.rivals)}
        more["anew"] = chance.random() < 0.5
        if chance.random() < 0.5:
            yield Strike(faults, **more)
        else:
            yield Strike({first: faults[first]}, then={second: chance.choice(list(Fault))}, **more)


@pytest.mark.parametrize("name", OPERATIONS)
def test_s1_s4_whatever_call_meets_a_fault_nothing_is_lost_and_the_next_try_ends_well(ground, name):
    prepared = ground(name)
    assert len(prepared.calls) >= prepared.operation.positions
    for strike in some_strikes(prepared):
        assert prepared.play(strike).struck, f"{strike} struck nothing"


def test_the_sample_has_every_fault_and_the_campaign_every_call_of_a_store(ground):
    grounds = [ground(name) for name in ("push", "pull that was fetched first", "sweep", "adoption")]
    strikes = [strike for one in grounds for strike in some_strikes(one)]
    assert {fault for strike in strikes for fault in strike.faults.values()} == set(Fault)
    verbs = {call.verb for one in grounds for call in one.calls}
    assert verbs == {"get", "stat", "put", "delete", "list", "sign_get", "sign_gets", "sign_put", LINK_GET, LINK_PUT}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("count", [1, pytest.param(60, marks=pytest.mark.campaign)])
def test_two_faults_are_no_worse_than_one(ground, count, name):
    prepared = ground(name)
    for strike in drawn_strikes(prepared, count):
        assert prepared.play(strike).struck, f"{strike} struck nothing"


@pytest.mark.campaign
@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_call_meets_every_fault(ground, name, fault):
    failed = []
    for strike in all_strikes(ground(name), fault):
        try:
            assert ground(name).play(strike).struck, f"{strike} struck nothing"
        except AssertionError as e:  # the others are worth knowing too
            failed.append(f"{e}: {e.__cause__}")
    assert not failed, "\n".join(failed)
