"""Every failure ends as one line, the next step, and an exit code that scripts can rely on."""

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from s3reg.cli import main as cli_main
from s3reg.cli.main import program

PROGRAM = Path(sys.executable).with_name("s3reg")
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def breaking():
    """Adds a command that raises what it is told to."""

    def add(error):
        @click.command("break")
        def command():
            raise error

        program.add_command(command)

    yield add
    program.commands.pop("break", None)


def test_without_a_registry_the_exit_code_is_30_and_the_text_is_ankas(s3reg):
    done = s3reg("list")
    assert (done.code, done.out) == (30, "")
    assert done.err.splitlines()[0] == "s3reg: No registry configured"
    assert "s3reg add NAME URL" in done.err.splitlines()[1]


def test_an_unknown_template_is_3_and_says_not_found(s3reg, registry):
    done = s3reg("-a", registry, "describe", "nothing")
    assert (done.code, done.out) == (3, "")
    assert done.err.startswith("s3reg: nothing: not found\n")


def test_an_unknown_tag_is_3(s3reg, registry, disk):
    s3reg("import", "base", "--disk", disk)
    s3reg("-a", registry, "push", "base", "-t", "v1")
    assert s3reg("-a", registry, "pull", "base", "-t", "v9").code == 3
    assert s3reg("-a", registry, "pull", "base", "-v", "9").code == 3


def test_a_taken_tag_is_18(s3reg, registry, disk):
    s3reg("import", "base", "--disk", disk)
    assert s3reg("-a", registry, "push", "base", "-t", "v1").code == 0
    disk.write_bytes(b"changed")
    s3reg("import", "base", "--disk", disk)
    done = s3reg("-a", registry, "push", "base", "v1")
    assert done.code == 18
    assert "--force" in done.err
    assert s3reg("-a", registry, "push", "base", "v1", "--force").code == 0


def test_an_unknown_vm_and_an_unknown_registry_are_3(s3reg):
    assert s3reg("-a", NOBODY, "push", "nothing", "-t", "v1").code == 3
    assert s3reg("-r", "nowhere", "list").code == 3


def test_a_push_without_a_tag_or_with_two_is_refused(s3reg, registry, disk):
    s3reg("import", "base", "--disk", disk)
    assert s3reg("-a", registry, "push", "base").code == 2
    assert s3reg("-a", registry, "push", "base", "v1", "-t", "v2").code == 2


def test_an_unknown_option_names_the_help_of_its_command(s3reg):
    done = s3reg("pull", "base", "--quickly")
    assert done.code == 2
    assert done.err.splitlines()[1].strip() == "s3reg pull --help tells more"


def test_two_registries_at_once_are_refused(s3reg, registry):
    assert s3reg("-a", registry, "list", "-r", "other").code == 2


def test_an_error_of_a_registry_tells_the_request(s3reg, registry):
    *_, last = s3reg("-a", registry, "describe", "nothing").err.splitlines()
    assert re.fullmatch(r"       \(request [0-9a-f]{16}-1\)", last)


def test_an_error_for_a_program_is_json_and_nothing_else(s3reg, registry):
    done = s3reg("-j", "-a", registry, "describe", "nothing")
    assert done.err == ""
    answer = done.answer
    assert re.fullmatch("[0-9a-f]{16}-1", answer.pop("request_id"))
    assert answer == {
        "status": "ERROR",
        "body": {},
        "message": "nothing: not found",
        "code": 3,
        "exception_type": "TemplateNotFound",
        "remedy": "s3reg list shows the templates of the registry",
    }


def test_even_a_command_line_that_makes_no_sense_is_answered_in_json(s3reg):
    done = s3reg("pull", "-j", "--quickly")
    assert done.answer["status"] == "ERROR"
    assert done.answer["code"] == done.code == 2


def test_an_unexpected_exception_is_one_line_and_debug_shows_more(s3reg, breaking):
    breaking(ZeroDivisionError("by /nothing?X-Amz-Signature=5ec2e7"))
    done = s3reg("break")
    assert done.code == 1
    assert "ZeroDivisionError" in done.err.splitlines()[0]
    assert "--debug" in done.err.splitlines()[1]
    assert len(done.err.splitlines()) == 2
    more = s3reg("break", "--debug")
    assert more.code == 1
    assert "Traceback" in more.err
    assert "5ec2e7" not in done.err + more.err


@pytest.mark.parametrize(
    ("number", "says"),
    [(errno.ENOSPC, "no space left"), (errno.EACCES, "Permission denied"), (errno.EROFS, "Read-only file system")],
)
def test_what_the_operating_system_refuses_is_said_in_our_words(s3reg, breaking, number, says):
    breaking(OSError(number, os.strerror(number), "/some/where"))
    done = s3reg("break")
    assert done.code == 11
    assert says in done.err.splitlines()[0]


def test_control_characters_from_elsewhere_do_not_reach_the_terminal(s3reg):
    done = s3reg("-r", "a\x1b[2J\nb", "list")
    assert done.code == 3
    assert "\x1b" not in done.err
    assert len(done.err.splitlines()) == 2


def test_ctrl_c_is_130(s3reg, breaking):
    breaking(KeyboardInterrupt())
    done = s3reg("break")
    assert done.code == 130
    assert done.err.splitlines()[0] == "s3reg: interrupted"


def test_sigterm_is_143(tmp_path):
    script = (
        "import time, click, sys\nfrom s3reg.cli.main import program, run\n"
        "@click.command()\ndef wait():\n    print('ready', flush=True)\n    time.sleep(60)\n"
        "program.add_command(wait)\nsys.exit(run(['wait']))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert err.startswith("s3reg: interrupted\n")


def test_a_closed_pipe_ends_the_program_quietly():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([PROGRAM, "--version"], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_with_every_stream_closed_a_command_does_its_work(tmp_path):
    """The next file to be opened would otherwise be the closed stream's."""
    disk = tmp_path / "disk.img"
    disk.write_bytes(b"disk")
    command = f'exec "{PROGRAM}" import base --disk "{disk}" <&- >&- 2>&-'
    assert subprocess.run(["/bin/sh", "-c", command], check=False).returncode == 0
    assert len(list((tmp_path / "library" / "img_lib").iterdir())) == 1


def test_a_registrys_libraries_that_are_missing_are_named(s3reg, monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("s3reg.cli.serv", "s3reg.api"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("s3reg.cli.server", raising=False)
    monkeypatch.setattr(cli_main.program, "commands", {**program.commands})
    program.commands.pop("serve", None)
    monkeypatch.setitem(sys.modules, "flask", None)
    done = s3reg("serve", "--store", "x")
    assert done.code == 9
    assert "flask is not installed" in done.err
    assert "s3reg[server]" in done.err


def test_no_arguments_print_the_help_and_fail(s3reg):
    done = s3reg()
    assert done.code == 2
    assert "Usage: s3reg" in done.err


def test_a_name_that_the_terminal_cannot_show_is_no_failure(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", out)
    assert cli_main.run(["-r", "größe", "list"]) == 3
    out.flush()
    assert b"gr\\xf6" in out.buffer.getvalue()
    assert json.dumps("größe")
