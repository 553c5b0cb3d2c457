"""A clone: another VM, with an id and a name of its own, that begins as a VM of the library is, or as a tag of it was.

Layers are shared by name, which costs nothing, as long as nothing writes to them. Nobody writes to a layer below another
one, nor to one of Anka's format that a tag has: Anka gives a VM a layer of its own when it starts. But a plain disk is
written to by the VM that runs on it, and so is a layer of Anka's that no tag has. Such a top layer is copied, by reflink
where the file system can. The copy stands on what its source stands on: a layer names the one below it inside, so that no
layer below another can get a new name.
"""

from __future__ import annotations

import contextlib
import enum
import uuid
from pathlib import PurePath
from typing import TYPE_CHECKING

from s3reg.client import copies, localtags, platform, vmconfig, writers
from s3reg.client.ledger import Print, Twin
from s3reg.client.library import written_to
from s3reg.client.staging import StagedFile, Staging, recover
from s3reg.client.tagbook import LAYERS
from s3reg.errors import FileChanged, VmNameTaken, VmRunning
from s3reg.model import names
from s3reg.model.template import Role

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from s3reg.client.library import Library, LocalFile, LocalVm, VmFolder

ANKA = ".ank"
"""The suffix of layers in Anka's format."""


class Tops(enum.Enum):
    """Which of the layers that a VM stands on at the top a clone shares with its source."""

    FROZEN = "frozen"
    """Those that nothing writes to."""
    NONE = "none"
    ALL = "all"
    """Also those that are written to when either VM runs: for whoever sees to it that none does."""


def clone(library: Library, ref: str, name: str, *, tag: str | None = None, shared: Tops = Tops.FROZEN) -> LocalVm:
    """Make a VM called `name` of the one that `ref` names, as it is or as it was under `tag`; the new VM, which has no tag.

    It appears in one step at the end. Raises VmNameTaken, VmNotFound, NameAmbiguous, NameInvalid, VmRunning, FileChanged,
    LocalTagNotFound, NotLocal, DiskFull, ConfigInvalid, and what finding the VM raises.
    """
    name = names.template_name(name)
    library.create()
    source = library.peek(ref)
    with (
        library.lock(f"clone-{name}", wait=True),
        library.lock(f"pull-{source.id}", wait=True),
        platform.refusals_named(library.root),
    ):
        recover(library)
        if taken := [vm.id for vm in library.vms() if name in {vm.name, vm.id}]:
            raise VmNameTaken(name=name, ids=", ".join(taken))
        vm = _at_rest(library, library.peek(source.id), tag)
        return _Clone(library, vm, name, shared).run()


def _at_rest(library: Library, source: VmFolder, tag: str | None) -> LocalVm:
    """The VM to clone, of whose files nobody writes one. While it runs, a tag of it may be at rest."""
    if tag is None:
        vm = library.whole(source)
        library.check_stopped(vm)
        return vm
    vm = localtags.recall(library, source.id, names.tag(tag))
    if written := writers.open_for_writing(written_to(vm)):
        raise VmRunning(vm=vm.name, reason=f"{', '.join(sorted(path.name for path in written))} is open for writing")
    return vm


