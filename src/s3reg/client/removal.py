"""What leaves a library: a VM, tags of a template, and the layers that nothing stands on afterwards.

One rule for all of it: a layer stays while a VM or a tag of this node names it (`needed`). A removal is written down in a
folder of its own in the trash before anything goes:

    .s3reg/trash/<random>/removal.json    the template, its tags and the layers that are about to go
    .s3reg/trash/<random>/vm/             the VM's folder, once it has left the library

A VM is gone when its folder lies there, a tag when its row is dropped: one step each. What is left to do after a kill, the
next `recover` does (client/staging.py), by `finish`.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s3reg.client import arriving, platform, records
from s3reg.client.ledger import Print
from s3reg.client.library import PUBLISHING
from s3reg.client.tagbook import LAYERS
from s3reg.errors import LocalTagNotFound, S3regError
from s3reg.model import names

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from s3reg.client.library import Library, LocalVm
    from s3reg.client.tagbook import LocalTag
    from s3reg.model.names import TemplateId

_RECORD, _VM = "removal.json", "vm"


@dataclass(frozen=True, slots=True)
class Removal:
    """What goes."""

    template: TemplateId
    tags: tuple[str, ...]
    layers: dict[Path, Print]
    """How they looked when it was decided: what another program has written since then stays."""
    folder: Path | None = None
    """The VM's, if the VM goes too."""

    def bytes(self) -> int:
        """What all of it takes up on the disk; of blocks that are shared with other files, nothing is known."""
        beside = [] if self.folder is None else [path for path in self.folder.rglob("*") if path.is_file()]
        return sum(path.lstat().st_blocks * 512 for path in [*self.layers, *beside])


def needed(
    library: Library, *, without_vm: TemplateId | None = None, without_tags: Collection[tuple[TemplateId, str]] = ()
) -> set[str]:
    """The layers that a VM, a tag, or a VM that is being published stands on, by their names as `names.folded` has them.

    `without_…`: who is not counted, because it goes. Raises what is wrong with a VM that cannot be read: it may stand on
    anything.
    """
    found = set(library.users(besides=without_vm))
    for template, tag, row in library.ledger.every_tag():
        if (template, tag) not in without_tags:
            found |= {names.folded(member.name) for member in row.members if member.role in LAYERS}
    for place in (library.own / "staging").glob("*/plan.json"):
        plan = arriving.read_plan(place)
        found |= {names.folded(file.name) for file in plan.arrival.files if file.role in LAYERS} if plan else set()
    return found


def of_vm(library: Library, vm: LocalVm) -> Removal:
    """What goes with a VM: its folder, its tags, and its layers, changed since or not, that nothing else stands on.

    Raises what is wrong with another VM that cannot be read. A broken VM goes all the same, without its layers: two such
    would keep each other here for ever.
    """
    tags = library.ledger.tags(vm.id)
    try:
        kept = needed(library, without_vm=vm.id, without_tags={(vm.id, tag) for tag in tags})
    except S3regError:
        if not _is_broken(library, vm.id):
            raise
        return Removal(vm.id, tuple(tags), {}, vm.folder)
    layers = {file.path: Print.of(file.path.stat()) for file in vm.files if file.role in LAYERS}
    layers |= _as_noted(library, tags.values())
    return Removal(vm.id, tuple(tags), _unless(layers, kept), vm.folder)


def of_tags(library: Library, template: TemplateId, gone: Collection[str]) -> Removal:
    """What goes with these tags: layers, as they were noted, that nothing else stands on.

    Raises LocalTagNotFound, and what is wrong with a VM that cannot be read.
    """
    tags = library.ledger.tags(template)
    for tag in gone:
        if tag not in tags:
            raise LocalTagNotFound(vm=template, tag=tag)
    kept = needed(library, without_tags={(template, tag) for tag in gone})
    layers = _as_noted(library, (tags[tag] for tag in gone))
    return Removal(template, tuple(gone), _unless(layers, kept))


def remove_vm(library: Library, template: TemplateId) -> int:
    """`remove_vms` of one; the bytes that went."""
    return remove_vms(library, [template])[template]


def remove_vms(library: Library, templates: Collection[TemplateId]) -> dict[TemplateId, int]:
    """Remove stopped VMs, whole, broken or gone but for their tags, with their tags; the bytes that went, by the VM's id.

    All of them, or none: raises VmRunning, Busy if a push or a pull of one is under way, and what is wrong with a VM that
    stays and cannot be read, before anything is removed.
    """
    with contextlib.ExitStack() as held:
        for template in sorted(templates):
            for what in ("pull", "push"):
                held.enter_context(library.lock(f"{what}-{template}"))
        held.enter_context(_changing(library))
        gone = [template for template in templates if not library.holds(template)]
        vms = [library.whatever(template) for template in templates if template not in gone]
        for vm in vms:
            library.check_stopped(vm)
        # Broken ones first: while there is one, nobody knows what it stands on.
        going = sorted(vms, key=lambda vm: not _is_broken(library, vm.id))
        staying = [problem for template, problem in library.scan()[1].items() if template not in templates]
        if staying and (gone or not _is_broken(library, going[-1].id)):
            raise staying[0]
        freed = {vm.id: _remove_one(library, vm) for vm in going}
        return freed | {template: _forget(library, template, library.ledger.tags(template)) for template in gone}


