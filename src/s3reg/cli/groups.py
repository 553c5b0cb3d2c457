"""`groups`: what API keys and certificates may do by being in a group."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from s3reg import wire
from s3reg.cli import candidates, output, permissions
from s3reg.cli.node import TRIES_TO_ASK, connected, template
from s3reg.cli.options import OpenGroup
from s3reg.cli.output import Answer, Columns
from s3reg.client.administration import Administration
from s3reg.errors import Forbidden, Invalid, TemplateNotFound
from s3reg.model import names
from s3reg.model.access import PERMISSIONS
from s3reg.wire.access import DomainGrant, GroupEntry, TemplateGrant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from s3reg.cli.options import Asked
    from s3reg.client.connection import Connection

_NAME = click.argument("name", shell_complete=candidates.groups)
_ROLES = click.option(
    "--role",
    "roles",
    type=click.Choice(tuple(permissions.ROLES)),
    multiple=True,
    help=f"Several at once: {permissions.ROLES_TOLD}.",
)


@click.group(cls=OpenGroup)
def groups() -> None:
    """What API keys and certificates may do by being in a group.

    A group gives permissions, which say what may be called, and templates and domains, with which it may be done. Groups add
    up. They count where the registry's authorization is on.
    """


@groups.command("list")
@click.pass_obj
def list_(asked: Asked) -> None:
    """List the groups."""
    with connected(asked, tries=TRIES_TO_ASK) as connection:
        found = Administration(connection).all_groups()
    rows = [
        (
            one.name,
            "damaged" if one.damaged else permissions.in_short(one.permissions),
            _counted(one),
            ", ".join(domain.name for domain in one.domains),
        )
        for one in found
    ]
    table = Columns(("group", "permissions", "templates", "domains"), rows)
    output.give(Answer([body(one) for one in found], "", table), machine_readable=asked.machine_readable)


@groups.command()
@_NAME
@click.pass_obj
def show(asked: Asked, name: str) -> None:
    """Show what a group gives, and the API keys that are in it."""
    with connected(asked, tries=TRIES_TO_ASK) as connection:
        administration = Administration(connection)
        found = administration.group(names.group_name(name))
        labels = _labels(connection)
        members: list[str] | None = None
        with contextlib.suppress(Forbidden):
            members = [key.id for key in administration.all_keys() if found.name in key.groups]
    facts = [("group", found.name)]
    if members is not None:
        facts.append(("keys", ", ".join(members)))
    facts += [] if found.templates else [("templates", _counted(found))]
    facts += [("damaged", found.damaged)] if found.damaged else []
    tables = [
        Columns(("", ""), facts),
        Columns(
            ("permission", "lets"), [(one, PERMISSIONS.get(one, "")) for one in permissions.in_order(found.permissions)]
        ),
    ]
    if found.templates:
        rows = [(labels.get(one.id, ""), one.id, permissions.listed(one.permissions)) for one in found.templates]
        tables.append(Columns(("template", "id", "may"), rows))
    if found.domains:
        tables.append(
            Columns(("domain", "may"), [(one.name, permissions.listed(one.permissions)) for one in found.domains])
        )
    answer = Answer({**body(found), "keys": members}, "", tuple(tables))
    output.give(answer, machine_readable=asked.machine_readable)


@groups.command()
@click.argument("name")
@click.option(
    "-p",
    "--permission",
    "words",
    metavar="PERMISSION",
    multiple=True,
    shell_complete=candidates.permissions,
    help="What its members may call; repeatable.",
)
@_ROLES
@click.option("--no-templates", is_flag=True, help="With no template, until some are added; else with all of them.")
@click.pass_obj
def create(asked: Asked, name: str, *, words: tuple[str, ...], roles: tuple[str, ...], no_templates: bool) -> None:
    """Make a group."""
    given = permissions.of_group(words, roles)
    wanted = GroupEntry(names.group_name(name), tuple(given), () if no_templates else None)
    with connected(asked) as connection:
        _tell(asked, connection, Administration(connection).create_group(wanted), "group created successfully")


@groups.command()
@_NAME
@click.argument("words", nargs=-1, metavar="[PERMISSION]...", shell_complete=candidates.permissions)
@_ROLES
@click.pass_obj
def grant(asked: Asked, name: str, *, words: tuple[str, ...], roles: tuple[str, ...]) -> None:
    """Let a group's members call something."""
    more = _some(words, roles)
    _change(asked, name, lambda group: replace(group, permissions=tuple({*group.permissions} | more)))


