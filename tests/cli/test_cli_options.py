"""Every shared option works on every command, before its name and after it."""

import os

import click
import pytest

from s3reg import configuration
from s3reg.cli.environment import VARIABLES
from s3reg.cli.main import SERVER_COMMANDS, program
from s3reg.cli.options import SHARED, Asked

VALUES = {
    "remote": "office",
    "registry": "http://registry:8089",
    "certificate": "node.pem",
    "key": "node.key",
    "ca_bundle": "ca.pem",
    "key_id": "ci",
    "api_key": "node.key",
    "root_token": "@token",
    "library": "vms",
    "log_level": "info",
}
ARGUMENTS = {
    "add": ["office", "http://registry:8089"],
    "completion": ["bash"],
    "export": ["base", "out"],
    "import": ["base", "--disk", os.devnull],
    "rename": ["base", "other"],
    "retag": ["base", "v1", "v2"],
    "set": ["office"],
}
"""Of commands that take something else than the name of a VM, or nothing."""


def paths(group=program, before=()):
    """Every command of a node that does something, as the words that name it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from paths(command, (*before, name))
        elif name not in SERVER_COMMANDS:
            yield (*before, name)


def command_at(path):
    found = program
    for name in path:
        found = found.commands[name]
    return found


def arguments_of(path):
    command = command_at(path)
    wanted = [param for param in command.params if isinstance(param, click.Argument) and param.required]
    return ARGUMENTS.get(path[-1], ["base"] * len(wanted))


@pytest.mark.parametrize("path", sorted(paths()), ids=" ".join)
def test_c12_every_shared_option_works_on_every_command_before_it_between_and_after(path, monkeypatch):
    command, seen = command_at(path), []
    own = {opt for param in command.params if not param.name.startswith("shared_") for opt in param.opts}

    @click.pass_obj
    def look(asked, /, *_, **__):
        seen.append(asked)

    monkeypatch.setattr(command, "callback", look)
    for shared in SHARED:
        for spelling in shared.spellings:
            words = [spelling, *([VALUES[shared.asks]] if shared.asks in VALUES else [])]
            places = [[*path[:at], *words, *path[at:], *arguments_of(path)] for at in range(len(path))]
            if spelling in own:
                assert not spelling.startswith("--"), "a long spelling belongs to the shared option"
            else:
                places += [[*path, *words, *arguments_of(path)], [*path, *arguments_of(path), *words]]
            for line in places:
                with program.make_context("s3reg", line, obj=Asked()) as context:
                    program.invoke(context)
                assert str(getattr(seen.pop(), shared.asks)) == VALUES.get(shared.asks, "True"), line


@pytest.mark.parametrize("path", sorted(paths()), ids=" ".join)
def test_a_means_all_behind_a_command_that_removes_and_the_registry_behind_every_other(path):
    meant = next(param.name for param in command_at(path).params if "-a" in param.opts)
    several = path[-1] in {"delete", "revert"} and path[0] != "groups"
    assert meant == ("everything" if several else "shared_registry")


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


def test_what_stands_after_the_command_wins(asked):
    assert asked("-r", "one", "look", "-r", "two").remote == "two"


def test_an_option_wins_over_the_environment(asked, monkeypatch, tmp_path):
    monkeypatch.setenv("S3REG_LIBRARY", str(tmp_path / "environment"))
    assert asked("look").library == tmp_path / "environment"
    assert asked("--library", str(tmp_path / "before"), "look").library == tmp_path / "before"
    assert asked("look", "--library", str(tmp_path / "after")).library == tmp_path / "after"


FROM_ENVIRONMENT = [(shared, name) for shared in SHARED if shared.variable for name in shared.variable.names]


@pytest.mark.parametrize(("shared", "name"), FROM_ENVIRONMENT, ids=[name for _, name in FROM_ENVIRONMENT])
def test_what_the_environment_says_is_as_if_an_option_said_it(asked, monkeypatch, shared, name):
    monkeypatch.delenv("S3REG_LIBRARY")
    monkeypatch.setenv(name, VALUES.get(shared.asks, "1"))
    assert str(getattr(asked("look"), shared.asks)) == VALUES.get(shared.asks, "True")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", True), ("true", True), ("2", True), ("--debug", True), ("0", False), ("No", False), ("", False)],
)
@pytest.mark.parametrize("name", ["S3REG_MACHINE_READABLE", "ANKA_MACHINE_READABLE"])
def test_scripts_ask_for_json_by_a_variable(asked, monkeypatch, name, text, expected):
    monkeypatch.setenv(name, text)
    assert asked("look").machine_readable is expected


def test_our_variable_wins_over_ankas(s3reg, monkeypatch, registry):
    monkeypatch.setenv("ANKA_MACHINE_READABLE", "1")
    monkeypatch.setenv("ANKA_REGISTRY", "http://127.0.0.1:9")
    monkeypatch.setenv("S3REG_REGISTRY", registry)
    assert s3reg("list").answer["body"] == []
    monkeypatch.setenv("S3REG_MACHINE_READABLE", "0")
    assert s3reg("list").out == ""


def test_who_asked_for_json_in_the_environment_gets_it_for_a_line_that_makes_no_sense_too(s3reg, monkeypatch):
    monkeypatch.setenv("ANKA_MACHINE_READABLE", "1")
    for line in (["--nothing", "list"], ["nothing"], ["list", "--nothing"]):
        assert (s3reg(*line).answer["status"], s3reg(*line).err) == ("ERROR", "")


def test_every_variable_of_a_node_is_one_that_a_registry_lets_pass_and_is_shown(s3reg):
    told = s3reg("--help").out
    for row in VARIABLES:
        assert row.names[0].startswith("S3REG_")
        assert all(name in told for name in row.names)
        configuration.read(dict.fromkeys(row.names, "info"))


@pytest.mark.parametrize(("words", "shown"), [(["--debug"], True), (["--log-level", "Debug"], True), ([], False)])
def test_only_who_asks_for_it_is_shown_where_a_defect_came_from(s3reg, monkeypatch, words, shown):
    def fail(**_):
        raise RuntimeError("broken")

    monkeypatch.setattr(command_at(["list-repos"]), "callback", fail)
    done = s3reg("list-repos", *words)
    assert done.code == 1
    assert ("Traceback" in done.err) is shown


def test_delete_a_means_all_of_them(s3reg):
    s3reg("add", "one", "http://one:8089", "-f")
    assert s3reg("delete", "-a").code == 0
    assert s3reg("-j", "list-repos").answer["body"] == []


def test_the_server_commands_take_them_too_and_list_only_the_one_for_programs(s3reg):
    for command in ("serve", "gc", "fsck", "adopt"):
        done = s3reg(command, "--help")
        assert done.code == 0
        assert "--cacert" not in done.out
        assert "-j, --machine-readable" in done.out
    assert s3reg("serve", "-j", "--store", "").answer["status"] == "ERROR"


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        (["lst"], "s3reg list"),
        (["sevre"], "s3reg serve"),
        (["registry", "shwo"], "s3reg registry show"),
        (["forget-this", "x"], None),
        (["remov"], "s3reg remove"),
        (["list", "--inscure"], "--insecure"),
        (["registry", "pull", "--shrnk", "base"], "--shrink"),
        (["show", "base", "netwrok"], "network"),
    ],
)
def test_a_word_that_is_none_names_the_nearest_that_is_one(s3reg, line, meant):
    done = s3reg(*line)
    assert done.code == 2
    assert meant in done.err if meant else "did you mean" not in done.err


def test_help_cuts_no_sentence_short(s3reg):
    for group in ([], ["registry"]):
        assert "..." not in s3reg(*group, "--help").out.partition("Commands:")[2]
