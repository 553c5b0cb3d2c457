"""Every shared option works on every command, before its name and after it."""

import click
import pytest

from s3reg.cli.main import program
from s3reg.cli.options import SHARED, Asked

NODE_COMMANDS = sorted(
    {
        "push",
        "pull",
        "check-download-size",
        "list",
        "describe",
        "import",
        "export",
        "add",
        "set",
        "delete",
        "list-repos",
    }
)
VALUES = {
    "remote": "office",
    "registry": "http://registry:8089",
    "certificate": "node.pem",
    "key": "node.key",
    "ca_bundle": "ca.pem",
    "key_id": "ci",
    "api_key": "node.key",
    "library": "vms",
    "log_level": "info",
}
MATRIX = [(name, spelling, shared) for name in NODE_COMMANDS for shared in SHARED for spelling in shared.spellings]


def options_of(name):
    command = program.get_command(click.Context(program), name)
    return {spelling: param for param in command.params for spelling in param.opts}


@pytest.mark.parametrize(("name", "spelling", "shared"), MATRIX)
def test_every_command_takes_every_shared_option(name, spelling, shared):
    param = options_of(name)[spelling]
    if param.name != f"shared_{shared.asks}":
        assert spelling in {"-a", "-r", "-f", "-d", "-i", "-k", "-c"}, "a long spelling belongs to the shared option"


@pytest.fixture
def asked():
    """What the options of a command line ask for, as a command sees it."""
    seen = []

    @click.command("look")
    @click.pass_obj
    def look(found):
        seen.append(found)

    program.add_command(look)

    def ask(*arguments):
        context = program.make_context("s3reg", list(arguments), obj=Asked())
        with context:
            program.invoke(context)
        return seen.pop()

    yield ask
    program.commands.pop("look")


@pytest.mark.parametrize(("spelling", "shared"), [(s, shared) for shared in SHARED for s in shared.spellings])
def test_an_option_means_the_same_before_and_after_the_command(asked, spelling, shared):
    words = [spelling, *([VALUES[shared.asks]] if shared.asks in VALUES else [])]
    before, after = asked(*words, "look"), asked("look", *words)
    assert getattr(before, shared.asks) == getattr(after, shared.asks)
    assert str(getattr(after, shared.asks)) == VALUES.get(shared.asks, "True")


def test_what_stands_after_the_command_wins(asked):
    assert asked("-r", "one", "look", "-r", "two").remote == "two"


def test_an_option_wins_over_the_environment(asked, monkeypatch, tmp_path):
    monkeypatch.setenv("S3REG_LIBRARY", str(tmp_path / "environment"))
    assert asked("look").library == tmp_path / "environment"
    assert asked("--library", str(tmp_path / "before"), "look").library == tmp_path / "before"
    assert asked("look", "--library", str(tmp_path / "after")).library == tmp_path / "after"


@pytest.mark.parametrize(("text", "expected"), [("1", True), ("true", True), ("0", False), ("", False)])
def test_scripts_ask_for_json_by_ankas_variable(asked, monkeypatch, text, expected):
    monkeypatch.setenv("ANKA_MACHINE_READABLE", text)
    assert asked("look").machine_readable is expected


def test_delete_a_means_all_of_them(s3reg):
    s3reg("add", "one", "http://one:8089", "-f")
    assert s3reg("delete", "-a").code == 0
    assert s3reg("-j", "list-repos").answer["body"] == []


def test_the_server_commands_take_them_too_without_listing_them(s3reg):
    done = s3reg("serve", "--help")
    assert done.code == 0
    assert "--cacert" not in done.out
    assert s3reg("serve", "-j", "--store", "").answer["status"] == "ERROR"
