"""The commands about the registries that this node knows."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import click

from s3reg.cli import candidates, output
from s3reg.cli.output import Answer, Columns
from s3reg.client.connection import Access, Connection
from s3reg.client.remotes import Remote
from s3reg.errors import Forbidden, Invalid

if TYPE_CHECKING:
    from s3reg.cli.options import Asked

_NO_CHECK = click.option("-f", "--force", is_flag=True, help="Do not check that the registry answers.")


@click.command()
@click.argument("name")
@click.argument("url")
@_NO_CHECK
@click.pass_obj
def add(asked: Asked, name: str, url: str, force: bool) -> None:
    """Name a registry, and make it the default.

    Certificates, a login and --insecure are remembered with it.
    """
    written = Access.at(url)
    remote = Remote(name, asked.access(written))
    if not force:
        check(asked.reached(written, url))
    asked.remotes().add(remote)
    message = f"registry {name} added"
    output.give(Answer({}, message, f"{message}: {remote.access.url}"), machine_readable=asked.machine_readable)


@click.command("set")
@click.argument("name", shell_complete=candidates.remotes)
@click.argument("url", required=False)
@_NO_CHECK
@click.pass_obj
def set_(asked: Asked, name: str, url: str | None, force: bool) -> None:
    """Make a registry the default.

    With a URL, certificates or a login, change how it is reached; an empty text (--api-key-id "") forgets one.
    """
    remotes = asked.remotes()
    known = remotes.find(name).access
    wanted = Access.at(url) if url else known
    access = asked.access(wanted)
    if access != known and not force:
        check(asked.reached(wanted, url))
    remotes.change(name, access)
    message = f"registry {name} is the default"
    output.give(Answer({}, message, message), machine_readable=asked.machine_readable)


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=candidates.remotes)
@click.option("-a", "--all", "everything", is_flag=True, help="Forget all of them.")
@click.pass_obj
def delete(asked: Asked, names: tuple[str, ...], everything: bool) -> None:
    """Forget registries.

    What they hold stays where it is: a VM goes by `s3reg vm delete`, a template by `s3reg revert --all`.
    """
    if bool(names) == everything:
        raise Invalid(reason="name the registries to forget, or all of them with --all")
    remotes = asked.remotes()
    forgotten = [remote.name for remote in remotes.all()] if everything else list(names)
    remotes.delete(forgotten)
    message = f"forgot {', '.join(forgotten)}" if forgotten else "there was none"
    output.give(Answer({}, message, message), machine_readable=asked.machine_readable)


@click.command("list-repos")
@click.argument("name", required=False, shell_complete=candidates.remotes)
@click.option("-d", "--default", "only_default", is_flag=True, help="Only the default one.")
@click.pass_obj
def list_repos(asked: Asked, name: str | None, only_default: bool) -> None:
    """Show the registries that this node knows."""
    remotes = asked.remotes()
    default = remotes.default()
    shown = [remotes.find(name)] if name else remotes.all()
    rows: list[tuple[str, ...]] = []
    body: list[dict[str, Any]] = []
    for remote in shown:
        is_default = default is not None and remote.name == default.name
        if only_default and not is_default:
            continue
        body.append({"default": is_default, "url": remote.access.url, "name": remote.name})
        rows.append((remote.name, remote.access.url, "default" if is_default else ""))
    # A list, as Anka 3 gives and its clients read: Anka 2 gave an object by name, and an answer can only be one of them.
    table = Columns(("name", "address", ""), rows)
    output.give(Answer(body, "", table), machine_readable=asked.machine_readable)


def check(access: Access) -> None:
    """Ask the registry how it is; whoever waits at a terminal is told soon. Raises RegistryUnreachable, Unauthenticated."""
    connection = Connection(access, tries=2)
    try:
        # Who may not see this is somebody whom the registry knows.
        with contextlib.suppress(Forbidden):
            connection.call("GET", "/registry/status")
    finally:
        connection.close()


COMMANDS = (add, set_, delete, list_repos)
