"""Fixtures for the node's half."""

import os
import subprocess
import sys

import pytest

from servers import lacking, needs

MIB = 1024**2
MAKE = {"xfs": ["-q", "-m", "reflink=1"], "btrfs": ["-q"]}


@pytest.fixture(scope="module", params=sorted(MAKE))
def reflinking(request, tmp_path_factory):
    """A folder on a file system that shares blocks."""
    if sys.platform != "linux" or os.geteuid() != 0:
        lacking("loop devices (root)")
    make = needs(f"mkfs.{request.param}")
    where = tmp_path_factory.mktemp(request.param)
    image, folder = where / "image", where / "mnt"
    with image.open("wb") as file:
        file.truncate(400 * MIB)
    subprocess.run([make, *MAKE[request.param], image], check=True, capture_output=True)
    folder.mkdir()
    mounted = subprocess.run(["mount", "-o", "loop", image, folder], check=False, capture_output=True)
    if mounted.returncode != 0:
        lacking("loop devices (root)")
    yield folder
    subprocess.run(["umount", folder], check=True)
