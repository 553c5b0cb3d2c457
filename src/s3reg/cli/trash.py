"""`trash`: what was taken out of a registry's templates, brought back or let go.

A person names what lies there by template and tag; the registry is told ids, so that nothing goes, or comes back, that was
not there when somebody looked.
"""

from __future__ import annotations

import contextlib
import sys
import unicodedata
from collections import defaultdict
from typing import TYPE_CHECKING

import click
from rich.filesize import decimal

from s3reg import wire
from s3reg.cli import candidates, node, output
from s3reg.cli.node import TRIES_TO_ASK, connected, when
from s3reg.cli.options import OpenGroup
from s3reg.cli.output import Answer, Columns
from s3reg.cli.removal import operation
from s3reg.errors import Forbidden, Invalid, NameAmbiguous, NotInTrash, TemplateNotFound, TrashEmpty
from s3reg.model import names
from s3reg.wire import trash as messages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from s3reg.cli.options import Asked
    from s3reg.client.connection import Connection
    from s3reg.wire.trash import TrashEntry

_ONE = click.argument("template_", metavar="TEMPLATE", shell_complete=candidates.trashed)
_TAGS = click.argument("tags", metavar="[TAG]...", nargs=-1, shell_complete=candidates.trashed_tags)


@click.group(cls=OpenGroup)
def trash() -> None:
    """What was taken out of templates, and can be restored for a while.

    That is what revert and untag removed, and what a push with --force replaced. `s3reg gc` lets go what has been there for
    longer than the registry keeps it.
    """


@trash.command("list")
@click.argument("template_", metavar="[TEMPLATE]", required=False, shell_complete=candidates.trashed)
@click.pass_obj
def list_(asked: Asked, template_: str | None) -> None:
    """List what can be restored, and until when."""
    with connected(asked, tries=TRIES_TO_ASK) as connection:
        found = _entries(connection, template_)
    rows = [
        (
            f"{one.name} (deleted)" if one.deleted else one.name,
            one.tag,
            decimal(one.size),
            when(one.removed),
            one.removed_by,
            when(one.until),
            one.version,
        )
        for one in found
    ]
    table = Columns(("template", "tag", "size", "removed", "by", "until", "version"), rows, below=("version",))
    output.give(
        Answer([output.row(wire.write(one)) for one in found], "", table), machine_readable=asked.machine_readable
    )


@trash.command()
@_ONE
@_TAGS
@click.option("--as", "as_tag", metavar="TAG", help="Under this tag; for one version.")
@click.option(
    "--version",
    "versions",
    metavar="ID",
    multiple=True,
    shell_complete=candidates.trashed_ids,
    help="By its id instead of a tag; repeatable.",
)
@click.option("--force-name", is_flag=True, help="Let two templates carry one name.")
@click.pass_obj
def restore(
    asked: Asked,
    template_: str,
    *,
    tags: tuple[str, ...],
    as_tag: str | None,
    versions: tuple[str, ...],
    force_name: bool,
) -> None:
    """Put removed versions back in their places, all that are named or none.

    Without TAG, what went last comes back: all that one command took out. Of several with one tag it is the one that
    went last. A deleted template comes back with its versions.
    """
    as_tag = None if as_tag is None else names.tag(as_tag)
    ids = [names.version_id(one) for one in versions]
    with connected(asked) as connection:
        found, coming = _coming(connection, template_, tags, ids)
        if as_tag is not None and len(coming) > 1:
            raise Invalid(reason=f"--as is for one version, and these would come back: {', '.join(coming.values())}")
        wanted = messages.Restore(operation(), found, tuple(coming), as_tag=as_tag, same_name=force_name)
        done = connection.ask(messages.RestoredSchema, "POST", f"{wire.PREFIX}/trash/restore", wire.write(wanted))
    body = {"uuid": done.template, "name": done.name, "restored": list(done.restored)}
    text = f"{', '.join(done.restored)} of {done.name} restored"
    output.give(Answer(body, "versions restored successfully", text), machine_readable=asked.machine_readable)


@trash.command()
@click.argument("template_", metavar="[TEMPLATE]", required=False, shell_complete=candidates.trashed)
@_TAGS
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def purge(asked: Asked, template_: str | None, *, tags: tuple[str, ...], yes: bool) -> None:
    """Let go for good what lies in the trash: of a template, or all.

    With TAG, every removed version of that tag. Their bytes go with the next `s3reg gc`. Without TEMPLATE, a script has to
    say --yes.
    """
    if template_ is None and not yes and (asked.machine_readable or not sys.stdin.isatty()):
        raise Invalid(reason="without a template everything in the trash would go; say so with --yes")
    with connected(asked) as connection:
        going = _entries(connection, None) if template_ is None else _of_template(connection, template_)
        if tags and template_ is not None:
            _one_of_each(going, template_, tags)
            wanted = set(map(_composed, tags))
            going = [one for one in going if one.tag in wanted]
        if template_ is not None and going:
            _same_template(going)
        if going:
            output.confirm(f"{_told(going)} will be gone for good.", yes=yes, machine_readable=asked.machine_readable)
        purged = _purge(connection, going)
    text = f"{_told(going)} purged" if going else "there is nothing in the trash"
    output.give(Answer({"purged": purged}, "trash purged successfully", text), machine_readable=asked.machine_readable)


