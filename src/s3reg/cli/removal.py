"""revert and rename: the commands that change what a registry has, besides pushes.

Each makes one operation id: a call that is repeated because its answer was lost changes nothing twice. Only a person at a
terminal is asked whether it is meant: a script would wait for nobody.
"""

from __future__ import annotations

import secrets
import unicodedata
from typing import TYPE_CHECKING

import click

from s3reg import wire
from s3reg.cli import candidates, output
from s3reg.cli.node import connected, selected, template
from s3reg.cli.output import Answer
from s3reg.errors import Invalid
from s3reg.model import names

if TYPE_CHECKING:
    from s3reg.cli.options import Asked

_OPERATION_BYTES = 16


@click.command()
@click.argument("vm", shell_complete=candidates.templates)
@click.option(
    "-t",
    "--tag",
    shell_complete=candidates.tags,
    help="This version and all newer ones; default: the newest alone.",
)
@click.option("-v", "--version", "number", type=click.IntRange(0), help="The same, by the version's number, from 0.")
@click.option("-a", "--all", "everything", is_flag=True, help="All versions, and the template with them.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask. Without a terminal, and with -j, nobody is asked anyway.")
@click.pass_obj
def revert(asked: Asked, vm: str, *, tag: str | None, number: int | None, everything: bool, yes: bool) -> None:
    """Take the newest version out of a template, or all from one on.

    With its last version the template goes.
    """
    if everything and (tag is not None or number is not None):
        raise Invalid(reason="--all names every version; leave --tag and --version out")
    tag = None if tag is None else unicodedata.normalize("NFC", tag)
    with connected(asked) as connection:
        found = template(connection, vm)
        place = 0 if everything else found.versions.index(selected(found, tag, number))
        going = [one.tag for one in found.versions[place:]]
        with_it = "" if place else " and the template itself"
        what = f"{_named(going, found.name)}{with_it} will be removed."
        output.confirm(what, yes=yes, machine_readable=asked.machine_readable)
        newest = found.versions[-1].id if found.versions else None
        wanted = wire.Revert(_operation(), found.id, tag=tag, number=number, everything=everything, newest=newest)
        done = connection.ask(wire.RevertedSchema, "POST", f"{wire.PREFIX}/revert", wire.write(wanted))
    # Where the first answer was lost, the second one knows only that it is done.
    gone = list(done.removed) or going
    body = {"uuid": done.template, "name": done.name, "removed": gone, "left": done.left, "deleted": done.deleted}
    text = f"{_named(gone, done.name)} removed; {'the template is gone' if done.deleted else f'{done.left} left'}"
    output.give(Answer(body, "vm reverted successfully", text), machine_readable=asked.machine_readable)


@click.command()
@click.argument("template_", metavar="TEMPLATE", shell_complete=candidates.templates)
@click.argument("name")
@click.option("--force-name", is_flag=True, help="Let two templates carry one name.")
@click.pass_obj
def rename(asked: Asked, template_: str, name: str, force_name: bool) -> None:
    """Give a template another name; its id and its versions stay.

    A VM that is pulled is called what it was called when it was pushed.
    """
    name = names.template_name(name)
    with connected(asked) as connection:
        found = template(connection, template_)
        wanted = wire.Rename(_operation(), found.id, name, same_name=force_name)
        done = connection.ask(wire.RenamedSchema, "POST", f"{wire.PREFIX}/rename", wire.write(wanted))
    text = f"{found.name} is now called {done.name}"
    body = {"uuid": done.template, "name": done.name}
    output.give(Answer(body, "vm renamed successfully", text), machine_readable=asked.machine_readable)


def _named(tags: list[str], name: str) -> str:
    return f"{', '.join(tags) or 'no version'} of {name}"


def _operation() -> str:
    """What tells this one change from all others."""
    return secrets.token_hex(_OPERATION_BYTES)


COMMANDS = (revert, rename)
