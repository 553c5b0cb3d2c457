"""The `anka` script: who answers which call, and that neither party can tell that the script was there.

s3reg and the application are programs here that say how they were called; the last test is with s3reg itself.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest

import running
from s3reg.cli.shim import script

ECHO = r"""#!/bin/sh
printf '%s:' "$0" | sed 's|.*/||'
printf '[%s]' "$@"
cat
echo "its stderr, as process $$" >&2
exit 7
"""
SHELLS = [shell for shell in ("sh", "dash", "bash", "zsh", "ksh", "busybox") if shutil.which(shell)]
TO_S3REG = "[-P][-m][s3reg.cli.main]"
OWN = ("registry", "push", "pull", "list", "show", "clone", "delete")


@pytest.fixture
def place(tmp_path):
    """A folder with the script, one for an application, and where an application is looked for last."""
    for folder in ("shim", "app", "last", "home"):
        (tmp_path / folder).mkdir()
    program(tmp_path / "home" / "python", ECHO)
    write_script(tmp_path, "shim")
    return tmp_path


def program(path, text):
    path.write_text(text)
    path.chmod(0o755)


def write_script(place, folder):
    # This machine may have Anka itself.
    text = script(str(place / "home" / "python")).replace("/usr/local/bin", str(place / "last"))
    program(place / folder / "anka", text)


def anka(place, *arguments, folders=("shim", "app"), shell=None, stdin="", **more):
    """What a call of the script gives, with these folders first in PATH."""
    path = ":".join([*(str(place / folder) for folder in folders), "/usr/bin:/bin"])
    command = [str(place / "shim" / "anka"), *arguments]
    command = command if shell is None else [shell, *(["sh"] if shell == "busybox" else []), *command]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANKA_")}
    settings = {**kept, "PATH": path, **more}
    # Scripts that call each other would do so for ever.
    return subprocess.run(
        command, env=settings, input=stdin, capture_output=True, text=True, check=False, timeout=running.SECONDS
    )


@pytest.mark.parametrize(
    ("typed", "passed"),
    [
        (["registry", "list"], "[registry][list]"),
        (["-j", "registry", "-r", "office", "list"], "[-j][registry][-r][office][list]"),
        (["--debug", "--machine-readable", "registry"], "[--debug][--machine-readable][registry]"),
        (["--log-level", "push", "--log-level=10", "list"], "[vm][--log-level][push][--log-level=10][list]"),
        (["push", "vm", "-t", "a b"], "[push][vm][-t][a b]"),
        (["pull", "vm", "office", "--tag", "v1"], "[pull][vm][office][--tag][v1]"),
        (["-j", "list"], "[vm][-j][list]"),
        (["show", "vm", "tag"], "[vm][show][vm][tag]"),
        (["clone", "registry", "list"], "[vm][clone][registry][list]"),
        (["delete", "--yes", "vm"], "[vm][delete][--yes][vm]"),
    ],
    ids=str,
)
def test_without_an_application_s3reg_answers_what_it_can(place, typed, passed):
    assert anka(place, *typed).stdout == f"python:{TO_S3REG}{passed}"


@pytest.mark.parametrize("command", [*OWN, "version", "run", ""])
def test_with_an_application_only_its_registry_commands_are_answered(place, command):
    program(place / "app" / "anka", ECHO)
    told = anka(place, "--debug", "--log-level", "info", command, "-n", "vm").stdout
    if command == "registry":
        assert told == f"python:{TO_S3REG}[--debug][--log-level][info][registry][-n][vm]"
    else:
        assert told == f"anka:[--debug][--log-level][info][{command}][-n][vm]"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("command", ["registry", "run"])
def test_arguments_streams_and_exit_code_pass_untouched_in_every_shell(place, shell, command):
    program(place / "app" / "anka", ECHO)
    odd = ["two words", "", "*", "'", '"', "$HOME", "`id`", "\\n", "a\nb", "größe", "-j", "--log-level"]
    done = anka(place, "--debug", "-j", command, *odd, shell=shell, stdin="line one\nand no end")
    assert done.stdout.endswith(
        f"[--debug][-j][{command}]" + "".join(f"[{word}]" for word in odd) + "line one\nand no end"
    )
    assert done.stderr.startswith("its stderr, as process ")
    assert done.returncode == 7


@pytest.mark.parametrize("command", ["registry", "run"])
def test_whoever_answers_takes_the_place_of_the_script(place, command):
    """So a signal that was meant for it reaches it."""
    program(place / "app" / "anka", ECHO)
    settings = {**os.environ, "PATH": f"{place}/app:/usr/bin:/bin"}
    with subprocess.Popen(
        [place / "shim" / "anka", command], env=settings, stderr=subprocess.PIPE, stdin=-3
    ) as process:
        assert process.communicate()[1].split()[-1] == str(process.pid).encode()


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_of_ours_never_hand_over_to_each_other(place, shell):
    write_script(place, "app")
    write_script(place, "last")
    (place / "home" / "anka").symlink_to(place / "app" / "anka")
    folders = ("home", "shim", "app")
    for command in ("run", "list"):
        done = anka(place, command, folders=folders, shell=shell)
        assert (done.returncode, "python:" in done.stdout) == ((127, False) if command == "run" else (7, True))
    (place / "last" / "anka").unlink()
    shutil.copy("/bin/sh", place / "last" / "anka")
    assert anka(place, "-c", "echo a binary", folders=folders, shell=shell).stdout == "a binary\n"


def test_an_application_may_lie_where_its_installer_puts_it_or_in_the_working_directory(place, monkeypatch):
    program(place / "last" / "anka", ECHO)
    assert anka(place, "list").stdout == "anka:[list]"
    program(place / "app" / "anka", ECHO.replace("exit 7", "exit 9"))
    monkeypatch.chdir(place / "app")
    path = f"{place / 'shim'}::/usr/bin:/bin"
    done = subprocess.run([place / "shim" / "anka", "list"], env={"PATH": path}, capture_output=True, check=False)
    assert done.returncode == 9


@pytest.mark.parametrize("what", ["folder", "not executable", "link to nothing"])
def test_what_only_looks_like_an_application_is_none(place, what):
    found = place / "app" / "anka"
    if what == "folder":
        found.mkdir()
    elif what == "not executable":
        found.write_text(ECHO)
    else:
        found.symlink_to(place / "nowhere")
    assert anka(place, "list").stdout == f"python:{TO_S3REG}[vm][list]"


@pytest.mark.parametrize("command", [["version"], ["license", "show"], ["run", "vm", "ls"], ["-x"]])
def test_what_only_the_application_can_do_is_refused_as_a_missing_program(place, command):
    done = anka(place, *command)
    assert (done.returncode, done.stdout) == (127, "")
    assert done.stderr.startswith("anka: no Anka application is installed here; s3reg answers only ")
    assert all(word in done.stderr for word in OWN)


@pytest.mark.parametrize(("arguments", "settings"), [(["-j"], {}), ([], {"ANKA_MACHINE_READABLE": "1"})])
def test_a_program_reads_the_refusal_as_it_reads_errors(place, arguments, settings):
    done = anka(place, *arguments, "version", **settings)
    told = json.loads(done.stdout)
    assert not done.stdout.endswith("\n")
    assert (told["status"], told["code"], told["body"], done.stderr) == ("ERROR", 127, {}, "")
    assert "no Anka application" in told["message"]


@pytest.mark.parametrize("command", [[], ["-h"], ["--help"], ["--debug"], ["--log-level"]])
def test_asked_for_nothing_it_says_what_there_is(place, command):
    done = anka(place, *command)
    assert done.returncode == 0
    assert all(word in done.stdout for word in OWN)


def test_an_s3reg_that_is_gone_is_named(place):
    (place / "home" / "python").unlink()
    done = anka(place, "registry", "list")
    assert done.returncode == 127
    assert "run s3reg shim again" in done.stderr


def test_it_is_written_executable_and_again_over_itself(s3reg, tmp_path):
    folder = tmp_path / "a new" / "folder"
    done = s3reg("shim", folder)
    assert done.code == 0
    assert f"put {folder} first in PATH" in done.out
    first = (folder / "anka").read_text()
    (folder / "anka").write_text(first.replace(sys.executable, "/an/older/python"))
    assert s3reg("-j", "shim", folder).answer["body"] == {"path": str(folder / "anka")}
    assert (folder / "anka").read_text() == first
    assert (folder / "anka").stat().st_mode & 0o777 == 0o755
    assert [path.name for path in folder.iterdir()] == ["anka"]


@pytest.mark.parametrize(
    "what", ["program", "empty file", "link to a program", "link to a script of ours", "broken link"]
)
def test_what_it_did_not_write_stays_unless_told(s3reg, tmp_path, what):
    target, elsewhere = tmp_path / "bin" / "anka", tmp_path / "elsewhere"
    target.parent.mkdir()
    elsewhere.write_text(script("/bin/python") if "ours" in what else ECHO)
    if "link" in what:
        target.symlink_to(tmp_path / "nowhere" if "broken" in what else elsewhere)
    else:
        target.write_text(ECHO if what == "program" else "")
    before = (target.is_symlink(), elsewhere.read_text())
    done = s3reg("shim", target.parent)
    assert (done.code, "--force" in done.err) == (18, True)
    assert (target.is_symlink(), elsewhere.read_text()) == before
    assert [path.name for path in target.parent.iterdir()] == ["anka"]
    assert s3reg("shim", "--force", target.parent).code == 0
    assert target.read_text() == script(sys.executable)
    assert (target.is_symlink(), elsewhere.read_text()) == (False, before[1])


def test_a_folder_that_cannot_be_is_named(s3reg, tmp_path, disk):
    for folder in (disk / "bin", tmp_path / "taken"):
        (tmp_path / "taken" / "anka").mkdir(parents=True, exist_ok=True)
        done = s3reg("shim", "--force", folder)
        assert done.code == 11
        assert str(folder) in done.err
        assert not list((tmp_path / "taken").glob(".anka*"))


def test_s3reg_answers_through_it(s3reg, tmp_path):
    """Also where a folder lies that Python would take for it."""
    s3reg("shim", tmp_path / "bin")
    (tmp_path / "s3reg").mkdir()
    (tmp_path / "s3reg" / "__init__.py").write_text("raise SystemExit('not me')")
    done = subprocess.run(
        [tmp_path / "bin" / "anka", "-j", "registry", "list"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    told = json.loads(done.stdout)
    assert (done.returncode, told["code"], told["message"]) == (30, 30, "No registry configured")
