"""kill -9 of a node's command at every request that it makes: nothing half is visible, and the same command goes on."""

import random
import threading

import pytest

from campaign.killing_wires import MOMENTS, kills
from campaign.operations import OPERATIONS, pushed
from campaign.wired_site import Nth
from machines import MIB

LEAST = {"push": (4, 3), "delta push": (3, 3), "pull": (2, 3), "update": (2, 2), "revert": (2, 0), "restore": (2, 0)}
"""Requests that each makes of the API and of the store, at least."""
WIRES = ("api", "outer")


def killed(site, job, wire, n, moment):
    """Whether the job's command died at its n-th request on this wire, all that must hold being checked."""
    began, child = threading.Event(), []

    def kill():
        assert began.wait(60)
        child[0].kill()

    rule = getattr(site, wire).rule = Nth(n, kills(kill, moment))
    child.append(job.run())
    began.set()
    died = child[0].killed
    site.mend()
    assert died == (rule.met is not None)
    job.check(None if died else child[0].outcome())
    return died


def drawn(operation):
    chance = random.Random(operation)
    places = [(wire, n) for wire, most in zip(WIRES, LEAST[operation], strict=True) for n in range(1, most + 1)]
    return (*chance.choice(places), chance.choice(MOMENTS))


@pytest.mark.parametrize("operation", sorted(LEAST)[::2])
def test_a_command_that_dies_at_one_of_its_requests_is_repeated(operation, bucket_site):
    wire, n, moment = drawn(operation)
    assert killed(bucket_site, OPERATIONS[operation](bucket_site), wire, n, moment)


@pytest.mark.campaign
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("operation", LEAST)
def test_a_command_that_dies_at_any_of_its_requests_is_repeated(operation, moment, fresh_site, record_property):
    deaths = 0
    for wire, least in zip(WIRES, LEAST[operation], strict=True):
        n = 0
        while killed(fresh_site, OPERATIONS[operation](fresh_site), wire, n + 1, moment):
            n += 1
        assert n >= least
        deaths += n
    fresh_site.check_clean()
    record_property("faults", deaths)


PACKS = 3
"""Of 8 MiB, into which 20 MiB of noise go."""


def resumed(site, n, moment):
    """A push of several packs, one at a time on the line, dies at the n-th: what the store had acknowledged stays there."""
    machine, _ = pushed(site, 0, sizes=(0,))
    machine.disk().write_bytes(random.Random(n).randbytes(20 * MIB))
    command = ("push", machine.name, "-t", "v1", "--jobs", "1")
    child, began = [], threading.Event()

    def kill():
        assert began.wait(60)
        child[0].kill()

    site.mend()  # so that only this push is counted
    rule = Nth(n, kills(kill, moment), lambda passage: (passage.method, passage.kind) == ("PUT", "packs"))
    site.outer.rule = rule
    child.append(site.on_node(machine.library, *command))
    began.set()
    assert child[0].killed
    assert rule.met is not None
    first = [passage.path for passage in site.outer.of("PUT", "packs") if passage is not rule.met]
    assert len(first) == n - 1
    site.mend()
    site.on_node(machine.library, *command).done()
    second = [passage.path for passage in site.outer.of("PUT", "packs")]
    # The last one that was acknowledged may not have been noted when the process died.
    assert not set(first[:-1]) & set(second)
    assert len(second) <= PACKS - max(0, n - 2)
    fresh = site.node()
    fresh.pull(machine)
    assert fresh.bytes_of(machine) == site.node(machine.library).bytes_of(machine)


def test_a_killed_push_sends_no_pack_again_but_the_one_on_the_line(bucket_site):
    resumed(bucket_site, PACKS, "amid")


@pytest.mark.campaign
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_push_killed_at_any_pack_sends_none_again_but_the_one_on_the_line(moment, bucket_site):
    for n in range(1, PACKS + 1):
        resumed(bucket_site, n, moment)
    bucket_site.check_clean()
