"""Plain disk files become a VM of the library, and a VM of the library plain files again.

Any VM whose disks are raw files can so become a template: QEMU's, Tart's, UTM's. Files are reflinked where the file system
can, else copied with their holes, always under fresh names: a layer's name never gets other bytes. On the next import of the
same VM a disk that did not change since keeps its layer.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import stat
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s3reg.client import copies, platform, removal, vmconfig, writers
from s3reg.client.ledger import Print
from s3reg.client.library import CONFIG, PUBLISHING
from s3reg.client.staging import StagedFile, Staging
from s3reg.client.tagbook import LAYERS
from s3reg.errors import Invalid, LocalDenied, NameInvalid, VmNotFound, VmRunning
from s3reg.model import names
from s3reg.model.template import CONFIG_BYTES, Role

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from s3reg.client.library import Library, LocalVm

SUFFIXES = {Role.IMAGE: ".img", Role.STATE: ".state"}
DEFAULTS: dict[str, Any] = {"version": 1, "cpu": {"cores": 2}, "ram": "4G"}
"""What a VM is given that comes without a configuration."""


@dataclass(frozen=True, slots=True)
class _Source:
    """A file that is imported."""

    path: Path
    role: Role
    look: Print
    allocated: int
    """Bytes on its disk."""


def import_vm(
    library: Library,
    name: str,
    *,
    disks: Sequence[Path],
    state: Path | None = None,
    nvram: Path | None = None,
    config: Path | None = None,
) -> LocalVm:
    """Make a VM called `name` of raw disks, or update the one that has this name (or id); the VM.

    An update keeps the VM's id, what it does not replace of its configuration, its nvram unless one is given, and its other
    files; without `state` it is stopped. The sources are left as they are. The VM appears, or changes, in one step at the
    end; until then, and after any error, the library shows what it did. Raises LocalDenied for a source that cannot be read,
    VmRunning, DiskFull, FileChanged, ConfigInvalid, NameInvalid, NameAmbiguous, Invalid without disks.
    """
    if not disks:
        raise Invalid(reason="a VM to import needs a disk")
    given = [(path, Role.IMAGE) for path in disks]
    given += [(path, role) for path, role in ((state, Role.STATE), (nvram, Role.NVRAM)) if path is not None]
    sources = [_source(path, role) for path, role in given]
    if len({source.path for source in sources}) < len(sources):
        raise Invalid(reason="one file is given twice")
    if written := writers.open_for_writing(source.path for source in sources):
        raise VmRunning(vm=name, reason=f"{', '.join(sorted(map(str, written)))} is open for writing")
    old, _, name = _become(library, name, config)
    library.create()
    with contextlib.ExitStack() as held:
        # Whoever else makes a VM of this name, by import or clone, waits; and who pulls it, or deletes it.
        held.enter_context(library.lock(f"clone-{name}", wait=True))
        if old is not None:
            held.enter_context(library.lock(f"pull-{old.id}", wait=True))
        there = old is not None and library.holds(old.id)
        return _imported(library, sources, *_become(library, old.id if old and there else name, config))


def _become(library: Library, name: str, config: Path | None) -> tuple[LocalVm | None, dict[str, Any], str]:
    """The VM that is updated, the values of its configuration, its name. Raises what is wrong with them."""
    old = _existing(library, name)
    return old, _values(config, old), old.name if old else names.template_name(name)


def _imported(
    library: Library, sources: list[_Source], old: LocalVm | None, values: dict[str, Any], name: str
) -> LocalVm:
    staging = Staging(library, old.id if old else names.new_template_id(), names.version_id(uuid.uuid4().hex))
    with staging.at_work():
        kept = _unchanged(library, old, sources)
        layers = [_bring(staging, source, kept.get(source)) for source in sources if source.role in SUFFIXES]
        beside = [
            _bring_beside(staging, source.path, vmconfig.NVRAM) for source in sources if source.role is Role.NVRAM
        ]
        beside += _kept_beside(staging, old, replaced={file.name for file in beside})
        drives = [file.name for file in layers if file.role is Role.IMAGE]
        state_name = next((file.name for file in layers if file.role is Role.STATE), None)
        nvram_name = next((file.name for file in beside if file.role is Role.NVRAM), None)
        data = vmconfig.generated(
            values, uuid=staging.template, name=name, drives=drives, state=state_name, nvram=nvram_name
        )
        written_config = _write_config(staging, data)
        reusable = set(kept.values())
        staging.publish(
            [*layers, *beside, written_config],
            name=name,
            tag=None,
            force=True,
            same=lambda path, _: path.name in reusable,
        )
    if old is not None:
        _drop_replaced(library, old)
    return library.find(staging.template)


def export_vm(library: Library, ref: str, folder: Path) -> list[Path]:
    """Write every file of a VM into the new folder `folder`, under the names they have; their paths there.

    A drive of one layer is a plain disk; one of several is exported as its layers. Raises LocalDenied if there is such a
    folder or the VM's files cannot lie in one folder, VmRunning, DiskFull, and what finding the VM raises.
    """
    vm = library.find(ref)
    library.check_stopped(vm)
    _check_one_folder(vm)
    folder = folder.absolute()
    if folder.exists():
        raise LocalDenied(file=str(folder), reason="there is something of this name already")
    aside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        with platform.refusals_named(folder):
            aside.mkdir(parents=True)
            for file in vm.files:
                copies.copy(file.path, aside / file.name)
            platform.sync_folder(aside)
            platform.rename_exclusive(aside, folder)
            platform.sync_folder(folder.parent)
    except FileExistsError:
        raise LocalDenied(file=str(folder), reason="there is something of this name already") from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return [folder / file.name for file in vm.files]


# --- What there is ---------------------------------------------------------------------------------------------------


def _source(path: Path, role: Role) -> _Source:
    with platform.refusals_named(path):
        if not stat.S_ISREG(path.stat().st_mode):
            raise LocalDenied(file=str(path), reason="it is not a plain file")
        real = path.resolve(strict=True)
        with real.open("rb"):
            found = real.stat()
    return _Source(real, role, Print.of(found), found.st_blocks * 512)


def _existing(library: Library, name: str) -> LocalVm | None:
    try:
        vm = library.whatever(library.peek(name).id)
    except VmNotFound:
        return None
    library.check_stopped(vm)
    with platform.refusals_named(vm.folder):
        for entry in vm.folder.iterdir():
            if not entry.name.startswith(".") and (entry.is_symlink() or not entry.is_file()):
                raise LocalDenied(file=str(entry), reason="it is no file of a VM, and would be lost: move it away")
    return vm


def _values(config: Path | None, old: LocalVm | None) -> dict[str, Any]:
    if config is None:
        return DEFAULTS if old is None else old.values
    with platform.refusals_named(config), config.open("rb") as file:
        return vmconfig.parse(file.read(CONFIG_BYTES + 1), config.name).values


def _unchanged(library: Library, old: LocalVm | None, sources: list[_Source]) -> dict[_Source, str]:
    """For each source that an earlier import made a layer of, neither changed since: the layer's name."""
    by_origin: dict[tuple[Role, Print], str] = {}
    for file in old.files if old else ():
        record = library.ledger.record_of(file.path) if file.role in LAYERS else None
        if record and record.origin and record.parent is None and library.ledger.is_as_recorded(file.path):
            by_origin[file.role, record.origin] = file.name
    found: dict[_Source, str] = {}
    for source in sources:
        if (name := by_origin.pop((source.role, source.look), None)) is not None:
            found[source] = name
    return found


