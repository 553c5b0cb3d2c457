"""Each call of the store that an operation makes, from its first to its last, meets each fault.

An operation is what somebody does at a node or beside the store: the real client, the real application, the real store. The
operation ends well by itself or says what to do; what people see is the old state or the new one, whole; the same again
goes on where it stopped and comes to what it comes to without faults; and a sweep then leaves nothing over and takes nothing
that is needed. A test run takes each position once, with the faults in turn; a campaign takes them all.
"""

import itertools
import shutil
from pathlib import Path

import pytest

from campaign import port_world
from campaign.port_faults import Fault, faults_of
from campaign.port_operations import OPERATIONS
from campaign.port_rounds import RIVALS, Ground, Strike
from campaign.port_site import IMPATIENT, PATIENT

MOST_ROUNDS = 16
"""Of an operation, in a test run."""
RIVALRY = {Fault.SLOW, Fault.LATE}


@pytest.fixture(scope="module")
def memory(tmp_path_factory):
    """A folder, in memory where the machine has such."""
    made = tmp_path_factory.mktemp("campaign")
    shm = Path("/dev/shm")
    if not shm.is_dir():
        yield made
        return
    folder = shm / f"{made.parent.name}-{made.name}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def world(memory):
    with pytest.MonkeyPatch.context() as patch:
        port_world.small_packs(patch)
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


def all_strikes(ground):
    """Every fault at every position, patient and impatient, with every rival."""
    for at, call in enumerate(ground.calls, start=1):
        for fault in faults_of(call):
            for number, rival in enumerate(RIVALS if fault in RIVALRY else ["a sweep"]):
                for tries in (PATIENT, IMPATIENT):
                    yield Strike({at: fault}, tries, rival, anew=(at + number + tries) % 2 == 0)


def some_strikes(ground):
    """One fault at each position, in turn; of what takes long, at every so many-th."""
    rivals = itertools.cycle(RIVALS)
    kinds = list(Fault)
    step = len(ground.calls) // MOST_ROUNDS + 1
    for number, at in enumerate(range(1, len(ground.calls) + 1, step)):
        can = faults_of(ground.calls[at - 1])
        fault = next(one for one in itertools.islice(itertools.cycle(kinds), number, None) if one in can)
        yield Strike({at: fault}, (IMPATIENT, PATIENT)[number % 3 == 0], next(rivals), anew=number % 2 == 0)


@pytest.mark.parametrize("name", OPERATIONS)
def test_whatever_call_meets_a_fault_nothing_is_lost_and_the_next_try_ends_well(ground, name):
    prepared = ground(name)
    assert len(prepared.calls) >= prepared.operation.positions
    for strike in some_strikes(prepared):
        assert prepared.play(strike).struck, f"{strike} struck nothing"


@pytest.mark.campaign
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_call_meets_every_fault(ground, name):
    prepared = ground(name)
    met = set()
    for strike in all_strikes(prepared):
        told = prepared.play(strike)
        assert told.struck, f"{strike} struck nothing"
        met |= {fault for _, fault in told.struck}
    assert met >= {fault for call in prepared.calls for fault in faults_of(call)}
