"""What docs/howto/access.md and docs/howto/login.md tell people to type works as it stands, typed into a real shell."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path

import pytest

import running
import servers
import sites
import tap
from access_kit import Closed
from push_calls import Push
from s3reg.api.needs import NEEDS
from s3reg.cli.main import run
from s3reg.model.access import PERMISSIONS
from s3reg.model.identity import Action

PAGES = Path(__file__).parents[2] / "docs" / "howto"
WHERE = "localhost:8089"
"""Of the registry, on the pages."""
ELSEWHERE = re.compile(r"# on the (.+)")
REFUSED = re.compile(r"# refused, exit code (\d+)$")
SOON = 60
"""Seconds until what is refused must be refused."""


def blocks(page):
    """The commands of a page, block by block, without the indent of a list."""
    found = re.findall(r"^( *)```sh\n(.*?)^ *```$", (PAGES / page).read_text(), re.DOTALL | re.MULTILINE)
    return ["".join(line.removeprefix(indent) for line in text.splitlines(True)) for indent, text in found]


def typed(folder, script):
    """What the commands print to stdout, in a shell that must end well."""
    command = ["sh", "-c", script]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=running.SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Reader:
    """Somebody who types what the page says: on the registry's machine, and on others that share its folder.

    What is not s3reg goes to a shell; s3reg runs in this process, because thirty of its own take half a minute.
    """

    def __init__(self, folder, stack, s3reg, monkeypatch):
        self.folder = folder
        self.s3reg = s3reg
        self.monkeypatch = monkeypatch
        self.address = f"localhost:{servers.free_port()}"
        self.registry = contextlib.ExitStack()
        stack.callback(self.registry.close)

    def follow(self, block):
        """Type the lines of a block; each of them, and what it prints."""
        first, _, rest = block.partition("\n")
        elsewhere = ELSEWHERE.fullmatch(first)
        home = self.folder / (elsewhere[1] if elsewhere else "here").replace(" ", "-")
        home.mkdir(exist_ok=True)
        self.monkeypatch.setenv("HOME", str(home))
        return [(line, self.type(line)) for line in (rest if elsewhere else block).splitlines()]

    def type(self, line):
        words = shlex.split(line.replace(WHERE, self.address), comments=True)
        if words[:2] == ["s3reg", "serve"]:
            return self.serve(words[2:])
        if words[0] != "s3reg":
            return typed(self.folder, line.replace(WHERE, self.address))
        assert not set(line.partition("#")[0]) & set("$|;&<>*`"), "this needs a shell"
        refused = REFUSED.search(line)
        code, until = int(refused[1]) if refused else 0, time.monotonic() + SOON
        done = self.s3reg(*words[1:])
        while done.code != code and refused and time.monotonic() < until:
            done = self.s3reg(*words[1:])
        assert done.code == code, (line, done)
        return done.out

    def serve(self, arguments):
        """In the other terminal: what ran there is ended first."""
        self.registry.close()
        listen = self.address.replace("localhost", "127.0.0.1")
        self.registry.enter_context(running.serving(self.folder, *arguments, "--workers", "1", listen=listen))
        return ""


@pytest.fixture
def s3reg(capsys):
    """Runs the program with these arguments."""
    before = signal.getsignal(signal.SIGTERM)

    def program(*arguments):
        capsys.readouterr()
        code = run(arguments)
        return running.Outcome(code, *capsys.readouterr())

    yield program
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def reader(tmp_path, s3reg, monkeypatch):
    for program in ("curl", "openssl"):
        servers.needs(program)
    for name in [name for name in os.environ if name.startswith(("S3REG_", "ANKA_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "system.img").write_bytes(bytes(range(256)) * 4096)
    with contextlib.ExitStack() as stack:
        yield Reader(tmp_path, stack, s3reg, monkeypatch)


def test_a_newcomer_types_the_page_from_an_open_registry_to_a_closed_one(reader):
    printed = [said for block in blocks("access.md") for said in reader.follow(block)]

    def told(line):
        return [text for typed, text in printed if typed.startswith(line)]

    assert told("curl -s http") == ['{"status":"FAIL","message":"Authentication Required"}']
    assert [re.match(r"name\t(.*)", who)[1] for who in told("s3reg access whoami")] == ["root", "root", "cert:mac-18"]
    assert ["sequoia" in listed for listed in told("s3reg list")] == [True, False, True]
    (newest, of_one) = told("s3reg events")
    assert len(newest.splitlines()) == 10
    assert {"key:mac-17"} == set(re.findall(r"key:[\w-]+", of_one))
    before, after = ("get_config\tyes" in text for text in told("s3reg access explain"))
    assert (before, after) == (False, True)


def test_the_page_says_of_every_permission_whether_it_opens_anything():
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|$", (PAGES / "access.md").read_text(), re.MULTILINE)
    told = {name: text for names, text in rows for name in re.findall(r"`(\w+)`", names)}
    assert set(PERMISSIONS) | {action.value for action in Action} <= set(told)
    needs = [need for row in NEEDS.values() for need in (row, row.instead) if need is not None]
    opening = {permission for need in needs for permission in need.permissions}
    assert {name for name in PERMISSIONS if not told[name].startswith("nothing here")} == opening


def test_a_shell_logs_in_and_lists_with_the_commands_of_the_page(tmp_path):
    for program in ("curl", "jq", "openssl"):
        servers.needs(program)
    closed = Closed(tmp_path / "store")
    http = closed.app.test_client()
    http.environ_base["HTTP_AUTHORIZATION"] = closed.root["Authorization"]
    pushed = Push([http])
    pushed.run()
    closed.make("ci")
    where, functions, log_in_and_list, key_of_text = blocks("login.md")
    with sites.serving(closed.app) as url:
        where = where.replace(f"http://{WHERE}", url)
        printed, listed = f"printed={tap.printed(tap.key())}", f"{pushed.template} {pushed.name}\n"
        steps = [where, functions, log_in_and_list]
        assert typed(tmp_path, "\n".join(["set -eu", printed, key_of_text, *steps])) == listed
        for form in ("TraditionalOpenSSL", "PKCS8"):
            (tmp_path / "ci.pem").write_bytes(tap.pem(tap.key(), form=form))
            assert typed(tmp_path, "\n".join(["set -eu", *steps])) == listed
