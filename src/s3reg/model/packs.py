"""A pack: compressed chunks in a row, as a valid seekable zstd file.

    [zstd frame of chunk 0][zstd frame of chunk 1]…[skippable frame: the seek table]

Each frame is independent, carries its content size and no checksum (the chunk's SHA-256 stands in the map). The seek table
is the one of zstd's `contrib/seekable_format`, so that any reader of that format, and `zstd -d` itself, gives the chunks
back with no tool of ours.
"""

from __future__ import annotations

import array
import struct
import sys
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from s3reg.errors import RecordDamaged
from s3reg.model.chunks import LARGEST_CHUNK_LOG2

if TYPE_CHECKING:
    from s3reg.model.names import Digest, SessionId

LARGEST_PACK = 64 * 1024**2
"""Bytes of a pack, seek table included."""
MOST_FRAMES = 65_536
"""Frames of a pack; 64 MiB of 64 KiB chunks at 16:1."""
LARGEST_CHUNK = 1 << LARGEST_CHUNK_LOG2
FRAME_SLACK = 1024
"""A frame may exceed its chunk by this: zstd stores what it cannot compress in raw blocks with a few bytes of header."""

SKIPPABLE_MAGIC = 0x184D2A5E
SEEKABLE_MAGIC = 0x8F92EAB1
_HEAD = struct.Struct("<II")
_FOOT = struct.Struct("<IBI")
_ENTRY_BYTES = 8
TAIL_BYTES = _HEAD.size + MOST_FRAMES * _ENTRY_BYTES + _FOOT.size
"""A range of this many bytes from a pack's end holds its whole seek table, whatever the number of frames."""


@dataclass(frozen=True, slots=True, order=True)
class PackRef:
    """A pack by name: the session that made it and the SHA-256 of its bytes."""

    sid: SessionId
    sha256: Digest
    size: int = field(compare=False)
    """In bytes."""


@dataclass(frozen=True, slots=True)
class SeekTable:
    """Where the frames of a pack lie and how long they are, in order."""

    compressed: array.array[int]
    """Bytes of each frame."""
    raw: array.array[int]
    """Bytes of each chunk."""

    def offsets(self) -> list[int]:
        """The offset of each frame in the pack."""
        return [0, *accumulate(self.compressed)][:-1] if self.compressed else []


def seek_table(compressed: array.array[int], raw: array.array[int]) -> bytes:
    """The skippable frame that ends a pack of these frames."""
    entries = array.array("I", [value for pair in zip(compressed, raw, strict=True) for value in pair])
    body = little_endian(entries).tobytes() + _FOOT.pack(len(compressed), 0, SEEKABLE_MAGIC)
    return _HEAD.pack(SKIPPABLE_MAGIC, len(body)) + body


def seek_table_bytes(frames: int) -> int:
    """Bytes that the seek table of so many frames takes."""
    return _HEAD.size + frames * _ENTRY_BYTES + _FOOT.size


def claimed_table_bytes(tail: bytes) -> int:
    """How long the seek table is whose last bytes end `tail`, as far as they can be believed: at most TAIL_BYTES."""
    if len(tail) < _FOOT.size:
        return 0
    frames, _, _ = _FOOT.unpack(tail[-_FOOT.size :])
    return seek_table_bytes(min(frames, MOST_FRAMES))


def read_seek_table(tail: bytes, pack_size: int) -> SeekTable:
    """The seek table at the end of a pack of `pack_size` bytes, of which `tail` is the end.

    Raises RecordDamaged when there is none, when it is larger than `tail`, or when its frames do not fill the pack exactly.
    """
    if len(tail) < _HEAD.size + _FOOT.size:
        raise RecordDamaged(what="a pack", reason="it is too short to hold a seek table")
    frames, flags, magic = _FOOT.unpack(tail[-_FOOT.size :])
    if magic != SEEKABLE_MAGIC or flags != 0 or not 0 < frames <= MOST_FRAMES:
        raise RecordDamaged(what="a pack", reason="it does not end in a seek table that we write")
    table = seek_table_bytes(frames)
    if len(tail) < table:
        raise RecordDamaged(what="a pack", reason="its seek table is longer than the pack")
    head = _HEAD.unpack_from(tail, len(tail) - table)
    if head != (SKIPPABLE_MAGIC, table - _HEAD.size):
        raise RecordDamaged(what="a pack", reason="its seek table has a wrong header")
    entries = array.array("I")
    entries.frombytes(tail[len(tail) - table + _HEAD.size : -_FOOT.size])
    entries = little_endian(entries)
    compressed, raw = entries[0::2], entries[1::2]
    if sum(compressed) + table != pack_size or min(compressed) == 0:
        raise RecordDamaged(what="a pack", reason="its frames do not fill it")
    if not 0 < min(raw) <= max(raw) <= LARGEST_CHUNK:
        raise RecordDamaged(what="a pack", reason="a frame holds no chunk")
    return SeekTable(compressed, raw)


def little_endian(values: array.array[int]) -> array.array[int]:
    """`values` in little-endian order, whatever this machine's; its own inverse."""
    if sys.byteorder == "little":
        return values
    swapped = array.array(values.typecode, values)
    swapped.byteswap()
    return swapped
