"""Links that end while a slow line keeps their requests: the store itself refuses them, and fresh ones are asked for."""

import threading
import time
from datetime import datetime
from urllib.parse import parse_qs

import pytest

import http_wires as faults
import machines
import wired
from machines import MIB
from s3reg.client.pace import Pace

PACKS = 5
SECONDS = 1


@pytest.fixture
def place(minio, tmp_path):
    with wired.wired(minio, tmp_path) as place:
        yield place


def slow(passage):
    """Passes once its link has ended."""
    query = parse_qs(passage.target.partition("?")[2])
    signed = datetime.strptime(query["X-Amz-Date"][0] + "+0000", "%Y%m%dT%H%M%SZ%z").timestamp()
    # There is nobody to wait for but the clock.
    threading.Event().wait(max(0, signed + int(query["X-Amz-Expires"][0]) + 1 - time.time()))
    faults.passes(passage)


def overdue(passage):
    """A rule: packs whose links end soon come over a slow line."""
    return slow if passage.kind == "packs" and f"X-Amz-Expires={SECONDS}&" in passage.target else None


def fresh_from_the_second(place, method, kind):
    """A rule that notes how often the registry is asked: the first links end soon, later ones do not."""

    def rule(_):
        if len(place.api.of(method, kind)) > 1:
            place.objects.seconds = None

    return rule


def test_a_pull_renews_its_links_once_for_all_workers(place):
    baker, runner = place.node("baker"), place.node("runner", stall=30, pace=Pace(jobs=PACKS))
    machine = wired.in_packs(baker, PACKS, seed=2)
    place.mend()
    place.objects.seconds = SECONDS
    place.store.rule, place.api.rule = overdue, fresh_from_the_second(place, "GET", "plan")
    runner.pull(machine)
    asked = place.store.of("GET", "packs")
    assert sorted(passage.status for passage in asked) == [206] * PACKS + [403] * PACKS
    assert len(place.api.of("GET", "plan")) == 2
    assert runner.bytes_of(machine) == baker.bytes_of(machine)
    assert runner.pauses == []


def test_a_push_asks_again_for_the_links_that_ended_and_for_no_others(place):
    baker = place.node("baker", stall=30)
    machine = machines.make(baker.library.root, sizes=(2 * MIB,), state_size=0)
    place.objects.seconds = SECONDS
    place.store.rule, place.api.rule = overdue, fresh_from_the_second(place, "POST", "uploads")
    baker.push(machine)
    assert [passage.status for passage in place.store.of("PUT", "packs")] == [403, 200]
    assert [passage.status for passage in place.store.of("PUT", "maps")] == [200]
    assert len(place.api.of("POST", "uploads")) == 3
    place.mend()
    place.check(machine, baker.bytes_of(machine))
