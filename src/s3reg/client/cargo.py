"""A VM's files on their way into a version: read, hashed, stored, named.

Small files travel inline. A large one gets a column of digests (from the ledger where it knows the file unchanged, else by
reading it), or, when a base has a file of its digest, that base's map, and is not read at all.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from s3reg import wire
from s3reg.client.reuse import Column, column_of
from s3reg.client.scan import OpenFile, frames, hash_file, runs_of, segments
from s3reg.client.tagbook import LAYERS
from s3reg.errors import FileChanged
from s3reg.model import maps
from s3reg.model.chunks import CHUNK_LOG2
from s3reg.model.template import INLINE_BYTES, INLINE_BYTES_IN_ALL, Role, bytes_digest

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from s3reg.client.effort import Effort
    from s3reg.client.ledger import Ledger
    from s3reg.client.library import LocalFile
    from s3reg.client.packer import Packer
    from s3reg.client.progress import Progress
    from s3reg.client.scan import Crew
    from s3reg.model.names import Digest
    from s3reg.model.packs import PackRef


@dataclass(slots=True)
class Item:
    """One file."""

    file: LocalFile
    name: str
    size: int
    seen: os.stat_result
    """How the file looked before it was read."""
    digest: Digest | None = None
    inline: bytes | None = field(default=None, repr=False)
    opened: OpenFile | None = None
    column: Column | None = None
    map: wire.MapLink | None = None
    map_bytes: bytes | None = field(default=None, repr=False)
    as_is: bool = True
    """It travels as it lies here; a config that was rewritten does not."""

    def entry(self) -> wire.FileEntry:
        """As the commit names it."""
        assert self.digest is not None
        link = None if self.map is None else wire.MapLink(self.map.sid, self.map.sha256, self.map.size)
        return wire.FileEntry(
            name=self.name,
            role=self.file.role.value,
            size=self.size,
            digest=self.digest,
            drive=self.file.drive,
            parent=self.file.parent,
            inline=self.inline,
            map=link,
        )

    def bytes_of(self, span: tuple[int, int], chunk_log2: int) -> int:
        """How much of the file lies in (first chunk, number of chunks)."""
        first, count = span
        return min(self.size, (first + count) << chunk_log2) - (first << chunk_log2)


class Cargo:
    """All files of one push. Opened files stay open, and watched, until `close`."""

    def __init__(self, crew: Crew, ledger: Ledger, progress: Progress, *, proof: bool) -> None:
        self.items: list[Item] = []
        self.chunk_log2 = CHUNK_LOG2
        """Of the lineage; known once the session is open."""
        self._crew = crew
        self._ledger = ledger
        self._progress = progress
        self._proof = proof

    @property
    def effort(self) -> Effort:
        """How hard the files are compressed."""
        return self._crew.effort

    @property
    def large(self) -> list[Item]:
        """The files that do not travel inline."""
        return [item for item in self.items if item.opened is not None]

    def load(self, files: Iterable[LocalFile], *, config: bytes, config_name: str) -> None:
        """Read the small files and open the large ones. The config is given: it may travel rewritten."""
        room = INLINE_BYTES_IN_ALL - len(config)
        for file in files:
            seen = file.path.stat()
            if file.role is Role.CONFIG:
                as_is = file.path.read_bytes() == config
                self.items.append(Item(file, config_name, len(config), seen, bytes_digest(config), config, as_is=as_is))
            elif seen.st_size <= min(INLINE_BYTES, room):
                data = file.path.read_bytes()
                self.items.append(Item(file, file.name, len(data), seen, bytes_digest(data), data))
                room -= seen.st_size
            else:
                opened = OpenFile(file.path)
                self.items.append(Item(file, file.name, opened.size, opened.seen, opened=opened))

    def close(self) -> None:
        """Close what is open."""
        for item in self.large:
            assert item.opened is not None
            item.opened.close()

    def recognise(self) -> None:
        """Give the large files that the ledger knows unchanged their digests."""
        for item in self.large:
            item.digest = item.digest or self._ledger.known(item.file.path)

    def take_whole(self, base_files: dict[str, wire.FileEntry]) -> list[Item]:
        """Name these files' maps for what has the same bytes, and for nothing else; the large files that are left."""
        for item in self.large:
            found = base_files.get(item.digest) if item.digest is not None else None
            item.map = found.map if found is not None and found.size == item.size else None
        return [item for item in self.large if item.map is None]

    def hash(self, items: list[Item]) -> None:
        """Give every item its column and digest; unread where it has them, or the ledger knows file and map."""
        unread = [item for item in items if not self._has_column(item) and not self._from_ledger(item)]
        if not unread:
            return
        self._progress.start("hashing", sum(item.size for item in unread))
        for item in unread:
            assert item.opened is not None
            item.column = Column(item.size, self.chunk_log2)
            hash_file(self._crew, item.opened, item.column, self._progress.advance)
            item.digest = item.column.file_digest()
        self._progress.finish()

    def store(self, packer: Packer) -> None:
        """Send the chunks that lie nowhere yet, and wait for them."""
        work = [(item, spans) for item in self.large if item.map is None and (spans := self._spans(item))]
        if not work:
            return
        self._progress.start(
            "sending", sum(item.bytes_of(span, self.chunk_log2) for item, spans in work for span in spans)
        )
        for item, spans in work:
            self._store_file(packer, item, spans)
        packer.flush()
        self._progress.finish()

    def send_maps(self, packer: Packer, session: str, table: list[PackRef], base_maps: dict[str, bytes]) -> None:
        """Upload the maps of the files that have new ones. Raises FileChanged if any file did since it was opened."""
        for item in self.large:
            assert item.opened is not None
            item.opened.check_unchanged()
            if item.map is not None:
                item.map_bytes = base_maps.get(item.map.sha256)
            elif item.column is not None:
                item.digest = item.column.file_digest()
                item.map_bytes = maps.encode(item.column.file_map(table))
                sha256, size = packer.send_map(item.map_bytes)
                item.map = wire.MapLink(session, sha256, size)

    def remember(self) -> None:
        """Note in the ledger what the files are: the next push need not read them, and a pull may replace them."""
        for item in self.items:
            if item.digest is not None and item.as_is:
                self._ledger.record(
                    item.file.path, item.digest, item.map_bytes, parent=item.file.parent, seen=item.seen
                )

    def keep_beside(self) -> None:
        """Keep what lies in the VM's folder, for the tag that is noted: unless it changed since, it is as it was pushed."""
        for item in self.items:
            if item.digest is not None and item.file.role not in LAYERS:
                with contextlib.suppress(FileChanged):
                    self._ledger.keep(item.digest, item.file.path if item.inline is None else item.inline)

    def _has_column(self, item: Item) -> bool:
        return item.digest is not None and item.column is not None and item.column.chunk_log2 == self.chunk_log2

    def _from_ledger(self, item: Item) -> bool:
        known = item.digest or self._ledger.known(item.file.path)
        file_map = self._ledger.map_of(known, item.size) if known is not None else None
        if file_map is None or file_map.chunk_log2 != self.chunk_log2:
            return False
        item.digest, item.column = known, column_of(file_map)
        return True

    def _spans(self, item: Item) -> list[tuple[int, int]]:
        assert item.opened is not None
        if item.column is None:
            item.column = Column(item.size, self.chunk_log2)
            return list(segments(item.opened, self.chunk_log2))
        return list(runs_of(item.column.unplaced(), item.column.chunk_log2))

    def _store_file(self, packer: Packer, item: Item, spans: list[tuple[int, int]]) -> None:
        assert item.opened is not None
        assert item.column is not None
        try:
            found = frames(self._crew, item.opened, item.column, spans, proof=self._proof)
            for span, made in zip(spans, found, strict=True):
                # Zeros that the file system does not know as a hole: nobody acknowledges them.
                self._progress.advance(item.bytes_of(span, self.chunk_log2) - sum(frame.raw for frame in made))
                for frame in made:
                    item.column.set_digests(frame.position, frame.digest)
                    item.column.put(frame.position, packer.add(frame))
        except FileChanged:
            self._distrust(item)
            raise

    def _distrust(self, item: Item) -> None:
        """Have the file read again by the next push: it may be the record that was wrong, though it looks as recorded."""
        record = self._ledger.record_of(item.file.path)
        if record is not None and record.digest is not None:
            with contextlib.suppress(OSError):  # it may be gone altogether
                self._ledger.record(item.file.path, None, parent=record.parent, origin=record.origin)
