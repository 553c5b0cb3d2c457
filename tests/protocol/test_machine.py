"""The real registry and a plain model of it come to the same, whatever is done, and whatever goes wrong.

A run tries the same few hundred steps each time; `make campaign` some twenty thousand, others each time.
"""

import logging
import random
import secrets
import uuid
from collections import Counter

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from protocol.machine_clients import RegistryBesideModelAndClients
from protocol.machine_rules import RegistryBesideModel
from protocol.machine_troubles import KINDS
from s3reg.errors import S3regError
from s3reg.model.template import Head
from s3reg.registry import commit, expiry, roots
from s3reg.store import together

VERBS = ["open", "upload", "commit", "abort", "heartbeat", "revert", "untag", "delete", "retag", "restore", "purge"]
DONE = {
    *VERBS,
    *("purge all", "sweep", "dry run", "check", "read", "clone", "force", "delta", "unchanged", "late", "time passes"),
    *("game", "game: leaning", "base used", "base dropped", "versions at the end", "versions read whole"),
    *(f"trouble: {kind}" for kind in KINDS),
}
"""What a few hundred steps do, all of it."""
DONE_BY_MANY = {
    *DONE,
    *("add base", "commit: SessionExpired", "commit: SessionNotFound", "commit: TagTaken", "commit: NameTaken"),
    *("heartbeat: SessionExpired", "upload: SessionNotFound", "upload: SessionExpired"),
    *("restore: NotInTrash", "restore: RestoreTagTaken", "restore: NameTaken", "retag: NewTagTaken", "read: gone"),
    *("open: TagTaken", "open: NameTaken", "delete: TemplateNotFound"),
    *(f"{verb}: {how}" for verb in VERBS for how in ("again", "left")),
    *(f"sweep: broke off: {kind}" for kind in KINDS),
    *(f"meanwhile: {what}" for what in ("delete", "erase", "give_up", "go_on", "jump", "purge", "push", "revert")),
    *(f"meanwhile: {what}" for what in ("purge_all", "restore", "sweep", "untag")),
    *(f"game: {what}" for what in ("reverting", "untagging", "deleting", "purging", "restoring", "retagging")),
    *(f"game: {what}" for what in ("purging_all", "sweep", "commit", "push")),
    *("game: commit: SessionExpired", "game: commit: SessionNotFound"),
}


class OneAfterTheOther:
    """In place of threads that read side by side: else which call is the n-th would be chance."""

    def __init__(self, _threads):
        self.map = map

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture(autouse=True)
def nothing_by_chance(monkeypatch):
    """The same steps come to the same: by ids things are sorted, so by ids which call of a sweep is the n-th."""
    monkeypatch.setattr(together, "ThreadPoolExecutor", OneAfterTheOther)
    # Of the generator that Hypothesis seeds before each run.
    monkeypatch.setattr(secrets, "token_hex", lambda nbytes: random.randbytes(nbytes).hex())
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(bytes=random.randbytes(16), version=4))


def run(machine, folder, **how):
    """How often what was done."""
    counts = Counter()
    told = settings(deadline=None, print_blob=True, **{"derandomize": True, **how})
    run_state_machine_as_test(lambda: machine(folder, counts), settings=told)
    return counts


def test_s13_the_registry_is_what_its_model_says_and_nothing_is_lost_or_left_over(in_memory):
    counts = run(RegistryBesideModel, in_memory, max_examples=20, stateful_step_count=30)
    assert {what for what in DONE if not counts[what]} == set()


def test_s13_so_it_is_where_nodes_push_and_pull(in_memory):
    counts = run(RegistryBesideModelAndClients, in_memory, max_examples=5, stateful_step_count=15)
    assert counts["client: pushed"]
    assert counts["client: pull"]


@pytest.mark.campaign
def test_the_registry_is_what_its_model_says_for_many_steps(in_memory):
    logging.getLogger("s3reg").setLevel(logging.WARNING)  # what pytest keeps of it would fill the memory
    counts = run(RegistryBesideModel, in_memory, max_examples=400, stateful_step_count=50, derandomize=False)
    never = {what for what in DONE_BY_MANY if not counts[what]}
    assert len(never) <= len(DONE_BY_MANY) // 20, never  # which of the rare ones happen is chance


@pytest.mark.campaign
def test_so_it_is_where_nodes_push_and_pull_for_many_steps(in_memory):
    logging.getLogger("s3reg").setLevel(logging.WARNING)
    counts = run(RegistryBesideModelAndClients, in_memory, max_examples=60, stateful_step_count=30, derandomize=False)
    assert counts["client: pushed"]
    assert counts["client: pull"]


# --- It bites ---------------------------------------------------------------------------------------------------------

WEAKENED = {
    "the trash is emptied too early": (expiry, "lets_go", lambda _, now: True),
    "a sweep does not hold what pushes need": (roots.Roots, "hold", lambda _, sessions: None),
    "a commit does not look whether its push was given up": (commit, "_check_still_open", lambda _, session: None),
    "an untag takes newer versions too": (Head, "untag", Head.revert),
}


@pytest.mark.parametrize("weakness", WEAKENED)
def test_s13_a_weaker_registry_is_caught(weakness, in_memory, monkeypatch):
    monkeypatch.setattr(*WEAKENED[weakness])
    with pytest.raises((AssertionError, S3regError)):
        run(
            RegistryBesideModel,
            in_memory,
            max_examples=40,
            stateful_step_count=30,
            phases=[Phase.generate],
            report_multiple_bugs=False,
        )