@groups.command()
@_NAME
@click.argument("words", nargs=-1, metavar="[PERMISSION]...", shell_complete=candidates.permissions)
@_ROLES
@click.pass_obj
def deny(asked: Asked, name: str, *, words: tuple[str, ...], roles: tuple[str, ...]) -> None:
    """Let a group's members call something no more, unless another of their groups gives it."""
    less = _some(words, roles)
    _change(asked, name, lambda group: replace(group, permissions=tuple({*group.permissions} - less)))


@groups.command()
@_NAME
@click.option("--all", "everything", is_flag=True, help="All templates, with everything that may be done with one.")
@click.option("--none", "nothing", is_flag=True, help="No template, but those that are added by the same command.")
@click.option("--add", "adding", metavar="TEMPLATE=list,pull", multiple=True, help="These of a template; repeatable.")
@click.option("--remove", "removing", metavar="TEMPLATE", multiple=True, help="Nothing of it; TEMPLATE=pull: not that.")
@click.pass_obj
def templates(
    asked: Asked, name: str, *, everything: bool, nothing: bool, adding: tuple[str, ...], removing: tuple[str, ...]
) -> None:
    """Say with which templates a group's members may do what.

    TEMPLATE is a name or an id; `all` stands for everything that may be done with one.
    """
    if everything and (nothing or adding or removing):
        raise Invalid(reason="--all is every template; leave --none, --add and --remove out")
    more, less = [permissions.granted(text) for text in adding], [permissions.split(text) for text in removing]
    with connected(asked) as connection:
        more = [(_template_id(connection, ref), actions) for ref, actions in more]
        less = [(_template_id(connection, ref), actions) for ref, actions in less]

    def changed(group: GroupEntry) -> GroupEntry:
        if everything:
            return replace(group, templates=None)
        if group.templates is None and not nothing and (adding or removing):
            raise Invalid(
                reason=f"the group {group.name} has all templates; with --none --add … it has only those that are added"
            )
        if group.templates is None and not nothing:
            return group
        held = {} if nothing else {one.id: frozenset(one.permissions) for one in group.templates or ()}
        left = _altered(held, more, less)
        return replace(group, templates=tuple(TemplateGrant(one, tuple(left[one])) for one in sorted(left)))

    _change(asked, name, changed)


@groups.command()
@_NAME
@click.option("--none", "nothing", is_flag=True, help="No domain, but those that are added by the same command.")
@click.option("--add", "adding", metavar="DOMAIN=list,pull", multiple=True, help="These of a domain; repeatable.")
@click.option("--remove", "removing", metavar="DOMAIN", multiple=True, help="Nothing of it; DOMAIN=pull: not that.")
@click.pass_obj
def domains(asked: Asked, name: str, *, nothing: bool, adding: tuple[str, ...], removing: tuple[str, ...]) -> None:
    """Say with the templates of which domains a group's members may do what.

    Who may push_tag in a domain may make templates in it. `all` stands for everything that may be done with a template.
    """
    more = [(names.domain(domain), actions) for domain, actions in map(permissions.granted, adding)]
    less = [(names.domain(domain), actions) for domain, actions in map(permissions.split, removing)]

    def changed(group: GroupEntry) -> GroupEntry:
        held = {} if nothing else {one.name: frozenset(one.permissions) for one in group.domains}
        left = _altered(held, more, less)
        return replace(group, domains=tuple(DomainGrant(one, tuple(left[one])) for one in sorted(left)))

    _change(asked, name, changed)


