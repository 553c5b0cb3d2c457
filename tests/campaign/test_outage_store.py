"""MinIO, or it and the registry, are killed at a request of an operation and come back: at once, or when somebody looks.

The moments are requests that a wire sees, not seconds.
"""

import contextlib
import random
import threading

import pytest

import servers
from campaign.killing_wires import MOMENTS, kills
from campaign.operations import OPERATIONS
from campaign.wired_site import Nth, over_minio

WIRES = ("outer", "inner")
LEAST = {"push": (3, 30), "delta push": (3, 28), "pull": (3, 8), "update": (2, 8), "sweep": (0, 40), "check": (0, 15)}
"""Requests of the store: by a node; by a registry, or the command itself."""
BY_NODES = {"push", "delta push", "pull", "update"}
ROUNDS = 20
"""Of a campaign, for each operation and way."""


class Minio:
    """A MinIO that can be killed, and comes back at its address with what it had."""

    def __init__(self, folder):
        self._folder, self._port = folder, servers.free_port()
        self._running = contextlib.ExitStack()
        self.live()

    def live(self):
        self.dead = False
        self.server = self._running.enter_context(servers.minio(self._folder, port=self._port))

    def kill(self):
        """kill -9: nobody answers at its address."""
        self.dead = True
        self.server.kill()
        self._running.close()

    def close(self):
        self._running.close()


@pytest.fixture(scope="module")
def mortal(tmp_path_factory):
    with contextlib.closing(Minio(tmp_path_factory.mktemp("mortal"))) as mortal:
        yield mortal


@pytest.fixture(scope="module")
def standing(start, mortal, tmp_path_factory):
    with over_minio(start, mortal.server, tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def site(standing, mortal):
    """Where everybody lives, whatever became of them in the test before."""
    standing.mend()
    if mortal.dead:
        mortal.live()
    if standing.server.ended.is_set():
        standing.live()
    return standing


def drawn(operation, chance):
    """A wire, a position, a moment."""
    places = [(wire, n) for wire, most in zip(WIRES, LEAST[operation], strict=True) for n in range(1, most + 1)]
    return *chance.choice(places), chance.choice(MOMENTS)


def comes_back_at_once(site, mortal, operation, where, *, api_too=False):
    """The operation ends well by itself, or says what to do and succeeds when it is repeated."""
    wire, n, moment = where
    job = OPERATIONS[operation](site)
    alive = threading.Event()
    alive.set()

    def kill():
        alive.clear()
        mortal.kill()
        if api_too:
            site.server.kill()
        mortal.live()
        if api_too:
            site.live()
        alive.set()

    rule = Nth(n, kills(kill, moment))
    getattr(site, wire).rule = rule
    # A node's pauses are shortened, and who was killed takes a moment to come back: whoever asks meanwhile, waits here.
    site.api.rule = lambda _: alive.wait(60) and None
    site.outer.rule = lambda passage: (rule(passage) if wire == "outer" else None) or (alive.wait(60) and None)
    outcome = job.run().outcome()
    assert alive.wait(60)
    assert rule.met is not None
    job.check(outcome)
    if operation in BY_NODES:
        assert outcome.code == 0, outcome.err


def stays_away(site, mortal, operation, where):
    """The operation says who does not answer; once the store is back, it succeeds."""
    wire, n, moment = where
    job = OPERATIONS[operation](site)
    gone = threading.Event()

    def kill():
        if not gone.is_set():
            mortal.kill()
        gone.set()

    rule = getattr(site, wire).rule = Nth(n, kills(kill, moment))
    outcome = job.run().outcome()
    assert rule.met is not None
    mortal.live()
    if outcome.code:
        assert outcome.code == 10
        assert "does not answer" in outcome.err
    job.check(outcome)


@pytest.mark.parametrize(
    ("operation", "where"),
    [("push", ("outer", 1, "amid")), ("pull", ("outer", 3, "amid")), ("sweep", ("inner", 25, "behind"))],
)
def test_a_store_that_dies_and_comes_back_costs_nothing(operation, where, site, mortal):
    comes_back_at_once(site, mortal, operation, where)


def test_a_store_and_a_registry_that_die_together_and_come_back_cost_nothing(site, mortal):
    comes_back_at_once(site, mortal, "push", ("inner", 20, "behind"), api_too=True)


@pytest.mark.parametrize(("operation", "wire", "n"), [("push", "inner", 28), ("check", "inner", 5)])
def test_a_store_that_stays_away_is_told_and_the_next_try_succeeds(operation, wire, n, site, mortal):
    stays_away(site, mortal, operation, (wire, n, "before"))


@pytest.mark.campaign
@pytest.mark.parametrize("way", ["it comes back", "both come back", "it stays away"])
@pytest.mark.parametrize("operation", LEAST)
def test_a_store_that_dies_anywhere_costs_at_most_a_second_try(operation, way, site, mortal):
    chance = random.Random(f"{operation} {way}")
    for _ in range(ROUNDS):
        where = drawn(operation, chance)
        if way == "it stays away":
            stays_away(site, mortal, operation, where)
        else:
            comes_back_at_once(site, mortal, operation, where, api_too=way == "both come back")
    site.check_clean()
