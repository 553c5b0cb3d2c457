"""A map: the ordered list of a file's chunks and where each lies. Binary, little-endian, inside one zstd frame.

    header      magic, version, flags, log2 chunk size, codec, encryption, file size, counts, file digest
    packs       session id (16 bytes), SHA-256 (32), size (4) each
    runs        count (4), pack (4; 0xFFFFFFFF: a hole), offset of the first frame (4) each
    lengths     4 bytes a data chunk: its frame's length
    digests     32 bytes a data chunk: the SHA-256 of its raw bytes

A run of data is chunks at consecutive positions of the file whose frames lie one behind the other in one pack. Reading is
bounded before anything is allocated: what the counts claim is compared with the file's size, and the frame is never
unpacked further than its header says. See docs/design.md for the layout of each field.
"""

from __future__ import annotations

import array
import struct
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import zstandard

from s3reg.errors import FormatUnknown, RecordDamaged
from s3reg.model.chunks import (
    DIGEST_BYTES,
    LARGEST_CHUNK_LOG2,
    SMALLEST_CHUNK_LOG2,
    FileTree,
    chunk_count,
    zero_digest,
)
from s3reg.model.names import Digest, SessionId
from s3reg.model.packs import FRAME_SLACK, LARGEST_PACK, PackRef, little_endian

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAGIC = b"S3REGMAP"
VERSION = 1
CODEC_ZSTD = 1
"""Every chunk is one independent zstd frame."""
LARGEST_MAP = 256 * 1024**2
"""Bytes of a map as it lies on the store."""
LARGEST_FILE = 1 << 44
"""16 TiB."""
MOST_DATA_CHUNKS = 1 << 22
"""1 TiB of data at 256 KiB; holes do not count."""

_HEADER = struct.Struct("<8sHHBBBxQQIII32s")
_PACK = struct.Struct("<16s32sI")
_RUN = struct.Struct("<III")
_HOLE = 0xFFFFFFFF
_WINDOW = 1 << 23
_LEVEL = 3
_PIECE = 256
"""Packed bytes unpacked at a time: even of nothing but runs of zeros they make only 8 MiB."""


class Run(NamedTuple):
    """Chunks at consecutive positions: a hole, or frames one behind the other in one pack."""

    chunks: int
    """At least 1."""
    pack: int | None
    """Index into the map's packs; None for a hole."""
    offset: int
    """Where in the pack the first frame begins, in bytes."""


class PlacedChunk(NamedTuple):
    """One data chunk of a file and where its frame lies."""

    position: int
    digest: bytes
    pack: PackRef
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class FileMap:
    """Where every chunk of one file lies."""

    size: int
    """Of the file, in bytes."""
    chunk_log2: int
    packs: tuple[PackRef, ...]
    runs: tuple[Run, ...]
    lengths: array.array[int]
    """Of the data chunks' frames, in order."""
    digests: bytes
    """Of the data chunks, 32 bytes each, in order."""

    def digest(self) -> Digest:
        """The file's digest, computed from the digest column and the holes."""
        tree, at = FileTree(self.size, self.chunk_log2), 0
        view = memoryview(self.digests)
        for run in self.runs:
            if run.pack is None:
                tree.add_holes(run.chunks)
            else:
                tree.add(view[at : at + run.chunks * DIGEST_BYTES])
                at += run.chunks * DIGEST_BYTES
        return tree.digest()

    def chunks(self) -> Iterator[PlacedChunk]:
        """The data chunks in order of position."""
        position = index = 0
        for run in self.runs:
            if run.pack is None:
                position += run.chunks
                continue
            pack, offset = self.packs[run.pack], run.offset
            for length in self.lengths[index : index + run.chunks]:
                digest = self.digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]
                yield PlacedChunk(position, digest, pack, offset, length)
                offset += length
                position += 1
                index += 1

    def data_runs(self) -> Iterator[tuple[int, int, Run]]:
        """Each run of data as (position of its first chunk, index of its first chunk among the data, run)."""
        position = index = 0
        for run in self.runs:
            if run.pack is not None:
                yield position, index, run
                index += run.chunks
            position += run.chunks

    def live_bytes(self) -> dict[PackRef, int]:
        """For each pack, the bytes of frames that this file uses, each frame once."""
        used: dict[PackRef, dict[int, int]] = {pack: {} for pack in self.packs}
        for _, index, run in self.data_runs():
            lengths = self.lengths[index : index + run.chunks]
            offsets = accumulate(lengths, initial=run.offset)
            used[self.packs[run.pack or 0]].update(zip(offsets, lengths, strict=False))
        return {pack: sum(frames.values()) for pack, frames in used.items()}


