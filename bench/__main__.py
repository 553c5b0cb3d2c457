"""`make bench`: every row, or those that are named.

make bench                         all rows, on a disk with 8 GB of data, three rounds each
make bench GB=2 ROUNDS=1           a quick look
make bench ROWS="push pull"        some rows
make bench ROWS=list TEMPLATES=1000
                                   lists, of fewer templates
make bench OUT=table.md            the table into a file too
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench import calls, delta, full, kept, kills, lines, listing, logins, measure, nightlies, sweeps
from bench.corpus import DEFAULT_CACHE, GB, MIB, Facts, say
from bench.lab import Asked, lab
from bench.table import Row, markdown

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.lab import Lab


def _nightlies(lab: Lab) -> list[Row]:
    """Two hundred generated nightly versions of a disk."""
    return nightlies.rows(work=lab.folder)


def _kept(lab: Lab) -> list[Row]:
    """The same, of which the newest ten are kept and the others swept."""
    return kept.rows(work=lab.folder)


ROWS: dict[str, Callable[[Lab], list[Row]]] = {
    "push": full.push,
    "pull": full.pull,
    "delta-push": delta.push,
    "delta-pull": delta.pull,
    "unchanged": full.unchanged,
    "plan": calls.plan,
    "api": calls.shares,
    "list": listing.rows,
    "login": logins.rows,
    "nightlies": _nightlies,
    "kept": _kept,
    "kills": kills.rows,
    "sweep": sweeps.rows,
    "line-1g": lines.fast,
    "line-100m": lines.slow,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; default: all")
    parser.add_argument("--gb", type=float, default=8, help="of data on the disk")
    parser.add_argument("--rounds", type=int, default=3, help="of those that take turns")
    parser.add_argument("--templates", type=int, default=10_000, help="in the registry that is listed")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="where disks are kept between runs")
    parser.add_argument("--work", type=Path, help="where servers and libraries lie meanwhile; default: the cache")
    parser.add_argument("--tree", action="append", default=[], help="take the disk's files from here; repeatable")
    told = "before every timed run: cold, sync and empty the page cache (root); warm, sync; no, neither"
    parser.add_argument("--settle", choices=("cold", "warm", "no"), default="cold", help=told)
    parser.add_argument("--out", type=Path, help="write the table here too")
    asked = parser.parse_args()
    if unknown := set(asked.rows) - set(ROWS):
        parser.error(f"no rows {', '.join(sorted(unknown))}; there are {', '.join(ROWS)}")
    # A polite end too takes servers, name spaces and folders with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    want = Asked(
        asked.gb, asked.rounds, asked.cache.absolute(), asked.work, tuple(asked.tree), asked.settle, asked.templates
    )
    try:
        text = measured(want, asked.rows or list(ROWS))
    except KeyboardInterrupt:
        sys.exit("bench: stopped; servers and folders are gone")
    print(f"\n{text}")
    if asked.out:
        asked.out.write_text(text)


def measured(asked: Asked, names: list[str]) -> str:
    """The rows of these names, as Markdown."""
    rows: list[Row] = []
    with lab(asked) as at:
        for name in names:
            say(f"row {name}: {(ROWS[name].__doc__ or '').splitlines()[0]}")
            rows += (found := ROWS[name](at))
            for row in found:
                say(f"  = {row.name}: {row.measured} {row.ratio}")
    about = [f"{os.cpu_count()} cores, {platform.system()} {platform.release().split('-')[0]}"]
    about += [_disk(one.facts) for one in at.used.values()]
    about += [f"{asked.rounds} rounds", measure.treatment(asked.settled)]
    return f"{markdown(rows)}\n{'; '.join(about)}.\n"


def _disk(facts: Facts) -> str:
    return (
        f"a disk of {facts.size / GB:.1f} GB with {facts.data / GB:.1f} GB of data, whose update changes "
        f"{facts.changed_bytes / MIB:.0f} MiB of 4 KiB blocks, {facts.zeroed * 4096 / MIB:.0f} MiB of them to zeros"
    )


if __name__ == "__main__":
    main()
