"""`docs/reference/compatibility.md`, printed from `compatibility.toml` and the names of the tests: `make reference`.

A test holds a row if its name begins with the row's number: `test_s13_…`, or `test_s19_c9_…` for two.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "reference" / "compatibility.md"
LISTS = {"S": (35, "The registry"), "T": (7, "Tags and names"), "C": (18, "Clients")}
"""Letter of a list → how many rows it has, and what it is about."""

_NUMBERS = re.compile(r"test_((?:[stc]\d+_)+)")
_TITLE = """# Compatibility

What is known to have gone wrong with Anka's registry and its clients, and what holds here instead. {held} of {all} rows are
held by tests, which carry their number; {rest}.

Printed from the tests by `make reference`; a test keeps it true. All commands, settings, errors and routes:
[reference.md](../reference.md).
"""


@dataclass(frozen=True)
class Row:
    """A row of `compatibility.toml`. `aside` stands alone; of `here` and `later` there is one, or both."""

    there: str
    here: str = ""
    later: str = ""
    aside: str = ""


def rows() -> dict[str, Row]:
    """Every row by its number."""
    found = tomllib.loads((HERE / "compatibility.toml").read_text())
    return {number: Row(**row) for number, row in found.items()}


def numbers() -> list[str]:
    """Every number that there is, in order."""
    return [f"{letter}{n}" for letter, (count, _) in LISTS.items() for n in range(1, count + 1)]


def carriers(folder: Path = HERE) -> dict[str, list[tuple[str, str]]]:
    """Number → (file below `folder`, name) of each test that carries it."""
    found = defaultdict(list)
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match = _NUMBERS.match(node.name) if isinstance(node, ast.FunctionDef) else None
            for number in match[1].upper().split("_") if match else ():
                if number:
                    found[number].append((path.relative_to(folder).as_posix(), node.name))
    return dict(found)


def text(table: Mapping[str, Row], held: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    """The whole page, of the rows and of the tests that carry their numbers."""
    later = ", ".join(number for number, row in table.items() if row.later)
    aside = ", ".join(number for number, row in table.items() if row.aside)
    rest = [f"{later} wait, wholly or in part, for what is not there yet"] if later else []
    title = _TITLE.format(
        held=sum(bool(row.here) for row in table.values()),
        all=len(table),
        rest="; ".join([*rest, f"{aside} do not concern us"]),
    )
    return "\n".join([title, *_lists(table, held)])


def _lists(table: Mapping[str, Row], held: Mapping[str, Sequence[tuple[str, str]]]) -> Iterator[str]:
    for letter, (count, about) in LISTS.items():
        yield f"## {about} ({letter}1 to {letter}{count})\n"
        yield "| | there | here | tests |\n|---|---|---|---|"
        for number, row in table.items():
            if number.startswith(letter):
                yield f"| {number} | {row.there} | {_here(row)} | {'<br>'.join(_by_file(held.get(number, ())))} |"
        yield ""


def _here(row: Row) -> str:
    if row.aside:
        return f"Does not concern us. {row.aside}"
    return " ".join(
        filter(None, [row.here, row.later and f"{'The rest comes' if row.here else 'Comes'} with {row.later}."])
    )


def _by_file(held: Sequence[tuple[str, str]]) -> list[str]:
    """One link a file, and behind it the names of its tests."""
    files = defaultdict(list)
    for file, name in held:
        files[file].append(f"`{name}`")
    return [f"[{file}](../../tests/{file}) {', '.join(names)}" for file, names in files.items()]


if __name__ == "__main__":
    sys.stdout.write(text(rows(), carriers()))
