"""Packs looked into: the checksum that the store keeps, and their bytes.

A pack that looks bad, by its size, its seek table or its checksum, is read whole before that is told: what condemns it are
its bytes, twice the same.

Reading goes in rounds. The maps of a round's packs tell what chunk each frame has to give; only so many chunks are held at
one time, whatever the store has, and only a few packs.
"""

from __future__ import annotations

import hashlib
import struct
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from s3reg.errors import FormatUnknown, ObjectNotFound, RecordDamaged
from s3reg.model import format as fmt
from s3reg.model import frames, maps, packs
from s3reg.model.chunks import DIGEST_BYTES, chunk_length
from s3reg.registry import damage, walk
from s3reg.registry.damage import MISSING, NOTED, OTHER_FRAMES, BadPack
from s3reg.registry.inventory import mark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from s3reg.model.maps import FileMap
    from s3reg.model.names import Digest, SessionId
    from s3reg.registry.damage import Checked
    from s3reg.registry.evidence import Evidence
    from s3reg.registry.inventory import Inventory
    from s3reg.registry.records import Records
    from s3reg.store import Stat

READERS = 4
"""Packs that are read at once: each may take 64 MiB of memory."""
ROUND_BYTES = 32 * 1024**3
"""Of packs, whose chunks' digests are held at one time: half a million of them, where they are packed 4:1."""
_CHUNK = struct.Struct(f">III{DIGEST_BYTES}s")
"""Where its frame begins, how long that is, how long the chunk is, and its digest: in the order of the pack."""


