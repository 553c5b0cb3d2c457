"""The disk of a directory store is full, at any moment of any operation: it is said, nothing is lost, and room can be made.

What takes the room is another program's file. (A node's disk: end_to_end/test_full_disks.py.)
"""

import json
import random

import pytest

import file_systems
from campaign.operations import OPERATIONS, pushed, told
from campaign.wired_site import over_directory
from machines import KIB, MIB

KINDS = [pytest.param(kind, marks=() if kind == "ext4" else pytest.mark.campaign) for kind in sorted(file_systems.MAKE)]
LITTLE = [4 * KIB * blocks for blocks in (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)]
"""Free bytes: too little for one object or another."""


@pytest.fixture
def disk(kind, tmp_path):
    with file_systems.mounted(tmp_path / "narrow", kind) as disk:
        yield disk


@pytest.fixture
def site(start, disk, tmp_path):
    with over_directory(start, disk.folder / "store", tmp_path) as site:
        yield site


def noise(machine, seed, size=2 * MIB):
    machine.disk().write_bytes(random.Random(seed).randbytes(size))


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_store_says_so_and_room_can_be_made_on_it(disk, site):
    """To let something go, a head and a sweep's marker have to be written: for these there is room."""
    machine, there = pushed(site, 1)
    for tag in ("v2", "v3"):
        noise(machine, tag)
        site.on_node(machine.library, "push", machine.name, "-t", tag).done()
    noise(machine, "v4")
    disk.leave(0)
    said = told(site.on_node(machine.library, "push", machine.name, "-t", "v4").outcome())
    assert "has no space left" in said
    assert "s3reg gc" in said
    assert site.tags(machine) == ["v1", "v2", "v3"]
    assert "has no space left" in told(site.on_node(machine.library, "push", machine.name, "-t", "v4").outcome())

    site.on_node(machine.library, "revert", machine.name, "-t", "v2", "-y").done()
    site.on_node(machine.library, "trash", "restore", machine.name, "v3").done()
    site.on_node(machine.library, "untag", machine.name, "v3", "-y").done()
    site.on_node(machine.library, "trash", "purge", machine.name, "-y").done()
    for row in json.loads(site.on_node(machine.library, "-j", "sessions", "list").done().out)["body"]:
        site.on_node(machine.library, "sessions", "abort", row["session"], "-y").done()
    swept = site.command("gc", "-j").done().answer["body"]
    assert swept["removed"]["bytes"] > 4 * MIB
    assert disk.free > 3 * MIB

    site.on_node(machine.library, "push", machine.name, "-t", "v4").done()
    disk.give_back()
    site.check_pulls(machine, {**there, "v4": site.node(machine.library).bytes_of(machine)})
    site.check_clean()


def filled(disk, site, operation, free):
    """Whether the operation met the full disk; once there is room, it succeeds, and nothing was lost meanwhile."""
    job = OPERATIONS[operation](site)
    disk.leave(free)
    outcome = job.run().outcome()
    full = outcome.code != 0
    if full:
        assert "has no space left" in told(outcome)
    disk.give_back()
    job.check(outcome)
    return full


@pytest.mark.parametrize("kind", ["ext4"])
def test_a_push_into_a_store_that_fills_up_is_repeated_once_there_is_room(disk, site):
    for operation, free in (("push", 64 * KIB), ("delta push", 24 * KIB)):
        assert filled(disk, site, operation, free)
    site.check_clean()


@pytest.mark.parametrize("kind", ["ext4"])
@pytest.mark.parametrize("operation", ["untag", "purge", "sweep"])
def test_what_lets_something_go_needs_no_room(operation, disk, site):
    assert not filled(disk, site, operation, 0)
    site.check_clean()


@pytest.mark.campaign
@pytest.mark.parametrize("kind", sorted(file_systems.MAKE))
@pytest.mark.parametrize(
    "operation", ["push", "delta push", "pull", "revert", "untag", "retag", "restore", "purge", "sweep", "check"]
)
def test_an_operation_on_a_store_with_so_little_room_ends_well_or_is_repeated(operation, disk, site, record_property):
    met = sum(filled(disk, site, operation, free) for free in LITTLE)
    assert bool(met) == (operation in {"push", "delta push"})
    site.check_clean()
    record_property("faults", met)
