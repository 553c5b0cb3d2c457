"""kill -9 at any moment: of a push, a pull, a registry. Repeating the command ends where it would have ended."""

import random
import time

import pytest

import machines
import running
from machines import MIB

ROUNDS = pytest.mark.parametrize("rounds", [1, pytest.param(200, marks=pytest.mark.campaign)])
"""Of kills at random moments."""


def killed_at(node, delay, *command):
    """The command, killed after so many seconds; whether it was still running then."""
    with node.start(*command) as process:
        time.sleep(delay)
        running_still = process.poll() is None
        process.kill()
        process.communicate(timeout=running.SECONDS)
    return running_still


@pytest.fixture
def big(baker):
    return machines.make(baker.library, sizes=(40 * MIB, 9 * MIB))


@ROUNDS
def test_s1_s4_a_killed_push_is_invisible_and_its_repetition_completes(baker, runner, big, rounds):
    chance = random.Random(11)
    for number in range(rounds):
        tag = f"v{number}"
        machines.scatter(big.disk(), 30, seed=number)
        for _ in range(3):
            if not killed_at(baker, chance.uniform(0.3, 1.5), "push", big.name, "-t", tag):
                break
            listed = runner.run("-j", "describe", big.name).answer
            tags = [row["tag"] for row in (listed["body"] or {}).get("versions", [])]
            assert tags in ([f"v{n}" for n in range(number)], [f"v{n}" for n in range(number + 1)])
        baker.done("push", big.name, "-t", tag)  # also if a run that was killed late, or ended by itself, had committed
        runner.done("pull", big.name, "-t", tag)
        assert machines.contents(runner.library, big) == machines.contents(baker.library, big)


@ROUNDS
def test_c1_a_killed_pull_shows_the_old_vm_or_the_new_one_or_none(baker, runner, big, rounds):
    baker.done("push", big.name, "-t", "v1")
    versions = {"v1": machines.contents(baker.library, big)}
    machines.scatter(big.disk(), 200)
    baker.done("push", big.name, "-t", "v2")
    versions["v2"] = machines.contents(baker.library, big)
    chance = random.Random(12)
    for number in range(rounds):
        tag = "v1" if number % 2 else "v2"
        for _ in range(3):
            killed_at(runner, chance.uniform(0.25, 1.2), "pull", big.name, "-t", tag)
            if (runner.library / "vm_lib" / big.id).is_dir():
                assert machines.contents(runner.library, big) in versions.values()
        runner.done("pull", big.name, "-t", tag)
        assert machines.contents(runner.library, big) == versions[tag]


def test_s6_a_repeated_push_does_not_send_what_the_store_has(baker, big):
    """One pack at a time on the line: kill the push once some are noted, and count what the second run sends."""
    full = baker.done("-j", "push", big.name, "-t", "whole").answer["body"]["sent"]
    other = machines.make(baker.library, sizes=(40 * MIB, 9 * MIB), name="other", seed=77)
    log = baker.library / ".s3reg" / "push" / f"{other.id}.jsonl"
    with baker.start("push", "other", "-t", "v1") as process:
        for _ in range(2000):
            if process.poll() is not None or (log.is_file() and log.read_bytes().count(b'"pack"') >= 1):
                break
            time.sleep(0.005)
        process.kill()
        process.communicate(timeout=running.SECONDS)
    noted = log.is_file() and log.read_bytes().count(b'"pack"')
    again = baker.done("-j", "push", "other", "-t", "v1").answer["body"]
    assert not noted or again["sent"] < full


def test_s1_a_registry_that_is_killed_during_a_push_costs_nothing(store, tmp_path):
    arguments, settings = store
    with running.serving(tmp_path, *arguments, **settings) as first:
        node = running.Node(tmp_path / "node", first.url)
        machine = machines.make(node.library, sizes=(30 * MIB,))
        with node.start("push", machine.name, "-t", "v1") as push:
            time.sleep(0.8)
            first.kill()
            listen = first.url.removeprefix("http://")
            with running.serving(tmp_path, *arguments, listen=listen, **settings) as second:
                _, err = push.communicate(timeout=running.SECONDS)
                assert push.returncode == 0, err
                other = running.Node(tmp_path / "other", second.url)
                other.done("pull", machine.name)
                assert machines.contents(other.library, machine) == machines.contents(node.library, machine)
