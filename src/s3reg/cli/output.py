"""The two voices of the command line: stdout is data, stderr is talk.

A command ends in one Answer. A person gets its text: a table on a terminal, tab-separated lines elsewhere. A program gets,
with `--machine-readable`, the object that the Anka CLI prints: progress before it, a line each; itself last, with no newline
behind it, because clients that are out there take the last bytes for the answer.
"""

from __future__ import annotations

import json
import sys
import textwrap
import unicodedata
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from s3reg.client.progress import Bar, Json, Lines, Progress

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from s3reg.errors import S3regError

_GAP = 2
"""Blanks between two columns."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows under headings."""

    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    below: tuple[str, ...] = ()
    """Headings of what is copied or long: where a terminal is too narrow for the table, that stands whole, below its row."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command found or did, for both kinds of readers."""

    body: Any
    """JSON values."""
    message: str = ""
    """For programs; shapes as in Anka's documentation."""
    text: str | Columns | tuple[Columns | str, ...] = ""
    """For people. Empty: nothing needs to be said."""


def give(answer: Answer, *, machine_readable: bool, code: int = 0) -> None:
    """Print the answer on stdout; `code`: the exit code, where what was found is a failure."""
    if machine_readable:
        told = {"status": "ERROR" if code else "OK", "body": answer.body, "message": answer.message, "code": code}
        sys.stdout.write(json.dumps(told))
    else:
        for part in answer.text if isinstance(answer.text, tuple) else (answer.text,):
            if isinstance(part, Columns):
                _columns(part)
            else:
                sys.stdout.write(plain(part, keep="\n\t") + "\n" if part else "")
    sys.stdout.flush()


def give_error(error: S3regError, exit_code: int, *, machine_readable: bool) -> None:
    """Print the error: two or three lines on stderr for people, the object on stdout for programs."""
    name = type(error).__name__
    facts = {"request_id": error.request_id, "object": error.about}
    tell_failure(str(error), error.next_step, exit_code, name, machine_readable=machine_readable, facts=facts)


def tell_failure(
    message: str,
    next_step: str,
    exit_code: int,
    name: str,
    *,
    machine_readable: bool,
    facts: Mapping[str, str | None] = MappingProxyType({}),
) -> None:
    """Print a failure that may have no class of ours; `name` is what `exception_type` says.

    `facts`: the id of the request that a registry answered so, for whoever looks into its log; the store's object.
    """
    message, next_step = plain(message), plain(next_step)
    known = {what: plain(fact) for what, fact in facts.items() if fact}
    if machine_readable:
        sys.stdout.write(failure(message, next_step, exit_code, name, known))
        sys.stdout.flush()
        return
    sys.stderr.write(f"s3reg: {message}\n")
    for more in (next_step, *(f"({what.removesuffix('_id')} {fact})" for what, fact in known.items())):
        if more:
            sys.stderr.write(f"       {more}\n")


def failure(
    message: str, next_step: str, exit_code: int, name: str, facts: Mapping[str, str] = MappingProxyType({})
) -> str:
    """A failure as a program reads it."""
    more = {"exception_type": name, "remedy": next_step, **facts}
    return json.dumps({"status": "ERROR", "body": {}, "message": message, "code": exit_code, **more})


def confirm(what: str, *, yes: bool, machine_readable: bool, declined: str = "nothing was removed") -> None:
    """Let a person at a terminal think better of a removal, which ends the command; a script would wait for nobody."""
    if yes or machine_readable or not sys.stdin.isatty():
        return
    if not click.confirm(plain(f"{what} Go on?"), err=True):
        sys.stderr.write(f"{declined}\n")
        raise click.exceptions.Exit(1)


def progress(*, machine_readable: bool) -> Progress:
    """What a transfer tells its progress to."""
    if machine_readable:
        return Json(sys.stdout)
    if sys.stderr.isatty():
        return Bar(Console(stderr=True))
    return Lines(sys.stderr)


def row(message: dict[str, Any]) -> dict[str, Any]:
    """A message's values as answers have them: a template's id is its `uuid` in every command, as in Anka's."""
    return {"uuid" if name == "template" else name: value for name, value in message.items()}


def counted(count: int, one: str, many: str = "") -> str:
    """So many of them, in words."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def plain(text: str, *, keep: str = "") -> str:
    """`text` without control characters, which could repaint a terminal: it may come from elsewhere.

    Line breaks become blanks unless kept.
    """
    return "".join(
        c if c in keep else " " if c in "\n\r\t" else "" if unicodedata.category(c) in {"Cc", "Cs"} else c for c in text
    )


def _columns(columns: Columns) -> None:
    rows = [tuple(plain(cell) for cell in row) for row in columns.rows]
    if not sys.stdout.isatty():
        for row in rows:
            sys.stdout.write("\t".join(row) + "\n")
        return
    console = Console(file=sys.stdout)
    if columns.below and _wide(columns.headings, rows) > console.width:
        _two_storeys(console, columns, rows)
    else:
        console.print(_table(columns.headings, rows))


def _wide(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """How many characters a line of the table has where nothing is folded."""
    return sum(_widths(headings, rows)) + _GAP * (len(headings) - 1)


def _widths(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(cell_len, cells)) for cells in zip(headings, *rows, strict=True)]


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], widths: Sequence[int] | None = None) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(headings))
    for number, heading in enumerate(headings):
        table.add_column(heading, overflow="fold", width=None if widths is None else widths[number])
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _two_storeys(console: Console, columns: Columns, rows: Sequence[Sequence[str]]) -> None:
    """The table of what is short, and below each row the rest: words wrap, and no word is cut, so that it can be copied."""
    above = [number for number, heading in enumerate(columns.headings) if heading not in columns.below]
    headings = [columns.headings[number] for number in above]
    upper = [[row[number] for number in above] for row in rows]
    widths = _widths(headings, upper)
    room = console.width - _GAP * (len(widths) - 1)
    while sum(widths) > room and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    for number, row in enumerate(rows):
        console.print(_table(headings if number == 0 else [""] * len(headings), [upper[number]], widths))
        for heading, cell in zip(columns.headings, row, strict=True):
            if heading in columns.below and cell:
                lines = textwrap.wrap(cell, console.width - 4, break_long_words=False, break_on_hyphens=False)
                sys.stdout.write("".join(f"    {line}\n" for line in lines))
