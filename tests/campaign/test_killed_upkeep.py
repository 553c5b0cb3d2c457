"""kill -9 of a sweep, a check, an adoption at every call of the store: the next one does the rest."""

import contextlib
import random
import threading

import pytest

from campaign.forking import MOMENTS
from campaign.killing_wires import kills
from campaign.operations import OPERATIONS, kept
from campaign.wired_site import Nth
from http_wires import Wire
from s3reg.errors import NotACopy
from s3reg.model import format as fmt

LEAST = {"sweep": (30, 30), "check": (15, 15)}
"""Requests of a bucket, and calls of a directory, that each makes, at least."""
ADOPTION = 15
"""Requests of a copy, at least."""


def killed_over_a_bucket(site, operation, n, moment):
    """Whether the command died at its n-th request, all that must hold being checked."""
    job = OPERATIONS[operation](site)
    died, rule = killed(site.inner, job.run, n, moment)
    job.check(None if died else job.run().done())
    return died and rule.met is not None


def killed(wire, run, n, moment):
    """Whether what `run` starts died at its n-th request on the wire."""
    began, child = threading.Event(), []

    def kill():
        assert began.wait(60)
        child[0].kill()

    rule = wire.rule = Nth(n, kills(kill, moment))
    child.append(run())
    began.set()
    died = child[0].killed
    wire.mend()
    assert died or child[0].code == 0
    return died, rule


def killed_over_a_directory(site, operation, n, moment):
    """The same, at its n-th call of the store."""
    job = OPERATIONS[operation](site)
    command = "gc" if operation == "sweep" else "fsck"
    died = site.command(command, dies=(n, moment)).killed
    job.check(None if died else job.run().done())
    return died


@pytest.mark.parametrize("operation", LEAST)
def test_a_sweep_or_a_check_that_dies_somewhere_is_repeated(operation, bucket_site, directory_site):
    chance = random.Random(operation)
    over_bucket, over_directory = (chance.randint(1, most) for most in LEAST[operation])
    assert killed_over_a_bucket(bucket_site, operation, over_bucket, chance.choice(MOMENTS))
    assert killed_over_a_directory(directory_site, operation, over_directory, chance.choice(MOMENTS))
    directory_site.check_clean()


@pytest.mark.campaign
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("operation", LEAST)
@pytest.mark.parametrize("where", ["bucket", "directory"])
def test_a_sweep_or_a_check_that_dies_anywhere_is_repeated(where, operation, moment, request, record_property):
    site = request.getfixturevalue(f"{where}_site")
    round_of = killed_over_a_bucket if where == "bucket" else killed_over_a_directory
    n = 0
    while round_of(site, operation, n + 1, moment):
        n += 1
        # A sweep reads what those before it left: with all of that, the next one would never come past its last call.
        site.store.delete([stat.key for stat in site.store.list(fmt.MARKERS)])
    assert n >= LEAST[operation][where == "directory"]
    site.check_clean()
    record_property("faults", n)


class Copies:
    """One bucket at two addresses: what was made at one is a copy at the other, until it is adopted there."""

    def __init__(self, site, wire):
        self._site = site
        self._wires = [site.inner, wire]

    def run(self):
        """The adoption at the address where it is a copy."""
        place = ("--store", self._site.place[1], "--s3-endpoint", self._wires[1].endpoint)
        return self._site.start("adopt", *place, "-y", **self._site.environment)

    def killed(self, n, moment):
        """Whether an adoption died at its n-th request; the next one comes to what it should have, or finds that it has."""
        died, _ = killed(self._wires[1], self.run, n, moment)
        if died:
            outcome = self.run().outcome()
            done = outcome.code == NotACopy.kind.exit_code and "is no copy" in outcome.err
            assert outcome.code == 0 or done, outcome.err
        self._wires.reverse()
        place = ("--store", self._site.place[1], "--s3-endpoint", self._wires[0].endpoint)
        checked = self._site.start("fsck", "-j", *place, **self._site.environment).done().answer["body"]
        assert checked["damage"] == []
        assert not checked["foreign_count"]
        self._site.start("gc", *place, **self._site.environment).done()
        return died


@pytest.fixture
def copies(bucket_site, minio):
    kept(bucket_site)
    with contextlib.ExitStack() as stack:
        yield (found := Copies(bucket_site, stack.enter_context(Wire(minio.endpoint))))
        if found._wires[0] is not bucket_site.inner:
            found.run().done()


def test_an_adoption_that_dies_somewhere_is_repeated(copies):
    assert copies.killed(ADOPTION - 3, "behind")


@pytest.mark.campaign
@pytest.mark.parametrize("moment", MOMENTS)
def test_an_adoption_that_dies_anywhere_is_repeated(copies, moment, record_property):
    n = 0
    while copies.killed(n + 1, moment):
        n += 1
    assert n >= ADOPTION
    record_property("faults", n)
