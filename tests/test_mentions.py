"""Whatever a page, a script, a unit or an example says of s3reg exists: commands, options, variables.

Told apart from prose by how it is written: in a page what is code, in other files what a shell would run.
"""

import re
import shlex
from pathlib import Path

import click
import pytest

from s3reg import configuration, settings
from s3reg.cli import environment
from s3reg.cli.main import program

HOME = Path(__file__).parents[1]
PLACES = ("*.md", "docs/**/*.md", "examples/**/*", "deploy/**/*", "infra/**/*", "monitoring/**/*")
SINGLE = ("Dockerfile", "compose.yaml", "Procfile", ".ci/run")
FILES = sorted(
    path
    for pattern in (*PLACES, *SINGLE)
    for path in HOME.glob(pattern)
    if path.is_file() and not {".terraform", "__pycache__"} & set(path.parts)
)
NAMES = [path.relative_to(HOME).as_posix() for path in FILES]
HISTORY = {"CHANGELOG.md", "docs/design.md"}
"""Which also tell of what is to come, or was."""
OURS = re.compile(r"S3REG_(TEST_\w+|MINIO|HOST)")
"""Of the tests, and of compose.yaml."""
_CODE = re.compile(r"^ *```(?:sh|console)\n(.*?)^ *```|`(s3reg [^`]+)`", re.DOTALL | re.MULTILINE)
_RUN = re.compile(
    r"(?:^|[;&|(!$]|\b(?:if|then|do|exec)\b|\bsudo -H -u \S+|Exec\w+=)\s*(?:/[\w./-]*/)?s3reg\s+([a-z-][^;&|)>#\n]*)"
)


def variables():
    """All that there are."""
    of_nodes = {name for variable in environment.VARIABLES for name in variable.names}
    return {row.variable for row in settings.table()} | settings.ELSEWHERE | of_nodes | {configuration.VARIABLE}


def commands(path):
    """Each command line of s3reg in the file, in words."""
    text = path.read_text(errors="replace")
    if path.suffix == ".md":
        found = [block or f"{inline}\n" for block, inline in _CODE.findall(text)]
        text = "".join(re.sub(r"^ *\$ ", "", block, flags=re.MULTILINE) for block in found)
    text = text.replace("\\\n", " ")
    for line in text.splitlines():
        if line.lstrip().startswith(("#", "//")):
            continue
        for words in _RUN.findall(line.strip()):
            yield re.sub(r"%\{.*?\}", " ", words).partition("…")[0]


def mentioned(line):
    """Raise UsageError or AssertionError unless these words name a command and options that it has."""
    words = [word for word in shlex.split(line.replace("'", "").replace('"', "")) if word]
    group, context, options = program, click.Context(program, info_name="s3reg"), {}
    while words:
        options |= {name: one for one in group.params for name in (*one.opts, *one.secondary_opts)}
        word = words.pop(0)
        if word.startswith("-") and word != "-":
            option = options.get(word.partition("=")[0])
            assert option is not None, f"{line!r}: {group.name} has no option {word}"
            if "=" not in word and not option.is_flag and not option._flag_needs_value:
                del words[:1]
        elif isinstance(group, click.Group):
            command = group.get_command(context, word)
            assert command is not None, f"{line!r}: there is no command {word}"
            group, context = command, click.Context(command, info_name=word, parent=context)


@pytest.mark.parametrize("name", NAMES)
def test_variables_that_a_file_names_exist(name):
    path = HOME / name
    told = set(re.findall(r"\bS3REG_[A-Z0-9_]*[A-Z0-9]\b(?!_)", path.read_text(errors="replace")))
    unknown = {one for one in told - variables() if not OURS.fullmatch(one)}
    assert name in HISTORY or not unknown


@pytest.mark.parametrize("name", NAMES)
def test_commands_that_a_file_runs_or_names_exist(name):
    if name not in HISTORY:
        for line in commands(HOME / name):
            mentioned(line)


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".md", "`s3reg fetch`"),
        (".md", "```sh\ns3reg pull base --quickly\n```"),
        (".md", "```console\n$ s3reg vm start base\n```"),
        (".sh", "if s3reg --libary x show base; then"),
        (".service", "ExecStart=/opt/s3reg/bin/s3reg server"),
        (".tftpl", "sudo -H -u '${user}' /usr/local/bin/s3reg registry ad x"),
    ],
)
def test_what_does_not_exist_would_be_noticed(tmp_path, suffix, text):
    page = tmp_path / f"page{suffix}"
    page.write_text(text)
    (line,) = commands(page)
    with pytest.raises(AssertionError):
        mentioned(line)


def test_commands_are_found_where_they_stand():
    found = {name: len(list(commands(HOME / name))) for name in NAMES}
    for name in ("examples/bake/bake.sh", "deploy/s3reg.service", "docs/howto/aws.md", "README.md"):
        assert found[name]
    assert sum(found.values()) > 250
