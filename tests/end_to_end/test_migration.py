"""examples/migrate.py moves what an Anka registry has to one of ours, whatever ends it on the way."""

import base64
import fcntl
import random
import tempfile
from pathlib import Path

import pytest

import machines
import sites
from machines import KIB
from old_anka import HOME, Mac
from s3reg.client import Node, PullOptions, PushOptions

HOW = ("both", "parent", "after")


@pytest.fixture
def mac(in_memory, capsys):
    """A Mac between two empty registries."""
    with (
        sites.address(in_memory / "new") as new,
        tempfile.TemporaryDirectory(prefix="mac-") as folder,  # pytest's own is too long a name for a socket
        Mac(Path(folder), new, capsys).line() as mac,
        sites.serving(mac.lists) as mac.old,
    ):
        yield mac


@pytest.fixture
def runner(in_memory):
    """Another node's library."""
    return in_memory / "runner"


def small(mac, name, seed, *, state_size=0):
    """A small VM of two drives in a library of its own."""
    return machines.make(
        mac.folder / f"maker-{name}", sizes=(400 * KIB, 300 * KIB), state_size=state_size, name=name, seed=seed
    )


def of_tags(mac, count=3):
    """The Anka registry has a VM under so many tags: as made, another layer, another configuration. Tag → its bytes."""
    machine = small(mac, "sequoia", 1)
    found = {"vanilla": mac.old_has(machine, "vanilla", description="as installed")}
    if count > 1:
        machine.drives[1] = f"{7:032x}.ank"
        machines.fill(machine.disk(1), 270 * KIB, random.Random(7))
        machine.write_config()
        found["xcode/17 (beta)"] = mac.old_has(machine, "xcode/17 (beta)")
    if count > 2:
        machine.write_config(ram="8G")
        found["-ports"] = mac.old_has(machine, "-ports")
    return machine, found


def tags(mac, template):
    """Of the new registry, in order."""
    with Node(mac.folder / "nobody", mac.new) as node:
        return [version.tag for row in node.templates() if row.id == template for version in row.versions]


def test_everything_moves_in_order_and_a_second_run_does_nothing(mac, runner):
    machine, wanted = of_tags(mac)
    suspended = small(mac, "ventura", 2, state_size=300 * KIB)
    wanted_state = mac.old_has(suspended, "v1")
    done = mac.migrate()
    assert done.code == 0, done
    assert "4 moved" in done.out
    arrived(mac, machine, wanted, runner)
    with Node(runner, mac.new) as node:
        node.pull("ventura")
    assert {path: (runner / path).read_bytes() for path in wanted_state} == wanted_state
    assert not list((mac.library / "vm_lib").iterdir()), "the VMs left the Mac"
    assert not list((mac.library / "img_lib").iterdir())
    mac.forget_calls()
    again = mac.migrate()
    assert again.code == 0
    assert "4 there" in again.out
    assert not mac.calls("anka", "pull")
    assert not mac.calls("s3reg", "push")


def arrived(mac, machine, wanted, library):
    """Whether the new registry has these tags, in order, byte for byte."""
    for tag, contents in wanted.items():
        with Node(library, mac.new) as node:
            node.pull(machine.id, PullOptions(tag=tag, force=True, durable=False))
        assert {path: (library / path).read_bytes() for path in contents} == contents
    assert tags(mac, machine.id) == list(wanted)


@pytest.mark.parametrize("ways", [HOW, *(pytest.param((how,), marks=pytest.mark.campaign) for how in HOW)])
def test_killed_at_every_command_it_goes_on_and_repeats_nothing_that_was_done(mac, runner, ways):
    """Each run is killed one command later than the one before: at its second, third, …; until one has no more."""
    machine, wanted = of_tags(mac, 2)
    codes = []
    while not codes or codes[-1]:
        mac.forget_calls()
        mac.kills({len(codes) + 1: ways[len(codes) % len(ways)]})
        moved = set(tags(mac, machine.id))
        codes.append(mac.migrate().code)
        pulled = {words[5].partition("=")[2] for words in mac.calls("anka", "pull")}
        assert not pulled & moved, "what has moved is not pulled again"
    assert set(codes) == {-9, 0}
    assert len(codes) > 4
    arrived(mac, machine, wanted, runner)
    assert not list((mac.library / "vm_lib").iterdir())