class _Clone:
    """One clone being made."""

    def __init__(self, library: Library, vm: LocalVm, name: str, shared: Tops) -> None:
        self.library = library
        self.vm = vm
        self.name = name
        self.looks = {file.path: Print.of(file.path.stat()) for file in vm.files}
        self.parsed = vmconfig.parse(vm.config, vm.config_name)
        self.own = {file.name: _fresh_name(file) for file in self._tops() if not self._is_shared(file, shared)}
        self.staging = Staging(library, names.new_template_id(), names.version_id(uuid.uuid4().hex))

    def run(self) -> LocalVm:
        """All of it."""
        with self.staging.at_work():
            files = [self._config()]
            files += [staged for file in self.vm.files for staged in self._staged(file)]
            for path, look in self.looks.items():
                if Print.of(path.stat()) != look:
                    raise FileChanged(file=path.name)
            self.staging.publish(files, name=self.name, tag=None, same=self._same)
        self._twin_back()
        return self.library.find(self.staging.template)

    # --- Which are shared ---

    def _tops(self) -> list[LocalFile]:
        tops = {(Role.IMAGE, top) for _, top in self.parsed.drives} | {(Role.STATE, self.parsed.state)}
        return [file for file in self.vm.files if (file.role, file.name) in tops]

    def _is_shared(self, file: LocalFile, shared: Tops) -> bool:
        if shared is not Tops.FROZEN:
            return shared is Tops.ALL
        known = self.library.ledger.known(file.path)
        tagged = any(row.files.get(file.name) == known for _, _, row in self.library.ledger.every_tag())
        return known is not None and tagged and names.folded(file.name).endswith(ANKA)

    def _same(self, path: Path, file: StagedFile) -> bool:
        """Whether a shared layer that was never hashed is as it was when the clone began."""
        return file.digest is None and self.looks.get(path) == Print.of(path.stat())

    # --- The files ---

    def _config(self) -> StagedFile:
        template = self.staging.template
        data = vmconfig.rewritten(
            self.vm.config,
            uuid=None if self.parsed.id is None else template,
            name=self.name,
            layers=self.own,
            file=self.vm.config_name,
        )
        name = vmconfig.config_name_for(self.vm.config_name, self.vm.id, template)
        self.staging.path(name, Role.CONFIG).write_bytes(data)
        return StagedFile(name, Role.CONFIG, len(data), None)

    def _staged(self, file: LocalFile) -> Iterator[StagedFile]:
        """What the clone has of this file: the file itself, a copy, or, if another layer stands on it too, both."""
        if file.role is Role.CONFIG:
            return
        ledger, size = self.library.ledger, self.looks[file.path].size
        if file.role not in LAYERS:
            self._copy(file, file.name)
            yield StagedFile(file.name, file.role, size, ledger.known(file.path))
            return
        record = ledger.record_of(file.path)
        if file.name in self.own:
            self._copy(file, self.own[file.name])
            yield StagedFile(
                self.own[file.name], file.role, size, ledger.known(file.path), file.parent, twin=self._twin_of(file)
            )
        if file.name not in self.own or file.name in {other.parent for other in self.vm.files}:
            origin, other = (record.origin, record.twin) if record else (None, None)
            yield StagedFile(file.name, file.role, size, ledger.known(file.path), file.parent, origin, other)

    def _copy(self, file: LocalFile, name: str) -> None:
        place = self.staging.path(name, file.role)
        with platform.refusals_named(place, needed=lambda: file.path.stat().st_blocks * 512):
            copies.copy(file.path, place)

    def _twin_of(self, file: LocalFile) -> Twin:
        """Who tells the digest of the file's copy, should it be hashed one day: the file, or who tells its own."""
        record = self.library.ledger.record_of(file.path)
        if record is not None and record.twin is not None and record.seen == self.looks[file.path]:
            return record.twin
        return Twin(file.path.relative_to(self.library.root).as_posix(), self.looks[file.path])

    def _twin_back(self) -> None:
        """Note the copies at their sources too: whichever is hashed first tells the other's digest."""
        ledger = self.library.ledger
        for file in self.vm.files:
            record = ledger.record_of(file.path) if file.role in LAYERS and file.name in self.own else None
            if record is None or record.digest or record.twin or record.seen != self.looks[file.path]:
                continue
            copy = self.library.path_of(self.own[file.name], file.role, self.staging.template)
            with contextlib.suppress(FileNotFoundError):
                twin = Twin(copy.relative_to(self.library.root).as_posix(), Print.of(copy.stat()))
                ledger.record(file.path, None, parent=file.parent, seen=record.seen, origin=record.origin, twin=twin)


def _fresh_name(file: LocalFile) -> str:
    return f"{uuid.uuid4().hex}{PurePath(file.name).suffix}"
