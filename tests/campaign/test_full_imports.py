"""A node whose disk is full imports plain disks: it is said what is missing, nothing half shows, a second try works."""

import random

import pytest

import file_systems
from campaign.operations import told
from killing import shows
from machines import KIB, MIB
from s3reg.client.library import Library

FREE = (0, 12 * KIB, 64 * KIB, MIB, 2 * MIB)
"""Bytes: too few for a folder, a record, the disk."""


@pytest.mark.parametrize("kind", ["ext4"])
def test_an_import_that_finds_no_room_shows_nothing_and_is_repeated(kind, start, tmp_path):
    source = tmp_path / "system.img"
    source.write_bytes(random.Random(5).randbytes(3 * MIB))
    with file_systems.mounted(tmp_path / "narrow", kind) as disk:
        library = disk.folder / "library"
        for free in FREE:
            disk.leave(free)
            outcome = start("--library", library, "import", "box", "--disk", source).outcome()
            assert outcome.code == 11, outcome.err
            assert "bytes needed" in told(outcome)
            assert not list(library.glob("vm_lib/*"))
        disk.give_back()
        start("--library", library, "import", "box", "--disk", source).done()
        assert list(shows(Library(library))) == ["box"]
        assert [path.read_bytes() for path in library.glob("img_lib/*")] == [source.read_bytes()]
