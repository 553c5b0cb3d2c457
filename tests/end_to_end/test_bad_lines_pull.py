"""What a pull makes of a store that answers badly: it tries again while that may help, and says what is wrong otherwise."""

import threading

import pytest

import http_wires as faults
import machines
import refusals
import running
import wired
from http_wires import WAIT
from machines import KIB, MIB
from s3reg.client.connection import BUDGET
from s3reg.client.pace import Pace
from s3reg.client.progress import Silent
from s3reg.errors import ChunkDamaged, LinkRefused, RecordDamaged, RegistryUnreachable, StoreUnsuitable
from wired import DRIVE, each, first_of_each

PACKS = 4
PASSING = {
    "500": faults.says(500, "InternalError"),
    "503": faults.says(503, "SlowDown"),
    "403": faults.says(403, "AccessDenied"),
    "a reset": faults.resets,
    "nothing": faults.silent,
    "nothing after half a body": faults.gives(0.5, faults.silent),
    "half a body": faults.gives(0.5, faults.ends),
    "half a body and a reset": faults.gives(0.5),
    "no body": faults.gives(0, faults.ends),
    "an empty answer": faults.shortened(0),
    "a short answer": faults.shortened(0.5),
    "an endless answer": faults.endless(),
    "other bytes": faults.flips(150),
}
LASTING = {
    "500": (faults.says(500, "InternalError"), RegistryUnreachable, "the store answered 500 InternalError"),
    "503": (faults.says(503, "SlowDown"), RegistryUnreachable, "the store answered 503 SlowDown"),
    "403": (faults.says(403, "AccessDenied"), LinkRefused, "403 AccessDenied"),
    "a reset": (faults.resets, RegistryUnreachable, "does not answer: Connection reset"),
    "nothing": (faults.silent, RegistryUnreachable, "does not answer: Read timed out"),
    "no body": (faults.gives(0, faults.ends), RegistryUnreachable, "does not answer"),
    "an empty answer": (faults.shortened(0), RegistryUnreachable, "does not answer"),
    "all of it": (faults.endless(200), StoreUnsuitable, "ranges of objects"),
}
OF_MAPS = ["500", "nothing after half a body", "half a body", "an empty answer", "an endless answer", "other bytes"]
"""Maps are read whole, and one by one."""
FOUND = 16
"""Positions of a pack, and of a map, whose byte is changed; a campaign takes all of them."""


@pytest.fixture(scope="module")
def built(minio, tmp_path_factory):
    with wired.wired(minio, tmp_path_factory.mktemp("wired")) as place:
        baker = place.node("baker")
        yield place, baker, wired.in_packs(baker, PACKS, seed=1)


@pytest.fixture
def place(built):
    yield built[0]
    built[0].mend()


@pytest.fixture
def machine(built):
    return built[2]


@pytest.fixture
def pushed(built):
    """The bytes that the newest version has."""
    return built[1].bytes_of(built[2])


class Arrived(Silent):
    """A progress that says when so many bytes are done."""

    def __init__(self, most):
        self.event = threading.Event()
        self._left, self._counting = most, threading.Lock()

    def advance(self, count):
        with self._counting:
            self._left -= count
            if self._left <= 0:
                self.event.set()


def check_said(error, url):
    """One line that names the store's address, one that says what to do, and nothing of a link."""
    told = f"{error} {error.next_step} {error.as_dict()}"
    assert "X-Amz" not in told
    assert "Signature" not in told
    assert error.next_step
    if isinstance(error, RegistryUnreachable | StoreUnsuitable):
        assert url in str(error)


@pytest.mark.parametrize(
    ("fault", "kind"), [*((fault, "packs") for fault in PASSING), *((fault, "maps") for fault in OF_MAPS)]
)
def test_what_passes_costs_a_second_try(fault, kind, place, machine, pushed):
    runner = place.node()
    place.store.rule = first_of_each(PASSING[fault], "GET", kind)
    runner.pull(machine)
    assert runner.bytes_of(machine) == pushed
    spoilt = [passage for passage in place.store.of("GET", kind) if passage.spoilt]
    assert len(spoilt) == PACKS
    if fault == "an endless answer":
        assert all(passage.given < 16 * MIB for passage in spoilt)


@pytest.mark.parametrize(
    ("fault", "kind"), [*((fault, "packs") for fault in LASTING), ("403", "maps"), ("nothing", "maps")]
)
def test_what_stays_is_said_and_repeating_goes_on(fault, kind, place, machine, pushed):
    what, expected, words = LASTING[fault]
    runner = place.node(tries=3)
    place.store.rule = each(what, "GET", kind)
    with pytest.raises(expected, match=words) as caught:
        runner.pull(machine)
    check_said(caught.value, place.store.endpoint)
    assert runner.library.vms() == []
    if fault == "all of it":
        # Cut off at once: what was given is what sockets hold, of an answer without an end.
        assert all(passage.given < 16 * MIB for passage in place.store.of("GET", kind))
    place.mend()
    runner.pull(machine)
    assert runner.bytes_of(machine) == pushed


def test_the_time_that_a_store_asks_for_is_given_to_it(place, machine, pushed):
    runner = place.node()
    place.store.rule = first_of_each(faults.says(503, "SlowDown", Retry_After="3"), "GET", "packs", "maps")
    runner.pull(machine)
    assert runner.bytes_of(machine) == pushed
    assert len(runner.pauses) == 2 * PACKS
    assert min(runner.pauses) >= 3


