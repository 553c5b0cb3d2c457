"""What a shell may complete a word to: names of this node's library, of its registries, and of what a registry holds.

All of it is a convenience: what cannot be found out, or not within a second, is not offered, and nothing is said about it.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import click

from s3reg import wire
from s3reg.client.administration import Administration
from s3reg.client.connection import Connection
from s3reg.client.library import Library
from s3reg.client.platform import default_library
from s3reg.errors import S3regError
from s3reg.model.access import PERMISSIONS
from s3reg.wire.sessions import SessionsAnswerSchema
from s3reg.wire.trash import TrashAnswerSchema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from s3reg.cli.options import Asked
    from s3reg.wire.trash import TrashEntry

SECONDS = 1.0
"""How long whoever presses the tabulator waits for a registry."""


def local_vms(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
    """The VMs of the node's library."""
    del parameter
    asked: Asked = context.obj
    with contextlib.suppress(S3regError, OSError):
        library = Library((asked.library or default_library()).expanduser().absolute())
        return fitting(word, (vm.name for vm in library.vms()))
    return []


def remotes(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
    """The registries that this node knows."""
    del parameter
    asked: Asked = context.obj
    with contextlib.suppress(S3regError, OSError):
        return fitting(word, (remote.name for remote in asked.remotes().all()))
    return []


def templates(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
    """The templates of the registry."""
    del parameter

    def ask(connection: Connection) -> list[str]:
        answer = connection.ask(wire.TemplatesAnswerSchema, "GET", f"{wire.PREFIX}/templates")
        return fitting(word, (one.name for one in answer.templates))

    return _answered(context, ask)


def trashed(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
    """The templates of which something lies in the trash."""
    del parameter
    return _answered(context, lambda connection: fitting(word, (one.name for one in _trash(connection, None))))


def trashed_tags(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
    """The tags in the trash of the template that the command line names."""
    del parameter
    ref = context.params.get("template_") or next(iter(context.args), None)
    return _answered(context, lambda connection: fitting(word, (one.tag for one in _trash(connection, ref))))


def trashed_ids(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
    """The ids of the versions in the trash of the template that the command line names, if it does already."""
    del parameter
    ref = context.params.get("template_") or next(iter(context.args), None)
    return _answered(context, lambda connection: fitting(word, (one.version for one in _trash(connection, ref))))


def _trash(connection: Connection, ref: str | None) -> Iterable[TrashEntry]:
    query = None if ref is None else {"ref": ref}
    answer = connection.ask(TrashAnswerSchema, "GET", f"{wire.PREFIX}/trash", query=query)
    return tuple(answer.entries)


def keys(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
    """The registry's API keys."""
    del parameter
    return _answered(
        context, lambda connection: fitting(word, (one.id for one in Administration(connection).all_keys()))
    )


def groups(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
    """The registry's groups."""
    del parameter
    return _answered(
        context, lambda connection: fitting(word, (one.name for one in Administration(connection).all_groups()))
    )


def sessions(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
    """The pushes under way."""
    del parameter

    def ask(connection: Connection) -> list[str]:
        answer = connection.ask(SessionsAnswerSchema, "GET", f"{wire.PREFIX}/sessions")
        return fitting(word, (one.session for one in answer.sessions))

    return _answered(context, ask)


def permissions(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
    """What a group may permit."""
    del context, parameter
    return [name for name in PERMISSIONS if name.startswith(word)]


def tags(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
    """The tags of the template that the command line names."""
    del parameter
    # Every command that takes a tag names the template first. Where the word is the tag's own, click was in the midst of the
    # option and knows the words before it as words only.
    first = next((param.name for param in context.command.params if isinstance(param, click.Argument)), None)
    template = context.params.get(first or "") or next(iter(context.args), None)

    def ask(connection: Connection) -> list[str]:
        found = connection.ask(wire.TemplateEntrySchema, "GET", f"{wire.PREFIX}/template", query={"ref": template})
        return fitting(word, (version.tag for version in found.versions))

    return _answered(context, ask) if template else []


def _answered(context: click.Context, ask: Callable[[Connection], list[str]]) -> list[str]:
    """What the registry answers within a second, else nothing."""
    asked: Asked = context.obj

    def run() -> list[str]:
        connection = Connection(asked.chosen().access, tries=1, stall=SECONDS, ids=asked.ids)
        with contextlib.closing(connection):
            return ask(connection)

    return soon(run)


def soon(find: Callable[[], list[str]]) -> list[str]:
    """What is found within a second, else nothing."""
    found: list[str] = []

    def run() -> None:
        with contextlib.suppress(S3regError, OSError):
            found.extend(find())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(SECONDS)
    return [] if thread.is_alive() else found


def fitting(word: str, names: Iterable[str]) -> list[str]:
    """The names that begin with `word`, in order; none that a terminal would not show as it is."""
    return sorted({name for name in names if name.startswith(word) and name.isprintable()})
