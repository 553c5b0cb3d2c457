"""What went wrong in Anka's own clients, row by row (C1 to C18 of its release notes), and does not here.

Each test says one promise through the command line; where a whole file is about it, that file goes deeper. C9, the
size of a download, is in tests/cli/test_transfers_sizes.py. C13, a conversion of the image after the pull that made agents
time out, has no test: nothing is converted here, a file arrives as it left.
"""

import contextlib
import random
import re
import shutil
import signal
import subprocess
import threading

import pytest

import file_systems
import http_wires
import machines
import running
import servers
import wires
from http_wires import Wire
from machines import KIB, MIB
from refusals import refused
from s3reg.model import format as fmt
from s3reg.store.files import FilesStore

OPENED = """
import atexit, os, sys
library, seen = os.environ["WATCHED"], []
sys.addaudithook(lambda event, arguments: event in {"open", "os.listdir", "os.scandir"} and seen.append(str(arguments[0])))
@atexit.register
def tell():
    with open(os.environ["TOLD"], "w") as out:
        out.write(str(sum(path.startswith(library) for path in seen)))
"""
"""Tells at its end how many files and folders of a library a command opened."""


class Held:
    """The n-th request of a kind is held until it is released, or its client has gone."""

    def __init__(self, wire, method, kind, number=1, then=http_wires.passes):
        self.reached, self.released = threading.Event(), threading.Event()
        self._then, self._left, self._what = then, number, (method, kind)
        wire.rule = self._rule

    def _rule(self, passage):
        if (passage.method, passage.kind) != self._what:
            return None
        self._left -= 1
        return self._hold if self._left == 0 else None

    def _hold(self, passage):
        self.reached.set()
        self.released.wait(running.SECONDS)
        self._then(passage)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A wire to a registry, and the store of that."""
    folder = tmp_path_factory.mktemp("anka")
    with running.serving(folder, "--store", folder / "store", "--workers", "1") as registry, Wire(registry.url) as wire:
        yield wire, FilesStore(folder / "store")


@pytest.fixture
def wire(place):
    yield place[0]
    place[0].mend()


@pytest.fixture
def store(place):
    return place[1]


@pytest.fixture
def baker(wire, tmp_path):
    return running.Node(tmp_path / "baker", wire.endpoint)


@pytest.fixture
def runner(wire, tmp_path):
    return running.Node(tmp_path / "runner", wire.endpoint)


@pytest.fixture
def machine(baker, tmp_path):
    return machines.make(baker.library, sizes=(3 * MIB, 700 * KIB), name=tmp_path.name)


@pytest.fixture
def pushed(baker, machine):
    """The bytes of the version v1."""
    baker.done("push", machine.name, "-t", "v1")
    return machines.contents(baker.library, machine)


@contextlib.contextmanager
def held(node, moment, *command):
    """A command, once its request is held; then it is let go on, if it still wants to."""
    with node.start(*command) as process:
        try:
            assert moment.reached.wait(running.SECONDS)
            yield process
        finally:
            moment.released.set()
            process.wait(running.SECONDS)


def shows_nothing(library):
    """Whether the library shows no VM and no layer."""
    return not [path for folder in ("vm_lib", "img_lib", "state_lib") for path in (library / folder).glob("*")]


def packs_of(store, machine):
    """The keys of the packs that this machine's versions brought: a version's id is its session's."""
    versions = [stat.key.rpartition("/")[2].removesuffix(".json") for stat in store.list(f"versions/{machine.id}/")]
    return [stat.key for version in versions for stat in store.list(f"{fmt.PACKS}main/{version}/")]


