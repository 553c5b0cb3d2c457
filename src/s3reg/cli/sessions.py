"""`sessions`: the pushes under way, and an end to one of them.

Both are for whoever runs a registry: a push that was killed goes on by itself, or is given up by a sweep after a day.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click
from rich.filesize import decimal

from s3reg import wire
from s3reg.cli import candidates, output
from s3reg.cli.node import TRIES_TO_ASK, connected, when
from s3reg.cli.options import OpenGroup
from s3reg.cli.output import Answer, Columns
from s3reg.errors import SessionNotFound
from s3reg.model import names
from s3reg.wire import sessions as messages

if TYPE_CHECKING:
    from s3reg.cli.options import Asked

_PATH = f"{wire.PREFIX}/sessions"


@click.group(cls=OpenGroup)
def sessions() -> None:
    """The pushes under way."""


@sessions.command("list")
@click.pass_obj
def list_(asked: Asked) -> None:
    """List the pushes under way, your own; everybody's if you may do everything.

    SENT is what links were given for. The first sweep after UNTIL gives the push up, if its node is not heard of again.
    """
    with connected(asked, tries=TRIES_TO_ASK) as connection:
        found = connection.ask(messages.SessionsAnswerSchema, "GET", _PATH).sessions
    rows = [
        (
            one.session,
            one.name or one.template,
            one.owner,
            when(one.opened),
            when(one.beat),
            decimal(one.signed),
            one.state if one.state != "open" else when(one.until),
        )
        for one in found
    ]
    headings = ("session", "template", "owner", "opened", "heard of", "sent", "until")
    table = Columns(headings, rows, below=("session",))
    body = [output.row(dataclasses.asdict(one)) for one in found]
    output.give(Answer(body, "", table), machine_readable=asked.machine_readable)


@sessions.command()
@click.argument("ids", nargs=-1, required=True, metavar="SESSION...", shell_complete=candidates.sessions)
@click.option("-y", "--yes", is_flag=True, help="Do not ask. Without a terminal, and with -j, nobody is asked anyway.")
@click.pass_obj
def abort(asked: Asked, ids: tuple[str, ...], *, yes: bool) -> None:
    """Give pushes up: their next call is refused, and the next sweep removes what they uploaded."""
    ids = tuple(dict.fromkeys(names.session_id(sid) for sid in ids))
    with connected(asked) as connection:
        found = {one.session: one for one in connection.ask(messages.SessionsAnswerSchema, "GET", _PATH).sessions}
        for sid in ids:
            if sid not in found:
                raise SessionNotFound(session=sid)
        what = ", ".join(f"{sid} (to {found[sid].name or found[sid].template}, by {found[sid].owner})" for sid in ids)
        output.confirm(
            f"{what} will be given up.",
            yes=yes,
            machine_readable=asked.machine_readable,
            declined="nothing was given up",
        )
        for sid in ids:
            connection.call("POST", f"{_PATH}/abort", wire.write(messages.SessionName(sid)))
    text = f"{', '.join(ids)} given up"
    answer = Answer({"aborted": list(ids)}, "pushes given up", text)
    output.give(answer, machine_readable=asked.machine_readable)


COMMANDS = (sessions,)