def make(size: int, chunk_log2: int, placed: Iterable[tuple[bytes, PackRef, int, int] | None]) -> FileMap:
    """A map from a file's chunks in order: (digest, pack, offset, length), or None for a hole.

    Neighbours that lie one behind the other in one pack become one run.
    """
    packs: dict[PackRef, int] = {}
    runs: list[Run] = []
    lengths, digests = array.array("I"), bytearray()
    count, pack, start, end = 0, None, 0, 0
    for chunk in placed:
        if chunk is None:
            here, offset, length = None, 0, 0
        else:
            digest, ref, offset, length = chunk
            here = packs.setdefault(ref, len(packs))
            lengths.append(length)
            digests += digest
        if count and here == pack and (here is None or offset == end):
            count += 1
        else:
            if count:
                runs.append(Run(count, pack, start))
            count, pack, start = 1, here, offset
        end = offset + length
    if count:
        runs.append(Run(count, pack, start))
    return FileMap(size, chunk_log2, tuple(packs), tuple(runs), lengths, bytes(digests))


def encode(file_map: FileMap) -> bytes:
    """The map as it lies on the store. The same map gives the same bytes with one release of zstd, no further."""
    header = _HEADER.pack(
        MAGIC,
        VERSION,
        0,
        file_map.chunk_log2,
        CODEC_ZSTD,
        0,
        file_map.size,
        sum(run.chunks for run in file_map.runs),
        len(file_map.lengths),
        len(file_map.packs),
        len(file_map.runs),
        bytes.fromhex(file_map.digest()),
    )
    packs = b"".join(_PACK.pack(bytes.fromhex(p.sid), bytes.fromhex(p.sha256), p.size) for p in file_map.packs)
    runs = b"".join(_RUN.pack(r.chunks, _HOLE if r.pack is None else r.pack, r.offset) for r in file_map.runs)
    raw = b"".join((header, packs, runs, little_endian(file_map.lengths).tobytes(), file_map.digests))
    return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(raw)


def decode(data: bytes, *, size: int, digest: Digest | None = None) -> FileMap:
    """The map of a file of `size` bytes (and of file digest `digest`, if given) from its bytes on the store.

    Raises RecordDamaged when anything about it does not hold, FormatUnknown for a version, codec, flag or encryption that
    this release does not know. Memory is bounded by the file's size, not by what `data` claims.
    """
    try:
        return _read(_Frame(data), size, digest)
    except zstandard.ZstdError as e:
        raise _damaged(f"it is not one zstd frame of a map ({e})") from e


class _Frame:
    """The one zstd frame that a map is, unpacked as far as it is read and no further."""

    def __init__(self, data: bytes) -> None:
        self._packed = memoryview(data)
        self._at = 0
        # Not a stream_reader: that one passes over what follows the frame, and a frame without its end.
        self._unpacking: Any = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
        self._raw = bytearray()

    def read(self, count: int) -> bytes:
        """The next `count` bytes. What is held beyond them is bounded, whatever the frame unpacks to."""
        while len(self._raw) < count:
            if self._unpacking.eof or self._at >= len(self._packed):
                raise _damaged("it ends too early")
            self._raw += self._unpacking.decompress(self._packed[self._at : self._at + _PIECE])
            self._at += _PIECE
        found = bytes(memoryview(self._raw)[:count])
        del self._raw[:count]
        return found

    def end(self) -> None:
        """Raise unless all was read and the frame, its checksum included, ends with the data."""
        while self._at < len(self._packed) and not self._raw and not self._unpacking.eof:
            self._raw += self._unpacking.decompress(self._packed[self._at : self._at + _PIECE])
            self._at += _PIECE
        if self._raw:
            raise _damaged("there is more behind its last column")
        if not self._unpacking.eof or self._unpacking.unused_data or self._at < len(self._packed):
            raise _damaged("it is not one whole zstd frame")


