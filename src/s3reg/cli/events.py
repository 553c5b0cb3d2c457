"""`events`: what machines reported to a registry, and what it noted of who asked for what and how that ended."""

from __future__ import annotations

import datetime as dt
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from s3reg import wire
from s3reg.cli import candidates, output
from s3reg.cli.node import TRIES_TO_ASK, connected
from s3reg.cli.output import Answer, Columns
from s3reg.client.periods import seconds
from s3reg.errors import Invalid
from s3reg.wire import events as messages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3reg.cli.options import Asked
    from s3reg.client.connection import Connection
    from s3reg.wire.events import EventEntry

USUAL = 50
FOLLOW_SECONDS = 1.0
"""Between two looks at what is new."""
LATE_SECONDS = 120
"""An event may show so long after its time: it waited for the store, or another replica's clock is behind."""
FAST_SECONDS = 3600
"""This machine's clock may be ahead of the registry's."""
_SUBJECTS = ("template", "key", "group", "session")


class _When(click.ParamType[int]):
    """A moment, in seconds since 1970: a date, a date and time, or how long ago."""

    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The moment that `value` names; the clock of this machine says what is now, and which zone it is in."""
        ago = seconds(str(value))
        if ago is not None:
            return max(0, int(time.time()) - ago)
        try:
            return max(0, int(dt.datetime.fromisoformat(str(value)).timestamp()))
        except (ValueError, OverflowError, OSError):
            self.fail(f"{value!r}: write 2026-01-31, 2026-01-31T17:00, or how long ago: 90m, 2h, 3d", param, ctx)


@click.command()
@click.option("--since", metavar="WHEN", type=_When(), help="From then on. [default: seven days]")
@click.option("--until", metavar="WHEN", type=_When(), help="Up to then.")
@click.option("--by", metavar="ASKER", help="Of this one: root, key:ID, cert:CN, everyone, or nobody.")
@click.option("--kind", type=click.Choice(["audit", "report"]), help="What the registry noted, or machines reported.")
@click.option("--template", metavar="TEMPLATE", shell_complete=candidates.templates, help="About it, by id or name.")
@click.option(
    "-n", "--number", metavar="N", type=click.IntRange(1), default=USUAL, show_default=True, help="The newest N."
)
@click.option("-f", "--follow", is_flag=True, help="Then show what comes, until interrupted; with -j, a line each.")
@click.pass_obj
def events(asked: Asked, /, *, number: int, follow: bool, until: int | None, **which: Any) -> None:
    """Show who asked for what, and what machines reported.

    WHEN is 2026-01-31, 2026-01-31T17:00, or how long ago: 90m, 2h, 3d.
    """
    if follow and until is not None:
        raise Invalid(reason="--follow shows what is still to come; leave --until out")
    with connected(asked, tries=TRIES_TO_ASK) as connection:
        if follow:
            for one in _coming(connection, number, which):
                _show(one, asked)
            return
        found = _newest(connection, number, {**which, "until": until})
    body = [_values(one) for one in found]
    table = Columns(("time", "who", "what", "about", "how", "from"), [_row(one) for one in found])
    output.give(Answer(body, "", table), machine_readable=asked.machine_readable)


def _newest(connection: Connection, number: int, which: dict[str, Any]) -> list[EventEntry]:
    """The newest so many, a page of the registry's after the other, in the order of time."""
    found: dict[str, EventEntry] = {}
    until, limit = which.get("until"), min(number, messages.MOST_EVENTS)
    while len(found) < number:
        page = _page(connection, {**which, "until": until, "limit": limit})
        fresh = {one.id: one for one in page if one.id not in found}
        found = {**fresh, **found}
        if len(page) < limit:
            break
        # The pages overlap by a second, unless it alone fills one.
        until = page[0].time if fresh else page[0].time - 1
    return list(found.values())[-number:]


def _coming(connection: Connection, number: int, which: dict[str, Any]) -> Iterator[EventEntry]:
    """The newest so many, then each that comes."""
    first = {**which, "since": which["since"] or int(time.time()) - FAST_SECONDS}
    seen = {one.id for one in _page(connection, {**first, "limit": messages.MOST_EVENTS})}
    page = _newest(connection, number, which)
    yield from page
    seen |= {one.id for one in page}
    while True:
        time.sleep(FOLLOW_SECONDS)
        # By the registry's clock, once it has told a time.
        since = max([first["since"], *(one.time - LATE_SECONDS for one in page)])
        page = _page(connection, {**which, "since": since, "limit": messages.MOST_EVENTS})
        yield from (one for one in page if one.id not in seen)
        seen = {one.id for one in page}


def _page(connection: Connection, which: dict[str, Any]) -> list[EventEntry]:
    answer = connection.ask(messages.EventsAnswerSchema, "GET", f"{wire.PREFIX}/events", query=which)
    return list(answer.events)


def _show(one: EventEntry, asked: Asked) -> None:
    """One event, at once."""
    line = json.dumps(_values(one)) if asked.machine_readable else "\t".join(map(output.plain, _row(one)))
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _values(one: EventEntry) -> dict[str, Any]:
    return {"id": one.id, "time": one.time, "kind": one.kind, "by": one.by, "said": dict(one.said)}


def _row(one: EventEntry) -> tuple[str, ...]:
    """An event for people: time, who, what, about what, how it ended, from where."""
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.time))
    said = one.said
    if one.kind == "report":
        told = " ".join(f"{name}={value}" for name, value in said.items() if name != "host")
        return moment, one.by, "report", told, "", str(said.get("host", ""))
    ended = " ".join(str(said[name]) for name in ("status", "code") if name in said)
    if "more" in said:
        ended = f"{said['more']} more"
    return moment, one.by, str(said.get("deed", "")), _subject(said), ended, str(said.get("address", ""))


def _subject(said: Any) -> str:
    """What it was about: a template by name, a version by tag, a key, a group."""
    name = said.get("name") or next((said[one] for one in _SUBJECTS if one in said), "")
    tag = next((said[one] for one in ("tag", "removed", "restored", "tags") if said.get(one)), None)
    return f"{name}:{tag}" if tag else str(name)


COMMANDS = (events,)
