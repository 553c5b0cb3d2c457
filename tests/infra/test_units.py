"""Units for systemd and launchd: their own programs read them, they run what Procfile says, and a node's night is tried."""

import configparser
import plistlib
import re
import stat
import subprocess
from pathlib import Path

import pytest

import machines
import running
import servers
from s3reg import configuration, settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROCFILE = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines() if line)
UNITS = sorted(path.name for path in [*DEPLOY.glob("*.service"), *DEPLOY.glob("*.timer")])
PLISTS = sorted(path.name for path in DEPLOY.glob("*.plist"))
# What a unit may say of itself, and what is looked at one by one.
LEAST_EXPOSED = {"s3reg.service": 20, "s3reg-gc.service": 20, "s3reg-node.service": 50}
"""Tenths of a point of systemd's ten; a node's unit has to write where its user's VMs are."""


def unit(name):
    """Section → option → its last value."""
    read = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    read.optionxform = str
    read.read_string((DEPLOY / name).read_text())
    return read


def told(name):
    """The environment that a unit's process has."""
    lines = (DEPLOY / "s3reg.env").read_text().splitlines()
    values = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    values |= dict(re.findall(r"(?m)^Environment=(\w+)=(.*)$", (DEPLOY / name).read_text()))
    return {key: value.replace("%d", "/run/credentials/s3reg") for key, value in values.items()}


@pytest.mark.parametrize("name", UNITS)
def test_systemd_takes_the_unit(name):
    program = servers.needs("systemd-analyze")
    done = subprocess.run([program, "verify", DEPLOY / name], capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if line.split(":", 1)[0] in UNITS]
    assert [line for line in lines if "is not executable: No such file or directory" not in line] == []


@pytest.mark.parametrize("name", LEAST_EXPOSED)
def test_systemd_finds_the_unit_hardly_exposed(name):
    program = servers.needs("systemd-analyze")
    words = [program, "security", "--offline=true", f"--threshold={LEAST_EXPOSED[name]}", DEPLOY / name]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-400:]


def test_units_run_what_the_procfile_says():
    assert unit("s3reg.service")["Service"]["ExecStart"] == f"/opt/s3reg/bin/{PROCFILE['web']}"
    assert unit("s3reg-gc.service")["Service"]["ExecStart"] == f"/opt/s3reg/bin/{PROCFILE['gc']}"
    words = plistlib.loads((DEPLOY / "com.s3reg.registry.plist").read_bytes())["ProgramArguments"]
    assert " ".join(words) == f"/opt/s3reg/bin/{PROCFILE['web']}"


def test_the_first_process_is_told_to_end_and_given_the_time():
    service = unit("s3reg.service")["Service"]
    assert (service["KillMode"], service["Type"]) == ("mixed", "notify")
    (most,) = re.findall(r"at most (\d+), for which TimeoutStopSec", (DEPLOY / "s3reg.env").read_text())
    assert int(service["TimeoutStopSec"]) >= int(most) + 50
    registry = plistlib.loads((DEPLOY / "com.s3reg.registry.plist").read_bytes())
    assert registry["ExitTimeOut"] >= int(registry["EnvironmentVariables"].get("S3REG_DRAIN_SECONDS", 0)) + 50


@pytest.mark.parametrize("name", ["s3reg.service", "s3reg-gc.service", "com.s3reg.registry.plist"])
def test_what_a_unit_sets_is_a_registry_s(name):
    if name.endswith("plist"):
        environment = plistlib.loads((DEPLOY / name).read_bytes())["EnvironmentVariables"]
    else:
        environment = told(name)
    read = configuration.read(environment)
    if name != "s3reg-gc.service":
        settings.check(read)
        assert read.authorization
        assert read.root_token_file


def test_what_is_commented_out_of_the_settings_is_a_registry_s_too():
    names = re.findall(r"(?m)^#(S3REG_\w+)=", (DEPLOY / "s3reg.env").read_text())
    assert names
    assert set(names) <= {row.variable for row in settings.table()}


@pytest.mark.parametrize("name", PLISTS)
def test_launchd_s_files_are_labelled_as_they_are_called(name):
    read = plistlib.loads((DEPLOY / name).read_bytes())
    assert f"{read['Label']}.plist" == name
    assert read["UserName"] not in {"root", ""}
    assert read["ProgramArguments"][0].startswith("/")


def test_a_node_s_night_is_the_same_on_linux_and_on_a_mac():
    linux = unit("s3reg-node.service")["Service"]["ExecStart"].split()
    mac = plistlib.loads((DEPLOY / "com.s3reg.node.plist").read_bytes())["ProgramArguments"]
    assert [linux[0], *linux[2:]] == [mac[0], *mac[2:]]
    assert (DEPLOY / "s3reg-node.sh").stat().st_mode & stat.S_IXUSR


def test_a_node_s_night_fetches_what_can_be_had_and_tells_of_the_rest(tmp_path):
    with running.serving(tmp_path, "--store", tmp_path / "store") as registry:
        baker, runner = (running.Node(tmp_path / name, registry.url) for name in ("baker", "runner"))
        machine = machines.make(baker.library, sizes=(machines.MIB,), state_size=0)
        baker.done("push", machine.name, "-t", "v1")
        program = tmp_path / "s3reg"
        program.write_text(f'#!/bin/sh\nexec {" ".join(runner.command())} "$@"\n')
        program.chmod(0o755)
        night = [DEPLOY / "s3reg-node.sh", "0", "nobody-knows-it", machine.name]
        path = f"{tmp_path}:/usr/bin:/bin"
        done = subprocess.run(
            night,
            env=running.environment(PATH=path),
            capture_output=True,
            text=True,
            timeout=running.SECONDS,
            check=False,
        )
    assert done.returncode == 1
    assert "nobody-knows-it" in done.stderr
    assert runner.done("vm", "list").out.startswith(machine.name)