class Scrub:
    """The packs that somebody needs, as `inventory` knows. What is wrong with any goes into `bad`, by its key."""

    def __init__(
        self,
        records: Records,
        evidence: Evidence,
        inventory: Inventory,
        noted: set[tuple[SessionId, Digest]],
        done: Checked,
        *,
        bad: dict[str, BadPack],
        told: Callable[[Checked], None],
    ) -> None:
        self.sound_again: set[tuple[SessionId, Digest]] = set()
        """Of those noted as bad before this check, those that were read, and are sound."""
        self._noted = noted
        self._records = records
        self._evidence = evidence
        self._inventory = inventory
        self._done = done
        self._bad = bad
        self._told = told
        self._most = 0.0
        """What is drawn below this is read."""
        self._settled: set[str] = set()
        """Those that were read."""
        self._unsure: set[str] = set()
        """Packs of which not every chunk is known, for want of a map."""

    def look(self) -> None:
        """Compare the checksums that the store keeps with the packs' names."""

        def look(stat: Stat) -> tuple[str, str | None]:
            try:
                return stat.key, self._records.store.stat(stat.key).sha256
            except ObjectNotFound:
                return stat.key, MISSING

        for key, sha256 in walk.side_by_side(look, self._needed()):
            self._done.looked += 1
            if sha256 is None:
                self._done.unsummed += 1
            elif sha256 == MISSING:
                self._bad.setdefault(key, BadPack(MISSING))
            elif sha256 != fmt.pack_of_key(key)[1]:
                self._bad.setdefault(key, BadPack("the store's own checksum of it is not that of its name"))
            self._told(self._done)

    def read(self, percent: float) -> None:
        """Read so many percent of the packs, one at least, and those noted as bad; see that every chunk decodes."""
        first = min((self._drawn(stat) for stat in self._needed()), default=0)
        self._most = max(first + 1, percent * 100)
        self._done.to_read = sum(stat.size for stat in self._chosen())
        for some in _rounds((stat.key, stat.size) for stat in self._chosen()):
            self._round(some)

    def confirm(self) -> None:
        """Read the packs that look bad, but for those that were read already. Those that are sound are bad no more.

        One that was noted before stays bad: only `read` is asked to clear it.
        """
        suspects = sorted(self._bad.keys() - self._settled)
        for some in _rounds(row for row in walk.side_by_side(self._now, suspects) if row is not None):
            for key, bad in self._looked_at(some):
                if bad is None:
                    del self._bad[key]
                else:
                    self._bad[key] = BadPack(self._bad[key].reason, bad.frames)
        if left := self._noted - self.sound_again:
            for stat in self._needed():
                if fmt.pack_of_key(stat.key) in left:
                    self._bad.setdefault(stat.key, BadPack(NOTED))

    def _now(self, key: str) -> tuple[str, int] | None:
        """A pack that looks bad and its size, as it is now; None: it is missing."""
        try:
            return key, self._records.store.stat(key).size
        except ObjectNotFound:
            self._bad[key] = BadPack(MISSING)
            return None

    def _needed(self) -> Iterator[Stat]:
        return (stat for stat in self._records.store.list(fmt.PACKS) if self._inventory.needs(stat.key))

    def _drawn(self, stat: Stat) -> int:
        """The same for a pack and a seed, from 0 to 9,999."""
        return hash((self._done.seed, mark(stat.key))) % 10_000

    def _chosen(self) -> Iterator[Stat]:
        for stat in self._needed():
            if self._drawn(stat) < self._most or fmt.pack_of_key(stat.key) in self._noted:
                yield stat

    def _round(self, some: dict[str, int]) -> None:
        for key, bad in self._looked_at(some):
            self._done.read.add(some[key])
            if bad is None or bad.frames is not None:
                # What the store did not give is asked for once more, at the end: it may have had too much to do.
                self._settled.add(key)
            if bad is not None:
                self._bad[key] = bad
            else:
                self._bad.pop(key, None)
                if fmt.pack_of_key(key) in self._noted and key not in self._unsure:
                    self.sound_again.add(fmt.pack_of_key(key))
            self._told(self._done)

    def _looked_at(self, some: dict[str, int]) -> Iterator[tuple[str, BadPack | None]]:
        """What is wrong with each of these packs, read whole."""
        chunks = self._chunks(some)
        with ThreadPoolExecutor(READERS) as pool:
            yield from zip(some, pool.map(lambda key: self._looked_into(key, sorted(chunks[key])), some), strict=True)

    def _chunks(self, some: dict[str, int]) -> dict[str, set[bytes]]:
        """For each of these packs, the chunks that maps take from it."""
        chunks: dict[str, set[bytes]] = defaultdict(set)
        seen: set[int] = set()

        def take(named: walk.Named) -> None:
            version = walk.version(self._records, named)
            for file in version.files if version is not None else ():
                if file.map is None or version is None:
                    continue
                keys = {use.pack: fmt.pack_key(version.domain, use.pack.sid, use.pack.sha256) for use in file.packs}
                here = mark(fmt.map_key(version.domain, file.map.sid, file.map.sha256))
                if here in seen or some.keys().isdisjoint(keys.values()):
                    continue
                seen.add(here)
                try:
                    data = self._evidence.map_bytes(version.domain, file.map)
                    file_map = maps.decode(data, size=file.size, digest=file.digest)
                except (RecordDamaged, FormatUnknown):
                    self._unsure.update(keys.values())
                    continue
                wanted = [keys.get(pack) for pack in file_map.packs]
                for pack, row in _rows(file_map):
                    key = wanted[pack]
                    if key in some and key is not None:
                        chunks[key].add(row)

        for _ in walk.side_by_side(take, walk.versions(self._records)):
            pass
        return chunks

    def _looked_into(self, key: str, chunks: list[bytes]) -> BadPack | None:
        """What is wrong with a pack: twice the same, since a line may garble what it carries."""
        return self._flaw(key, chunks) and self._flaw(key, chunks)

    def _flaw(self, key: str, chunks: list[bytes]) -> BadPack | None:
        try:
            data = memoryview(self._records.store.get(key).data)
        except ObjectNotFound:
            return BadPack(MISSING)
        except RecordDamaged as e:
            return BadPack(damage.reason(e))
        reasons = []
        if hashlib.sha256(data).hexdigest() != fmt.pack_of_key(key)[1]:
            reasons.append("its bytes are not those of its name")
        try:
            table = packs.read_seek_table(bytes(data[-packs.TAIL_BYTES :]), len(data))
        except RecordDamaged as e:
            reasons.append(damage.reason(e))
        else:
            there = set(zip(table.offsets(), table.compressed, table.raw, strict=True))
            if any(_CHUNK.unpack(chunk)[:3] not in there for chunk in chunks):
                reasons.append(OTHER_FRAMES)
        lost: set[tuple[int, bytes]] = set()
        for chunk in chunks:
            offset, length, raw, digest = _CHUNK.unpack(chunk)
            if flaw := frames.flaw(data[offset : offset + length], raw, digest):
                reasons += [] if lost else [flaw]
                lost.add((offset, digest))
        return BadPack("; ".join(reasons), frozenset(lost)) if reasons else None


def _rounds(rows: Iterable[tuple[str, int]]) -> Iterator[dict[str, int]]:
    """Packs and their sizes, so many at a time as may be read together."""
    some: dict[str, int] = {}
    held = 0
    for key, size in rows:
        some[key] = size
        held += size
        if held >= ROUND_BYTES:
            yield some
            some, held = {}, 0
    if some:
        yield some


def _rows(file_map: FileMap) -> Iterator[tuple[int, bytes]]:
    for position, index, run in file_map.data_runs():
        offset = run.offset
        assert run.pack is not None
        for at in range(run.chunks):
            length = file_map.lengths[index + at]
            raw = chunk_length(position + at, file_map.size, file_map.chunk_log2)
            digest = file_map.digests[(index + at) * DIGEST_BYTES : (index + at + 1) * DIGEST_BYTES]
            yield run.pack, _CHUNK.pack(offset, length, raw, digest)
            offset += length
