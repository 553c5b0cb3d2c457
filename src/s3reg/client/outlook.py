"""What a push would send: counted where it can be, estimated from a sample where only compressing would tell."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3reg.client.effort import USUAL
from s3reg.client.scan import zstd
from s3reg.model.chunks import chunk_length
from s3reg.model.template import Role

if TYPE_CHECKING:
    from collections.abc import Collection

    from s3reg import wire
    from s3reg.client.cargo import Item
    from s3reg.client.reuse import Shelf

SAMPLE = 64
"""Chunks that are compressed to estimate the rest: a fraction of a second."""
BYTES_IN_MAP = 36
"""Of a chunk: its digest and its length."""


@dataclass(frozen=True, slots=True)
class FileOutlook:
    """What becomes of one file of the VM."""

    name: str
    role: str
    size: int
    chunks: int
    """To be stored. One that lies in several files, or several times in one, counts where it comes first."""
    raw: int
    """Bytes of these, before compression."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a push would do now, if nothing fails."""

    template: str
    name: str
    tag: str
    files: tuple[FileOutlook, ...]
    estimated: int
    """Bytes that would be sent, roughly: a sample of the chunks was compressed, the rest was not."""

    @property
    def size(self) -> int:
        """Bytes of the VM's images and states, as a version's size is counted."""
        return sum(file.size for file in self.files if Role(file.role) in {Role.IMAGE, Role.STATE})

    @property
    def chunks(self) -> int:
        """Chunks to be stored."""
        return sum(file.chunks for file in self.files)

    @property
    def raw(self) -> int:
        """Bytes of the chunks to be stored, before compression."""
        return sum(file.raw for file in self.files)


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push came to."""

    answer: wire.CommitAnswer
    stored_raw: int
    """Bytes of the chunks that were stored, before compression."""
    sent: int
    """Bytes that went to the store: packs and maps."""
    already: bool = False
    """The version was there: an earlier run of this push had been committed."""


def count(items: Collection[Item], shelf: Shelf) -> tuple[tuple[FileOutlook, ...], int]:
    """The files, and the bytes that would be sent. Every item has its column, or a base's map, or travels inline."""
    own = {digest for digest, place in shelf.chunks.items() if place.pack in shelf.own}
    files, new, mapped = [], [], 0
    for item in items:
        chunks = raw = 0
        if item.column is not None and item.map is None:
            mapped += sum(pack >= -1 for pack in item.column.packs)
            for position in item.column.unplaced():
                digest = item.column.digest_at(position)
                if digest not in own:
                    own.add(digest)
                    new.append((item, position))
                    chunks += 1
                    raw += chunk_length(position, item.size, item.column.chunk_log2)
        files.append(FileOutlook(item.name, item.file.role.value, item.size, chunks, raw))
    return tuple(files), _compressed(new) + mapped * BYTES_IN_MAP


def _compressed(new: list[tuple[Item, int]]) -> int:
    """About how many bytes these chunks come to."""
    sample = new[:: max(1, len(new) // SAMPLE)]
    raw = frames = whole = 0
    compressor = zstd(USUAL)
    for item, position in new:
        assert item.column is not None
        whole += chunk_length(position, item.size, item.column.chunk_log2)
    for item, position in sample:
        assert item.column is not None
        assert item.opened is not None
        length = chunk_length(position, item.size, item.column.chunk_log2)
        data = os.pread(item.opened.fd, length, position << item.column.chunk_log2)
        raw += len(data)
        frames += len(compressor.compress(memoryview(data)))
    return whole * frames // raw if raw else 0
