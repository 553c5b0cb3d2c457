"""Where each chunk of a file that is pulled comes from: what is staged, a clone, other files of this machine, or the line.

Pure decisions over columns of digests. A pull acts on them (client/fill.py); a dry run counts them (client/estimate.py).
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3reg.model.chunks import HOLE, chunk_length

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from s3reg.client.ledger import Print
    from s3reg.client.reuse import Column


@dataclass(frozen=True, slots=True)
class Held:
    """A local file that is as it was recorded, and the digests of its chunks."""

    path: Path
    column: Column
    seen: Print | None = None
    """How the file looks while the record holds. Without it nothing is cloned: nobody could tell that it changed since."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the data of one file comes from; holes come from nowhere."""

    base: Held | None
    """What is cloned; None: nothing is."""
    there: set[int]
    """Positions that need no writing: staged by an earlier try, or shared with the base."""
    copies: dict[int, tuple[Held, int]]
    """Positions that are copied: from which file, and from which of its positions."""
    missing: list[int]
    """Positions to fetch, in order."""

    def to_write(self, column: Column) -> int:
        """Bytes that take up room: neither staged nor shared."""
        return data_bytes(column, self.copies) + data_bytes(column, self.missing)


def choose(column: Column, held: list[Held], staged: set[int] | None, cloned: Callable[[Held], bool]) -> Sources:
    """The sources of the file of this column.

    `staged`: what an earlier try left; None if there is nothing. Then `cloned` tells whether a base can be had, or makes it.
    """
    base, there = None, staged
    if there is None:
        base, same = _best(column, held)
        there = set()
        if base is not None:
            base, there = (base, same) if cloned(base) else (None, there)
    lacking = [at for at, digest in enumerate(column.digest_list()) if digest != HOLE and at not in there]
    copies = _index(column, lacking, held)
    return Sources(base, there, copies, [at for at in lacking if at not in copies])


def claims(column: Column, pairs: Iterable[tuple[int, int]]) -> set[int]:
    """The data positions that a journal's (first, count) pairs name."""
    digests = column.digest_list()
    noted = {at for first, count in pairs for at in range(first, min(first + count, column.count))}
    return {at for at in noted if digests[at] != HOLE}


def data_bytes(column: Column, positions: Iterable[int]) -> int:
    """Bytes of the chunks at these positions."""
    return sum(chunk_length(at, column.size, column.chunk_log2) for at in positions)


def _best(column: Column, held: list[Held]) -> tuple[Held | None, set[int]]:
    """The held file that has most of the column's data at the same places, and these."""
    # A hole is nothing that a base could have: None equals no digest.
    wanted = [None if digest == HOLE else digest for digest in column.digest_list()]
    counts = [
        sum(map(operator.eq, wanted, one.column.digest_list())) if one.column.chunk_log2 == column.chunk_log2 else 0
        for one in held
    ]
    if not any(counts):
        return None, set()
    best = held[counts.index(max(counts))]
    pairs = zip(wanted, best.column.digest_list(), strict=False)
    return best, {at for at, (mine, theirs) in enumerate(pairs) if mine == theirs}


def _index(column: Column, lacking: Iterable[int], held: list[Held]) -> dict[int, tuple[Held, int]]:
    """For each lacking position that some held file has: which, and where."""
    digests = column.digest_list()
    needed: dict[bytes, list[int]] = {}
    for position in lacking:
        needed.setdefault(digests[position], []).append(position)
    found: dict[int, tuple[Held, int]] = {}
    for one in held:
        if not needed:
            break
        if one.column.chunk_log2 != column.chunk_log2:
            continue
        for at, digest in enumerate(one.column.digest_list()):
            if digest in needed:
                found.update(dict.fromkeys(needed.pop(digest), (one, at)))
    return found
