"""`du`: what a registry's templates take on its store, and what taking them out would free."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.filesize import decimal

from s3reg import wire
from s3reg.cli import candidates, output
from s3reg.cli.node import TRIES_TO_ASK, connected
from s3reg.cli.output import Answer, Columns
from s3reg.errors import TemplateNotFound
from s3reg.wire import usage as messages

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from s3reg.cli.options import Asked
    from s3reg.wire.usage import TagUsage, TemplateUsage, UsageAnswer


@click.command()
@click.argument("templates", nargs=-1, metavar="[TEMPLATE]...", shell_complete=candidates.templates)
@click.option("--tags", is_flag=True, help="Each version too.")
@click.pass_obj
def du(asked: Asked, templates: tuple[str, ...], *, tags: bool) -> None:
    """Show what templates take on the store.

    own: what nothing else needs; shared: what others, or the trash, need too; in use: of both, what is of use to this one;
    frees: what deleting it gives back in the end, its trash aside. What nobody needs any more, and waits for a sweep,
    s3reg gc --dry-run tells.
    """
    check_named(templates)
    with connected(asked, tries=TRIES_TO_ASK) as connection:
        answers: list[UsageAnswer] = [
            connection.ask(messages.UsageAnswerSchema, "GET", f"{wire.PREFIX}/usage", query={"ref": ref})
            for ref in templates or (None,)
        ]
    found = list({one.template: one for answer in answers for one in answer.templates}.values())
    whole = answers[0] if len(answers) == 1 else None
    body = {
        "templates": [output.row(wire.write(one)) for one in found],
        "total": {name: getattr(whole, name) for name in _SUMS} if whole else None,
    }
    headings = ("template", "own", "shared", "in use", "trash", "frees")
    text: list[Columns | str] = [Columns(headings, [_row(one) for one in _largest_first(found)])]
    if tags:
        text += ["", Columns(("template", "tag", "own", "shared", "in use", "frees"), list(_tag_rows(found)))]
    if whole:
        text += ["", _sums(whole)]
    output.give(Answer(body, "", tuple(text)), machine_readable=asked.machine_readable)


def check_named(templates: Sequence[str]) -> None:
    """Raise TemplateNotFound for a blank name: a script whose variable is empty does not mean all of them."""
    for ref in templates:
        if not ref.strip():
            raise TemplateNotFound(template=repr(ref))


_SUMS = ("stored", "live", "trash", "uploading")


def _largest_first(found: Iterable[TemplateUsage]) -> list[TemplateUsage]:
    return sorted(found, key=lambda one: (-one.frees - one.trash, one.name, one.template))


def _row(one: TemplateUsage) -> tuple[str, ...]:
    name = f"{one.name} (deleted)" if one.deleted else f"{one.name} (damaged)" if one.damaged else one.name
    return (name, *map(decimal, (one.exclusive, one.shared, one.live, one.trash, one.frees)))


def _tag_rows(found: Iterable[TemplateUsage]) -> Iterable[tuple[str, ...]]:
    return (_tag_row(one.name, tag) for one in _largest_first(found) for tag in one.tags)


def _tag_row(name: str, one: TagUsage) -> tuple[str, ...]:
    if one.damaged:
        return (name, one.tag, "damaged", "", "", "")
    return (name, one.tag, *map(decimal, (one.exclusive, one.shared, one.live, one.frees)))


def _sums(whole: UsageAnswer) -> str:
    sent = f"; pushes under way have sent up to {decimal(whole.uploading)}" if whole.uploading else ""
    return (
        f"{decimal(whole.stored)} stored: {decimal(whole.stored - whole.trash)} for versions, of which "
        f"{decimal(whole.live)} are in use, and {decimal(whole.trash)} for the trash alone{sent}"
    )


COMMANDS = (du,)
