"""`make infra` sees what is wrong: breaks of the module, each with the words by which the check refuses it.

All of a kind in one copy, for every `make infra`; each by itself, for `make campaign`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

import servers

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "infra/terraform"
SECONDS = 600


class Break(NamedTuple):
    name: str
    part: str
    """Of the check."""
    file: str
    right: str
    wrong: str
    says: str
    """What the check prints, among other things."""


def of_one_copy():
    """`with` → the breaks that go together."""
    found = {}
    for row in tomllib.loads((Path(__file__).parent / "breaks.toml").read_text())["break"]:
        found.setdefault(row.pop("with"), []).append(Break(**row))
    return found


TOGETHER = of_one_copy()
ALONE = {one.name: one for breaks in TOGETHER.values() for one in breaks}
PARTS = sorted({one.part for one in ALONE.values()})


@pytest.fixture
def module(tmp_path):
    """A copy of the module that may be broken."""
    copy = tmp_path / "terraform"
    shutil.copytree(MODULE, copy)
    return copy


def broken(module, breaks):
    for one in breaks:
        path = module / one.file
        text = path.read_text()
        assert text.count(one.right) == 1, f"{one.file} has {one.right!r} {text.count(one.right)} times"
        path.write_text(text.replace(one.right, one.wrong))


def checked(module, part):
    """What the check says of this part, and how it ends."""
    # The module's own tests of other values say no more of these.
    for other in (path for path in (module / "tests").iterdir() if path.name != "minimal.tftest.hcl"):
        other.unlink()
    words = [str(ROOT / "infra/check"), str(module), part]
    tools = [str(ROOT / ".venv-infra/bin"), str(Path.home() / ".cache/s3reg/bin"), os.environ["PATH"]]
    told = {**os.environ, "PATH": os.pathsep.join(tools)}
    done = subprocess.run(words, env=told, capture_output=True, text=True, timeout=SECONDS, check=False)
    if servers.NOT_TESTED in done.stdout:
        servers.lacking(done.stdout.strip().removeprefix(servers.NOT_TESTED))
    return done.returncode, " ".join((done.stdout + done.stderr).replace("│", " ").split())


def refuses(module, breaks):
    broken(module, breaks)
    (part,) = {one.part for one in breaks}
    code, told = checked(module, part)
    assert code == 1, told
    assert not [one.name for one in breaks if one.says not in told], told


@pytest.mark.infra
@pytest.mark.parametrize("kind", TOGETHER)
def test_make_infra_names_everything_that_is_wrong_with_the_module(module, kind):
    refuses(module, TOGETHER[kind])


@pytest.mark.campaign
@pytest.mark.parametrize("name", ALONE)
def test_make_infra_refuses_one_thing_that_is_wrong_with_the_module(module, name):
    refuses(module, [ALONE[name]])


@pytest.mark.campaign
@pytest.mark.parametrize("part", PARTS)
def test_make_infra_finds_nothing_in_the_module_as_it_is(module, part):
    assert checked(module, part) == (0, "")
