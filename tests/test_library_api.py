"""The examples of docs/library.md run as they stand, and what the page promises is there."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

import machines
import sites
from s3reg import client
from s3reg.client import Access, Library, Node, PullOptions, PushOptions
from s3reg.errors import NoRegistry

PAGE = Path(__file__).parents[1] / "docs" / "library.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
ROWS = re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE.read_text(), re.MULTILINE)


@pytest.fixture
def registry(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("S3REG_REGISTRY", "ANKA_REGISTRY", "S3REG_REMOTES"):
        monkeypatch.delenv(name, raising=False)
    with sites.address(tmp_path / "store") as url:
        yield url


def test_every_example_runs(registry, tmp_path, capsys):
    machine = machines.make(tmp_path / "vms")
    names = {}
    for block in BLOCKS:
        here = block.replace("http://registry:8089", registry).replace('"/vms', f'"{tmp_path}/vms')
        exec(compile(here, str(PAGE), "exec"), names)
    wanted = machines.contents(tmp_path / "vms", machine)
    pulled = sorted(path.name for path in tmp_path.glob("vms-*"))
    assert pulled == ["vms-of-a-runner", "vms-of-a-third-runner", "vms-of-another-runner"]
    assert all(machines.contents(tmp_path / name, machine) == wanted for name in pulled)
    out = capsys.readouterr().out
    assert "tag-not-found - sequoia: no version with tag 'xcode-16' - " in out
    assert "[('sequoia', ['xcode-17'])]" in out


def test_the_page_names_all_that_is_public():
    assert {name for name, _ in ROWS} | {"FileEstimate", "FileOutlook"} == set(client.__all__)
    for name in client.__all__:
        assert getattr(client, name).__name__ == name
    assert {"FileEstimate", "FileOutlook"} <= set(re.findall(r"`(\w+)`", PAGE.read_text()))


@pytest.mark.parametrize(("name", "promised"), ROWS, ids=[name for name, _ in ROWS])
def test_the_names_that_the_page_promises_are_there(name, promised):
    outermost = re.sub(r" \(.*?`\)", "", promised)
    found = getattr(client, name)
    has = {field.name for field in dataclasses.fields(found)} if dataclasses.is_dataclass(found) else set()
    for part in re.findall(r"`(\w+)", outermost):
        assert part in has or hasattr(found, part) or part in client.__all__, part


def test_what_is_no_name_of_it_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        client.nothing  # noqa: B018


def test_a_module_of_the_package_waits_for_no_other():
    program = "import sys, s3reg.client.progress; sys.exit('s3reg.client.pull' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_types_of_the_package_are_for_others_to_check():
    assert (Path(client.__file__).parents[1] / "py.typed").is_file()
    project = (PAGE.parents[1] / "pyproject.toml").read_text()
    assert re.search(r's3reg = \["py\.typed"\]', project), "it must be in the wheel"


def test_a_registry_may_be_the_one_of_this_users_commands(registry, tmp_path, monkeypatch):
    with pytest.raises(NoRegistry):
        Node(tmp_path / "vms")
    monkeypatch.setenv("S3REG_REGISTRY", registry)
    with Node(tmp_path / "vms") as node:
        assert node.templates() == []
        assert node.vms() == []


def test_an_access_brings_its_certificates(registry, tmp_path):
    machine = machines.make(tmp_path / "vms", state_size=0)
    with Node(tmp_path / "vms", Access(registry)) as node:
        pushed = node.push(machine.id, PushOptions(tag="v1"))
        assert node.download_size(machine.id, PullOptions(tag="v1")).to_fetch == 0
        assert isinstance(node.library, Library)
    assert pushed.answer.number == 0
