"""What this machine holds that a pull may build on: files of the library itself, and of others that were named.

Only a file that its library's ledger knows, unchanged since, is a base. Other libraries are read and never written to.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

from s3reg.client.library import Library
from s3reg.client.reuse import Column, column_of
from s3reg.client.sources import Held
from s3reg.errors import FormatUnknown, LibraryUnknown, RecordDamaged
from s3reg.model import maps

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from s3reg.client.ledger import Ledger
    from s3reg.model.names import Digest, TemplateId
    from s3reg.wire import FileEntry

MOST_HELD = 16
"""Local files that are looked through for one file's chunks; each costs the reading of its map."""


class _Row(NamedTuple):
    path: Path
    digest: Digest
    size: int
    ledger: Ledger


class Holdings:
    """The files of `library` and of `others`, looked for once."""

    def __init__(self, library: Library, others: Sequence[Library], template: TemplateId) -> None:
        self._own = library.ledger
        ledgers = [library.ledger, *(other.ledger for other in others)]
        self._rows = [_Row(*found, ledger) for ledger in ledgers for found in ledger.held()]
        self._mine = {
            digest for ledger in ledgers for tag in ledger.tags(template).values() for digest in tag.files.values()
        }
        # Every file of the version asks for much the same ones.
        self._column = functools.lru_cache(MOST_HELD)(self._read_column)

    def of(self, entry: FileEntry) -> list[Held]:
        """The files to build on for this one: the same bytes, this file as it was, the template's others, then the rest."""
        found = sorted(
            self._rows,
            key=lambda row: (
                row.digest != entry.digest,
                row.path.name != entry.name,
                row.digest not in self._mine,
                row.ledger is not self._own,
                -row.size,
            ),
        )
        held = []
        for row in found[:MOST_HELD]:
            column, record = self._column(row), row.ledger.record_of(row.path)
            if column is not None and record is not None and record.digest == row.digest:
                held.append(Held(row.path, column, record.seen))
        return held

    def _read_column(self, row: _Row) -> Column | None:
        if row.ledger is self._own:
            file_map = row.ledger.map_of(row.digest, row.size)
            return None if file_map is None else column_of(file_map)
        data = row.ledger.map_bytes(row.digest)
        try:
            return None if data is None else column_of(maps.decode(data, size=row.size, digest=row.digest))
        except (RecordDamaged, FormatUnknown):
            # Its own s3reg deals with it.
            return None


def other_libraries(library: Library, folders: Iterable[Path]) -> list[Library]:
    """The libraries at `folders`, without `library` itself. Raises LibraryUnknown for a folder without s3reg's records."""
    found: dict[Path, Library] = {}
    for folder in folders:
        other = Library(folder)
        if not any(other.ledger.folder.glob("files/*.json")):
            raise LibraryUnknown(folder=str(folder))
        if folder.resolve() != library.root.resolve():
            found.setdefault(folder.resolve(), other)
    return list(found.values())
