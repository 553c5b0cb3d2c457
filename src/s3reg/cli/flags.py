"""A registry's settings as options of the commands that take them: `serve`, and those that work on a store itself.

The options are the rows of `settings.py`, and the file that has the same names.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from s3reg import configuration, settings, telemetry
from s3reg.api.wiring import open_store
from s3reg.errors import SettingInvalid
from s3reg.model import format as fmt
from s3reg.store import paths

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from s3reg.configuration import Reading
    from s3reg.settings import Settings
    from s3reg.store import ObjectStore


def _folder(context: click.Context, parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """Folders, which a shell completes by itself."""
    del context, parameter
    return [CompletionItem(word, type="dir")]


def _some_file(context: click.Context, parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """The same of files."""
    del context, parameter
    return [CompletionItem(word, type="file")]


WHERE = click.argument("url", metavar="[DIR or s3://BUCKET[/PREFIX]]", required=False, shell_complete=_folder)
"""The store that a command works on, where it is not said by `--store` or its variable."""
_QUIETLY = "warning"
_FILE_HELP = "A file of settings (YAML); flags and environment win."


def taking(*prefixes: str) -> Callable[[click.Command], click.Command]:
    """A decorator: the command takes a file of settings, and those whose names begin so; all as text, for `read`."""

    def add(command: click.Command) -> click.Command:
        command.params.append(_file())
        for row in settings.table():
            if row.flag is not None and row.name.startswith(prefixes):
                command.params.append(_option(row, row.flag))
        return command

    return add


def secrets() -> str:
    """What a command takes from its environment only, for its help."""
    rows = [f"{row.variable}: {row.meaning}" for row in settings.table() if row.is_secret]
    return "\n\n".join(["In the environment only, because everybody sees a process's options:", *rows])


def gather(flags: Mapping[str, str | None], url: str | None = None) -> Reading:
    """What flags, `url` (the store), the environment and the file say, and all that is wrong with it."""
    return configuration.gather(os.environ, **{**flags, **({} if url is None else {"store": url})})


def read(flags: Mapping[str, str | None], url: str | None = None, *, quietly: bool = False) -> Settings:
    """The settings that these spell; the log is set up by them.

    `quietly`: from warnings on, unless somebody says another level. Raises SettingInvalid.
    """
    return settled(gather(flags, url), quietly=quietly)


def settled(reading: Reading, *, quietly: bool = False) -> Settings:
    """The settings of what was read; the log is set up by them. `quietly` and errors as in `read`."""
    found = reading.settings()
    if quietly and reading.source("log_level") is None:
        found = dataclasses.replace(found, log_level=_QUIETLY)
    telemetry.configure(level=found.log_level, form=found.log_format)
    return found


def existing_store(read: Settings) -> ObjectStore:
    """The store that the settings name; a directory that is none is refused, and stays as it is. Raises SettingInvalid."""
    where = read.store or ""
    if where and "://" not in where and not is_store(where):
        raise SettingInvalid(name="--store", reason=f"there is no store of s3reg in {where!r}")
    return open_store(read)


def is_store(folder: str) -> bool:
    """Whether a directory is a store. One that lost its format.json is: what is done with it says so."""
    signs = (Path(folder).expanduser() / path for path in (fmt.FORMAT_KEY, paths.of_folder(fmt.HEADS)))
    return any(os.path.exists(sign) for sign in signs)  # noqa: PTH110 - one that may not be seen is none, and no failure


def _file() -> click.Option:
    return click.Option(
        [configuration.FLAG, configuration.NAME],
        metavar="FILE",
        default=None,
        help=f"{_FILE_HELP} [{configuration.VARIABLE}]",
        shell_complete=_some_file,
    )


def _option(row: settings.Setting, flag: str) -> click.Option:
    told = f"{row.meaning} [{row.variable}]"
    if row.is_switch:
        return click.Option([flag, row.name], flag_value="yes", default=None, help=told)
    return click.Option([flag, row.name], metavar=row.unit, default=None, help=told)
