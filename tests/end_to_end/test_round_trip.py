"""A VM goes from one node's library through a registry into another's, and is the same, byte for byte."""

import random

import yaml

import machines
import running
from machines import KIB, MIB


def test_a_vm_comes_back_identical_and_a_delta_moves_less(baker, runner, machine):
    baker.done("push", machine.name, "-t", "v1", "-d", "as baked")
    first = machines.contents(baker.library, machine)
    machines.scatter(machine.disk(), 3)
    pushed = baker.done("-j", "push", machine.name, "-t", "v2").answer["body"]
    second = machines.contents(baker.library, machine)

    for tag, wanted in (("v2", second), ("v1", first), ("v2", second)):
        runner.done("pull", machine.name, "-t", tag)
        assert machines.contents(runner.library, machine) == wanted, tag
    assert pushed["sent"] < 3 * MIB


def test_holes_come_back_as_holes(baker, runner):
    machine = machines.make(baker.library, sizes=(4 * KIB,), state_size=0)
    with machine.disk().open("r+b") as disk:
        disk.truncate(200 * MIB)
        disk.seek(100 * MIB)
        disk.write(b"an island")
    baker.done("push", machine.name, "-t", "v1")
    runner.done("pull", machine.name)
    pulled = runner.library / "img_lib" / machine.drives[0]
    assert pulled.stat().st_blocks * 512 < MIB
    assert machines.contents(runner.library, machine) == machines.contents(baker.library, machine)


def test_pushing_an_unchanged_vm_again_sends_nothing(baker, machine):
    baker.done("push", machine.name, "-t", "v1")
    assert baker.done("-j", "push", machine.name, "-t", "v2").answer["body"]["sent"] == 0


def test_pulling_what_is_there_says_so(baker, runner, machine):
    baker.done("push", machine.name, "-t", "v1")
    runner.done("pull", machine.name)
    again = runner.done("-j", "pull", machine.name).answer
    assert again == {**again, "status": "OK", "body": {}, "message": f"{machine.name}: available locally"}


def test_a_clone_is_pushed_for_the_price_of_its_changes(baker, runner, machine):
    baker.done("push", machine.name, "-t", "v1")
    clone = machines.Machine(baker.library, name="clone", drives=machine.drives, state=machine.state)
    clone.write_config()
    (clone.folder / "nvram").write_bytes(b"fresh")
    assert baker.done("-j", "push", "clone", "-t", "c1").answer["body"]["sent"] == 0
    runner.done("pull", "clone")
    assert machines.contents(runner.library, clone) == machines.contents(baker.library, clone)


def test_a_suspended_vm_that_was_started_and_stopped_travels_without_its_state(baker, runner, machine):
    baker.done("push", machine.name, "-t", "suspended")
    (baker.library / "state_lib" / machine.state).unlink()
    machine.state = None
    machine.write_config()
    baker.done("push", machine.name, "-t", "stopped")
    runner.done("pull", machine.name)
    assert machines.contents(runner.library, machine) == machines.contents(baker.library, machine)


def test_an_independent_vm_becomes_the_next_version_of_a_template(baker, runner, machine):
    baker.done("push", machine.name, "-t", "v1")
    other = machines.make(baker.library, name="rebuilt", seed=9)
    pushed = baker.done("-j", "push", "rebuilt", "-t", "v2", "-v", machine.name).answer["body"]
    assert (pushed["uuid"], pushed["version"]) == (machine.id, 1)
    runner.done("pull", machine.name)
    pulled = machines.contents(runner.library, machines.Machine(runner.library, id=machine.id, drives=other.drives))
    config = yaml.safe_load(pulled[f"vm_lib/{machine.id}/config.yaml"])
    assert (config["uuid"], config["name"]) == (machine.id, machine.name)
    assert pulled[f"img_lib/{other.drives[0]}"] == other.disk().read_bytes()


