"""What a push builds on: the files of its bases, and their maps, read over the line when they are needed."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from s3reg import wire
from s3reg.errors import LinkRefused, ObjectNotFound, RecordDamaged
from s3reg.model import maps, names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from s3reg.client.connection import Connection
    from s3reg.client.ledger import Ledger
    from s3reg.client.library import LocalVm
    from s3reg.client.reuse import Shelf
    from s3reg.model.maps import FileMap
    from s3reg.model.packs import PackRef

MOST_ORIGINS = 4
"""Local versions that are offered as bases: each costs the reading of its maps."""


def origins(ledger: Ledger, vm: LocalVm) -> list[wire.VersionRef]:
    """The versions of this node that share most files with the VM, as those were when they were recorded last."""
    records = [ledger.record_of(file.path) for file in vm.files]
    mine = {record.digest for record in records if record is not None and record.digest is not None}
    ranked = []
    for template in ledger.templates():
        for tag in ledger.tags(template).values():
            shared = len(mine & set(tag.files.values()))
            if shared:
                ranked.append((shared, template == vm.id, wire.VersionRef(template, tag.version)))
    ranked.sort(key=lambda row: row[:2], reverse=True)
    return [ref for _, _, ref in ranked[:MOST_ORIGINS]]


class Bases:
    """The bases `entries`, but for what stands on the packs `damaged`, or on a map that cannot be had: that is stored again.

    `again(base)` gives the base with fresh links.
    """

    def __init__(
        self,
        connection: Connection,
        entries: tuple[wire.BaseEntry, ...],
        damaged: Iterable[wire.PackName],
        again: Callable[[wire.BaseEntry], tuple[wire.BaseEntry, ...]],
    ) -> None:
        self.map_bytes: dict[str, bytes] = {}
        """Of the maps that were read, by their SHA-256."""
        self._connection = connection
        self._entries = entries
        self._damaged = {(pack.sid, pack.sha256) for pack in damaged}
        self._again = again
        self._maps: dict[str, FileMap] = {}
        self._lost: set[str] = set()
        """Maps that the store lost, or damaged."""

    def sound_files(self) -> dict[str, wire.FileEntry]:
        """The files by digest, without those that stand on a damaged pack."""
        if self._damaged:
            self._read()
        sound: dict[str, wire.FileEntry] = {}
        for file in (file for base in self._entries for file in base.files):
            if file.map is None:
                continue
            if file.map.sha256 in self._lost:
                continue
            packs = self._maps[file.map.sha256].packs if self._damaged else ()
            if not any((pack.sid, pack.sha256) in self._damaged for pack in packs):
                sound.setdefault(file.digest, file)
        return sound

    def fill(self, shelf: Shelf, chunk_log2: int) -> None:
        """Put every sound chunk of the bases on the shelf, but of files that are cut otherwise."""
        for file_map in self._read():
            if file_map.chunk_log2 == chunk_log2:
                shelf.add_base(file_map, self._damaged)

    def packs_of(self, link: wire.MapLink) -> tuple[PackRef, ...]:
        """The packs that the file of this map needs, if the map is a base's and was read."""
        found = self._maps.get(link.sha256)
        return () if found is None else found.packs

    def _read(self) -> Iterable[FileMap]:
        for base in self._entries:
            for file in base.files:
                if file.map is None or file.map.sha256 in self._maps or file.map.sha256 in self._lost:
                    continue
                try:
                    self._maps[file.map.sha256] = self._decoded(base, file, file.map)
                except (RecordDamaged, ObjectNotFound, LinkRefused):
                    # A push needs no base; and this one is perhaps what puts the damaged version's files back.
                    self._lost.add(file.map.sha256)
        return self._maps.values()

    def _decoded(self, base: wire.BaseEntry, file: wire.FileEntry, link: wire.MapLink) -> FileMap:
        for _ in range(2):
            data = self._bytes(base, file, link)
            if hashlib.sha256(data).hexdigest() == link.sha256:
                self.map_bytes[link.sha256] = data
                return maps.decode(data, size=file.size, digest=names.digest(file.digest))
            # A line or a cache may have garbled it.
        raise RecordDamaged(what=f"{file.name}, its map {link.sha256},", reason="its bytes are not what its name says")

    def _bytes(self, base: wire.BaseEntry, file: wire.FileEntry, link: wire.MapLink) -> bytes:
        """A base's map; where its link ended while others were read, with a fresh one."""
        if link.url is None:
            raise RecordDamaged(what="the session", reason=f"it has no link for the map of {file.name}")
        try:
            return bytes(self._connection.read(link.url, first=0, length=link.size))
        except LinkRefused:
            links = (file.map for base in self._again(base) for file in base.files if file.map is not None)
            fresh = next((found.url for found in links if found.sha256 == link.sha256), None)
            if fresh is None:
                raise
            return bytes(self._connection.read(fresh, first=0, length=link.size))
