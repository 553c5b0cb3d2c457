"""What the maps and packs of a commit bear out: a node's word for it is never enough.

A map must hold the bytes its name says, and decode to the size and digest that are claimed. Each pack it names must be one
that the session uploaded, of the size that the store's own listing tells, or one that a base's record names. Each of its
frames must begin where the pack's seek table has one, and be as long, packed and unpacked. What the server cannot see is
whether a frame decodes to its chunk: nodes check that (docs/design.md §2).
"""

from __future__ import annotations

import array
import bisect
import hashlib
from dataclasses import dataclass
from logging import WARNING
from typing import TYPE_CHECKING, NamedTuple

from s3reg.errors import CommitInvalid, FormatUnknown, NameInvalid, ObjectNotFound, RecordDamaged
from s3reg.model import format as fmt
from s3reg.model import maps, names, packs
from s3reg.model.chunks import chunk_count, chunk_length
from s3reg.model.packs import TAIL_BYTES, PackRef
from s3reg.model.template import PackUse
from s3reg.registry.recent import Recent
from s3reg.registry.withheld import given
from s3reg.store.together import gather
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from s3reg.model.maps import FileMap, Run
    from s3reg.model.names import Digest, Domain
    from s3reg.model.template import File, MapRef, Session, Version
    from s3reg.registry.records import Records
    from s3reg.registry.values import ProposedFile

FIRST_TAIL_BYTES = 16 * 1024
"""Of a pack's end, read first: holds the seek table of 2,046 frames, four times as many as 64 MiB of usual chunks have."""
FRAMES_KEPT = 4_000_000
"""Of seek tables in memory; 12 bytes each."""
TABLE_COST = 80
"""What a table takes in memory besides, as so many frames: of a million packs of four each, it would be a gigabyte."""
CHUNK_SIZES_KEPT = 10_000


class Frames(NamedTuple):
    """The frames of a pack, in order."""

    offsets: array.array[int]
    compressed: array.array[int]
    raw: array.array[int]


@dataclass(frozen=True)
class Grounds:
    """What a session's commit may stand on: what it uploaded, and what its usable bases have."""

    session: Session
    own: dict[Digest, int]
    """Packs that the session uploaded, with the sizes that the store lists."""
    maps: dict[MapRef, File]
    packs: dict[PackRef, int]
    damaged: frozenset[PackRef]

    def check_packs(self, file: str, needed: Iterable[PackRef]) -> None:
        """Raise CommitInvalid unless each of these packs is the session's or a base's, has this size, and is sound."""
        for pack in needed:
            if pack.sid == self.session.id:
                size, whose = self.own.get(pack.sha256), "that was not uploaded"
            else:
                size, whose = self.packs.get(pack), "of no base of this push"
            if size is None:
                raise CommitInvalid(reason=f"{file!r} needs a pack {whose}")
            if size != pack.size:
                raise CommitInvalid(reason=f"{file!r} needs a pack of {pack.size} bytes, which has {size}")
            if pack in self.damaged:
                raise CommitInvalid(reason=f"{file!r} needs pack {pack.sha256}, which was found damaged")


