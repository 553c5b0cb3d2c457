"""The real registry and a plain model of it come to the same, whatever is done, and whatever goes wrong."""

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from protocol.machine_rules import RegistryBesideModel
from s3reg.store import together


class OneAfterTheOther:
    """In place of threads that read side by side: else which call is the n-th would be chance."""

    def __init__(self, _threads):
        self.map = map

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture(autouse=True)
def one_at_a_time(monkeypatch):
    monkeypatch.setattr(together, "ThreadPoolExecutor", OneAfterTheOther)


def run(folder, **how):
    counts = Counter()
    run_state_machine_as_test(
        lambda: RegistryBesideModel(folder, counts), settings=settings(deadline=None, print_blob=True, **how)
    )
    return counts


def test_s13_the_registry_is_what_its_model_says_and_nothing_is_lost_or_left_over(in_memory):
    counts = run(in_memory, max_examples=20, stateful_step_count=30, derandomize=True)
    assert counts["sweep"]