@groups.command()
@_NAME
@click.option("-y", "--yes", is_flag=True, help="Do not ask. Without a terminal, and with -j, nobody is asked anyway.")
@click.pass_obj
def delete(asked: Asked, name: str, *, yes: bool) -> None:
    """Delete a group: its members have nothing of it any more."""
    name = names.group_name(name)
    with connected(asked) as connection:
        administration = Administration(connection)
        administration.check_group(name)
        output.confirm(f"The group {name} will be deleted.", yes=yes, machine_readable=asked.machine_readable)
        administration.delete_group(name)
    answer = Answer({"name": name}, "group deleted successfully", f"group {name} deleted")
    output.give(answer, machine_readable=asked.machine_readable)


def body(group: GroupEntry) -> dict[str, Any]:
    """A group as JSON values."""
    held = group.templates
    return {
        "name": group.name,
        "permissions": permissions.in_order(group.permissions),
        "templates": held and [{"id": one.id, "permissions": permissions.in_order(one.permissions)} for one in held],
        "domains": [{"name": one.name, "permissions": permissions.in_order(one.permissions)} for one in group.domains],
        "damaged": group.damaged,
    }


def _change(asked: Asked, name: str, change: Callable[[GroupEntry], GroupEntry]) -> None:
    with connected(asked) as connection:
        changed = Administration(connection).change_group(names.group_name(name), change)
        _tell(asked, connection, changed, "group changed successfully")


def _tell(asked: Asked, connection: Connection, group: GroupEntry, message: str) -> None:
    """What the group gives now."""
    lines = [f"group {group.name}: {permissions.in_short(group.permissions)}"]
    if group.templates is None:
        narrower = f"s3reg groups templates {shlex.quote(group.name)} --none --add TEMPLATE=list,pull"
        lines.append(f"with all templates; narrower: {narrower}")
    elif group.templates:
        labels = _labels(connection)
        lines += [
            f"with {labels.get(one.id, one.id)}: {permissions.listed(one.permissions)}" for one in group.templates
        ]
    elif not group.domains:
        lines.append("with no template")
    lines += [f"with the domain {one.name}: {permissions.listed(one.permissions)}" for one in group.domains]
    output.give(Answer(body(group), message, "\n".join(lines)), machine_readable=asked.machine_readable)


def _some(words: tuple[str, ...], roles: tuple[str, ...]) -> frozenset[str]:
    found = permissions.of_group(words, roles)
    if not found:
        raise Invalid(reason=f"name permissions, or a --role; there are {', '.join(PERMISSIONS)}")
    return found


def _altered(
    held: Mapping[str, frozenset[str]],
    more: Iterable[tuple[str, frozenset[str]]],
    less: Iterable[tuple[str, frozenset[str] | None]],
) -> dict[str, frozenset[str]]:
    """`held` without `less`, of which None is everything, and with `more`; what nothing may be done with is left out."""
    left = dict(held)
    for name, actions in less:
        left[name] = frozenset() if actions is None else left.get(name, frozenset()) - actions
    for name, actions in more:
        left[name] = left.get(name, frozenset()) | actions
    return {name: actions for name, actions in left.items() if actions}


def _template_id(connection: Connection, ref: str) -> str:
    """The id of a template by its name or id; an id may be of one that is not there yet, or not any more."""
    try:
        return template(connection, ref).id
    except TemplateNotFound:
        with contextlib.suppress(Invalid):
            return names.template_id(ref)
        raise


def _labels(connection: Connection) -> dict[str, str]:
    """The templates' names by id, as far as one may know them."""
    with contextlib.suppress(Forbidden):
        answer = connection.ask(wire.TemplatesAnswerSchema, "GET", f"{wire.PREFIX}/templates")
        return {one.id: one.name for one in answer.templates}
    return {}


def _counted(group: GroupEntry) -> str:
    return "all" if group.templates is None else str(len(group.templates)) if group.templates else "none"


COMMANDS = (groups,)
