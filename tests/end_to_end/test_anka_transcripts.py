"""The documented examples of Anka's registry, typed in order into a real shell: tests/anka/*.transcript.

A line behind "$ " is typed; the lines below it, up to an empty line or the next "$ ", are what stdout shows, with `[exit N]`
last if the exit code is not 0. Lines elsewhere are remarks. JSON is compared as values (tests/answers.py says what is wild
in it), text line by line, where <size> and <address> stand for any. `anka` is the script of `s3reg shim`.
"""

import dataclasses
import difflib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import running
import secrets_seen
import servers
import vms
from answers import differences
from s3reg.cli.shim import script
from s3reg.client.library import Library
from s3reg.model import names

TRANSCRIPTS = sorted((Path(__file__).parents[1] / "anka").glob("*.transcript"))
BASE = "c12ccfa5-0000-4000-8000-000000000001"
BOTTOM, TOP = "0d5a7b1ec3f24a6f8b90c1d2e3f4a501.ank", "7c19e0aa5b684d0d9d3fb1a2c3d4e502.ank"
DISK, STATE = "91b7c2d3e4f546a1b2c3d4e5f6071801.ank", "91b7c2d3e4f546a1b2c3d4e5f6071802.ank"
INDEPENDENT = "1de9e4de47ab4c0d8e1f2a3b4c5d6e01.ank"
ANKA_IMAGE = """#!/bin/sh
case $2 in
    */"$TOP") echo "Base Image: $BOTTOM" ;;
    *) echo "Base Image: none" ;;
esac
"""
"""As on a Mac with Anka: what lies below a layer is asked of its program."""
SETTINGS = {"access": {"S3REG_ROOT_TOKEN": "1111111111"}}
"""Of the registry that a transcript is about."""
WILD_TEXT = {"<size>": r"[\d.]+ (bytes|[kMGT]B)", "<address>": r"http://[\d.]+:\d+"}


@dataclasses.dataclass
class Step:
    typed: str
    shown: list[str]

    def wrong(self, found):
        """How what was found differs; empty if it does not."""
        try:
            wanted = json.loads("\n".join(self.shown))
            return "\n".join(differences(wanted, json.loads(found)))
        except ValueError:
            pass
        lines = found.splitlines()
        if len(lines) == len(self.shown) and all(map(fits, self.shown, lines)):
            return ""
        return "\n".join(difflib.ndiff(self.shown, lines))


def fits(wanted, line):
    pattern = re.escape(wanted)
    for name, wild in WILD_TEXT.items():
        pattern = pattern.replace(name, wild)
    return re.fullmatch(pattern, line.rstrip()) is not None


def steps_of(text):
    steps, below = [], False
    for line in text.splitlines():
        if line.startswith("$ "):
            steps.append(Step(line.removeprefix("$ "), []))
            below = True
        elif not line:
            below = False
        elif below:
            steps[-1].shown.append(line)
    return steps


@pytest.fixture
def library(tmp_path):
    """The VMs that the examples are about, on the first of two machines."""
    library = Library(tmp_path / "first")

    def vm(template, name, files, **more):
        drives = [{"pci_slot": 4, "controller": "ablk", "file": next(iter(files))}]
        config = {"ram": "4G", "nvram": True, "hard_drives": drives, **more}
        folder = vms.make_vm(library, template=names.template_id(template), name=name, images=files, **config)
        (folder / "nvram").write_bytes(b"nvram")

    vm(BASE, "12.4", {BOTTOM: b"disk" * 100_000}, arch="amd64")
    vm(
        "2fa0f10e-0000-4000-8000-000000000002",
        "appium-base",
        {DISK: b"appium" * 10_000},
        version=1,
        ram="2G",
        cpu={"cores": 2},
        state_file=STATE,
        firmware={"type": "uefi"},
        usb={"pci_slot": 7, "host": 0, "tablet": 1},
        network_cards=[
            {
                "mode": "shared",
                "pci_slot": 28,
                "mac_address": "02:00:5e:10:20:30",
                "port_forwarding_rules": [
                    {"host_port": 0, "protocol": "tcp", "rule_name": "ssh", "guest_port": 22, "host_ip": "0"}
                ],
            }
        ],
        display={
            "frame_buffer": {
                "height": 768,
                "width": 1024,
                "pci_slot": 29,
                "vnc_ip": "0.0.0.0",
                "password": "not-a-secret",
            }
        },
    )
    (library.state_lib / STATE).write_bytes(b"x" * 500)
    vm("00510971-0000-4000-8000-000000000003", "independent", {INDEPENDENT: b"other" * 1000})
    return library


@pytest.fixture
def programs(tmp_path):
    """A folder with `anka` and `anka_image`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("anka", script(sys.executable)), ("anka_image", ANKA_IMAGE)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda path: path.stem)
def test_what_is_documented_can_be_typed_and_gives_what_is_documented(transcript, library, programs, tmp_path):
    for program in ("bash", "curl", "jq", "openssl"):
        servers.needs(program)
    steps = steps_of(transcript.read_text())
    more = SETTINGS.get(transcript.stem, {})
    secrets_seen.keep("not-a-secret")  # the display's password
    with running.serving(tmp_path, "--store", tmp_path / "store", "--workers", "1", **more) as registry:
        settings = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "URL": registry.url,
            "S3REG_LIBRARY": str(library.root),
            "FIRST": str(library.root),
            "OTHER": str(tmp_path / "other"),
            "VM": str(library.vm_lib / BASE),
            "TOP": TOP,
            "BOTTOM": BOTTOM,
        }
        lines = [f"{{ {step.typed}\n}} >{number}.out; echo $? >{number}.code" for number, step in enumerate(steps)]
        typed = "\n".join([f"cd '{tmp_path}'", *lines])
        done = subprocess.run(
            ["bash", "-c", typed],
            env=running.environment(**settings),
            capture_output=True,
            text=True,
            check=False,
        )
    wrong = []
    for number, step in enumerate(steps):
        found, code = ((tmp_path / f"{number}.{what}").read_text() for what in ("out", "code"))
        if code != "0\n":
            found += f"[exit {code.strip()}]\n"
        if difference := step.wrong(found):
            wrong.append(f"$ {step.typed}\n{difference}")
    assert not wrong, "\n\n".join([*wrong, f"stderr of all: {done.stderr}"])
