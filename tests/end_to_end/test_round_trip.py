"""A VM goes from one node's library through a registry into another's, and is the same, byte for byte."""

import json
import random
import signal

import pytest
import yaml

import machines
import running
from machines import KIB, MIB
from s3reg.cli.main import run


@pytest.fixture
def s3reg(capsys, monkeypatch, tmp_path):
    """Runs the program for a node in this process, as programs do; gives the body of its answer."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv("S3REG_REMOTES", str(tmp_path / "remotes.yaml"))

    def program(node, *arguments):
        capsys.readouterr()
        code = run([*node.command(*arguments)[len(running.PROGRAM) :], "-j"])
        out, err = capsys.readouterr()
        assert code == 0, err + out
        return json.loads(out.splitlines()[-1])["body"]

    yield program
    signal.signal(signal.SIGTERM, before)


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


def test_three_tags_of_a_suspended_vm_with_two_drives_and_a_clone_come_back_on_a_second_node(
    s3reg, baker, runner, machine
):
    """Push, list, describe, pull; the clone shares the layers here, on the store, and on the other node."""
    told, wanted = {}, {}
    for number, tag in enumerate(("v1", "v2", "v3")):
        told[tag] = s3reg(baker, "push", machine.name, "-t", tag, "-d", f"as {tag}")
        wanted[tag] = machines.contents(baker.library, machine)
        if tag != "v3":
            machines.scatter(machine.disk(number), 2)
            suspended = baker.library / "state_lib" / machine.state
            machine.state = f"{number:032x}.ank"
            suspended.rename(suspended.with_name(machine.state))
            machines.scatter(suspended.with_name(machine.state), 1)
            machine.write_config()
    made = s3reg(baker, "vm", "clone", machine.name, "clone")
    clone = machines.Machine(baker.library, name="clone", id=made["uuid"], drives=machine.drives, state=machine.state)
    cloned = machines.contents(baker.library, clone)
    body = s3reg(baker, "push", "clone", "-t", "c1")
    assert (body["sent"], body["stored"], body["size"]) == (0, 0, told["v3"]["size"])

    rows = s3reg(runner, "list")
    assert [(row["id"], row["name"], row["latest"]) for row in rows] == [
        (clone.id, "clone", "c1"),
        (machine.id, machine.name, "v3"),
    ]
    described = s3reg(runner, "describe", machine.name)
    assert [row["file"] for row in described["hard_drives"]] == machine.drives
    assert described["state_file"] == machine.state
    assert [(row["number"], row["tag"], row["description"], row["size"]) for row in described["versions"]] == [
        (number, tag, f"as {tag}", body["size"]) for number, (tag, body) in enumerate(told.items())
    ]
    here = machines.Machine(runner.library, name=machine.name, id=machine.id, drives=machine.drives)
    for tag in ("v2", "v1", "v3"):
        s3reg(runner, "pull", machine.name, "-t", tag)
        here.state = next(name.rpartition("/")[2] for name in wanted[tag] if name.startswith("state_lib"))
        assert machines.contents(runner.library, here) == wanted[tag], tag
    assert s3reg(runner, "pull", "clone")["received"] == 0
    assert machines.contents(runner.library, clone) == cloned
    assert machines.contents(runner.library, here) == wanted["v3"]


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
