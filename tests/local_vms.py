"""VMs in a library as they come about on a node: layers on layers, tags, and what running a VM does to its files."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import yaml

from s3reg.client import localtags
from s3reg.client.library import CONFIG, Library
from s3reg.client.progress import Silent
from s3reg.model.template import Role
from vms import UUID, make_vm

if TYPE_CHECKING:
    from pathlib import Path

    from s3reg.model.names import TemplateId


def layered(library: Library, *, template: TemplateId = UUID, name: str = "macos") -> None:
    """A VM of a layer in Anka's format on another one, and a plain disk; an nvram and an extra file."""
    top, below, plain = _layer(name, "top", ".ank"), _layer(name, "below", ".ank"), _layer(name, "plain", ".img")
    disks = {top: b"top" * 100, plain: b"plain" * 100}
    folder = make_vm(library, template=template, name=name, images=disks, nvram=True)
    (library.img_lib / below).write_bytes(b"below" * 100)
    library.ledger.record(library.img_lib / top, None, parent=below)
    library.ledger.record(library.img_lib / below, None)
    (folder / "nvram").write_bytes(b"variables")
    (folder / "policy.json").write_bytes(b"{}")


def tagged(library: Library, tag: str, ref: str = UUID) -> None:
    """The VM as it is now has this tag."""
    localtags.note(library, library.find(ref), tag, Silent())


def run_on_a_layer(library: Library, data: bytes, ref: str = UUID) -> Path:
    """Anka starts the VM: what it writes goes into a layer of its own, on the one that was at the top. That layer."""
    vm = library.find(ref)
    values = dict(vm.values)
    rows = list(values["hard_drives"])
    layer = library.img_lib / _layer(vm.name, data.hex(), ".ank")
    layer.write_bytes(data)
    library.ledger.record(layer, None, parent=rows[0]["file"])
    rows[0] = {**rows[0], "file": layer.name}
    (vm.folder / CONFIG).write_text(yaml.safe_dump({**values, "hard_drives": rows}, sort_keys=False))
    (vm.folder / "nvram").write_bytes(data)
    return layer


def of_two_tags(root: Path) -> Library:
    """A library with a VM that was v1, ran on a layer of its own, and is v2."""
    library = Library(root)
    layered(library)
    tagged(library, "v1")
    run_on_a_layer(library, b"ran")
    tagged(library, "v2")
    return library


def _layer(vm: str, what: str, suffix: str) -> str:
    """A layer's name as Anka makes them; the same for the same."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{vm}-{what}").hex + suffix


def contents(library: Library, ref: str = UUID) -> list[tuple[str, bytes]]:
    """What the VM is, whatever its id and its files are called: role and bytes, the configuration without names."""
    files = library.find(ref).files
    return [(file.role.value, b"" if file.role is Role.CONFIG else file.path.read_bytes()) for file in files]


def layers(library: Library, ref: str = UUID) -> list[str]:
    """The names of the VM's layers, those at the top first."""
    return [file.name for file in library.find(ref).files if file.role in {Role.IMAGE, Role.STATE}]


def in_the_shared_folders(library: Library) -> set[str]:
    """The names of all layers that lie in the library."""
    return {path.name for folder in (library.img_lib, library.state_lib) for path in folder.iterdir()}
