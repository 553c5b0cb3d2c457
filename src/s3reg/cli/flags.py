"""A registry's settings as options of the commands that take them: `serve`, and those that work on a store itself.

The options are the rows of `settings.py`; one wins over its variable in the environment.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from s3reg import settings, telemetry
from s3reg.api.wiring import open_store
from s3reg.errors import SettingInvalid
from s3reg.model import format as fmt
from s3reg.store import paths

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from s3reg.settings import Settings
    from s3reg.store import ObjectStore


def _folder(context: click.Context, parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """Folders, which a shell completes by itself."""
    del context, parameter
    return [CompletionItem(word, type="dir")]


WHERE = click.argument("url", metavar="[DIR or s3://BUCKET[/PREFIX]]", required=False, shell_complete=_folder)
"""The store that a command works on, where it is not said by `--store` or its variable."""
_QUIETLY = {"S3REG_LOG_LEVEL": "warning"}


def taking(*prefixes: str) -> Callable[[click.Command], click.Command]:
    """A decorator: the command takes the settings whose names begin so, as text; `settings.read` makes values of them."""

    def add(command: click.Command) -> click.Command:
        for row in settings.table():
            if row.flag is not None and row.name.startswith(prefixes):
                command.params.append(_option(row, row.flag))
        return command

    return add


def secrets() -> str:
    """What a command takes from its environment only, for its help."""
    rows = [f"{row.variable}: {row.meaning}" for row in settings.table() if row.flag is None]
    return "\n\n".join(["In the environment only, because everybody sees a process's options:", *rows])


def read(flags: Mapping[str, str | None], url: str | None = None, *, quietly: bool = False) -> Settings:
    """The settings that flags, `url` (the store) and the environment spell; the log is set up by them.

    `quietly`: from warnings on, unless more is asked for. Raises SettingInvalid.
    """
    told = {**flags, **({} if url is None else {"store": url})}
    found = settings.read({**(_QUIETLY if quietly else {}), **os.environ}, **told)
    telemetry.configure(level=found.log_level, form=found.log_format)
    return found


def existing_store(read: Settings) -> ObjectStore:
    """The store that the settings name; a directory that is none is refused, and stays as it is. Raises SettingInvalid.

    One that lost its format.json is a store: what is done with it says so.
    """
    where = read.store or ""
    signs = (Path(where).expanduser() / path for path in (fmt.FORMAT_KEY, paths.of_folder(fmt.HEADS)))
    if where and "://" not in where and not any(sign.exists() for sign in signs):
        raise SettingInvalid(name="--store", reason=f"there is no store of s3reg in {where!r}")
    return open_store(read)


def _option(row: settings.Setting, flag: str) -> click.Option:
    told = f"{row.meaning} [{row.variable}]"
    if row.is_switch:
        return click.Option([flag, row.name], flag_value="yes", default=None, help=told)
    return click.Option([flag, row.name], metavar=row.unit, default=None, help=told)