def flip(store, key):
    """Another bit in the middle of an object; the bytes that it had."""
    whole = store.get(key).data
    data = bytearray(whole)
    data[len(data) // 2] ^= 1
    store.put(key, bytes(data))
    return whole


@pytest.mark.parametrize("moment", [("GET", "maps"), ("GET", "packs"), ("POST", "pulls")], ids="-".join)
def test_c1_an_interrupted_pull_is_in_nobodys_way(moment, wire, runner, machine, pushed):
    held_at = Held(wire, *moment)
    with held(runner, held_at, "pull", machine.name) as pull:
        pull.send_signal(signal.SIGINT)
        _, err = pull.communicate(timeout=running.SECONDS)
    assert (pull.returncode, "Traceback" in err) == (130, False)
    assert moment == ("POST", "pulls") or shows_nothing(runner.library)
    wire.mend()
    runner.done("pull", machine.name)
    assert machines.contents(runner.library, machine) == pushed


def test_c2_a_pull_after_a_failed_one_does_not_call_it_done(store, runner, machine, pushed):
    (pack,) = packs_of(store, machine)
    whole = flip(store, pack)
    for _ in range(2):
        refused(runner.run("pull", machine.name), 8)
        assert shows_nothing(runner.library)
    store.put(pack, whole)
    assert "pulled successfully" in runner.done("pull", machine.name).out
    assert machines.contents(runner.library, machine) == pushed


def test_c3_a_full_disk_is_told_as_one_with_what_is_missing_and_not_as_done(wire, machine, pushed, tmp_path):
    with file_systems.mounted(tmp_path / "narrow", "ext4") as disk:
        node = running.Node(disk.folder / "library", wire.endpoint)
        disk.leave(MIB)
        outcome = node.run("pull", machine.name)
        told = refused(outcome, 11)
        assert "100" not in outcome.err.partition("s3reg:")[0]
        assert re.search(r"too little space in \S+: [1-9]\d+ bytes needed, \d+ free, [1-9]\d+ missing", told)
        assert shows_nothing(node.library)
        disk.give_back()
        node.done("pull", machine.name)
        assert machines.contents(node.library, machine) == pushed


@pytest.mark.parametrize("kind", ["packs", "maps"])
def test_c4_bytes_that_are_others_are_refused_by_their_file(kind, wire, runner, machine, pushed):
    wire.rule = lambda passage: http_wires.flips(60) if passage.kind == kind and passage.method == "GET" else None
    told = refused(runner.run("pull", machine.name), 8)
    assert any(name in told for name in (*machine.drives, machine.state))
    assert shows_nothing(runner.library)


def test_c5_of_two_pulls_of_one_tag_at_once_one_works_and_the_other_waits_and_finds_it_done(
    wire, runner, machine, pushed
):
    moment = Held(wire, "GET", "packs")
    with held(runner, moment, "pull", machine.name) as first:
        with runner.start("pull", machine.name) as second:
            assert second.stderr.readline() == f"waiting for another pull of {machine.name}\n"
            moment.released.set()
            out, _ = second.communicate(timeout=running.SECONDS)
            assert (second.returncode, out) == (0, f"{machine.name}: available locally\n")
        assert first.wait(running.SECONDS) == 0
    assert machines.contents(runner.library, machine) == pushed


def test_c6_five_hundred_layers_do_not_hang(baker, runner, tmp_path):
    machine = machines.make(baker.library, sizes=(300 * KIB,) * 12 + (1000,) * 488, state_size=0, name=tmp_path.name)
    baker.done("push", machine.name, "-t", "v1")
    runner.done("pull", machine.name)
    assert machines.contents(runner.library, machine) == machines.contents(baker.library, machine)


def test_c6_a_store_that_goes_silent_under_a_push_does_not_hang_it(wire, baker, runner, machine):
    """Ended after the stall time by trying elsewhere; here the connection is broken off instead of waiting for that."""
    moment = Held(wire, "PUT", "packs", then=http_wires.resets)
    with held(baker, moment, "push", machine.name, "-t", "v1") as push:
        moment.released.set()
        assert push.wait(running.SECONDS) == 0
    runner.done("pull", machine.name)
    assert machines.contents(runner.library, machine) == machines.contents(baker.library, machine)


def test_c7_nothing_to_download_is_no_division_by_zero(baker, runner, machine, pushed, tmp_path):
    runner.done("pull", machine.name)
    assert "available locally" in runner.done("pull", machine.name).out
    baker.done("push", machine.name, "-t", "same")
    runner.done("pull", machine.name, "-t", "same")
    empty = machines.make(baker.library, sizes=(0, 0), state_size=0, name=f"{tmp_path.name}-empty", seed=7)
    with empty.disk(1).open("wb") as disk:
        disk.truncate(5 * MIB)
    baker.done("push", empty.name, "-t", "v1")
    for options in ((), ("-j",)):
        runner.done(*options, "pull", empty.name)
    for one in (machine, empty):
        assert machines.contents(runner.library, one) == machines.contents(baker.library, one)


def test_c8_what_is_told_as_sent_was_acknowledged(wire, baker, machine):
    """The store has every byte of the pack, and does not say so: that is not 100 %."""
    moment = Held(wire, "PUT", "packs")
    with held(baker, moment, "push", machine.name, "-t", "v1") as push:
        push.send_signal(signal.SIGINT)
        _, err = push.communicate(timeout=running.SECONDS)
    assert push.returncode == 130
    assert "100 %" not in err
    wire.mend()
    moment = Held(wire, "POST", "commit", then=http_wires.done_but_lost)
    moment.released.set()
    assert "100 %" in baker.done("push", machine.name, "-t", "v1").err
    assert moment.reached.is_set()


def test_c10_no_tag_is_noted_of_a_push_that_failed(wire, baker, machine):
    """The registry refuses the commit; then it is silent, until somebody presses Ctrl-C."""
    wire.rule = lambda passage: http_wires.says(403, "Forbidden") if passage.kind == "commit" else None
    assert baker.run("push", machine.name, "-t", "v1").code != 0
    with held(baker, Held(wire, "POST", "commit"), "push", machine.name, "-t", "v1") as push:
        push.send_signal(signal.SIGINT)
        assert push.wait(running.SECONDS) == 130
    assert not list(baker.library.glob(".s3reg/tags/*"))
    refused(baker.run("pull", "--local", machine.name, "-t", "v1"), 3)
    wire.mend()
    baker.done("push", machine.name, "-t", "v1")
    baker.done("pull", "--local", machine.name, "-t", "v1")


@pytest.mark.usefixtures("pushed")
def test_c11_a_pull_that_waits_can_be_ended(wire, runner, machine):
    with held(runner, Held(wire, "GET", "plan"), "pull", machine.name) as pull:
        pull.send_signal(signal.SIGINT)
        _, err = pull.communicate(timeout=running.SECONDS)
    assert pull.returncode == 128 + signal.SIGINT
    assert "s3reg: interrupted\n" in err


@pytest.mark.usefixtures("pushed")
def test_c12_options_of_where_and_how_hold_for_every_command(wire, baker, runner, machine, tmp_path):
    """The default registry is dead: whatever overlooks its option would go there, or to the wrong files."""
    settings = running.environment(HOME=str(tmp_path), S3REG_LIBRARY=str(runner.library))
    _, authority = wires.certificate(tmp_path)
    cacert = ("--cacert", authority.relative_to(tmp_path))

    def run(*arguments):
        program = [*running.PROGRAM, *map(str, arguments)]
        done = subprocess.run(program, env=settings, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (arguments, done.stderr)

    run("add", "good", wire.endpoint, "--insecure")
    run("add", "dead", f"http://127.0.0.1:{servers.free_port()}", "--force")
    commands = [(name, machine.name) for name in ("describe", "check-download-size", "pull")]
    run("list", "-a", wire.endpoint, "--insecure")
    for command in commands:
        run(*command, "-r", "good", *cacert)
    machines.scatter(runner.library / "img_lib" / machine.drives[0], 1)
    run("push", machine.name, "-t", "v2", "-r", "good", *cacert)
    found = baker.done("-j", "describe", machine.name).answer["body"]["versions"]
    assert [row["tag"] for row in found] == ["v1", "v2"]


def test_c14_several_drives_come_back_each_in_its_place(baker, runner, tmp_path):
    machine = machines.make(baker.library, sizes=(MIB, 2 * MIB, 300 * KIB, 5), name=tmp_path.name)
    for tag in ("v1", "v2"):
        baker.done("push", machine.name, "-t", tag)
        runner.done("pull", machine.name)
        assert machines.contents(runner.library, machine) == machines.contents(baker.library, machine)
        first, second = (machine.disk(number).read_bytes() for number in (0, 1))
        machine.disk(0).write_bytes(second)
        machine.disk(1).write_bytes(first)


def test_c15_a_clone_that_is_made_during_a_pull_is_whole(wire, baker, runner, machine, pushed):
    runner.done("pull", machine.name)
    machine.disk().write_bytes(random.Random(3).randbytes(3 * MIB))
    baker.done("push", machine.name, "-t", "v2")
    moment = Held(wire, "GET", "packs")
    copies = [runner.library / "img_lib" / f"{number:032x}.ank" for number in range(2)]
    with held(runner, moment, "pull", machine.name) as pull:
        for drive, copy in zip(machine.drives, copies, strict=True):
            subprocess.run(["cp", "--reflink=auto", runner.library / "img_lib" / drive, copy], check=True)
        moment.released.set()
        assert pull.wait(running.SECONDS) == 0
    assert machines.contents(runner.library, machine) == machines.contents(baker.library, machine)
    assert [copy.read_bytes() for copy in copies] == [pushed[f"img_lib/{drive}"] for drive in machine.drives]


def test_c16_a_pull_that_was_called_off_leaves_no_orphan(wire, baker, runner, machine, pushed):
    """Nothing of it is in a folder that Anka looks into, and what waits aside goes when another version is pulled."""
    with held(runner, Held(wire, "GET", "packs"), "pull", machine.name) as pull:
        pull.send_signal(signal.SIGTERM)
        pull.wait(running.SECONDS)
    wire.mend()
    assert shows_nothing(runner.library)
    waiting = runner.library / ".s3reg" / "staging"
    assert len(list(waiting.iterdir())) == 1
    machines.scatter(machine.disk(), 3)
    baker.done("push", machine.name, "-t", "v2")
    runner.done("pull", machine.name, "-t", "v2")
    assert list(waiting.iterdir()) == []
    assert machines.contents(runner.library, machine) == machines.contents(baker.library, machine)


def test_c17_every_file_of_a_vms_folder_travels(baker, runner, machine):
    for name in ("net_filter", "policy-2.json", "notes with spaces.txt", "größe.bin"):
        (machine.folder / name).write_bytes(name.encode() * 70_000)
    (machine.folder / "empty").touch()
    baker.done("push", machine.name, "-t", "v1")
    runner.done("pull", machine.name)
    assert machines.contents(runner.library, machine) == machines.contents(baker.library, machine)
    assert {file.name for file in (runner.library / "vm_lib" / machine.id).iterdir()} >= {
        "net_filter",
        "empty",
        "nvram",
    }


def test_c18_what_else_is_in_the_library_does_not_slow_a_command_down(baker, runner, machine, pushed, tmp_path):
    """Counted in files that are opened: pulling what is there again, in a library of two VMs and of forty."""
    (tmp_path / "sitecustomize.py").write_text(OPENED)
    settings = {"PYTHONPATH": str(tmp_path), "WATCHED": str(runner.library), "TOLD": str(tmp_path / "told")}
    runner.done("pull", machine.name)

    def opened(*command):
        done = subprocess.run(
            runner.command(*command), env=running.environment(**settings), capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return int((tmp_path / "told").read_text())

    counts = []
    for others in (1, 40):
        for number in range(others):
            machines.make(runner.library, sizes=(1000,), name=f"other-{others}-{number}", seed=100 * others + number)
        counts.append((opened("pull", machine.id), opened("check-download-size", machine.id)))
    assert counts[0] == counts[1]
    assert all(counts[0])
    shutil.rmtree(runner.library)