class Evidence:
    """Maps and packs, as far as a commit needs to look into them. Safe to share between threads."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._frames: Recent[PackRef, Frames] = Recent(FRAMES_KEPT)
        self._chunk_sizes: Recent[MapRef, int] = Recent(CHUNK_SIZES_KEPT)

    def grounds(self, session: Session, bases: Iterable[Version], damaged: frozenset[PackRef]) -> Grounds:
        """What the session's commit may stand on. The sizes of its packs are those of the LIST, whatever a map says."""
        prefix, own = fmt.packs_prefix(session.domain, session.id), {}
        for stat in self._records.store.list(prefix):
            try:
                own[names.digest(stat.key.removeprefix(prefix))] = stat.size
            except NameInvalid:
                emit("foreign-key", level=WARNING, key=stat.key)
        files = [file for version in bases for file in version.files if file.map is not None]
        return Grounds(
            session,
            own,
            {file.map: file for file in files if file.map is not None},
            {use.pack: use.pack.size for file in files for use in file.packs},
            damaged,
        )

    def packs_of(self, file: ProposedFile, grounds: Grounds) -> tuple[PackUse, ...]:
        """The packs that a mapped file needs, each with the bytes that it uses. Raises CommitInvalid."""
        ref = file.map
        assert ref is not None
        if ref.sid == grounds.session.id:
            uses = self._packs_of_own(file, ref, grounds)
        else:
            known = grounds.maps.get(ref)
            if known is None:
                raise CommitInvalid(reason=f"{file.name!r} has a map of another push, which no base of this one has")
            if (known.size, known.digest) != (file.size, file.digest):
                raise CommitInvalid(reason=f"{file.name!r} is not the file that its map is of")
            uses = known.packs
        grounds.check_packs(file.name, (use.pack for use in uses))
        return uses

    def chunk_log2(self, version: Version) -> int | None:
        """The chunk size of a version's largest mapped file; None where every file lies inline.

        Raises RecordDamaged, also where the store has the map and does not give it; FormatUnknown.
        """
        largest = max((file for file in version.files if file.map), key=lambda file: file.size, default=None)
        if largest is None or largest.map is None:
            return None
        ref, size, digest = largest.map, largest.size, largest.digest

        def read() -> tuple[int, int]:
            key = fmt.map_key(version.domain, ref.sid, ref.sha256)
            data = given(self._records.store, key, lambda: self.map_bytes(version.domain, ref))
            return maps.decode(data, size=size, digest=digest).chunk_log2, 1

        return self._chunk_sizes.get(ref, read)

    def _packs_of_own(self, file: ProposedFile, ref: MapRef, grounds: Grounds) -> tuple[PackUse, ...]:
        domain = grounds.session.domain
        try:
            file_map = maps.decode(self.map_bytes(domain, ref), size=file.size, digest=file.digest)
            live = file_map.live_bytes()
            if not all(live.values()):
                raise CommitInvalid(reason=f"the map of {file.name!r} names a pack of which it uses nothing")
            # Before the packs are read: what is somebody else's must not be looked into.
            grounds.check_packs(file.name, live)
            frames = dict(zip(live, gather(lambda pack: self.frames_of(domain, pack), live), strict=True))
        except (RecordDamaged, FormatUnknown) as e:
            raise CommitInvalid(reason=f"{file.name!r}: {e}") from e
        check_frames(file.name, file_map, frames)
        return tuple(PackUse(pack, bytes_used) for pack, bytes_used in live.items())

    def map_bytes(self, domain: Domain, ref: MapRef) -> bytes:
        """A map's bytes. Raises RecordDamaged unless they are there and are what the map's name says."""
        if not 0 < ref.size <= maps.LARGEST_MAP:
            raise RecordDamaged(what=f"map {ref.sha256}", reason=f"no map has {ref.size} bytes")
        try:
            found = self._records.store.get(fmt.map_key(domain, ref.sid, ref.sha256), length=ref.size + 1)
        except ObjectNotFound as e:
            raise RecordDamaged(what=f"map {ref.sha256}", reason="it is missing") from e
        if len(found.data) != ref.size:
            raise RecordDamaged(what=f"map {ref.sha256}", reason=f"it has {found.stat.size} bytes, not {ref.size}")
        if hashlib.sha256(found.data).hexdigest() != ref.sha256:
            raise RecordDamaged(what=f"map {ref.sha256}", reason="its bytes are not those of its name")
        return found.data

    def frames_of(self, domain: Domain, pack: PackRef) -> Frames:
        """The frames that a pack's seek table tells. Raises RecordDamaged."""

        def read() -> tuple[Frames, int]:
            frames = self._read_frames(domain, pack)
            return frames, len(frames.offsets) + TABLE_COST

        return self._frames.get(pack, read)

    def _read_frames(self, domain: Domain, pack: PackRef) -> Frames:
        key, what = fmt.pack_key(domain, pack.sid, pack.sha256), f"pack {pack.sha256}"
        try:
            tail = self._records.store.get(key, first=-min(FIRST_TAIL_BYTES, pack.size)).data
            claimed = packs.claimed_table_bytes(tail)
            if len(tail) < claimed <= min(TAIL_BYTES, pack.size):
                tail = self._records.store.get(key, first=-claimed).data
        except ObjectNotFound as e:
            raise RecordDamaged(what=what, reason="it is missing") from e
        table = packs.read_seek_table(tail, pack.size)
        return Frames(array.array("I", table.offsets()), table.compressed, table.raw)


def check_frames(file: str, file_map: FileMap, frames: dict[PackRef, Frames]) -> None:
    """Raise CommitInvalid unless every run of the map lies on frames of its pack that are as long, packed and unpacked."""
    for _, reason in disagreements(file_map, frames):
        raise CommitInvalid(reason=f"the map of {file!r} {reason}")


def disagreements(file_map: FileMap, frames: dict[PackRef, Frames]) -> Iterator[tuple[PackRef, str]]:
    """What the map says of packs, of those in `frames`, that their seek tables do not bear out."""
    for position, index, run in file_map.data_runs():
        assert run.pack is not None
        pack = file_map.packs[run.pack]
        if pack not in frames:
            continue
        there = frames[pack]
        first = bisect.bisect_left(there.offsets, run.offset)
        end = first + run.chunks
        if first == len(there.offsets) or there.offsets[first] != run.offset:
            yield pack, "points between the frames of a pack"
        elif there.compressed[first:end] != file_map.lengths[index : index + run.chunks]:
            yield pack, "tells frames of another length than their pack has"
        elif not _fits(there.raw[first:end], file_map, position, run):
            yield pack, "takes frames for chunks that are as long as they are not"


def _fits(raw: array.array[int], file_map: FileMap, position: int, run: Run) -> bool:
    """Whether the frames hold chunks of the lengths that these positions of the file have."""
    last = chunk_count(file_map.size, file_map.chunk_log2) - 1
    full = run.chunks - (position + run.chunks - 1 == last)
    if raw[:full].count(1 << file_map.chunk_log2) != full:
        return False
    return full == run.chunks or raw[-1] == chunk_length(last, file_map.size, file_map.chunk_log2)
