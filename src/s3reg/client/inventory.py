"""What VMs a library has, and how each is: whether it runs, which tag it is, whether it changed since.

Told from what is recorded: sizes, times and inodes are compared, no disk is read.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from s3reg.client import writers
from s3reg.client.library import written_to
from s3reg.client.tagbook import LAYERS
from s3reg.errors import S3regError

if TYPE_CHECKING:
    from pathlib import Path

    from s3reg.client.library import Library, LocalVm, VmFolder
    from s3reg.model.names import TemplateId


class Status(enum.Enum):
    """What a VM is doing."""

    RUNNING = "running"
    SUSPENDED = "suspended"
    STOPPED = "stopped"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Found:
    """A VM of the library."""

    id: TemplateId
    name: str
    """Empty if it cannot be read."""
    status: Status
    tag: str | None
    """The version that it is, or was before it changed; None: it has no tag."""
    changed: bool | None
    """Whether it has other bytes than that version; None without a tag, and if it is broken."""
    problem: S3regError | None = None
    """What is wrong with a broken one."""
    vm: LocalVm | None = field(default=None, repr=False)
    """The VM with its files; None if it is broken."""


def survey(library: Library) -> list[Found]:
    """Every VM of the library by name, those that cannot be read at the end. Broken ones are among them, with the reason."""
    folders, unreadable = library.scan()
    read = [(folder, _whole(library, folder)) for folder in folders]
    written = writers.open_for_writing(
        path for _, vm in read if not isinstance(vm, S3regError) for path in written_to(vm)
    )
    found = [_found(library, folder, vm, written) for folder, vm in read]
    return [*found, *(_broken(library, template, "", problem) for template, problem in unreadable.items())]


def look(library: Library, ref: str) -> Found:
    """One VM, as `survey` tells it. Raises VmNotFound, NameAmbiguous, and what is wrong with one that cannot be read."""
    folder = library.peek(ref)
    vm = _whole(library, folder)
    written = set() if isinstance(vm, S3regError) else writers.open_for_writing(written_to(vm))
    return _found(library, folder, vm, written)


def is_pushed(library: Library, vm: LocalVm) -> bool:
    """Whether a registry has, or had, every byte of its layers, going by what is recorded."""
    pushed = library.ledger.pushed()
    return all(library.ledger.known(file.path) in pushed for file in vm.files if file.role in LAYERS)


def layer_bytes(vm: LocalVm) -> int:
    """What its layers take up on the disk, shared or not."""
    return sum(file.path.stat().st_blocks * 512 for file in vm.files if file.role in LAYERS)


def _whole(library: Library, folder: VmFolder) -> LocalVm | S3regError:
    try:
        return library.whole(folder)
    except S3regError as e:
        return e


def _found(library: Library, folder: VmFolder, vm: LocalVm | S3regError, written: set[Path]) -> Found:
    if isinstance(vm, S3regError):
        return _broken(library, folder.id, folder.name, vm)
    if library.held_lock(vm.id) is not None or written & written_to(vm).keys():
        status = Status.RUNNING
    else:
        status = Status.SUSPENDED if folder.parsed.state else Status.STOPPED
    tag = library.ledger.current(vm.id)
    return Found(vm.id, vm.name, status, tag, _is_changed(library, vm, tag), vm=vm)


def _is_changed(library: Library, vm: LocalVm, tag: str | None) -> bool | None:
    row = None if tag is None else library.ledger.tags(vm.id).get(tag)
    if row is None:
        return None
    now = {(file.name, file.role, library.ledger.known(file.path)) for file in vm.files}
    return now != {(member.name, member.role, member.digest) for member in row.members}


def _broken(library: Library, template: TemplateId, name: str, problem: S3regError) -> Found:
    return Found(template, name, Status.BROKEN, library.ledger.current(template), None, problem)
