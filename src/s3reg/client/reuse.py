"""What a push stores again and what it takes from its bases: pure decisions over columns of digests.

A file's column says for each of its chunks where it lies: in a hole, in a pack, or nowhere yet. Chunks of the bases'
maps are found by digest. Two rules keep later reads long, whatever the number of versions (docs/design.md, Dedupe):
a run of fewer than four reused chunks inside new data is stored again, and chunks of a pack of which less than a third
would be live in the new version count as absent.
"""

from __future__ import annotations

import array
import struct
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from s3reg.model import maps
from s3reg.model.chunks import DIGEST_BYTES, HOLE, FileTree, chunk_count

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from s3reg.model.maps import FileMap
    from s3reg.model.names import Digest
    from s3reg.model.packs import PackRef

SHORTEST_RUN = 4
"""Reused chunks in a row inside new data; fewer are stored again."""
LEAST_LIVE = 3
"""A pack less than one in so many of whose bytes would be live counts as absent."""

_DIGEST = struct.Struct(f"{DIGEST_BYTES}s")

NOWHERE = -1
IN_HOLE = -2


class Place(NamedTuple):
    """Where a chunk's frame lies: a row of the table of packs, an offset, a length."""

    pack: int
    offset: int
    length: int


class Column:
    """The chunks of one file, in order: their digests and where each lies."""

    def __init__(self, size: int, chunk_log2: int) -> None:
        count = chunk_count(size, chunk_log2)
        self.size = size
        self.chunk_log2 = chunk_log2
        self.count = count
        self.digests = bytearray(DIGEST_BYTES * count)
        """`HOLE` where the chunk is all zeros, or not known yet."""
        self.packs = array.array("i", [IN_HOLE]) * count
        """Row of the table of packs; NOWHERE: to be stored; IN_HOLE."""
        self.offsets = array.array("I", [0]) * count
        self.lengths = array.array("I", [0]) * count

    def digest_at(self, position: int) -> bytes:
        """The chunk's digest."""
        return bytes(self.digests[position * DIGEST_BYTES : (position + 1) * DIGEST_BYTES])

    def digest_list(self) -> list[bytes]:
        """All digests in order: many times faster than asking for one after the other."""
        return [digest for (digest,) in _DIGEST.iter_unpack(self.digests)]

    def set_digests(self, first: int, digests: bytes) -> None:
        """Note the digests of chunks from `first` on; those that are no holes lie nowhere yet."""
        self.digests[first * DIGEST_BYTES : first * DIGEST_BYTES + len(digests)] = digests
        for at in range(0, len(digests), DIGEST_BYTES):
            hole = digests[at : at + DIGEST_BYTES] == HOLE
            self.packs[first + at // DIGEST_BYTES] = IN_HOLE if hole else NOWHERE

    def put(self, position: int, place: Place) -> None:
        """Note where a chunk lies."""
        self.packs[position], self.offsets[position], self.lengths[position] = place

    def unplaced(self) -> list[int]:
        """Positions of the chunks that are to be stored."""
        return [position for position, pack in enumerate(self.packs) if pack == NOWHERE]

    def file_digest(self) -> Digest:
        """The file's digest."""
        tree = FileTree(self.size, self.chunk_log2)
        tree.add(memoryview(self.digests))
        return tree.digest()

    def file_map(self, table: list[PackRef]) -> FileMap:
        """The file's map, once every chunk lies somewhere."""
        return maps.make(self.size, self.chunk_log2, self._placed(table))

    def _placed(self, table: list[PackRef]) -> Iterator[tuple[bytes, PackRef, int, int] | None]:
        for position, pack in enumerate(self.packs):
            if pack == IN_HOLE:
                yield None
            else:
                yield self.digest_at(position), table[pack], self.offsets[position], self.lengths[position]


def column_of(file_map: FileMap) -> Column:
    """The column of a file whose map is known; where its chunks lie is left open."""
    column = Column(file_map.size, file_map.chunk_log2)
    view = memoryview(file_map.digests)
    for position, index, run in file_map.data_runs():
        column.set_digests(position, bytes(view[index * DIGEST_BYTES : (index + run.chunks) * DIGEST_BYTES]))
    return column


@dataclass(slots=True)
class Shelf:
    """The packs that a push knows, and what lies in them by digest."""

    table: list[PackRef | None] = field(default_factory=list)
    """None while the pack is in the making."""
    chunks: dict[bytes, Place] = field(default_factory=dict)
    rows: dict[PackRef, int] = field(default_factory=dict)
    own: set[int] = field(default_factory=set)
    """Rows of packs of this very push: the rules do not apply to them."""

    def row(self, pack: PackRef) -> int:
        """The pack's row in the table."""
        if pack not in self.rows:
            self.rows[pack] = len(self.table)
            self.table.append(pack)
        return self.rows[pack]

    def add_base(self, file_map: FileMap, damaged: Collection[tuple[str, str]] = ()) -> None:
        """Make the chunks of a base's file findable, except those in damaged packs: (session id, SHA-256) each."""
        rows = [None if (pack.sid, pack.sha256) in damaged else self.row(pack) for pack in file_map.packs]
        for _, index, run in file_map.data_runs():
            row, offset = rows[run.pack or 0], run.offset
            if row is None:
                continue
            stop = index + run.chunks
            digests = _DIGEST.iter_unpack(memoryview(file_map.digests)[index * DIGEST_BYTES : stop * DIGEST_BYTES])
            for (digest,), length in zip(digests, file_map.lengths[index:stop], strict=True):
                if digest not in self.chunks:
                    self.chunks[digest] = Place(row, offset, length)
                offset += length

    def complete(self) -> list[PackRef]:
        """The table, once every pack is uploaded."""
        assert all(pack is not None for pack in self.table)
        return [pack for pack in self.table if pack is not None]


def decide(columns: list[Column], shelf: Shelf, untouched: dict[PackRef, int] | None = None) -> None:
    """Place every chunk of `columns` that the shelf has and that the two rules let it take.

    `untouched`: packs that files reused whole need anyway, with the bytes that they use.
    """
    for column in columns:
        _find(column, shelf)
    sparse = _sparse_packs(columns, shelf, untouched or {})
    for column in columns:
        _drop_sparse(column, sparse)
        _drop_short_runs(column, shelf.own)


def _find(column: Column, shelf: Shelf) -> None:
    for position in column.unplaced():
        place = shelf.chunks.get(column.digest_at(position))
        if place is not None:
            column.put(position, place)


def _sparse_packs(columns: list[Column], shelf: Shelf, untouched: dict[PackRef, int]) -> set[int]:
    frames: dict[int, dict[int, int]] = defaultdict(dict)
    for column in columns:
        for pack, offset, length in zip(column.packs, column.offsets, column.lengths, strict=True):
            if pack >= 0:
                frames[pack][offset] = length
    sparse = set()
    for row, used in frames.items():
        ref = shelf.table[row]
        if row not in shelf.own and ref is not None:
            live = sum(used.values()) + untouched.get(ref, 0)
            if live * LEAST_LIVE < ref.size:
                sparse.add(row)
    return sparse


def _drop_sparse(column: Column, sparse: set[int]) -> None:
    if sparse:
        for position, pack in enumerate(column.packs):
            if pack in sparse:
                column.packs[position] = NOWHERE


def _drop_short_runs(column: Column, own: set[int]) -> None:
    """A short run between two stored chunks costs a read of its own at every pull; storing it again costs once."""
    start, run = 0, 0
    for position in range(column.count + 1):
        pack = column.packs[position] if position < column.count else IN_HOLE
        if pack >= 0 and pack not in own:
            start, run = (position, 1) if not run else (start, run + 1)
            continue
        inside = pack == NOWHERE and start > 0 and column.packs[start - 1] == NOWHERE
        if 0 < run < SHORTEST_RUN and inside:
            column.packs[start:position] = array.array("i", [NOWHERE]) * run
        run = 0
