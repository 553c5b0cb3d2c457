"""The commands that are about a registry, and the group `registry` that has them under the names of the Anka CLI.

`s3reg pull` and `s3reg registry pull` are one command object: what one of them takes, prints and ends with, the other does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from s3reg.cli import node, removal, repos, show, transfers
from s3reg.cli.options import OpenGroup
from s3reg.errors import Invalid

if TYPE_CHECKING:
    from s3reg.cli.options import Asked

COMMANDS = (*transfers.COMMANDS, *removal.COMMANDS, *node.COMMANDS, *show.COMMANDS, *repos.COMMANDS)


@click.group(cls=OpenGroup, invoke_without_command=True)
@click.option("--list", "shown", is_flag=True, help="Show the registries that this node knows.")
@click.option(
    "--default",
    is_flag=True,
    help="Talk to the default one, whatever the environment says; without a command, show it.",
)
@click.pass_context
def registry(context: click.Context, shown: bool, default: bool) -> None:
    """The commands of `anka registry`, under that name."""
    asked: Asked = context.obj
    if context.invoked_subcommand is not None:
        if shown:
            raise Invalid(reason=f"--list is a command of its own; leave it out, or {context.invoked_subcommand}")
        asked.only_default = default
    elif shown or default:
        context.invoke(repos.list_repos, only_default=default)
    else:
        raise click.exceptions.NoArgsIsHelpError(context)


for _command in COMMANDS:
    registry.add_command(_command)
