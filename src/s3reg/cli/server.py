"""The commands of whoever runs a registry: `serve`, and `store check`.

Their options are the rows of `settings.py`. Importing this needs the `server` extra.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from s3reg import __version__, settings, telemetry
from s3reg.api.wiring import Wiring
from s3reg.cli import serving

if TYPE_CHECKING:
    from collections.abc import Callable


def _options(*prefixes: str) -> Callable[[click.Command], click.Command]:
    """A decorator: the command takes the settings whose names begin so, as text; `settings.read` makes values of them."""

    def add(command: click.Command) -> click.Command:
        for row in settings.table():
            if row.name.startswith(prefixes):
                command.params.append(_option(row))
        return command

    return add


def _option(row: settings.Setting) -> click.Option:
    told = f"{row.meaning} [{row.variable}]"
    if row.is_switch:
        return click.Option([row.flag, row.name], flag_value="yes", default=None, help=told)
    return click.Option([row.flag, row.name], metavar=row.unit, default=None, help=told)


@_options("")
@click.command()
def serve(**flags: str | None) -> None:
    """Serve a registry.

    Credentials for S3 are found where every AWS tool finds them: environment, profile, role.
    """
    read = settings.read(os.environ, **flags)
    telemetry.configure(level=read.log_level, form=read.log_format)
    with serving.listening(read) as sock:
        # The store is opened here once, and let go before the fork: a missing bucket is told before anything is served.
        location = _tried(read)
        line = f"s3reg {__version__} serves {location} at {serving.url_of(sock)}"
        serving.serve(read, sock, lambda: click.echo(line))


def _tried(read: settings.Settings) -> str:
    """Where the store is, once it has answered."""
    probe = Wiring(read)
    probe.registry()
    return probe.store.location


@click.group()
def store() -> None:
    """Look after the store behind a registry."""


commands: dict[str, click.Command] = {"serve": serve, "store": store}