def test_c2_a_pull_after_one_that_failed_does_not_take_the_rest_for_there(place, machine, pushed):
    """Two packs came, the others did not: only those that did not are fetched by the next run."""
    runner = place.node(tries=2, stall=60)
    came = Arrived(2 * DRIVE)

    def too_late(passage):
        assert came.event.wait(WAIT)
        faults.says(503)(passage)

    place.store.rule = lambda passage: (
        too_late if passage.kind == "packs" and len(place.store.of("GET", "packs")) > 2 else None
    )
    with pytest.raises(RegistryUnreachable):
        runner.pull(machine, progress=came)
    there = {passage.path for passage in place.store.of("GET", "packs") if passage.status == 206}
    assert len(there) == 2
    assert runner.library.vms() == []
    place.mend()
    pulled = runner.pull(machine)
    assert not pulled.already
    assert runner.bytes_of(machine) == pushed
    assert not {passage.path for passage in place.store.of("GET", "packs")} & there


def test_a_store_that_is_down_is_asked_so_often_by_all_workers_together(place, machine):
    """However often each may try: there is one budget of retries."""
    runner = place.node(tries=10 * BUDGET)
    place.store.rule = each(faults.says(503), "GET", "packs")
    with pytest.raises(RegistryUnreachable):
        runner.pull(machine)
    assert len(place.store.of("GET", "packs")) <= BUDGET + 2 * PACKS


def test_links_that_are_refused_are_renewed_for_all_workers_at_once(place, machine):
    """All are refused at the same time, three times: the registry is asked twice more, and not by each of them."""
    runner = place.node(pace=Pace(jobs=PACKS), stall=WAIT)
    together = threading.Barrier(PACKS)

    def refused(passage):
        together.wait(WAIT)
        faults.says(403, "AccessDenied")(passage)

    place.store.rule = each(refused, "GET", "packs")
    with pytest.raises(LinkRefused):
        runner.pull(machine)
    assert len(place.store.of("GET", "packs")) == 3 * PACKS
    assert len(place.api.of("GET", "plan")) == 3


# --- Bytes that are others -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(built):
    """A VM of one small disk; its bytes, and the sizes of its pack and its map."""
    place, baker, _ = built
    machine = machines.make(baker.library.root, sizes=(), state_size=0, name="small")
    machine.drives.append("small.img")
    machine.disk().write_bytes(b"".join(b"%6d of a log\n" % (number // 40) for number in range(30 * KIB)))
    machine.write_config()
    baker.push(machine)
    runner = place.node()
    runner.pull(machine)
    sizes = {kind: sum(p.given for p in place.store.of("GET", kind)) for kind in ("packs", "maps")}
    place.mend()
    return machine, baker.bytes_of(machine), sizes


@pytest.mark.parametrize("kind", ["packs", "maps"])
@pytest.mark.parametrize("sample", [FOUND, pytest.param(10**9, marks=pytest.mark.campaign)])
def test_c4_each_flipped_byte_is_found(sample, kind, place, small):
    """The file is said and what of the store is bad, after it was asked for again; or the byte meant nothing."""
    machine, expected, sizes = small
    runner, harmless = place.node(), 0
    step = max(1, sizes[kind] // sample)
    for at in range(0, sizes[kind], step):
        place.store.rule = each(faults.flips(at, 1 << at % 8), "GET", kind)
        place.store.passed.clear()
        error = damage(runner, machine)
        if error is None:
            assert runner.bytes_of(machine) == expected
            runner, harmless = place.node(), harmless + 1
            continue
        asked = place.store.of("GET", kind)
        assert len(asked) >= 2, at
        assert "small.img" in str(error)
        assert asked[0].path.rpartition("/")[2] in str(error)
        assert runner.library.vms() == []
    assert harmless <= (0 if kind == "maps" else sizes[kind] // step // 8)


def damage(runner, machine):
    """What a pull says of bytes that are none of the version's; nothing, if all was well."""
    try:
        runner.pull(machine)
    except (ChunkDamaged, RecordDamaged) as e:
        return e
    return None


COMMANDS = {
    "403": (faults.says(403, "AccessDenied"), 5, "the signed link is refused: 403 AccessDenied", "store check"),
    "all of it": (faults.whole, 9, "does not keep: ranges of objects", "s3reg store check tells"),
    "other bytes": (faults.flips(100), 8, " is damaged: ", "pull another version"),
}


@pytest.mark.parametrize("what", COMMANDS)
def test_a_command_ends_with_what_is_wrong_and_what_to_do(what, place, machine, tmp_path):
    fault, code, says, advice = COMMANDS[what]
    place.store.rule = each(fault, "GET", "packs")
    runner = running.Node(tmp_path / "runner", place.api.endpoint)
    outcome = runner.run("pull", machine.name)
    told = refusals.refused(outcome, code)
    assert says in told
    assert advice in told
    with runner.start("--debug", "pull", machine.name) as process:
        everything = "".join(process.communicate(timeout=running.SECONDS))
    assert "Traceback" in everything
    for text in (outcome.out, outcome.err, everything):
        assert "X-Amz-" not in text
        assert "Signature" not in text
    assert not list((runner.library / "vm_lib").iterdir())