# --- Bringing it together --------------------------------------------------------------------------------------------


def _bring(staging: Staging, source: _Source, kept: str | None) -> StagedFile:
    """The source as a layer: the one that it is already, or a fresh copy."""
    library = staging.library
    if kept is not None:
        record = library.ledger.record_of(library.path_of(kept, source.role, staging.template))
        digest = record.digest if record else None
        return StagedFile(kept, source.role, source.look.size, digest, origin=source.look)
    name = f"{uuid.uuid4().hex}{SUFFIXES[source.role]}"
    place = staging.path(name, source.role)
    with platform.refusals_named(place, needed=lambda: source.allocated):
        copies.copy(source.path, place)
    return StagedFile(name, source.role, source.look.size, None, origin=source.look)


def _bring_beside(staging: Staging, path: Path, name: str, role: Role = Role.NVRAM) -> StagedFile:
    place = staging.path(name, role)
    with platform.refusals_named(place):
        copies.copy(path, place)
        return StagedFile(name, role, place.stat().st_size, None)


def _kept_beside(staging: Staging, old: LocalVm | None, replaced: set[str]) -> list[StagedFile]:
    """The old VM's nvram, unless there is a new one, and its other files; not its configuration."""
    return [
        _bring_beside(staging, file.path, file.name, file.role)
        for file in (old.files if old else ())
        if file.role in {Role.NVRAM, Role.EXTRA}
        and file.name not in replaced | {CONFIG}
        and not (replaced and file.role is Role.NVRAM)
    ]


def _write_config(staging: Staging, data: bytes) -> StagedFile:
    place = staging.path(CONFIG, Role.CONFIG)
    with platform.refusals_named(place), place.open("wb") as out:
        out.write(data)
        out.flush()
        platform.sync(out.fileno())
    return StagedFile(CONFIG, Role.CONFIG, len(data), None)


def _drop_replaced(library: Library, old: LocalVm) -> None:
    """Layers that an earlier import made, that are as they were then, and that nothing names any more.

    What was pushed or pulled stays, as any version on this node does until it is shrunk; so does what a VM has written.
    """
    with library.lock(PUBLISHING, wait=True), platform.refusals_named(library.img_lib):
        found = [(file.path, library.ledger.record_of(file.path)) for file in old.files if file.role in LAYERS]
        made = [path for path, record in found if record is not None and record.origin is not None]
        same = [path for path in made if library.ledger.is_as_recorded(path)]
        removal.remove_layers(library, same, removal.needed(library))


def _check_one_folder(vm: LocalVm) -> None:
    seen: set[str] = set()
    for file in vm.files:
        if names.folded(file.name) in seen:
            raise NameInvalid(
                what="file name", text=file.name, reason="two files of the VM have it, in different folders"
            )
        seen.add(names.folded(file.name))
