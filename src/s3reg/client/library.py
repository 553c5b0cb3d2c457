"""A node's library of VMs, in Anka's shape of both generations.

    LIBRARY/vm_lib/<uuid>/      config.yaml (or <uuid>.yaml), nvram, policies: one folder a VM
    LIBRARY/img_lib/            disk layers of all VMs
    LIBRARY/state_lib/          memory of suspended VMs; some releases keep it in img_lib, so both are looked into
    LIBRARY/vm_lib/.locks/      a lock file of each VM that runs
    LIBRARY/.s3reg/             what is ours: records, maps, staging, locks

What is not a VM is passed over; what is one and cannot be read is reported and hides nothing else.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import stat
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s3reg.client import layers, platform, vmconfig, writers
from s3reg.client.ledger import Ledger
from s3reg.client.tagbook import LAYERS
from s3reg.errors import (
    Busy,
    ConfigInvalid,
    LayersUnknown,
    LibraryIncomplete,
    NameAmbiguous,
    S3regError,
    VmNotFound,
    VmRunning,
)
from s3reg.model import names
from s3reg.model.template import CONFIG_BYTES, Role, check_file_names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from s3reg.client.vmconfig import VmConfig
    from s3reg.model.names import TemplateId

CONFIG = "config.yaml"
PUBLISHING = "publish"
"""The lock of whoever adds to a library's shared folders or removes from them."""

_LOCK_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class LocalFile:
    """One file of a local VM."""

    name: str
    role: Role
    path: Path
    drive: int | None = None
    """Images: the place in the configuration's list of drives."""
    parent: str | None = None
    """Images and states: the layer below; None for the lowest."""


@dataclass(frozen=True, slots=True)
class VmFolder:
    """A VM as its configuration tells it; none of its other files was looked at."""

    id: TemplateId
    name: str
    folder: Path
    config_name: str
    config: bytes
    parsed: VmConfig


@dataclass(frozen=True, slots=True)
class LocalVm:
    """A VM with every file that it needs, each of which exists."""

    id: TemplateId
    name: str
    arch: str
    folder: Path
    config_name: str
    config: bytes
    """The configuration's bytes as they are."""
    values: dict[str, Any]
    """The configuration's values."""
    files: tuple[LocalFile, ...]
    """The configuration itself first, then drive by drive from the top layer down, states, nvram, extras."""

    def of_role(self, role: Role) -> list[LocalFile]:
        """The files of one role, in order."""
        return [file for file in self.files if file.role is role]