def _remove_one(library: Library, vm: LocalVm) -> int:
    removal = of_vm(library, vm)
    freed, aside = removal.bytes(), _write_down(library, removal)
    vm.folder.rename(aside / _VM)
    platform.sync_folder(library.vm_lib)
    _carry_out(library, removal, aside, kept=set())
    return freed


def remove_tags(library: Library, template: TemplateId, gone: Collection[str]) -> int:
    """Remove tags of a template from this node; the bytes that went. Raises what `of_tags` raises."""
    with _changing(library):
        return _forget(library, template, gone)


def _forget(library: Library, template: TemplateId, gone: Collection[str]) -> int:
    removal = of_tags(library, template, gone)
    freed, aside = removal.bytes(), _write_down(library, removal)
    _carry_out(library, removal, aside, kept=set())
    return freed


def shrink(library: Library, template: TemplateId) -> int:
    """Remove all tags of a template but the current one and those that no registry has; the bytes that went."""
    current = library.ledger.current(template)
    gone = [tag for tag, row in library.ledger.tags(template).items() if tag != current and not row.local]
    return remove_tags(library, template, gone) if gone else 0


def remove_layers(library: Library, layers: Iterable[Path], kept: Collection[str]) -> int:
    """Remove the layers that are not `kept`, with their records; the bytes that went."""
    freed = 0
    for path in layers:
        if _may_go(path, kept):
            freed += path.lstat().st_blocks * 512
            path.unlink()
            library.ledger.forget(path)
    return freed


def finish(library: Library, aside: Path) -> None:
    """Do what is left of a removal that was written down in `aside` and begun; nothing, if there is none."""
    removal = records.parsed(records.read(aside / _RECORD), "a removal", lambda raw: _removal(library, raw))
    if removal is None:
        return
    if removal.folder is None:
        begun = not any(tag in library.ledger.tags(removal.template) for tag in removal.tags)
    else:
        begun = (aside / _VM).is_dir() and not library.holds(removal.template)
    if begun:
        gone = {(removal.template, tag) for tag in removal.tags}
        _carry_out(library, removal, aside, kept=needed(library, without_tags=gone))


# --- Inside ----------------------------------------------------------------------------------------------------------


def _is_broken(library: Library, template: TemplateId) -> bool:
    try:
        library.find(template)
    except S3regError:
        return True
    return False


def _as_noted(library: Library, rows: Iterable[LocalTag]) -> dict[Path, Print]:
    """The layers of these versions that are as they were noted, and how they look."""
    found = {}
    for row in rows:
        for member in row.members:
            for folder in (library.img_lib, library.state_lib) if member.role in LAYERS else ():
                place = folder / member.name
                if library.ledger.known(place) == member.digest:
                    found[place] = Print.of(place.stat())
    return found


def _unless(layers: dict[Path, Print], kept: set[str]) -> dict[Path, Print]:
    return {path: look for path, look in layers.items() if _may_go(path, kept)}


def _may_go(path: Path, kept: Collection[str]) -> bool:
    # A folder that is a link is shared with another library, and nobody knows what that one's VMs and tags stand on.
    return names.folded(path.name) not in kept and not path.parent.is_symlink()


def _carry_out(library: Library, removal: Removal, aside: Path, *, kept: set[str]) -> None:
    """Every step of it that was not done yet, and its folder at last."""
    library.ledger.forget_tags(removal.template, removal.tags)
    if removal.folder is not None:
        for entry in (aside / _VM).iterdir():
            library.ledger.forget(removal.folder / entry.name)
        (library.own / "push" / f"{removal.template}.jsonl").unlink(missing_ok=True)
    there = [path for path, look in removal.layers.items() if arriving.is_at(path, look)]
    remove_layers(library, there, kept)
    for path in removal.layers:
        if not path.exists():
            library.ledger.forget(path)
    library.ledger.prune()
    shutil.rmtree(aside, ignore_errors=True)  # what stays, the next `recover` removes


def _write_down(library: Library, removal: Removal) -> Path:
    aside = library.own / "trash" / secrets.token_hex(8)
    rows = [
        [path.relative_to(library.root).as_posix(), look.size, look.mtime_ns, look.inode]
        for path, look in removal.layers.items()
    ]
    body = {
        "v": records.RECORD_VERSION,
        "template": removal.template,
        "tags": removal.tags,
        "layers": rows,
        "folder": None if removal.folder is None else removal.folder.name,
    }
    records.write_durably(aside / _RECORD, json.dumps(body).encode())
    return aside


def _removal(library: Library, raw: dict[str, Any]) -> Removal:
    return Removal(
        names.template_id(raw["template"]),
        tuple(names.tag(tag) for tag in raw["tags"]),
        {library.root / records.names_of_path(path): Print(*map(int, look)) for path, *look in raw["layers"]},
        None if raw["folder"] is None else library.vm_lib / names.file_name(raw["folder"]),
    )


@contextlib.contextmanager
def _changing(library: Library) -> Iterator[None]:
    with library.lock(PUBLISHING, wait=True), platform.refusals_named(library.img_lib):
        yield
