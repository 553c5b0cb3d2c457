"""What a VM's arrival in the library would do: decided first, written down, then done by `staging`.

Deciding moves nothing. It tells for each file whether the library has it already, whether its place is free, or what has to
make room, and refuses where another VM, a running VM or unpushed changes would be hurt.
"""

from __future__ import annotations

import filecmp
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from s3reg.client.ledger import Print, Twin, twin_json, twin_of
from s3reg.client.records import names_of_path
from s3reg.client.tagbook import LAYERS
from s3reg.errors import FileTaken, FormatUnknown, LocalChanges, LocalDenied, NameInvalid
from s3reg.model import names
from s3reg.model.template import CONFIG_BYTES, Role, bytes_digest, check_file_names

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from s3reg.client.library import Library
    from s3reg.model.names import Digest, TemplateId, VersionId

RECORD_VERSION = 1


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A file of a VM that arrives."""

    name: str
    role: Role
    size: int
    digest: Digest | None
    """None: an import, which is not hashed."""
    parent: str | None = None
    origin: Print | None = None
    """Imports: the file that it was made from."""
    twin: Twin | None = None
    """Copies: the library's file that it was made from."""
    map_bytes: bytes | None = field(default=None, repr=False, compare=False)
    """Its map, for the ledger to keep; not written down with the rest."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A VM that arrives: a version, or an import."""

    template: TemplateId
    version: VersionId
    tag: str | None
    """Under which the node notes it; None notes nothing."""
    name: str
    files: tuple[StagedFile, ...]
    durable: bool = True
    """Whether its bytes were made durable before; else what is recorded of them ends with this boot of the machine."""
    local: bool = False
    """Whether no registry has the version."""


@dataclass(frozen=True, slots=True)
class Move:
    """What becomes of one file."""

    file: StagedFile
    to: str
    """Its place, relative to the library's root."""
    reused: Print | None = None
    """The library's own file that already has these bytes, as it looks."""
    old: Print | None = None
    """The library's file that makes room for it."""
    seen: Print | None = None
    """The staged file, as it looks; known once all is staged."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What publishing does."""

    arrival: Arrival
    moves: tuple[Move, ...]
    old_vm: tuple[str, int] | None
    """The folder that makes room: its place relative to the library's root, and its inode."""
    forgotten: tuple[str, ...]
    """Files of that folder, relative to the library's root: their records go with them."""
    force: bool
    """Whether unpushed changes may go."""


def decide(library: Library, arrival: Arrival, *, force: bool, same: Callable[[Path, StagedFile], bool] | None) -> Plan:
    """What the arrival would do to the library as it is now.

    Raises FileTaken, VmRunning, NameInvalid and, unless `force`, LocalChanges.
    """
    check_file_names((file.name, file.role) for file in arrival.files)
    moves = [_move(library, arrival, file, same) for file in arrival.files]
    replaced = [library.root / move.to for move in moves if move.old]
    _check_not_taken(library, arrival, replaced)
    folder = library.folder_of(arrival.template)
    old_vm, forgotten = None, []
    if folder.is_dir():
        old_vm = (folder.relative_to(library.root).as_posix(), folder.lstat().st_ino)
        vm = library.whatever(arrival.template)
        forgotten = [file.path.relative_to(library.root).as_posix() for file in vm.files if file.role not in LAYERS]
    _check_harmless(library, arrival, replaced, force=force)
    return Plan(arrival, tuple(moves), old_vm, tuple(forgotten), force)


def check_still(library: Library, plan: Plan, *, force: bool) -> None:
    """Raise what `decide` would, for what a plan that was interrupted has yet to move: time has passed since."""
    waiting = [library.root / move.to for move in plan.moves if move.old and is_at(library.root / move.to, move.old)]
    _check_not_taken(library, plan.arrival, waiting)
    old = None if plan.old_vm is None else library.root / plan.old_vm[0]
    if old is not None and old.is_dir() and plan.old_vm is not None and old.lstat().st_ino == plan.old_vm[1]:
        _check_harmless(library, plan.arrival, waiting, force=force)


def is_at(path: Path, look: Print) -> bool:
    """Whether the file there is the one that looked so."""
    return os.path.lexists(path) and Print.of(path.lstat()) == look


def _check_harmless(library: Library, arrival: Arrival, replaced: list[Path], *, force: bool) -> None:
    """Raise VmRunning if the VM that makes room runs and, unless `force`, LocalChanges if bytes would go for good."""
    going = list(replaced)
    if library.holds(arrival.template):
        vm = library.whatever(arrival.template)
        library.check_stopped(vm)
        going += [file.path for file in vm.files]
        beside = {file.name for file in vm.files if file.role not in LAYERS}
        # A folder, or a link: never pushed, hence nowhere else.
        going += [path for path in vm.folder.iterdir() if path.name not in beside and not path.name.startswith(".")]
    row = library.ledger.tags(arrival.template).get(arrival.tag or "")
    taken = row is not None and row.local and row.version != arrival.version
    if force or not (going or taken):
        return
    pushed, tagged = library.ledger.pushed(), library.ledger.tagged()
    changed = set()
    for path in going:
        digest = _digest(library, path)
        # What a local tag brings back may leave the VM, but must not be written over.
        stays = path not in replaced and (path.name, digest) in tagged and _is_kept(library, path, digest)
        if digest not in pushed and not stays:
            changed.add(path.name)
    if row is not None and taken and not pushed.issuperset(row.files.values()):
        changed.add(f"the local tag {arrival.tag}")
    if changed:
        raise LocalChanges(vm=arrival.name, files=", ".join(sorted(changed)))


