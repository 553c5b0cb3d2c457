"""One request of an operation goes wrong, at each position of it and on each wire: it ends well, or says what to do.

Over MinIO, with wires between nodes and the API, nodes and the store, the registry and the store.
"""

import itertools
import random

import pytest

import http_wires as faults
from campaign.forks import PATIENCE
from campaign.operations import OPERATIONS
from campaign.wired_site import Nth

FAULTS = {
    "a reset": faults.resets,
    "a lost answer": faults.done_but_lost,
    "half of the request": faults.takes(0.5),
    "half of the answer": faults.gives(0.5),
    "an answer that ends early": faults.gives(0.5, faults.ends),
    "an answer that is too short": faults.shortened(0.5),
    "500": faults.says(500, "InternalError"),
    "500, and it was done": faults.done_but(500),
    "503": faults.says(503, "SlowDown", Retry_After="1"),
    "429": faults.says(429, "TooManyRequests", Retry_After="1"),
    "nothing": faults.silent,
    "nothing, and it was done": faults.done_but_silent,
    "a page": faults.page,
}
WIRES = ("api", "outer", "inner")
SILENT = {"nothing", "nothing, and it was done"}
SOON = 1.0
"""Seconds that are waited for what never comes."""
ON_THE_STORE = {"sweep", "check"}
"""Without a registry between."""
LEAST = {
    "push": (5, 3, 30),
    "delta push": (4, 3, 28),
    "pull": (2, 3, 8),
    "update": (2, 2, 8),
    "revert": (2, 0, 8),
    "untag": (2, 0, 8),
    "retag": (2, 0, 8),
    "restore": (2, 0, 6),
    "purge": (2, 0, 6),
    "sweep": (0, 0, 40),
    "check": (0, 0, 15),
}
"""Requests that each makes on each wire, at least."""


def spoilt(site, operation, wire, n, fault):
    """What the n-th request's fault came to, all that must hold being checked; None: there is no such request."""
    job = OPERATIONS[operation](site)
    rule = getattr(site, wire).rule = Nth(n, FAULTS[fault])
    # Where the registry waits in vain, the node has to wait longer.
    site.patience = SOON if fault in SILENT and (wire != "inner" or operation in ON_THE_STORE) else PATIENCE
    outcome = job.run().outcome()
    site.mend()
    site.patience = PATIENCE
    if rule.met is None:
        return None
    try:
        job.check(outcome)
    except Exception as e:
        e.add_note(f"{operation}: {fault} at request {n} on {wire}: {rule.met.method} {rule.met.kind}; {job.said}")
        raise
    return job


def drawn(count):
    """So many of all places and faults, the same in every run: each fault before one comes again, each operation too."""
    chance = random.Random(7)
    names, kinds = (chance.sample(sorted(all_of_them), len(all_of_them)) for all_of_them in (OPERATIONS, FAULTS))
    for operation, fault in itertools.islice(zip(itertools.cycle(names), itertools.cycle(kinds), strict=False), count):
        places = [(wire, n) for wire, most in zip(WIRES, LEAST[operation], strict=True) for n in range(1, most + 1)]
        yield operation, *chance.choice(places), fault


@pytest.mark.parametrize(("operation", "wire", "n", "fault"), list(drawn(len(OPERATIONS))))
def test_an_operation_survives_a_fault_at_one_of_its_requests(operation, wire, n, fault, bucket_site):
    assert spoilt(bucket_site, operation, wire, n, fault) is not None


def test_what_the_faults_before_left_over_a_sweep_removes(bucket_site):
    bucket_site.check_clean()


@pytest.mark.campaign
@pytest.mark.parametrize("turn", range(len(FAULTS)))
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_survives_a_fault_at_every_request(operation, turn, fresh_site, record_property):
    """Each request meets one; in as many turns as there are faults it meets all of them."""
    kinds, met, said = list(FAULTS), 0, set()
    for wire, least in zip(WIRES, LEAST[operation], strict=True):
        n = 0
        while (job := spoilt(fresh_site, operation, wire, n + 1, kinds[(n + turn) % len(kinds)])) is not None:
            n, met = n + 1, met + 1
            said.update(job.said)
        assert n >= least, (wire, n)
    fresh_site.check_clean()
    record_property("faults", met)
    record_property("said", sorted(said))
