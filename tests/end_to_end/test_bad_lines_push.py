"""What a push makes of a store that answers badly: nothing is sent twice for nothing, and nothing half is ever shown."""

import pytest

import http_wires as faults
import machines
import refusals
import running
import wired
from machines import KIB, MIB
from s3reg.client.connection import BUDGET
from s3reg.errors import LinkRefused, RegistryUnreachable, S3regError
from wired import each, first_of_each

SIZES = (1500 * KIB, 700 * KIB)
PASSING = {
    "500": faults.says(500, "InternalError"),
    "500, and it was stored": faults.done_but(500),
    "503": faults.says(503, "SlowDown"),
    "403": faults.says(403, "AccessDenied"),
    "bytes that arrived wrong": faults.says(400, "BadDigest"),
    "a reset": faults.resets,
    "a reset in the body": faults.takes(0.5),
    "a reset behind the body": faults.takes(1),
    "a reset, and it was stored": faults.done_but_lost,
    "nothing": faults.silent,
    "nothing, and it was stored": faults.done_but_silent,
    "that the key is taken, and it is": faults.done_but(412),
}
LASTING = {
    "500": (faults.says(500, "InternalError"), RegistryUnreachable, "the store answered 500 InternalError"),
    "403": (faults.says(403, "AccessDenied"), LinkRefused, "403 AccessDenied"),
    "bytes that arrived wrong": (faults.says(400, "BadDigest"), RegistryUnreachable, "other bytes than were sent"),
    "a reset in the body": (faults.takes(0.5), RegistryUnreachable, "does not answer"),
    "nothing": (faults.silent, RegistryUnreachable, "does not answer: Read timed out"),
}


@pytest.fixture(scope="module")
def served(minio, tmp_path_factory):
    with wired.wired(minio, tmp_path_factory.mktemp("wired")) as place:
        yield place


@pytest.fixture
def place(served):
    yield served
    served.mend()


def stored(place, kind):
    """What the store has of this kind from the packs and maps that went by."""
    return [passage for passage in place.store.of("PUT", kind) if passage.status == 200]


@pytest.mark.parametrize("fault", PASSING)
def test_what_passes_costs_a_second_try(fault, place):
    baker = place.node()
    machine = machines.make(baker.library.root, sizes=SIZES, state_size=0, name=fault, seed=len(fault))
    place.store.rule = first_of_each(PASSING[fault], "PUT", "packs", "maps")
    baker.push(machine)
    for kind, count in (("packs", 1), ("maps", 2)):
        # Whatever was said: each was stored once.
        assert len(stored(place, kind)) == len({p.path for p in place.store.of("PUT", kind)}) == count
        assert sum(passage.spoilt for passage in place.store.of("PUT", kind)) == count
    assert place.tags(machine) == ["v1"]
    place.mend()
    place.check(machine, baker.bytes_of(machine))


@pytest.mark.parametrize(("fault", "kind"), [*((fault, "packs") for fault in LASTING), ("403", "maps")])
def test_s6_c10_what_stays_is_said_and_repeating_goes_on(fault, kind, place):
    """No tag here of what is not there; what the store has by then is not sent again."""
    what, expected, words = LASTING[fault]
    baker = place.node(tries=3)
    machine = machines.make(baker.library.root, sizes=SIZES, state_size=0, name=f"{fault}, {kind}", seed=len(fault))
    place.store.rule = each(what, "PUT", kind)
    with pytest.raises(expected, match=words) as caught:
        baker.push(machine)
    told = f"{caught.value} {caught.value.next_step} {caught.value.as_dict()}"
    assert "X-Amz" not in told
    assert place.tags(machine) == []
    assert baker.library.ledger.tags(machine.id) == {}
    had = {passage.path for passage in stored(place, "packs")}
    assert len(had) == (kind == "maps")
    place.mend()
    baker.push(machine)
    assert not had & {passage.path for passage in place.store.of("PUT", "packs")}
    assert place.tags(machine) == ["v1"]
    place.check(machine, baker.bytes_of(machine))


@pytest.mark.parametrize("kind", ["packs", "maps"])
def test_a_store_that_says_it_has_what_it_has_not_is_found_out_and_the_next_push_works(kind, place):
    baker = place.node()
    machine = machines.make(baker.library.root, sizes=SIZES, state_size=0, name=f"taken {kind}")
    place.store.rule = each(faults.says(412, "PreconditionFailed"), "PUT", kind)
    with pytest.raises(S3regError) as caught:
        baker.push(machine)
    assert caught.value.next_step
    assert place.tags(machine) == []
    place.mend()
    baker.push(machine)
    place.check(machine, baker.bytes_of(machine))


def test_a_base_s_map_that_came_garbled_is_asked_for_again_and_done_without_in_the_end(place):
    baker = place.node()
    machine = machines.make(baker.library.root, sizes=SIZES, state_size=0, name="garbled")
    baker.push(machine)
    machines.scatter(machine.disk(), 2)
    place.store.rule = first_of_each(faults.flips(60), "GET", "maps")
    pushed = baker.push(machine, "v2")
    assert pushed.sent < MIB
    place.mend()
    place.check(machine, baker.bytes_of(machine))
    machines.scatter(machine.disk(), 2, seed=3)
    place.store.rule = each(faults.flips(60), "GET", "maps")
    # One that never comes sound is done without: what did not change goes again.
    assert baker.push(machine, "v3").sent > pushed.sent
    place.mend()
    place.check(machine, baker.bytes_of(machine))
    assert place.tags(machine) == ["v1", "v2", "v3"]


def test_a_store_that_is_down_is_asked_so_often_by_all_workers_together(place):
    baker = place.node(tries=10 * BUDGET)
    machine = machines.make(baker.library.root, sizes=(), state_size=0, name="large")
    machine.drives.append("large.img")
    (baker.library.root / "img_lib" / "large.img").write_bytes(machines.random.Random(5).randbytes(34 * MIB))
    machine.write_config()
    place.store.rule = each(faults.resets, "PUT", "packs")
    with pytest.raises(RegistryUnreachable):
        baker.push(machine)
    asked = place.store.of("PUT", "packs")
    packs = {passage.path for passage in asked}
    assert len(packs) >= 2
    assert len(asked) <= BUDGET + len(packs)
    place.mend()
    baker.push(machine)
    place.check(machine, baker.bytes_of(machine))


def test_a_command_ends_with_what_is_wrong_and_what_to_do(place, tmp_path):
    place.store.rule = each(faults.says(403, "AccessDenied"), "PUT", "packs")
    baker = running.Node(tmp_path / "baker", place.api.endpoint)
    machine = machines.make(baker.library, sizes=SIZES, state_size=0, name="refused")
    outcome = baker.run("push", machine.name, "-t", "v1")
    told = refusals.refused(outcome, 5)
    assert "the signed link is refused: 403 AccessDenied" in told
    assert "s3reg store check" in told
    with baker.start("--debug", "push", machine.name, "-t", "v1") as process:
        everything = "".join(process.communicate(timeout=running.SECONDS))
    assert "Traceback" in everything
    for text in (outcome.out, outcome.err, everything):
        assert "X-Amz-" not in text
        assert "Signature" not in text
    assert place.tags(machine) == []
