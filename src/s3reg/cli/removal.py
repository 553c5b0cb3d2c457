"""revert, untag, retag and rename: the commands that change what a registry has, besides pushes and the trash.

Each makes one operation id: a call that is repeated because its answer was lost changes nothing twice. Only a person at a
terminal is asked whether it is meant: a script would wait for nobody.
"""

from __future__ import annotations

import secrets
import shlex
import unicodedata
from typing import TYPE_CHECKING, Any

import click

from s3reg import wire
from s3reg.cli import candidates, output
from s3reg.cli.node import connected, selected, template, when
from s3reg.cli.output import Answer
from s3reg.errors import Invalid
from s3reg.model import names
from s3reg.wire import trash as messages

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

    With its last version the template goes. What went can be restored for a while: s3reg trash.
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
        wanted = wire.Revert(operation(), found.id, tag=tag, number=number, everything=everything, newest=newest)
        done = connection.ask(wire.RevertedSchema, "POST", f"{wire.PREFIX}/revert", wire.write(wanted))
    # Where the first answer was lost, the second one knows only that it is done.
    gone = list(done.removed) or going
    text = "\n".join(_went(done, gone))
    output.give(Answer(_body(done, gone), "vm reverted successfully", text), machine_readable=asked.machine_readable)


@click.command()
@click.argument("template_", metavar="TEMPLATE", shell_complete=candidates.templates)
@click.argument("tag", shell_complete=candidates.tags)
@click.option("-y", "--yes", is_flag=True, help="Do not ask. Without a terminal, and with -j, nobody is asked anyway.")
@click.pass_obj
def untag(asked: Asked, template_: str, tag: str, *, yes: bool) -> None:
    """Take one version out of a template; newer ones stay.

    Their numbers are less by one then. With its last version the template goes. What went can be restored for a while:
    s3reg trash.
    """
    with connected(asked) as connection:
        found = template(connection, template_)
        chosen = selected(found, tag)
        newer = [one.tag for one in found.versions[found.versions.index(chosen) + 1 :]]
        with_it = " and the template itself" if len(found.versions) == 1 else ""
        what = f"{_named([chosen.tag], found.name)}{with_it} will be removed."
        output.confirm(what, yes=yes, machine_readable=asked.machine_readable)
        wanted = messages.Untag(operation(), found.id, tag=chosen.tag, version=chosen.id)
        done = connection.ask(wire.RevertedSchema, "POST", f"{wire.PREFIX}/untag", wire.write(wanted))
    # Where the first answer was lost, the second one knows only that it is done.
    gone = list(done.removed) or [chosen.tag]
    renumbered = list(done.renumbered) if done.removed else newer
    body = {**_body(done, gone), "renumbered": renumbered}
    lines = _went(done, gone)
    if renumbered:
        have = "has" if len(renumbered) == 1 else "have"
        lines.insert(1, f"{', '.join(renumbered)} {have} another number now, less by one")
    output.give(
        Answer(body, "version untagged successfully", "\n".join(lines)), machine_readable=asked.machine_readable
    )


@click.command()
@click.argument("template_", metavar="TEMPLATE", shell_complete=candidates.templates)
@click.argument("tag", shell_complete=candidates.tags)
@click.argument("new")
@click.pass_obj
def retag(asked: Asked, template_: str, tag: str, new: str) -> None:
    """Give a version another tag; it stays in its place.

    A node that has pulled it knows it by its old tag.
    """
    new = names.tag(new)
    with connected(asked) as connection:
        found = template(connection, template_)
        chosen = selected(found, tag)
        wanted = messages.Retag(operation(), found.id, chosen.tag, new)
        done = connection.ask(messages.RetaggedSchema, "POST", f"{wire.PREFIX}/retag", wire.write(wanted))
    body = {"uuid": done.template, "name": done.name, "old": chosen.tag, "tag": done.tag}
    text = f"{chosen.tag} of {done.name} is now called {done.tag}"
    output.give(Answer(body, "version retagged successfully", text), machine_readable=asked.machine_readable)


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
        wanted = wire.Rename(operation(), found.id, name, same_name=force_name)
        done = connection.ask(wire.RenamedSchema, "POST", f"{wire.PREFIX}/rename", wire.write(wanted))
    text = f"{found.name} is now called {done.name}"
    body = {"uuid": done.template, "name": done.name}
    output.give(Answer(body, "vm renamed successfully", text), machine_readable=asked.machine_readable)


def _named(tags: list[str], name: str) -> str:
    return f"{', '.join(tags) or 'no version'} of {name}"


def _body(done: wire.Reverted, gone: list[str]) -> dict[str, Any]:
    return {
        "uuid": done.template,
        "name": done.name,
        "removed": gone,
        "left": done.left,
        "deleted": done.deleted,
        "until": done.until,
    }


def _went(done: wire.Reverted, gone: list[str]) -> list[str]:
    """What went, and how it comes back."""
    lines = [f"{_named(gone, done.name)} removed; {'the template is gone' if done.deleted else f'{done.left} left'}"]
    if gone and done.until is not None:
        back = comes_back(done.name, *(gone if len(gone) == 1 else []))
        lines.append(f"it can be restored until {when(done.until)}: {back}")
    return lines


def comes_back(*named: str, options: tuple[str, ...] = ()) -> str:
    """The command that restores what is named so."""
    ends = ["--"] if any(word.startswith("-") for word in named) else []
    return shlex.join(["s3reg", "trash", "restore", *options, *ends, *named])


def operation() -> str:
    """What tells this one change from all others."""
    return secrets.token_hex(_OPERATION_BYTES)


COMMANDS = (revert, untag, retag, rename)
