"""What an error tells a person to do can be done with this release: its commands, options and settings exist."""

import re

import click
import pytest

from s3reg import errors, settings
from s3reg.cli.main import program
from s3reg.client.remotes import ADDRESS_VARIABLES

ERRORS = sorted(errors.by_code().values(), key=lambda error: error.code)
ELSEWHERE = {"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_REGION", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}


def commands(group=program, before=()):
    """Every command by its words, and its options."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        words = (*before, name)
        yield words, {spelling for param in command.params for spelling in param.opts}
        if isinstance(command, click.Group):
            yield from commands(command, words)


COMMANDS = dict(commands())
OPTIONS = {"--help"} | {spelling for options in COMMANDS.values() for spelling in options}


def is_command(words):
    return (words[0],) in COMMANDS and (COMMANDS.get(tuple(words[:2])) is not None or words[0] != "store")


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.code)
def test_what_an_error_tells_to_type_exists(error):
    told = f"{error.says} {error.remedy}"
    for typed in re.findall(r"s3reg ((?:[a-z-]+ ?)+)", error.remedy):
        assert is_command(typed.split()), typed
    for option in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", told):
        assert option in OPTIONS, option
    for variable in re.findall(r"[A-Z0-9]+(?:_[A-Z0-9]+)+", told):
        assert variable in {row.variable for row in settings.table()} | set(ADDRESS_VARIABLES) | ELSEWHERE, variable


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.code)
def test_an_error_is_a_line_and_a_next_step(error):
    for text in (error.says, error.remedy):
        assert "\n" not in text
        assert 0 < len(text) < 160
        assert not text.endswith(".")


def test_a_command_that_does_not_exist_would_be_noticed():
    assert not is_command(["scrub"])
    assert not is_command(["mirror"])
    assert is_command(["store", "check"])
    assert not is_command(["store", "repair"])