class _Header(NamedTuple):
    magic: bytes
    version: int
    flags: int
    chunk_log2: int
    codec: int
    encryption: int
    size: int
    positions: int
    data: int
    packs: int
    runs: int
    digest: bytes


def _read(frame: _Frame, size: int, digest: Digest | None) -> FileMap:
    head = _Header._make(_HEADER.unpack(frame.read(_HEADER.size)))
    _check_header(head, size)
    packs = tuple(
        PackRef(SessionId(sid.hex()), Digest(sha.hex()), length)
        for sid, sha, length in _PACK.iter_unpack(frame.read(head.packs * _PACK.size))
    )
    runs = tuple(
        Run(count, None if pack == _HOLE else pack, offset)
        for count, pack, offset in _RUN.iter_unpack(frame.read(head.runs * _RUN.size))
    )
    lengths = array.array("I")
    lengths.frombytes(frame.read(head.data * lengths.itemsize))
    digests = frame.read(head.data * DIGEST_BYTES)
    frame.end()
    found = FileMap(head.size, head.chunk_log2, packs, runs, little_endian(lengths), digests)
    _check_body(found, head)
    if found.digest() != head.digest.hex() or (digest is not None and found.digest() != digest):
        raise _damaged("its digest column does not give the file's digest")
    return found


def _check_header(head: _Header, size: int) -> None:
    if head.magic != MAGIC:
        raise _damaged("it does not begin like a map")
    known = (head.version, head.flags, head.codec, head.encryption)
    if known != (VERSION, 0, CODEC_ZSTD, 0):
        raise FormatUnknown(what="a map", feature="version {}, flags {}, codec {}, encryption {}".format(*known))
    if not SMALLEST_CHUNK_LOG2 <= head.chunk_log2 <= LARGEST_CHUNK_LOG2:
        raise _damaged(f"its chunk size is 2^{head.chunk_log2}")
    if head.size != size or size > LARGEST_FILE:
        raise _damaged(f"it is for a file of {head.size} bytes, not {size}")
    if head.positions != chunk_count(size, head.chunk_log2):
        raise _damaged("its number of chunks does not fit the file's size")
    if head.data > min(head.positions, MOST_DATA_CHUNKS) or head.packs > head.data or head.runs > 2 * head.data + 1:
        # Every second run could be a hole; holes beside each other are one, so a file of holes cannot have many runs.
        raise _damaged("its counts do not fit each other")


def _check_body(found: FileMap, head: _Header) -> None:
    if sum(run.chunks for run in found.runs) != head.positions or any(run.chunks < 1 for run in found.runs):
        raise _damaged("its runs do not cover the file")
    if sum(run.chunks for run in found.runs if run.pack is not None) != head.data:
        raise _damaged("its runs and its columns disagree")
    longest = (1 << found.chunk_log2) + FRAME_SLACK
    if found.lengths and not (min(found.lengths) > 0 and max(found.lengths) <= longest):
        raise _damaged("a frame is longer than its chunk could be")
    if any(not 0 < pack.size <= LARGEST_PACK for pack in found.packs) or len(set(found.packs)) != len(found.packs):
        raise _damaged("its pack table is not one")
    for _, index, run in found.data_runs():
        if run.pack is None or run.pack >= len(found.packs):
            raise _damaged("a run names a pack that is not in its table")
        if run.offset + sum(found.lengths[index : index + run.chunks]) > found.packs[run.pack].size:
            raise _damaged("a run reaches beyond its pack")
    _check_canonical(found, head.positions)


def _check_canonical(found: FileMap, positions: int) -> None:
    """A chunk of zeros is a hole, always: else one file would have two digests."""
    full = zero_digest(1 << found.chunk_log2)
    at = found.digests.find(full)
    while at >= 0:
        if at % DIGEST_BYTES == 0:
            raise _damaged("a chunk of zeros is not a hole")
        at = found.digests.find(full, at + 1)
    rest = found.size & ((1 << found.chunk_log2) - 1)
    ends_in_data = positions > 0 and found.runs[-1].pack is not None
    if rest and ends_in_data and found.digests[-DIGEST_BYTES:] == zero_digest(rest):
        raise _damaged("a chunk of zeros is not a hole")


def _damaged(reason: str) -> RecordDamaged:
    return RecordDamaged(what="a map", reason=reason)