class Library:
    """The library at `root`. Nothing needs to exist there yet."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.vm_lib = root / "vm_lib"
        self.img_lib = root / "img_lib"
        self.state_lib = root / "state_lib"
        self.own = root / ".s3reg"
        self.ledger = Ledger(root)

    def create(self) -> None:
        """Make the folders that are missing: Anka's agent fails without them. Raises LocalDenied, DiskFull."""
        with platform.refusals_named(self.root):
            for folder in (self.vm_lib, self.img_lib, self.state_lib, self.own):
                folder.mkdir(parents=True, exist_ok=True)

    def path_of(self, name: str, role: Role, template: TemplateId) -> Path:
        """Where the library's file of this name and role lies; where it would, if there is none."""
        if role not in LAYERS:
            return self.folder_of(template) / name
        if role is Role.IMAGE:
            return self.img_lib / name
        places = (self.state_lib / name, self.img_lib / name)
        return next((place for place in places if place.is_file()), places[0])

    def folder_of(self, template: TemplateId) -> Path:
        """The VM's folder, whatever the case of its name; where it would be, if there is none."""
        usual = self.vm_lib / template
        if usual.is_dir() or not self.vm_lib.is_dir():
            return usual
        return next((folder for folder in self.vm_lib.iterdir() if folder.name.lower() == template), usual)

    # --- Finding ---

    def vms(self) -> list[VmFolder]:
        """Every VM whose configuration can be read, by name, then by id."""
        return self.scan()[0]

    def scan(self) -> tuple[list[VmFolder], dict[TemplateId, S3regError]]:
        """`vms`, and for each folder that is a VM's and cannot be read the reason why, by the VM's id."""
        found: list[VmFolder] = []
        problems: dict[TemplateId, S3regError] = {}
        with platform.refusals_named(self.vm_lib):
            folders = sorted(self.vm_lib.iterdir()) if self.vm_lib.is_dir() else []
        for folder in folders:
            try:
                if _is_vm_name(folder.name) and (vm := _read_folder(folder)) is not None:
                    found.append(vm)
            except S3regError as e:
                problems[names.template_id(folder.name)] = e
        return sorted(found, key=lambda vm: (vm.name, vm.id)), problems

    def peek(self, ref: str) -> VmFolder:
        """The VM of this id, else the one of this name. Raises VmNotFound, NameAmbiguous, ConfigInvalid."""
        if names.is_template_id(ref):
            vm = _read_folder(self.folder_of(names.template_id(ref)))
            if vm is not None:
                return vm
        vms, problems = self.scan()
        called = [vm for vm in vms if vm.name == unicodedata.normalize("NFC", ref)]
        if len(called) > 1:
            raise NameAmbiguous(name=ref, ids=", ".join(vm.id for vm in called))
        if not called:
            hint = f", unless it is the one that cannot be read: {next(iter(problems.values()))}" if problems else ""
            raise VmNotFound(vm=ref, library=str(self.root), hint=hint)
        return called[0]

    def find(self, ref: str) -> LocalVm:
        """`peek`, with all files. Raises also LibraryIncomplete, LayersUnknown, NameInvalid (a file that cannot travel)."""
        return self.whole(self.peek(ref))

    def holds(self, template: TemplateId) -> bool:
        """Whether a VM of this id is in the library, readable or not."""
        return self.folder_of(template).is_dir()

    def whole(self, vm: VmFolder) -> LocalVm:
        """The VM with all its files; errors as `find`."""
        files = [LocalFile(vm.config_name, Role.CONFIG, vm.folder / vm.config_name)]
        seen: set[str] = set()
        for drive, top in vm.parsed.drives:
            files += self._chain(vm, top, Role.IMAGE, seen, drive)
        if vm.parsed.state:
            files += self._chain(vm, vm.parsed.state, Role.STATE, seen, None)
        nvram = vm.parsed.nvram
        files += self._beside(vm.folder, vm.config_name, nvram)
        if nvram and vm.parsed.nvram_named and all(file.role is not Role.NVRAM for file in files):
            raise LibraryIncomplete(vm=vm.name, file=nvram, folder=str(vm.folder))
        check_file_names((file.name, file.role) for file in files)
        return LocalVm(
            vm.id, vm.name, vm.parsed.arch, vm.folder, vm.config_name, vm.config, vm.parsed.values, tuple(files)
        )

    def whatever(self, template: TemplateId) -> LocalVm:
        """What there is of a VM that may be broken: missing files are left out, and a chain ends where it is lost."""
        folder = self.folder_of(template)
        try:
            vm = _read_folder(folder)
        except S3regError:
            vm = None
        if vm is None:
            beside = tuple(self._beside(folder, "", None))
            return LocalVm(template, template, "", folder, CONFIG, b"", {}, beside)
        files = [LocalFile(vm.config_name, Role.CONFIG, vm.folder / vm.config_name)]
        for role, tops in ((Role.IMAGE, vm.parsed.drives), (Role.STATE, ((None, vm.parsed.state),))):
            for drive, top in tops:
                with contextlib.suppress(LibraryIncomplete, LayersUnknown):
                    files.extend(self._chain(vm, top, role, set(), drive) if top else ())
        files += self._beside(vm.folder, vm.config_name, vm.parsed.nvram)
        return LocalVm(
            vm.id, vm.name, vm.parsed.arch, folder, vm.config_name, vm.config, vm.parsed.values, tuple(files)
        )

    def users(self, *, besides: TemplateId | None = None) -> dict[str, str]:
        """For each layer that a VM stands on, by its name as `names.folded` has it, the name of such a VM.

        `besides`: a VM that is not counted. Raises what is wrong with a VM that cannot be read: it may stand on anything.
        """
        vms, problems = self.scan()
        if unreadable := [problem for template, problem in problems.items() if template != besides]:
            raise unreadable[0]
        found: dict[str, str] = {}
        for vm in vms:
            # A tag of Anka's own is one more configuration in the VM's folder.
            for parsed in [] if vm.id == besides else [vm.parsed, *_other_configs(vm)]:
                tops = [(top, Role.IMAGE) for _, top in parsed.drives]
                tops += [(parsed.state, Role.STATE)] if parsed.state else []
                for top, role in tops:
                    found |= {names.folded(name): vm.name for name in self._stands_on(vm, top, role)}
        return found

    def _stands_on(self, vm: VmFolder, top: str, role: Role) -> set[str]:
        """The names of a layer and of all below it, also below one that is lost: it may be brought back."""
        name: str | None = top
        found: set[str] = set()
        while name is not None and name not in found:
            found.add(name)
            path = self.path_of(name, role, vm.id)
            if path.is_file():
                name = layers.parent(self.ledger, path)
            else:
                record = self.ledger.record_of(path)
                name = record.parent if record else None
        return found

    def _chain(self, vm: VmFolder, top: str, role: Role, seen: set[str], drive: int | None) -> Iterator[LocalFile]:
        """A layer and all below it, down to the lowest or to one that another chain brought already."""
        name: str | None = top
        above: set[str] = set()
        while name is not None and (name not in seen or name in above):
            if name in above:
                raise LayersUnknown(file=top, reason=f"{name} stands on itself")
            seen.add(name)
            above.add(name)
            path = self.path_of(name, role, vm.id)
            if not path.is_file():
                raise LibraryIncomplete(vm=vm.name, file=name, folder=str(path.parent))
            parent = layers.parent(self.ledger, path)
            yield LocalFile(name, role, path, drive, parent)
            name = parent

    def _beside(self, folder: Path, config_name: str, nvram: str | None) -> list[LocalFile]:
        """What else lies in a VM's folder: its nvram first and, as extras, every other file that is not hidden."""
        found = []
        with platform.refusals_named(folder):
            for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
                if entry.name.startswith(".") or entry.name == config_name or not entry.is_file(follow_symlinks=False):
                    continue
                role = Role.NVRAM if entry.name == nvram else Role.EXTRA
                found.append(LocalFile(entry.name, role, folder / entry.name))
        return sorted(found, key=lambda file: file.role is Role.EXTRA)

    # --- Locks ---

    def check_stopped(self, vm: LocalVm) -> None:
        """Raise VmRunning if the VM's lock is held, or one of its layers or its nvram is open for writing elsewhere."""
        held = self.held_lock(vm.id)
        if held is not None:
            raise VmRunning(vm=vm.name, reason=f"its lock {held} is held")
        paths = written_to(vm)
        written = writers.open_for_writing(paths)
        if written:
            raise VmRunning(
                vm=vm.name, reason=f"{', '.join(sorted(paths[path] for path in written))} is open for writing"
            )

    def held_lock(self, template: TemplateId) -> str | None:
        """The name of the VM's lock file, if somebody holds it: the VM runs."""
        locks = self.vm_lib / ".locks"
        for place in sorted(locks.iterdir()) if locks.is_dir() else ():
            if names.folded(place.name).startswith(template) and is_locked(place):
                return place.name
        return None

    @contextlib.contextmanager
    def lock(self, name: str, *, wait: bool = False) -> Iterator[None]:
        """Hold the lock of this name among all processes that use this library; Busy if it is held and `wait` is false.

        The kernel drops it with the process, however that ends. Two holders in one process exclude each other too.
        """
        file = name if _LOCK_NAME.fullmatch(name) else hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()
        with hold(self.own / "locks" / file, name, wait=wait):
            yield