def test_a_run_waits_for_what_a_killed_one_had_started(mac):
    """Which holds the lock on: so every command that it starts is given it, as the doubles see to."""
    of_tags(mac)
    (mac.folder / "state").mkdir()
    waited = []
    with (mac.folder / "state" / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def let_go(line):
            waited.append(line)
            fcntl.flock(lock, fcntl.LOCK_UN)

        assert mac.migrate("--dry-run", on_line=let_go).code == 0
    assert "still at work: waiting for it" in waited[0]


def test_a_dry_run_says_what_would_move_and_runs_nothing_of_anka(mac):
    of_tags(mac)
    done = mac.migrate("--dry-run", "--tag", "x*", "--tag=-*")
    assert done.code == 0, done
    assert [line.split(":")[1].strip() for line in done.out.splitlines() if line.startswith("would move")] == [
        "sequoia xcode/17 (beta)",
        "sequoia -ports",
    ]
    assert "1 not asked for, 2 would move" in done.out
    assert [words[0] for words in mac.calls("s3reg", "describe")] == ["s3reg"]
    assert not (mac.library / "vm_lib").exists()
    assert not [*mac.calls("anka", "pull"), *mac.calls("anka", "list"), *mac.calls("s3reg", "push")]


def test_what_is_chosen_moves_nothing_is_put_above_newer_tags_or_brought_back_unawares(mac):
    machine, _ = of_tags(mac)
    other = small(mac, "ventura", 2)
    mac.old_has(other, "v1")
    first = mac.migrate("--template", "seq*", "--skip", "sequoia", "vanilla")
    assert (first.code, tags(mac, machine.id)) == (0, ["xcode/17 (beta)", "-ports"])
    second = mac.migrate("--template", machine.id)
    assert "skipped\tsequoia\tvanilla\ta newer tag is there already" in second.out
    third = mac.migrate("--any-order")
    assert (third.code, tags(mac, machine.id)) == (0, ["xcode/17 (beta)", "-ports", "vanilla"])
    assert tags(mac, other.id) == ["v1"]
    with Node(mac.folder / "nobody", mac.new) as node:
        (row,) = [row for row in node.templates() if row.id == machine.id]
        assert row.versions[-1].description == "as installed"
    assert mac.s3reg(["-r", mac.new, "untag", "-y", machine.id, "vanilla"])["code"] == 0
    fourth = mac.migrate()
    assert "skipped\tsequoia\tvanilla\twas moved before, and somebody took it out" in fourth.out
    assert tags(mac, machine.id) == ["xcode/17 (beta)", "-ports"]


def test_a_vm_that_was_on_the_mac_before_is_left_as_it_is_and_the_others_move(mac):
    machine, _ = of_tags(mac, 2)
    other = small(mac, "ventura", 2)
    mac.old_has(other, "v1")
    mine = mac.library / "vm_lib" / machine.id
    mine.mkdir(parents=True)
    (mine / "config.yaml").write_text("somebody's work")
    done = mac.migrate()
    assert done.code == 1
    assert "failed\tsequoia\tvanilla\tits VM was on this Mac before" in done.out
    assert "failed\tsequoia\txcode/17 (beta)\twaits for the one before it" in done.out
    assert "1 moved" in done.out
    assert [path.name for path in mine.iterdir()] == ["config.yaml"]
    assert not mac.calls("anka", machine.id)


def test_the_disk_keeps_its_reserve_and_room_is_made_by_what_was_brought_before(mac):
    of_tags(mac, 1)
    done = mac.migrate("--reserve", "1e9")
    assert done.code == 1
    assert "failed\tsequoia\tvanilla\tno room: " in done.out
    assert not mac.calls("anka", "pull")
    assert mac.migrate().code == 0


def test_a_tag_that_cannot_be_had_holds_up_its_template_only(mac, runner, tmp_path):
    machine, wanted = of_tags(mac, 2)
    other = small(mac, "ventura", 2)
    mac.old_has(other, "v1")
    gone = mac.of_tag(machine, "xcode/17 (beta)")
    gone.rename(tmp_path / "aside")
    done = mac.migrate()
    assert done.code == 1
    assert "failed\tsequoia\txcode/17 (beta)\tanka pull ends with 3: " in done.out
    assert tags(mac, machine.id) == ["vanilla"]
    assert tags(mac, other.id) == ["v1"]
    assert not list((mac.library / "vm_lib").iterdir())
    (tmp_path / "aside").rename(gone)
    assert mac.migrate().code == 0
    arrived(mac, machine, wanted, runner)


def test_a_registry_that_does_not_answer_ends_it_at_once_with_the_vm_kept_for_the_next_run(mac, runner):
    machine, wanted = of_tags(mac, 1)
    mac.before_push = lambda: {"code": 10, "out": "", "err": "s3reg: it does not answer\n"}
    done = mac.migrate()
    assert done.code == 3
    assert "it does not answer" in done.err
    assert "the same command goes on" in done.err
    assert [path.name for path in (mac.library / "vm_lib").iterdir() if path.name[0] != "."] == [machine.id]
    mac.before_push = lambda: None
    assert mac.migrate().code == 0
    arrived(mac, machine, wanted, runner)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "file:///etc/passwd", "ftp://old"])