def _coming(
    connection: Connection, template_: str, tags: Sequence[str], ids: Sequence[names.VersionId]
) -> tuple[str, dict[str, str]]:
    """The id of the template, and of what is to come back the ids, each with its tag.

    Who may restore need not be one who may look into the trash: ids are enough then, and stand for their tags.
    Raises TrashEmpty, NotInTrash, NameAmbiguous, Forbidden.
    """
    try:
        there = _of_template(connection, template_)
    except Forbidden:
        if tags or not ids:
            raise
        found = template_ if names.is_template_id(template_) else node.template(connection, template_).id
        return found, {version: version for version in ids}
    chosen = _chosen(there, template_, tags, ids) if tags or ids else _went_last(there, template_)
    return _same_template(chosen), {one.version: one.tag for one in chosen}


def _purge(connection: Connection, going: Sequence[TrashEntry]) -> int:
    """Exactly these, template by template; how many."""
    by_template: dict[str, list[str]] = defaultdict(list)
    for one in going:
        by_template[one.template].append(one.version)
    for template, ids in by_template.items():
        for start in range(0, len(ids), messages.MOST_ASKED):
            some = tuple(ids[start : start + messages.MOST_ASKED])
            wanted = wire.write(messages.Purge(operation(), template, some))
            with contextlib.suppress(TemplateNotFound):  # a sweep was faster
                connection.ask(messages.PurgedSchema, "POST", f"{wire.PREFIX}/trash/purge", wanted)
    return len(going)


def _of_template(connection: Connection, template: str) -> list[TrashEntry]:
    """What is there of a template, which may be gone with all that it had. Raises TrashEmpty."""
    try:
        return _entries(connection, template)
    except TemplateNotFound:
        raise TrashEmpty(template=template) from None


def _entries(connection: Connection, template: str | None) -> list[TrashEntry]:
    if template is not None and not template.strip():
        # Blank is none: a script whose variable is empty does not mean all of them.
        raise TemplateNotFound(template=repr(template))
    query = None if template is None else {"ref": template}
    answer = connection.ask(messages.TrashAnswerSchema, "GET", f"{wire.PREFIX}/trash", query=query)
    return list(answer.entries)


def _chosen(
    there: Sequence[TrashEntry], template: str, tags: Sequence[str], ids: Sequence[names.VersionId]
) -> list[TrashEntry]:
    """Those of these tags, and of these ids. Raises NotInTrash, NameAmbiguous."""
    found = {one.version: one for one in _one_of_each(there, template, tags)}
    for version in ids:
        one = next((one for one in there if one.version == version), None)
        if one is None:
            raise NotInTrash(template=template, version=version)
        found[version] = one
    return list(found.values())


def _one_of_each(there: Sequence[TrashEntry], template: str, tags: Sequence[str]) -> list[TrashEntry]:
    """Of each tag, the version that went last. Raises NotInTrash, NameAmbiguous."""
    found = []
    for tag in map(_composed, tags):
        same = [one for one in there if one.tag == tag]
        if not same:
            raise NotInTrash(template=template, version=repr(tag))
        _same_template(same)
        found.append(same[-1])
    return found


def _went_last(there: Sequence[TrashEntry], template: str) -> list[TrashEntry]:
    """All that went at once, and last. Raises TrashEmpty, NameAmbiguous."""
    if not there:
        raise TrashEmpty(template=template)
    _same_template(there)
    last = there[-1]
    found: dict[str, TrashEntry] = {}
    for one in reversed(there):
        # One command takes a tag out once: what has it too went in the same second, and before.
        if (one.removed, one.removed_by) != (last.removed, last.removed_by) or one.tag in found:
            break
        found[one.tag] = one
    return list(reversed(found.values()))


def _same_template(entries: Sequence[TrashEntry]) -> str:
    """The id of the template that they are all of. Raises NameAmbiguous."""
    ids = sorted({one.template for one in entries})
    if len(ids) > 1:
        raise NameAmbiguous(name=entries[0].name, ids=", ".join(ids))
    return ids[0]


def _told(entries: Sequence[TrashEntry]) -> str:
    by_name: dict[str, list[str]] = defaultdict(list)
    for one in entries:
        by_name[one.name].append(one.tag)
    return "; ".join(f"{', '.join(tags)} of {name}" for name, tags in by_name.items())


def _composed(tag: str) -> str:
    return unicodedata.normalize("NFC", tag)


COMMANDS = (trash,)
