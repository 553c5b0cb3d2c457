"""What a library has of a version already: all of it, some layers, another VM of its name."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from s3reg.client import vmconfig
from s3reg.client.estimate import data_of
from s3reg.client.reuse import Column
from s3reg.client.scan import OpenFile, hash_file
from s3reg.client.tagbook import LAYERS
from s3reg.errors import ConfigInvalid, FileChanged, LocalNameTaken
from s3reg.model import names
from s3reg.model.chunks import CHUNK_LOG2
from s3reg.model.template import Role

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from s3reg import wire
    from s3reg.client.library import Library
    from s3reg.client.scan import Crew
    from s3reg.client.staging import StagedFile


class Present:
    """The version of a plan's `answer`, as far as `library` has it."""

    def __init__(self, library: Library, answer: wire.PlanAnswer, crew: Crew) -> None:
        self._library = library
        self._answer = answer
        self._crew = crew
        self._template = names.template_id(answer.template)

    def whole(self) -> bool:
        """Whether it is checked out, with every file as it was recorded."""
        ledger = self._library.ledger
        current = ledger.current(self._template) == self._answer.tag
        return current and all(ledger.known(self._path(file)) == file.digest for file in self._answer.files)

    def check_name(self) -> None:
        """Raise LocalNameTaken if another VM has the template's name or, where that was changed, the one in the config.

        Two VMs of one name in a library are a trap for whoever starts one by its name.
        """
        taken = {self._answer.name}
        for file in self._answer.files:
            if Role(file.role) is Role.CONFIG and file.inline is not None:
                with contextlib.suppress(ConfigInvalid):
                    taken.add(vmconfig.parse(file.inline, file.name).name or self._answer.name)
        others = [vm for vm in self._library.vms() if vm.name in taken and vm.id != self._template]
        if others:
            raise LocalNameTaken(name=others[0].name, ids=", ".join(vm.id for vm in others))

    def layers(self, files: Iterable[StagedFile]) -> frozenset[str]:
        """The names of those layers that need not come, whatever stands in the way of the others.

        One that changed since its record is not read: whoever asks every few minutes must not read a disk each time.
        """
        return frozenset(file.name for file in files if file.role in LAYERS and self._has(file))

    def same(self, path: Path, file: StagedFile) -> bool:
        """Whether the library's file, which no record vouches for, has the right bytes all the same: it is read."""
        try:
            with OpenFile(path) as opened:
                column = Column(opened.size, CHUNK_LOG2)
                hash_file(self._crew, opened, column, lambda _: None)
                same = column.file_digest() == file.digest
                opened.check_unchanged()
                if same:
                    # Read once: the next pull, or question, need not. A library that may only be read has no records.
                    with contextlib.suppress(OSError):
                        self._library.ledger.record(path, file.digest, parent=file.parent, seen=opened.seen)
                return same
        except FileChanged:
            return False

    def data(self, file: wire.FileEntry) -> int:
        """Bytes of a file that is here, without its holes: by its map or, where that is not kept, as the disk has it."""
        if file.map is None:
            return file.size
        file_map = self._library.ledger.map_of(names.digest(file.digest), file.size)
        return min(file.size, self._path(file).stat().st_blocks * 512) if file_map is None else data_of(file_map)

    def _has(self, file: StagedFile) -> bool:
        path, ledger = self._library.path_of(file.name, file.role, self._template), self._library.ledger
        known = ledger.known(path)
        if known is not None:
            return known == file.digest
        if not path.is_file() or path.stat().st_size != file.size:
            return False
        unchanged = ledger.record_of(path) is None or ledger.untouched(path) == file.digest
        return unchanged and self.same(path, file)

    def _path(self, file: wire.FileEntry) -> Path:
        return self._library.path_of(file.name, Role(file.role), self._template)
