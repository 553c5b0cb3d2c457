"""kill -9 of a registry at every call of its store: whoever asked asks again, and it is as if nothing had been."""

import itertools
import random
import shutil
import threading

import pytest

from campaign.forking import MOMENTS
from campaign.killing_wires import kills
from campaign.operations import OPERATIONS
from campaign.wired_site import Nth, over_directory

LEAST = {
    "push": (30, 30),
    "delta push": (28, 28),
    "pull": (8, 8),
    "revert": (8, 8),
    "untag": (8, 8),
    "retag": (8, 8),
    "restore": (6, 6),
    "purge": (6, 6),
}
"""Requests of a bucket, and calls of a directory, that a registry makes for each, at least."""


def killed_over_a_bucket(site, operation, n, moment):
    """Whether the registry died at its n-th request of the store; it comes back at once, and the command ends well."""
    job = OPERATIONS[operation](site)
    alive = threading.Event()
    alive.set()

    def kill():
        alive.clear()
        site.server.kill()
        site.live()
        alive.set()

    site.api.rule = lambda _: alive.wait(60) and None
    rule = site.inner.rule = Nth(n, kills(kill, moment))
    outcome = job.run().outcome()
    alive.wait(60)
    site.mend()
    if rule.met is not None:
        assert outcome.code == 0, outcome.err
    job.check(outcome)
    return rule.met is not None


def killed_over_a_directory(site, operation, n, moment):
    """Whether a registry died at its n-th call of the store, its start included; another one follows it."""
    job = OPERATIONS[operation](site)
    site.server.kill()
    dying = site.live(dies=(n, moment))
    back = threading.Event()

    def follow():
        if dying.killed:
            site.live()
        back.set()

    thread = threading.Thread(target=follow)
    thread.start()
    site.api.rule = lambda _: dying.ended.is_set() and back.wait(60) and None
    outcome = job.run().outcome()
    died = dying.ended.is_set()
    if not died:
        dying.kill()
    thread.join()
    site.mend()
    job.check(outcome)
    return died


def drawn(operation, column):
    chance = random.Random(f"{operation} {column}")
    return chance.randint(1, LEAST[operation][column]), chance.choice(MOMENTS)


@pytest.mark.parametrize("operation", sorted(LEAST)[::3])
def test_a_registry_that_dies_at_a_request_of_its_bucket_costs_nothing(operation, bucket_site):
    assert killed_over_a_bucket(bucket_site, operation, *drawn(operation, 0))


@pytest.mark.parametrize("operation", sorted(LEAST)[1::3])
def test_a_registry_that_dies_at_a_call_of_its_directory_costs_nothing(operation, directory_site):
    assert killed_over_a_directory(directory_site, operation, *drawn(operation, 1))


@pytest.mark.campaign
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("operation", LEAST)
def test_a_registry_that_dies_at_any_request_of_its_bucket_costs_nothing(
    operation, moment, fresh_site, record_property
):
    n = 0
    while killed_over_a_bucket(fresh_site, operation, n + 1, moment):
        n += 1
    assert n >= LEAST[operation][0]
    fresh_site.check_clean()
    record_property("faults", n)


@pytest.mark.campaign
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("operation", LEAST)
def test_a_registry_that_dies_at_any_call_of_its_directory_costs_nothing(
    operation, moment, start, tmp_path, record_property
):
    for n in itertools.count():
        # A registry that starts reads all heads: with those of every round before, it would never come past the last call.
        folder = tmp_path / str(n)
        folder.mkdir()
        with over_directory(start, folder / "store", folder) as site:
            died = killed_over_a_directory(site, operation, n + 1, moment)
            if not died:
                site.check_clean()
                break
        shutil.rmtree(folder)
    assert n >= LEAST[operation][1]
    record_property("faults", n)