def test_an_old_registry_that_is_none_is_named(mac, url):
    mac.old = url
    done = mac.migrate()
    assert done.code == (3 if url.startswith("http") else 2)
    assert ("does not answer" if url.startswith("http") else "write an address") in done.err
    assert "Traceback" not in done.err


def test_the_root_token_is_shown_to_the_old_registry_and_to_nobody_else(mac, tmp_path):
    of_tags(mac)
    mac.root = "Basic " + base64.b64encode(b"root:a-token-of-old").decode()
    assert "401" in mac.migrate("--dry-run").err
    (tmp_path / "token").write_text("a-token-of-old\nanother\n")
    done = mac.migrate("--dry-run", "--root-token-file", tmp_path / "token")
    assert (done.code, "3 would move" in done.out) == (0, True)
    assert "a-token-of-old" not in done.out + done.err + (mac.folder / "calls").read_text()
    with sites.serving(redirecting(mac.old)) as mac.old:
        assert "302" in mac.migrate("--dry-run", "--root-token-file", tmp_path / "token").err


def redirecting(target):
    def app(environ, start_response):
        start_response("302 Found", [("Location", target + environ["PATH_INFO"])])
        return []

    return app


PACKER = """#!/bin/sh
# Clones the base and changes something in it, as a build would.
set -e
[ "$1" = build ] || exit 0
for word; do case $word in name=*) name=${word#name=};; base=*) base=${word#base=};; esac; done
s3reg vm clone "$base" "$name" --copy
newest=$(ls -t "$HOME"/library/img_lib | head -1)
date +%N | dd of="$HOME/library/img_lib/$newest" bs=1 seek=4096 conv=notrunc status=none
"""


@pytest.mark.campaign
def test_a_night_is_baked_pushed_pulled_back_and_pruned_and_the_next_one_is_a_version_more(mac, monkeypatch):
    """examples/bake/bake.sh, with a double of Packer."""
    monkeypatch.setenv("S3REG_LIBRARY", str(mac.library))
    monkeypatch.setenv("S3REG_REGISTRY", mac.new)
    packer = mac.folder / "bin" / "packer"
    packer.write_text(PACKER)
    packer.chmod(0o755)
    base = small(mac, "15.1-base", 3)
    with Node(base.library, mac.new) as node:
        node.push(base.id, PushOptions(tag="vanilla"))
    bake = HOME / "examples" / "bake" / "bake.sh"
    for night in ("1", "2"):
        done = mac.run(["env", f"TAG=night-{night}", "KEEP=1", bake])
        assert done.code == 0, done
    with Node(mac.folder / "nobody", mac.new) as node:
        (row,) = [row for row in node.templates() if row.name == "macos-ci"]
        assert [version.tag for version in row.versions] == ["night-1", "night-2"], "a fortnight is kept"