def _is_kept(library: Library, path: Path, digest: Digest | None) -> bool:
    """Whether the file can be had again: layers stay where they are, others are kept, and that copy may be damaged."""
    is_layer = path.parent in {library.img_lib, library.state_lib}
    return is_layer or (digest is not None and filecmp.cmp(path, library.ledger.kept(digest), shallow=False))


def _move(
    library: Library, arrival: Arrival, file: StagedFile, same: Callable[[Path, StagedFile], bool] | None
) -> Move:
    if file.role not in LAYERS:
        return Move(file, f"{library.vm_lib.name}/{arrival.template}/{file.name}")
    place = library.path_of(file.name, file.role, arrival.template)
    to = place.relative_to(library.root).as_posix()
    if not os.path.lexists(place):
        return Move(file, to)
    look = Print.of(place.lstat())
    if place.is_file() and look.size == file.size:
        known = library.ledger.known(place)
        if (known == file.digest and known is not None) or (known is None and same is not None and same(place, file)):
            return Move(file, to, reused=look)
    return Move(file, to, old=look)


def _check_not_taken(library: Library, arrival: Arrival, places: list[Path]) -> None:
    """Raise FileTaken if a VM other than the one that arrives stands on one of these files."""
    if not places:
        return
    users = library.users(besides=arrival.template)
    for place in places:
        if (vm := users.get(names.folded(place.name))) is not None:
            raise FileTaken(file=place.name, vm=vm, template=arrival.name)
        if place.is_dir():
            raise LocalDenied(file=str(place), reason="a folder has the name of a layer")


def _digest(library: Library, path: Path) -> Digest | None:
    """The file's digest: as recorded or, of one so small that it travels inline and may be in no record, read.

    Of a file that was not made durable it is the digest that it once had: nobody wrote to it since.
    """
    known = library.ledger.untouched(path)
    if known is None and path.is_file() and not path.is_symlink() and path.stat().st_size <= CONFIG_BYTES:
        return bytes_digest(path.read_bytes())
    return known


# --- Written down ----------------------------------------------------------------------------------------------------


def arrival_json(arrival: Arrival) -> dict[str, Any]:
    """An arrival as it lies in a staging."""
    return {
        "v": RECORD_VERSION,
        "template": arrival.template,
        "version": arrival.version,
        "tag": arrival.tag,
        "name": arrival.name,
        "durable": arrival.durable,
        "local": arrival.local,
        "files": [
            [
                file.name,
                file.role.value,
                file.size,
                file.digest,
                file.parent,
                _print_json(file.origin),
                twin_json(file.twin),
            ]
            for file in arrival.files
        ],
    }


def plan_json(plan: Plan) -> dict[str, Any]:
    """A plan as it lies in a staging."""
    return {
        "v": RECORD_VERSION,
        "arrival": arrival_json(plan.arrival),
        "moves": [
            [index, move.to, _print_json(move.reused), _print_json(move.old), _print_json(move.seen)]
            for index, move in enumerate(plan.moves)
        ],
        "old_vm": plan.old_vm,
        "forgotten": plan.forgotten,
        "force": plan.force,
    }


def read_plan(path: Path) -> Plan | None:
    """The plan written down at `path`; None if there is none, or it cannot be read. Raises FormatUnknown."""
    raw = _load(path)
    try:
        return None if raw is None else _plan(raw)
    except (KeyError, IndexError, TypeError, ValueError, NameInvalid):
        return None


def _load(path: Path) -> dict[str, Any] | None:
    try:
        raw = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(raw, dict):
        return None
    if raw.get("v") != RECORD_VERSION:
        raise FormatUnknown(what="a staging", feature=f"version {raw.get('v')}")
    return raw


def _arrival(raw: dict[str, Any]) -> Arrival:
    return Arrival(
        names.template_id(raw["template"]),
        names.version_id(raw["version"]),
        None if raw["tag"] is None else names.tag(raw["tag"]),
        names.template_name(raw["name"]),
        tuple(
            StagedFile(
                names.file_name(name),
                Role(role),
                int(size),
                None if digest is None else names.digest(digest),
                None if parent is None else names.file_name(parent),
                _print(origin),
                twin_of(twin[0]) if twin else None,
            )
            for name, role, size, digest, parent, origin, *twin in raw["files"]
        ),
        raw["durable"] is not False,
        raw.get("local") is True,
    )


def _plan(raw: dict[str, Any]) -> Plan:
    arrival = _arrival(raw["arrival"])
    moves = tuple(
        Move(arrival.files[index], names_of_path(to), _print(reused), _print(old), _print(seen))
        for index, to, reused, old, seen in raw["moves"]
    )
    old = raw["old_vm"]
    old_vm = None if old is None else (names_of_path(old[0]), int(old[1]))
    return Plan(arrival, moves, old_vm, tuple(names_of_path(path) for path in raw["forgotten"]), raw["force"] is True)


def _print_json(value: Print | None) -> list[int] | None:
    return [value.size, value.mtime_ns, value.inode] if value else None


def _print(raw: list[Any] | None) -> Print | None:
    return Print(*(int(number) for number in raw)) if raw else None
