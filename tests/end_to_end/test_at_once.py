"""Two things at once on a node: pulls, pushes, clones, deletions, and a VM that is written to while it travels.

A transfer is slowed by --limit-rate, and the other thing happens once it has begun.
"""

import contextlib
import fcntl
import json
import os
import random
import shutil
import subprocess
import time
import zlib

import pytest

import machines
import running
from machines import KIB, MIB
from refusals import refused
from s3reg.model import format as fmt
from s3reg.store.files import FilesStore

SLOW = ("--limit-rate", "16M")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A registry, and the folder of its store."""
    folder = tmp_path_factory.mktemp("at-once")
    with running.serving(folder, "--store", folder / "store", "--workers", "1") as registry:
        yield registry, folder / "store"


@pytest.fixture
def store(place):
    return FilesStore(place[1])


@pytest.fixture
def baker(place, tmp_path):
    return running.Node(tmp_path / "baker", place[0].url)


@pytest.fixture
def runner(place, tmp_path):
    return running.Node(tmp_path / "runner", place[0].url)


@pytest.fixture
def machine(baker, tmp_path):
    return machines.make(
        baker.library, sizes=(8 * MIB, 700 * KIB), name=tmp_path.name, seed=zlib.crc32(tmp_path.name.encode())
    )


@pytest.fixture
def versions(baker, machine):
    """What v1 and v2 have; v2 is another disk altogether."""
    found = {}
    for tag in ("v1", "v2"):
        baker.done("push", machine.name, "-t", tag)
        found[tag] = machines.contents(baker.library, machine)
        machine.disk().write_bytes(noise(8))
    return found


@contextlib.contextmanager
def underway(node, *command):
    """A slow transfer, from when it has begun until it ended; its Outcome is filled in then."""
    ended = {}
    with node.start(*command[:1], *SLOW, *command[1:]) as process:
        while process.poll() is None and not moving(node.library):
            time.sleep(0.005)
        assert process.poll() is None, process.communicate()
        yield ended
        out, err = process.communicate(timeout=running.SECONDS)
        ended["outcome"] = running.Outcome(process.returncode, out, err)


def moving(library):
    """Whether a pull has begun a file, or a push its session: what follows takes its time."""
    return any(library.glob(".s3reg/staging/*/journals/*/*")) or any(library.glob(".s3reg/push/*.jsonl"))


def noise(mib):
    return random.Random(mib).randbytes(mib * MIB)


def both(*processes):
    """Both to their ends."""
    outcomes = []
    for process in processes:
        with process:
            out, err = process.communicate(timeout=running.SECONDS)
            assert "Traceback" not in err
            outcomes.append(running.Outcome(process.returncode, out, err))
    return outcomes


class TestPulls:
    def test_two_of_one_tag_both_succeed_and_one_of_them_fetches(self, runner, machine, versions):
        outcomes = both(*(runner.start("pull", machine.name, "-t", "v2", *SLOW) for _ in range(2)))
        assert [outcome.code for outcome in outcomes] == [0, 0]
        assert sorted("available locally" in outcome.out for outcome in outcomes) == [False, True]
        assert machines.contents(runner.library, machine) == versions["v2"]

    def test_two_of_two_tags_end_in_one_of_them_whole(self, runner, machine, versions):
        outcomes = both(*(runner.start("pull", machine.name, "-t", tag) for tag in ("v1", "v2")))
        assert [outcome.code for outcome in outcomes] == [0, 0]
        assert machines.contents(runner.library, machine) in versions.values()

    def test_a_clone_made_meanwhile_is_the_old_vm_whole(self, runner, machine, versions):
        runner.done("pull", machine.name, "-t", "v1")
        clone = machines.Machine(runner.library, f"{machine.name}-clone", drives=[f"{n:032x}.ank" for n in (1, 2)])
        clone.state = machine.state
        with underway(runner, "pull", machine.name, "-t", "v2") as pull:
            for theirs, mine in zip(machine.drives, clone.drives, strict=True):
                source, target = (runner.library / "img_lib" / name for name in (theirs, mine))
                subprocess.run(["cp", "--reflink=auto", source, target], check=True)
            clone.write_config()
        assert pull["outcome"].code == 0, pull["outcome"].err
        assert machines.contents(runner.library, machine) == versions["v2"]
        assert [clone.disk(n).read_bytes() for n in (0, 1)] == [
            versions["v1"][f"img_lib/{drive}"] for drive in machine.drives
        ]
        runner.done("push", clone.name, "-t", "v1")

    def test_a_vm_made_meanwhile_on_the_old_layers_keeps_them(self, runner, machine, versions):
        """A shallow clone stands on the very file that the pull would replace: the pull refuses, both VMs stay whole."""
        runner.done("pull", machine.name, "-t", "v1")
        clone = machines.Machine(runner.library, f"{machine.name}-shallow", drives=machine.drives)
        with underway(runner, "pull", machine.name, "-t", "v2") as pull:
            clone.write_config()
        told = refused(pull["outcome"], 18)
        assert f"is used by the VM {clone.name} with other bytes" in told
        assert machines.contents(runner.library, machine) == versions["v1"]
        assert clone.disk().read_bytes() == versions["v1"][f"img_lib/{machine.drives[0]}"]
        shutil.rmtree(clone.folder)
        runner.done("pull", machine.name, "-t", "v2")
        assert machines.contents(runner.library, machine) == versions["v2"]

    def test_a_vm_that_starts_meanwhile_is_not_replaced(self, runner, machine, versions):
        runner.done("pull", machine.name, "-t", "v1")
        with underway(runner, "pull", machine.name, "-t", "v2") as pull:
            lock = runner.library / "vm_lib" / ".locks" / f"{machine.id}.lock"
            lock.parent.mkdir()
            running_vm = lock.open("w")
            fcntl.flock(running_vm, fcntl.LOCK_EX)
        running_vm.close()
        assert "is running" in refused(pull["outcome"], 11)
        assert machines.contents(runner.library, machine) == versions["v1"]

    def test_a_deletion_of_the_vm_s_folder_meanwhile_ends_in_the_new_one(self, runner, machine, versions):
        runner.done("pull", machine.name, "-t", "v1")
        with underway(runner, "pull", machine.name, "-t", "v2") as pull:
            shutil.rmtree(runner.library / "vm_lib" / machine.id)
        assert pull["outcome"].code == 0, pull["outcome"].err
        assert machines.contents(runner.library, machine) == versions["v2"]

    def test_a_deletion_of_layers_that_were_to_stay_is_said_and_the_next_pull_fetches_them(
        self, runner, machine, versions
    ):
        runner.done("pull", machine.name, "-t", "v1")
        with underway(runner, "pull", machine.name, "-t", "v2") as pull:
            shutil.rmtree(runner.library / "vm_lib" / machine.id)
            for drive in machine.drives:
                (runner.library / "img_lib" / drive).unlink()
        told = refused(pull["outcome"], 11)
        assert "is gone" in told
        assert "repeat the command" in told
        assert not list(runner.library.glob("vm_lib/*"))
        runner.done("pull", machine.name, "-t", "v2")
        assert machines.contents(runner.library, machine) == versions["v2"]

    def test_a_deletion_of_what_is_being_fetched_is_said_and_the_next_pull_brings_it(
        self, runner, machine, versions, tmp_path
    ):
        """Somebody sweeps the staging away under the pull."""
        with underway(runner, "pull", machine.name, "-t", "v2") as pull:
            (runner.library / ".s3reg" / "staging").rename(tmp_path / "swept")
        refused(pull["outcome"], 11)
        assert not list(runner.library.glob("vm_lib/*"))
        runner.done("pull", machine.name, "-t", "v2")
        assert machines.contents(runner.library, machine) == versions["v2"]

    def test_a_version_that_is_deleted_meanwhile_arrives_while_its_packs_are_there(
        self, runner, machine, versions, store
    ):
        with underway(runner, "pull", machine.name, "-t", "v2") as pull:
            forget(store, machine, "v2")
        assert pull["outcome"].code == 0, pull["outcome"].err
        assert machines.contents(runner.library, machine) == versions["v2"]
        assert "v2" in refused(runner.run("pull", machine.name, "-t", "v2", "--force"), 3)

    def test_a_version_whose_packs_are_swept_meanwhile_shows_nothing_half(
        self, baker, runner, machine, versions, store
    ):
        runner.done("pull", machine.name, "-t", "v1")
        machine.disk().write_bytes(noise(36))  # more than one request can bring
        baker.done("push", machine.name, "-t", "v3")
        with underway(runner, "pull", machine.name, "-t", "v3", "--jobs", "1", "--limit-rate", "20M") as pull:
            forget(store, machine, "v3")
            store.delete([stat.key for stat in store.list(fmt.PACKS)])
        assert "the store has nothing under 'packs/" in refused(pull["outcome"], 8)
        assert machines.contents(runner.library, machine) == versions["v1"]


def forget(store, machine, tag):
    """Take the version out of its head, as a purge of the registry would."""
    key = fmt.head_key(machine.id)
    found = store.get(key)
    head = json.loads(found.data)
    head["versions"] = [version for version in head["versions"] if version["tag"] != tag]
    head["gen"] += 1
    store.put(key, json.dumps(head).encode())


class TestPushes:
    def test_two_of_one_vm_one_of_them_waits_its_turn_outside(self, baker, runner, machine):
        with underway(baker, "push", machine.name, "-t", "v1", "--limit-rate", "3M") as push:
            assert "another s3reg is at work on" in refused(baker.run("push", machine.name, "-t", "v2"), 18)
        assert push["outcome"].code == 0, push["outcome"].err
        baker.done("push", machine.name, "-t", "v2")
        runner.done("pull", machine.name, "-t", "v1")
        assert machines.contents(runner.library, machine) == machines.contents(baker.library, machine)

    def test_two_of_two_vms_both_succeed(self, baker, runner, machine):
        other = machines.make(baker.library, sizes=(6 * MIB,), name=f"{machine.name}-other", seed=91)
        outcomes = both(*(baker.start("push", vm.name, "-t", "v1", *SLOW) for vm in (machine, other)))
        assert [outcome.code for outcome in outcomes] == [0, 0]
        for vm in (machine, other):
            runner.done("pull", vm.name)
            assert machines.contents(runner.library, vm) == machines.contents(baker.library, vm)

    @pytest.mark.parametrize("how", ["written to", "cut short", "replaced"])
    def test_a_file_that_changes_meanwhile_refuses_the_push_and_the_next_one_is_right(
        self, how, baker, runner, machine
    ):
        disk = machine.disk()
        disk.write_bytes(noise(8))
        with underway(baker, "push", machine.name, "-t", "v1") as push:
            change(disk, how)
        told = refused(push["outcome"], 11)
        assert disk.name in told
        assert "changed while it was being read" in told
        assert refused(runner.run("pull", machine.name), 3)
        baker.done("push", machine.name, "-t", "v1")
        runner.done("pull", machine.name)
        assert machines.contents(runner.library, machine) == machines.contents(baker.library, machine)


def change(disk, how):
    if how == "written to":
        machines.scatter(disk, 1)
    elif how == "cut short":
        os.truncate(disk, 3 * MIB)
    else:
        new = disk.with_name("new")
        new.write_bytes(noise(9))
        new.replace(disk)
