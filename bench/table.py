"""The table: what was measured, against what was wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    measured: str
    ratio: str = ""
    goal: str = ""
    met: bool | None = None
    """None: there is no goal, or it could not be measured."""


def missing(name: str, what: str, goal: str = "") -> Row:
    """A row that this machine cannot measure, and what it lacks."""
    return Row(name, f"not measured: {what}", goal=goal)


def markdown(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| | measured | ratio | goal | met |", "|---|---|---|---|---|"]
    for row in rows:
        met = "" if row.met is None else "yes" if row.met else "**no**"
        lines.append(f"| {row.name} | {row.measured} | {row.ratio} | {row.goal} | {met} |")
    return "\n".join(lines) + "\n"