def test_the_older_generation_of_configs_travels_too(baker, runner):
    machine = machines.make(baker.library)
    (machine.folder / "config.yaml").rename(machine.folder / f"{machine.id}.yaml")
    baker.done("push", machine.name, "-t", "v1")
    runner.done("pull", machine.id)
    assert machines.contents(runner.library, machine) == machines.contents(baker.library, machine)


def test_force_replaces_the_version_of_the_tag_only(baker, runner, machine):
    baker.done("push", machine.name, "-t", "v1")
    baker.done("push", machine.name, "-t", "v2")
    machines.scatter(machine.disk(), 2)
    taken = baker.run("push", machine.name, "-t", "v1")
    assert taken.code == 18
    assert "--force" in taken.err
    answer = baker.done("-j", "push", machine.name, "-t", "v1", "--force").answer["body"]
    assert answer["version"] == 0
    runner.done("pull", machine.name, "-t", "v1")
    assert machines.contents(runner.library, machine) == machines.contents(baker.library, machine)


def test_local_changes_are_not_overwritten_unasked(baker, runner, machine):
    baker.done("push", machine.name, "-t", "v1")
    machines.scatter(machine.disk(), 2)
    baker.done("push", machine.name, "-t", "v2")
    runner.done("pull", machine.name, "-t", "v1")
    precious = runner.library / "img_lib" / machine.drives[0]
    with precious.open("r+b") as disk:
        disk.write(b"a day's work")
    mine = precious.read_bytes()
    refused = runner.run("pull", machine.name, "-t", "v2")
    assert refused.code == 18
    assert "local changes" in refused.err
    assert precious.read_bytes() == mine
    runner.done("pull", machine.name, "-t", "v2", "--force")
    assert machines.contents(runner.library, machine) == machines.contents(baker.library, machine)


def test_imported_disks_are_exported_as_they_were(baker, runner, tmp_path):
    disk = tmp_path / "linux.raw"
    machines.fill(disk, 5 * MIB + 7, random.Random(4))
    baker.done("import", "linux", "--disk", disk)
    baker.done("push", "linux", "-t", "v1")
    runner.done("pull", "linux")
    runner.done("export", "linux", tmp_path / "out")
    exported = [file for file in (tmp_path / "out").iterdir() if file.stat().st_size == disk.stat().st_size]
    assert [file.read_bytes() for file in exported] == [disk.read_bytes()]


def test_check_download_size_counts_what_is_missing(baker, runner, machine):
    baker.done("push", machine.name, "-t", "v1")
    before = runner.done("-j", "check-download-size", machine.name).answer["body"]
    assert before["cached"] == 0
    assert before["bytes"] == before["size"] > 0
    runner.done("pull", machine.name)
    after = runner.done("-j", "check-download-size", machine.name).answer["body"]
    assert (after["bytes"], after["cached"]) == (0, before["size"])


def test_no_link_and_no_password_is_logged(baker, runner, registry, machine):
    baker.done("push", machine.name, "-t", "v1")
    runner.done("--debug", "pull", machine.name)
    log = registry.log.read_text()
    for word in ("signature=", "X-Amz-Signature", "X-Amz-Credential", "not-a-secret-at-all"):
        assert word not in log


def test_two_nodes_that_push_one_tag_do_not_both_win(registry, tmp_path):
    nodes = [running.Node(tmp_path / f"node{n}", registry.url) for n in range(2)]
    one = machines.make(nodes[0].library)
    other = machines.make(nodes[1].library, seed=5)
    (nodes[1].library / "vm_lib" / other.id).rename(nodes[1].library / "vm_lib" / one.id)
    other.id = one.id
    other.write_config()
    underway = [node.start("push", one.id, "-t", "v1") for node in nodes]
    codes = []
    for process in underway:
        with process:
            _, err = process.communicate(timeout=running.SECONDS)
            assert "Traceback" not in err
        codes.append(process.returncode)
    assert sorted(codes) == [0, 18]