@contextlib.contextmanager
def hold(place: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock on the file `place`, which is made if need be and stays; Busy, naming `what`, as `Library.lock`."""
    with platform.refusals_named(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise Busy(what=what) from None
        yield
    finally:
        os.close(fd)


def written_to(vm: LocalVm) -> dict[Path, str]:
    """The files that a VM writes while it runs, with their names."""
    return {file.path: file.name for file in vm.files if file.role in LAYERS | {Role.NVRAM}}


def _other_configs(vm: VmFolder) -> Iterator[VmConfig]:
    """What a VM's folder has in the form of a configuration besides the VM's own."""
    for place in sorted(vm.folder.glob("*.yaml")):
        if place.name != vm.config_name and place.is_file():
            with contextlib.suppress(ConfigInvalid), place.open("rb") as file:
                yield vmconfig.parse(file.read(CONFIG_BYTES + 1), place.name)


def _is_vm_name(text: str) -> bool:
    return names.is_template_id(text) and text.lower() == names.template_id(text)


def _read_folder(folder: Path) -> VmFolder | None:
    """The VM in this folder; None if it is no VM's. Raises ConfigInvalid, LocalDenied."""
    with platform.refusals_named(folder):
        for name in _config_names(folder):
            place = folder / name
            try:
                if not stat.S_ISREG(place.stat().st_mode):
                    continue
                with place.open("rb") as file:
                    data = file.read(CONFIG_BYTES + 1)
            except (FileNotFoundError, NotADirectoryError):
                continue
            return _as_vm(folder, name, data)
    return None


def _config_names(folder: Path) -> Iterator[str]:
    """What a VM's configuration may be called: also after the id, which file and folder may spell in different cases."""
    yield CONFIG
    yield (usual := f"{folder.name}.yaml")
    if folder.is_dir():
        yield from sorted(place.name for place in folder.iterdir() if names.folded(place.name) == names.folded(usual))


def _as_vm(folder: Path, config_name: str, data: bytes) -> VmFolder:
    shown = f"{folder.name}/{config_name}"
    parsed = vmconfig.parse(data, shown)
    template = names.template_id(folder.name)
    if parsed.id not in {None, template}:
        raise ConfigInvalid(file=shown, reason=f"its uuid is {parsed.id}, its folder's is another")
    if parsed.name is None:
        raise ConfigInvalid(file=shown, reason="it has no name")
    return VmFolder(template, parsed.name, folder, config_name, data, parsed)


def is_locked(place: Path) -> bool:
    """Whether somebody holds a lock on the file, of either kind: flock or POSIX."""
    try:
        fd = os.open(place, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, IsADirectoryError):
        return False
    except PermissionError:
        fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Shared, and dropped at once: two that only ask do not take each other for a running VM.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    finally:
        os.close(fd)
    return False
