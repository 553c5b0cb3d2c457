"""`docs/reference.md`, printed from the code: `python -m s3reg.cli.reference`. A test holds the file to what this prints."""

from __future__ import annotations

import functools
import inspect
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from s3reg import configuration, errors, settings
from s3reg.api import create_app, needs
from s3reg.cli.environment import VARIABLES
from s3reg.cli.main import PIPE_CLOSED, TERMINATED, program
from s3reg.cli.options import ALIASES, SHARED
from s3reg.cli.registry import registry
from s3reg.errors import Kind, S3regError
from s3reg.store.files import FilesStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

TITLE = """# Reference

Printed from the code by `make reference`; a test keeps it true. What the words mean and why: [design.md](design.md).
"""

_ABOUT_SETTINGS = """\
Of `s3reg serve`, and of `config`, `store check`, `gc`, `fsck` and `adopt` as far as they concern a store: as an option,
in the environment, or in a file that `--config FILE` or `S3REG_CONFIG` names. The option wins over the environment and
that over the file, each setting by itself. Credentials come from where every AWS tool takes them.

The file is YAML and has the variables' names, without `S3REG_` and in small letters:

```yaml
store: s3://my-bucket
listen: 0.0.0.0:8089
root_token_file: /run/secrets/root-token
authorization: true
proxies: [10.0.0.7, 10.1.0.0/16]
threads: 32
```

Numbers and true or false stand without quotes; a text needs them only where it looks like one of these. A path counts from
where the command runs. A secret (what has no option below) has no place in the file: say where it lies, `root_token_file`,
`root_token_secret` or `root_token_parameter`. What is unknown, there twice, or of another sort is refused with its line.
`s3reg config show` says what counts, and who said it; `s3reg config check`, whether a registry could start with it.
"""


def text() -> str:
    """The whole document."""
    parts = [TITLE, *_commands(), *_settings(), *_variables(), *_exit_codes(), *_errors(), *_routes()]
    return "\n".join(parts)


def _commands() -> Iterator[str]:
    yield "## Commands\n"
    yield "Every command takes these, before its name or after it; what a command spells otherwise itself is its own.\n"
    yield _table(("option", "meaning"), [(_spelled(s.told, s.metavar), s.help) for s in SHARED])
    with click.Context(program, info_name="s3reg") as root:
        for path, command in _walk(root, "s3reg"):
            arguments = [param.make_metavar(root) for param in command.params if isinstance(param, click.Argument)]
            yield f"### {' '.join([path, *arguments])}\n"
            yield inspect.cleandoc(command.help or "").replace("\b\n", "") + "\n"
            yield from (f"Also spelled `{alias}`.\n" for alias, name in ALIASES.items() if path.endswith(f" {name}"))
            rows = [_option(param) for param in command.params if isinstance(param, click.Option) and _own(param)]
            if rows:
                yield _table(("option", "meaning"), rows)


def _walk(context: click.Context, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with its whole name; those of the group `registry` under their short names only."""
    group = context.command
    assert isinstance(group, click.Group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group) and command is not registry:
            yield from _walk(click.Context(command, info_name=name, parent=context), f"{path} {name}")
        elif command is not None:
            yield f"{path} {name}", command


def _own(option: click.Parameter) -> bool:
    """Neither one of the shared options nor a setting of the registry: those have tables of their own."""
    of_settings = {configuration.NAME, *(row.name for row in settings.table())}
    return not (option.name or "").startswith("shared_") and option.name not in of_settings


def _option(option: click.Option) -> tuple[str, str]:
    metavar = None if option.is_flag else option.metavar or option.type.name.upper().split(" ")[0]
    return _spelled((*option.opts, *option.secondary_opts), metavar), option.help or ""


def _spelled(spellings: Sequence[str], metavar: str | None) -> str:
    return ", ".join(f"`{spelling}`" for spelling in spellings) + (f" {metavar}" if metavar else "")


def _settings() -> Iterator[str]:
    yield "## Settings of a registry\n"
    yield _ABOUT_SETTINGS
    rows = [
        (
            f"`{row.flag}`" if row.flag else "",
            f"`{row.variable}`",
            "" if row.default is None else str(row.default),
            row.unit,
            row.meaning,
        )
        for row in settings.table()
    ]
    yield _table(("option", "variable", "default", "value", "meaning"), rows)


def _variables() -> Iterator[str]:
    yield "## Environment of a node\n"
    yield "Where no option says otherwise; the first name of a row that is set, and not empty, wins.\n"
    rows = [(", ".join(f"`{name}`" for name in row.names), row.meaning) for row in VARIABLES]
    yield _table(("variable", "meaning"), rows)


def _exit_codes() -> Iterator[str]:
    yield "## Exit codes\n"
    meant = defaultdict(list)
    for error in _all_errors():
        meant[error.kind].append(error.code)
    rows = [("0", "", "It worked.")]
    rows += [
        (str(kind.exit_code), str(kind.status), ", ".join(f"`{code}`" for code in meant[kind]))
        for kind in sorted(Kind, key=lambda kind: kind.exit_code)
    ]
    rows += [(str(PIPE_CLOSED), "", "Whoever read the output went away."), (str(TERMINATED), "", "Ended by SIGTERM.")]
    yield _table(("exit code", "HTTP status", "errors"), sorted(rows, key=lambda row: int(row[0])))


def _all_errors() -> list[type[S3regError]]:
    """Every error, by its code; a class that a program of someone else's derives is not ours."""
    ours = [error for error in errors.by_code().values() if error.__module__ == errors.__name__]
    return sorted(ours, key=lambda error: error.code)


def _errors() -> Iterator[str]:
    yield "## Errors\n"
    yield "`code` never changes. HTTP statuses are those of the native API; other dialects have their own.\n"
    rows = [
        (f"`{error.code}`", f"{error.kind.status} / {error.kind.exit_code}", error.says, error.remedy)
        for error in _all_errors()
    ]
    yield _table(("code", "HTTP / exit", "says", "next step"), rows)


def _routes() -> Iterator[str]:
    yield "## HTTP\n"
    yield "The native API is described in full at `/transfer/v1/openapi.json`. What a call takes are permissions of a group,"
    yield "where groups decide (`--authorization`); without that, and with access control, it takes any credential.\n"
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(settings.Settings(), FilesStore(Path(folder)))
        rows = [
            (f"`{method}`", f"`{rule.rule}`", _first_line(app.view_functions[rule.endpoint]), _taken(rule.endpoint))
            for rule in app.url_map.iter_rules()
            for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
        ]
    yield _table(("method", "path", "what for", "takes"), sorted(rows, key=lambda row: (row[1], row[0])))


def _taken(endpoint: str) -> str:
    """What an endpoint takes to be called."""
    return "nothing" if needs.NEEDS[endpoint].public else needs.told(endpoint) or "any credential"


def _first_line(view: Callable[..., Any]) -> str:
    """The first line of a view's docstring, also where one function serves several operations."""
    if isinstance(view, functools.partial):
        view = view.args[0].view
    return (view.__doc__ or "").strip().split("\n")[0]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
