"""Repairs under harder conditions: killed and repeated, of several versions, through a closed registry."""

import json
import os
import random
import subprocess
import sys

import pytest

import machines
import running
import sites
import tap
from access_kit import Closed
from s3reg.cli.main import run
from s3reg.client import Access, Library, Node, PullOptions, PushOptions
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE, Action
from s3reg.registry import Registry
from s3reg.store.files import FilesStore

DYING = """
import os, sys
from s3reg.cli.main import run
from s3reg.client.connection import Connection
verb, left = sys.argv[1], int(sys.argv[2])
usual = getattr(Connection, verb)

def dying(*arguments, **more):
    global left
    answer = usual(*arguments, **more)
    left -= 1
    if not left:
        os._exit(9)
    return answer

setattr(Connection, verb, dying)
sys.exit(run(sys.argv[3:]))
"""


class Site:
    """A store, libraries that push to it and pull from it, and checks of it."""

    def __init__(self, folder, capsys):
        self.folder = folder
        self.store = FilesStore(folder / "store")
        self._capsys = capsys

    def made(self, name="sequoia", library="baker", **more):
        machine = machines.make(self.folder / library, sizes=(400_000,), state_size=0, name=name, **more)
        machine.disk().write_bytes(random.Random(name).randbytes(400_000))
        return machine

    def push(self, machine, tag):
        with self._node(machine.library.name) as node:
            node.push(machine.name, PushOptions(tag))

    def pulled(self, machine, tag, library):
        with self._node(library) as node:
            node.pull(machine.id, PullOptions(tag=tag))
        return machines.contents(self.folder / library, machine)

    def _node(self, library):
        return _Through(self.folder / "store", self.folder / library)

    def fsck(self, *more):
        """Its exit code, and what it told a program."""
        self._capsys.readouterr()
        code = run(["-j", "fsck", str(self.folder / "store"), "--read-data", *map(str, more)])
        return code, json.loads(self._capsys.readouterr().out.splitlines()[-1])["body"]

    def hurt(self, which=min):
        """Flip a bit in the first pack that was sent, or the last; its key."""
        key = which(self.store.list(fmt.PACKS), key=lambda stat: stat.modified).key
        data = bytearray(self.store.get(key).data)
        data[len(data) // 2] ^= 1
        self.store.put(key, bytes(data))
        return key


class _Through:
    """A node, through a registry that is served for it."""

    def __init__(self, store, library):
        self._address, self._library = sites.address(store), library

    def __enter__(self):
        self._node = Node(self._library, Access(self._address.__enter__()))
        return self._node.__enter__()

    def __exit__(self, *error):
        self._node.__exit__(*error)
        self._address.__exit__(*error)


@pytest.fixture
def site(in_memory, capsys):
    return Site(in_memory, capsys)


@pytest.mark.parametrize(("verb", "n"), [("send", 1), ("ask", 6)])
def test_a_repair_that_is_killed_is_done_by_the_next_and_leaves_nothing(site, verb, n):
    """Once it has sent a pack; and once it was committed, of which it hears no more."""
    machine = site.made()
    site.push(machine, "v1")
    wanted = machines.contents(machine.library, machine)
    # So the files are laid aside, as their version's record tells them.
    (Library(machine.library).own).rename(machine.library / "another-node-s")
    site.hurt()
    arguments = ["fsck", site.folder / "store", "--read-data", "--repair-from", machine.library]
    command = [sys.executable, "-c", DYING, verb, str(n), *map(str, arguments)]
    killed = subprocess.run(
        command, env=running.environment(), capture_output=True, check=False, timeout=running.SECONDS
    )
    assert killed.returncode == 9, killed.stderr
    code, told = site.fsck("--repair-from", machine.library)
    assert code == 0
    assert all(row["problem"] is None for row in told["repairs"])
    assert site.pulled(machine, "v1", "runner") == wanted
    assert site.fsck()[0] == 0
    assert not list((Library(machine.library).own / "repair").iterdir())


def test_each_version_of_several_templates_is_put_back_or_said_why_not(site):
    """One library has one version of a template, and nothing of another; what one push stored heals the next."""
    first, second = site.made("first"), site.made("second", "other", seed=7)
    site.push(first, "v1")
    old = machines.contents(first.library, first)
    (first.folder / "policy.json").write_text("{}")
    site.push(first, "v2")
    site.push(second, "v1")
    for key in [stat.key for stat in site.store.list(fmt.PACKS)]:
        data = bytearray(site.store.get(key).data)
        data[len(data) // 3] ^= 1
        site.store.put(key, bytes(data))
    code, told = site.fsck("--repair-from", first.library)
    assert code == 8
    outcomes = {(row["uuid"], row["tag"]): row for row in told["repairs"]}
    assert {key: row["problem"] is None for key, row in outcomes.items()} == {
        (first.id, "v1"): True,
        (first.id, "v2"): True,
        (second.id, "v1"): False,
    }
    assert outcomes[first.id, "v2"]["sent"] == 0, "v1's repair brought all of it"
    assert str(first.library) in outcomes[second.id, "v1"]["problem"]
    assert [(row["name"], row["tag"]) for row in told["damage"]] == [("second", "v1")]
    code, told = site.fsck("--repair-from", second.library)
    assert (code, [row["problem"] for row in told["repairs"]]) == (0, [None])
    assert site.pulled(first, "v1", "runner") == old
    assert site.pulled(first, "v2", "runner-2") == machines.contents(first.library, first)
    assert site.pulled(second, "v1", "runner") == machines.contents(second.library, second)
    assert site.fsck()[0] == 0


def test_other_bytes_than_were_lost_are_not_put_back_though_the_library_takes_them_for_the_same(site):
    """A disk that changed behind its size, its time and its inode: what is read of it tells."""
    machine = site.made()
    site.push(machine, "v1")
    site.hurt()
    before = machine.disk().stat()
    with machine.disk().open("r+b") as disk:
        disk.seek(100)
        disk.write(b"changed")
    os.utime(machine.disk(), ns=(before.st_atime_ns, before.st_mtime_ns))
    (head,) = Registry(site.store).templates(EVERYONE)
    code, told = site.fsck("--repair-from", machine.library)
    assert code == 8
    assert [row["problem"] is None for row in told["repairs"]] == [False]
    assert Registry(site.store).templates(EVERYONE) == [head]


def test_what_the_node_noted_of_a_version_does_not_count_where_its_record_says_otherwise(site):
    """A ledger may be a copy of another one, or older than the library."""
    machine = site.made()
    site.push(machine, "v1")
    site.hurt()
    with machine.disk().open("r+b") as disk:
        disk.write(b"changed")
    site.push(machine, "v2")
    ledger = Library(machine.library).ledger
    rows = ledger.tags(machine.id)
    ledger.set_tag(machine.id, "v1", rows["v1"].version, machine.name, rows["v2"].members, current=False)
    (before,) = Registry(site.store).templates(EVERYONE)
    code, told = site.fsck("--repair-from", machine.library, "--template", machine.name)
    assert ("v1", False) in {(row["tag"], row["problem"] is None) for row in told["repairs"]}
    (head,) = Registry(site.store).templates(EVERYONE)
    assert (code, head.versions[0]) == (8, before.versions[0])


def test_what_only_another_version_s_bytes_are_here_for_is_pulled_from_both_and_put_back(site):
    """The library went on to v2; with what the store still has of v1, that is enough for v1."""
    machine = site.made()
    site.push(machine, "v1")
    wanted = machines.contents(machine.library, machine)
    with machine.disk().open("r+b") as disk:
        disk.write(b"changed")
    site.push(machine, "v2")
    (key,) = [stat.key for stat in site.store.list(fmt.PACKS) if stat.size > 300_000]
    data = bytearray(site.store.get(key).data)
    data[-4000] ^= 1
    site.store.put(key, bytes(data))
    code, told = site.fsck("--repair-from", machine.library)
    assert ("v1", False) in {(row["tag"], row["problem"] is None) for row in told["repairs"]}
    with sites.address(site.folder / "store") as url, Node(site.folder / "aside", Access(url)) as node:
        node.pull(machine.id, PullOptions(tag="v1", others=(machine.library,)))
    code, told = site.fsck("--repair-from", site.folder / "aside")
    assert (code, [row["problem"] for row in told["repairs"]]) == (0, [None])
    assert site.pulled(machine, "v1", "runner") == wanted


def test_a_closed_registry_takes_the_repair_from_who_may_push_there_and_nobody_else(site, monkeypatch):
    closed = Closed(site.folder / "store", authorization=True)
    every = [action.value for action in Action]
    permissions = ("list_vms", "head_push_vm", "push_vm", "pull_vm")
    closed.group("blue", *permissions, templates={}, domains={"blue": every})
    closed.group("green", *permissions, templates={}, domains={"green": every})
    for key in ("blue", "green"):
        closed.make(key, [key])
    machine = site.made()
    with sites.serving(closed.app) as url:
        monkeypatch.setenv("S3REG_REMOTES", str(site.folder / "remotes.yaml"))

        def by(key):
            return ["--registry", url, "--api-key-id", key, "--api-key", tap.printed(tap.key())]

        library = ["--library", str(machine.library)]
        assert run(["push", machine.name, "-t", "v1", *library, *by("blue")]) == 0
        wanted = machines.contents(machine.library, machine)
        site.hurt()
        code, told = site.fsck("--repair-from", machine.library, *by("green"))
        assert code == 8
        assert [row["version"] for row in told["repairs"]] == [None]
        code, told = site.fsck("--repair-from", machine.library, *by("blue"))
        assert (code, [row["problem"] for row in told["repairs"]]) == (0, [None])
    (head,) = Registry(site.store).templates(EVERYONE)
    assert head.domain == "blue"
    assert site.pulled(machine, "v1", "runner") == wanted


def test_what_several_versions_have_in_common_is_sent_once_though_the_library_noted_none_of_them(site):
    machine = site.made()
    site.push(machine, "v1")
    (machine.folder / "policy.json").write_text("{}")
    site.push(machine, "v2")
    (Library(machine.library).own).rename(machine.library / "another-node-s")
    site.hurt()
    code, told = site.fsck("--repair-from", machine.library)
    assert (code, [row["problem"] for row in told["repairs"]]) == (0, [None, None])
    assert [row["sent"] > 0 for row in told["repairs"]] == [True, False]
    assert site.pulled(machine, "v2", "runner") == machines.contents(machine.library, machine)
    assert site.fsck()[0] == 0


def test_a_library_in_which_nothing_can_be_laid_aside_is_said_to_be_beside_what_was_found(site):
    machine = site.made()
    site.push(machine, "v1")
    own = Library(machine.library).own
    own.rename(machine.library / "another-node-s")
    own.mkdir()
    (own / "repair").write_text("a file")
    site.hurt()
    code, told = site.fsck("--repair-from", machine.library)
    assert (code, [row["tag"] for row in told["damage"]]) == (8, ["v1"])
    (row,) = told["repairs"]
    assert str(own / "repair") in row["problem"]
    assert row["remedy"]
