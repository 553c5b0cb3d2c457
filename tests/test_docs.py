"""The documents are true: the reference is what the code prints, and what a page tells to type can be typed."""

import re
import shlex
from pathlib import Path

import click
import pytest

from s3reg import __version__, errors
from s3reg.cli import reference
from s3reg.cli.main import program

HOME = Path(__file__).parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "infra/**/*.md", "monitoring/*.md", "examples/**/*.md")
    for path in HOME.glob(pattern)
    if "node_modules" not in path.parts
)
PAGE_NAMES = [path.relative_to(HOME).as_posix() for path in PAGES]


def typed(page: Path) -> list[str]:
    """The commands in a page's shell blocks, one a line."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines() if line.strip()]


def parse(words: list[str]) -> None:
    """Raise a UsageError unless `s3reg` with these words names a command and options that it has."""
    group: click.Command = program
    context = click.Context(program, info_name="s3reg")
    while isinstance(group, click.Group):
        options, words, _ = group.make_parser(context).parse_args(words)
        if options.get("version"):
            return
        name, *words = words
        command = group.get_command(context, name)
        assert command is not None, f"there is no command {name}"
        group, context = command, click.Context(command, info_name=name, parent=context)
    group.make_parser(context).parse_args(words)


def test_the_reference_is_what_the_code_prints():
    assert (HOME / "docs/reference.md").read_text() == reference.text(), "run make reference"


@pytest.mark.parametrize("page", PAGES, ids=PAGE_NAMES)
def test_commands_that_a_page_tells_to_type_exist(page):
    targets = set(re.findall(r"^([a-z]+):.*## ", (HOME / "Makefile").read_text(), re.MULTILINE))
    for line in typed(page):
        words = shlex.split(line, comments=True)
        if words and words[0] == "s3reg":
            parse(words[1:])
        elif words and words[0] == "make" and len(words) > 1:
            assert words[1] in targets, line


def test_a_command_that_does_not_exist_would_be_noticed():
    with pytest.raises(AssertionError):
        parse(["fetch"])
    with pytest.raises(click.UsageError):
        parse(["pull", "base", "--quickly"])


@pytest.mark.parametrize("page", PAGES, ids=PAGE_NAMES)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_readme_leads_to_every_howto():
    linked = set(re.findall(r"\]\((docs/howto/[\w-]+\.md)\)", (HOME / "README.md").read_text()))
    assert linked == {path.relative_to(HOME).as_posix() for path in HOME.glob("docs/howto/*.md")}


def test_the_processes_of_the_procfile_exist():
    for line in (HOME / "Procfile").read_text().splitlines():
        words = shlex.split(line.partition(":")[2])
        assert words[0] == "s3reg"
        parse(words[1:])


def test_the_changelog_begins_with_this_version():
    newest = re.search(r"^## (\S+)", (HOME / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == __version__


def test_every_error_says_something_and_what_to_do_next():
    for error in reference._all_errors():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", error.code)
        assert error.says
        assert error.remedy
        assert error.__doc__
        assert error().next_step, "must not fail for want of detail"


def test_no_two_errors_share_a_code():
    classes, queue = [], [errors.S3regError]
    while queue:
        here = queue.pop()
        classes.append(here)
        queue += [error for error in here.__subclasses__() if error.__module__ == errors.__name__]
    codes = [error.code for error in classes]
    assert sorted(codes) == sorted(set(codes))
