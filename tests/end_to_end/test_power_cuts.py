"""The power goes, during or after a transfer: on a real XFS that loses what was not synced, in another boot of the machine.

What a disk wrote early of its own accord, a journal before what it tells of, is brought about on purpose (cutting.py).
"""

import json
import subprocess
import sys
import time

import pytest

import cutting
import file_systems
import machines
import running
import servers
from machines import MIB

MANY = 100
"""Rounds of a campaign."""


@pytest.fixture
def registry(tmp_path):
    with running.serving(tmp_path, "--store", tmp_path / "store", "--workers", "1") as registry:
        yield registry


@pytest.fixture
def disk(tmp_path):
    with file_systems.mounted(tmp_path / "node", "xfs") as disk:
        yield disk


def play(scenario, folder, url, rounds):
    """How many transfers died half-way in so many rounds, all of which were survived."""
    file_systems.check_possible()
    servers.needs("mkfs.xfs")
    folder.mkdir()
    program = [servers.needs("unshare"), "-m", sys.executable, cutting.__file__, scenario, folder, url, str(rounds)]
    ran = subprocess.run(program, capture_output=True, text=True, check=False, env=running.environment())
    assert ran.returncode == 0, ran.stderr
    return int(ran.stdout)


def several(few):
    return pytest.mark.parametrize("rounds", [few, pytest.param(MANY, marks=pytest.mark.campaign)])


@several(6)
def test_a_pull_that_lost_its_power_goes_on_and_never_takes_a_hole_for_data(registry, tmp_path, rounds):
    """Between versions and from nothing, twice in a row; and what a pull told to be there is there after the next cut."""
    assert play("pulls", tmp_path / "play", registry.url, rounds) > rounds / 2


@several(6)
def test_a_push_that_lost_its_power_goes_on_to_a_version_with_its_bytes(registry, tmp_path, rounds):
    assert play("pushes", tmp_path / "play", registry.url, rounds) > rounds / 4


@several(1)
def test_an_embedded_store_that_lost_its_power_has_all_that_it_acknowledged(tmp_path, rounds):
    url = f"http://127.0.0.1:{servers.free_port()}"
    assert play("stores", tmp_path / "play", url, rounds) == rounds


@several(4)
def test_what_was_pulled_without_waiting_for_the_disk_is_not_believed_after_a_cut(registry, tmp_path, rounds):
    assert play("throw_away", tmp_path / "play", registry.url, rounds) == rounds


@several(2)
def test_a_reboot_makes_no_local_changes_of_what_was_pulled_without_waiting(registry, tmp_path, rounds):
    assert play("reboots", tmp_path / "play", registry.url, rounds) == rounds


def test_a_push_does_not_send_again_what_was_acknowledged_before_the_cut(registry, disk, tmp_path):
    node = running.Node(disk.folder / "library", registry.url)
    machine = machines.make(node.library, sizes=(0,), state_size=0)
    with machine.disk().open("wb") as file:
        subprocess.run(["head", "-c", str(80 * MIB), "/dev/urandom"], stdout=file, check=True)
    subprocess.run(["sync", "-f", disk.folder], check=True)
    log = node.library / ".s3reg" / "push" / f"{machine.id}.jsonl"

    def noted():
        """Sizes of the packs that the log has."""
        rows = map(json.loads, filter(None, log.read_bytes().split(b"\n"))) if log.is_file() else ()
        return [row["size"] for row in rows if "pack" in row]

    with node.start("push", machine.name, "-t", "v1", "--limit-rate", "40M") as push:
        while push.poll() is None and not (log.is_file() and log.read_bytes().count(b"\n") > 2):
            time.sleep(0.01)
        push.kill()
        push.communicate(timeout=running.SECONDS)
    there = noted()
    disk.cut_power()
    assert noted() == there
    again = node.done("-j", "push", machine.name, "-t", "v1").answer["body"]
    assert 0 < again["sent"] < 81 * MIB - sum(there)
    fresh = running.Node(tmp_path / "fresh", registry.url)
    fresh.done("pull", machine.name)
    assert machines.contents(fresh.library, machine) == machines.contents(node.library, machine)


def test_a_disk_that_dies_under_a_pull_is_said_and_once_it_is_back_the_pull_goes_on(registry, disk, tmp_path):
    baker = running.Node(tmp_path / "baker", registry.url)
    machine = machines.make(baker.library, sizes=(20 * MIB,))
    baker.done("push", machine.name, "-t", "v1")
    node = running.Node(disk.folder / "library", registry.url)
    journals = node.library / ".s3reg" / "staging"
    with node.start("pull", machine.name, "--limit-rate", "4M") as pull:
        while pull.poll() is None and not any(journals.glob("*/journals/*/*")):
            time.sleep(0.01)
        disk.fail()
        _, err = pull.communicate(timeout=running.SECONDS)
    assert pull.returncode == 11, err
    assert str(node.library) in err
    assert "Input/output error" in err
    assert "Traceback" not in err
    disk.unmount()
    disk.mount()
    assert not list(node.library.glob("vm_lib/*"))
    node.done("pull", machine.name)
    assert machines.contents(node.library, machine) == machines.contents(baker.library, machine)
