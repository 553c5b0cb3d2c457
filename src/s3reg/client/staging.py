"""Where a VM is put together before the library shows it, and the step that makes it appear.

    .s3reg/staging/<template>-<version>/
      img/ state/ vm/      the files, verified; vm/ becomes the VM's folder
      complete.json        everything is here, verified and durable; it may wait so for a later pull
      plan.json            publishing has begun: what goes where
      replaced/            what had to make room, until the end

Publishing renames, it copies nothing. Layers go first and never over a file; if one takes another's place, the old VM leaves
the library before; the VM's folder comes last. So at any moment the library shows the old VM whole, nothing, or the new one
whole. From plan.json on there is only forward: every step can be repeated, and `recover` repeats them after a kill.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from s3reg.client import arriving, copies, platform, removal
from s3reg.client.arriving import Arrival, Plan, StagedFile
from s3reg.client.ledger import Print
from s3reg.client.library import PUBLISHING, hold, is_locked
from s3reg.client.records import write_durably
from s3reg.client.tagbook import LAYERS, TagFile
from s3reg.errors import FileGone, LocalDenied, S3regError
from s3reg.model import names
from s3reg.model.template import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from s3reg.client.library import Library
    from s3reg.model.names import TemplateId, VersionId

    Same = Callable[[Path, StagedFile], bool]

__all__ = ["StagedFile", "Staging", "recover"]

AT_WORK = "at-work"
"""A file in the staging of what cannot go on after a kill; its lock is held while somebody is at work on it."""

_FOLDERS = {Role.IMAGE: "img", Role.STATE: "state"}


class Staging:
    """The staging of one version of one template. Nothing is made before it is needed; what is there already is kept."""

    def __init__(self, library: Library, template: TemplateId, version: VersionId) -> None:
        self.library = library
        self.template = template
        self.version = version
        self.folder = library.own / "staging" / f"{template}-{version}"

    def path(self, name: str, role: Role) -> Path:
        """Where to write this file; its folder exists. Raises NameInvalid for a name that could lead elsewhere."""
        place = self.place(name, role)
        with platform.refusals_named(place):
            place.parent.mkdir(parents=True, exist_ok=True)
        return place

    def place(self, name: str, role: Role) -> Path:
        """`path`, for whoever only looks: nothing is made."""
        return self.folder / _FOLDERS.get(role, "vm") / names.file_name(name)

    def check(
        self, files: Sequence[StagedFile], *, name: str, force: bool = False, same: Same | None = None
    ) -> frozenset[str]:
        """The names of the layers that the library has already and that need not be staged.

        To be asked before a byte is fetched. `same(path, file)` may tell, by reading, that a file of the library which the
        records do not vouch for has the right bytes all the same. Raises FileTaken if another VM uses a file of such a name
        with other bytes, VmRunning, and, unless `force`, LocalChanges if bytes would go that no registry has.
        """
        self._check_one_file_system()
        arrival = Arrival(self.template, self.version, None, name, tuple(files))
        decided = arriving.decide(self.library, arrival, force=force, same=same)
        return frozenset(move.file.name for move in decided.moves if move.reused)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """For what does not go on after a kill: nobody sweeps it meanwhile, and nothing of it stays if it goes wrong."""
        with contextlib.ExitStack() as held:
            with self.library.lock(PUBLISHING, wait=True):
                # Made where leftovers lie, so that a kill leaves no staging that seems to wait for its pull to go on.
                aside = self.library.own / "trash" / self.folder.name
                held.enter_context(hold(aside / AT_WORK, self.folder.name))
                with platform.refusals_named(self.folder):
                    self.folder.parent.mkdir(exist_ok=True)
                    aside.rename(self.folder)
            try:
                yield
            except BaseException:
                self.discard()
                raise

    def publish(
        self,
        files: Sequence[StagedFile],
        *,
        name: str,
        tag: str | None,
        force: bool = False,
        same: Same | None = None,
        durable: bool = True,
        local: bool = False,
    ) -> Path:
        """Make the VM appear in the library and in its records, and remove the staging; the VM's folder.

        `files` are all that the VM has, each staged and verified, or in the library already: layers as `check` told, files
        of the VM's folder as recorded. What else was staged is dropped. With `durable`, all bytes would survive a power cut
        before any of them is shown. `tag` is noted as the current one, `local` as one that no registry has; None notes
        nothing. Raises what `check` raises, and LocalDenied if a file is missing, before anything is moved.
        Where it is interrupted, `recover` goes on, or the same call again.
        """
        arrival = Arrival(self.template, self.version, tag, name, tuple(files), durable, local)
        with self.library.lock(PUBLISHING, wait=True), platform.refusals_named(self.folder):
            plan = arriving.read_plan(self.folder / "plan.json")
            if plan is None:
                self._complete(arrival)
                plan = self._planned(arrival, force=force, same=same)
                write_durably(self.folder / "plan.json", json.dumps(arriving.plan_json(plan)).encode())
            else:
                arriving.check_still(self.library, plan, force=force)
            self._run(plan)
        return self.library.vm_lib / self.template

    def complete(self, files: Sequence[StagedFile], *, name: str, durable: bool = True) -> None:
        """Leave the staging, with all that `publish` would need, to a later one. Nothing else changes."""
        arrival = Arrival(self.template, self.version, None, name, tuple(files), durable)
        with self.library.lock(PUBLISHING, wait=True), platform.refusals_named(self.folder):
            self._complete(arrival)

    def drop_others(self, *, complete: bool) -> None:
        """Remove the stagings of the template's other versions at which nobody is at work; `complete`: whole ones too.

        To be called by whoever alone may pull the template.
        """
        for folder in self.folder.parent.glob(f"{self.template}-*"):
            busy = folder == self.folder or any((folder / name).exists() for name in (AT_WORK, "plan.json"))
            if not busy and (complete or not (folder / "complete.json").exists()):
                dispose(self.library, folder)

    def discard(self) -> None:
        """Remove the staging and what lies in it; one whose publishing has begun stays, for `recover` to finish."""
        if not (self.folder / "plan.json").exists():
            with platform.refusals_named(self.folder):
                dispose(self.library, self.folder)

    # --- Inside ---

    def _complete(self, arrival: Arrival) -> None:
        """All of the VM's folder in its staging and nothing else, maps kept, names durable, and a note that says so."""
        beside = {file.name: file for file in arrival.files if file.role not in LAYERS}
        for file in arrival.files:
            if file.map_bytes is not None and file.digest is not None:
                self.library.ledger.keep_map(file.digest, file.map_bytes)
        for file in beside.values():
            self._bring(file)
            if arrival.tag is not None and file.digest is not None:
                self.library.ledger.keep(file.digest, self._staged(file))
        for entry in (self.folder / "vm").iterdir():
            if entry.name not in beside:
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        if arrival.durable:
            for file in arrival.files:
                if (staged := self._staged(file)).is_file():
                    copies.sync_file(staged)
        for folder in (*(self.folder / name for name in ("img", "state", "vm")), self.folder, self.folder.parent):
            if folder.is_dir():
                platform.sync_folder(folder)
        write_durably(self.folder / "complete.json", json.dumps(arriving.arrival_json(arrival)).encode())

    def _bring(self, file: StagedFile) -> None:
        """A file of the VM's folder that is not staged comes from the library, if that has it as recorded."""
        staged, here = self.path(file.name, file.role), self.library.path_of(file.name, file.role, self.template)
        known = self.library.ledger.known(here)
        if not staged.is_file() and known is not None and known == file.digest:
            copies.copy(here, staged)
        self._check_staged(file)

    def _planned(self, arrival: Arrival, *, force: bool, same: Same | None) -> Plan:
        self._check_one_file_system()
        plan = arriving.decide(self.library, arrival, force=force, same=same)
        moves = []
        for move in plan.moves:
            if move.reused is None:
                self._check_staged(move.file)
                move = replace(move, seen=Print.of(self._staged(move.file).stat()))  # noqa: PLW2901 - the same move, dated
            moves.append(move)
        return replace(plan, moves=tuple(moves))

    def _run(self, plan: Plan) -> None:
        """Do what the plan says from wherever it stopped: each step is left out if it was done."""
        layers = [move for move in plan.moves if move.file.role in LAYERS and move.reused is None]
        for move in layers:
            if move.old is None:
                self._place(self._staged(move.file), self.library.root / move.to)
        if plan.old_vm is not None:
            old, inode = self.library.root / plan.old_vm[0], plan.old_vm[1]
            if old.is_dir() and old.lstat().st_ino == inode:
                self._set_aside(old, "vm")
        for move in layers:
            if move.old is not None:
                if arriving.is_at(self.library.root / move.to, move.old):
                    self._set_aside(self.library.root / move.to, f"{move.file.role.value}-{move.file.name}")
                self._place(self._staged(move.file), self.library.root / move.to)
        for folder in {(self.library.root / move.to).parent for move in layers}:
            platform.sync_folder(folder)
        self._place(self.folder / "vm", self.library.vm_lib / self.template)
        platform.sync_folder(self.library.vm_lib)
        self._record(plan)
        dispose(self.library, self.folder)

    def _place(self, staged: Path, to: Path) -> None:
        if not os.path.lexists(staged):
            return
        try:
            platform.rename_exclusive(staged, to)
        except FileExistsError:
            if staged.is_file() and to.is_file() and staged.samefile(to):
                staged.unlink()  # a kill between link and unlink, where the file system has no exclusive rename
            elif to.is_dir() and not to.is_symlink() and not any(to.iterdir()):
                to.rmdir()
                platform.rename_exclusive(staged, to)
            else:
                raise LocalDenied(file=str(to), reason="another program put something there meanwhile") from None

    def _set_aside(self, old: Path, name: str) -> None:
        (self.folder / "replaced").mkdir(exist_ok=True)
        old.rename(self.folder / "replaced" / name)
        platform.sync_folder(old.parent)

    def _record(self, plan: Plan) -> None:
        """What the moved files are, as they were when they were planned: a VM that was started since is not vouched for."""
        ledger, arrival = self.library.ledger, plan.arrival
        for path in plan.forgotten:
            ledger.forget(self.library.root / path)
        for move in plan.moves:
            place = self.library.root / move.to
            seen = move.reused or move.seen
            if seen and place.is_file():
                ledger.record(
                    place,
                    move.file.digest,
                    parent=move.file.parent,
                    seen=seen,
                    origin=move.file.origin,
                    twin=move.file.twin,
                    durable=arrival.durable,
                    ours=move.reused is None,
                )
        if arrival.tag is not None:
            members = [TagFile(file.name, file.role, file.digest) for file in arrival.files if file.digest is not None]
            ledger.set_tag(arrival.template, arrival.tag, arrival.version, arrival.name, members, local=arrival.local)

    def _staged(self, file: StagedFile) -> Path:
        return self.folder / _FOLDERS.get(file.role, "vm") / file.name

    def _check_staged(self, file: StagedFile) -> None:
        place = self._staged(file)
        if not os.path.lexists(place):
            raise FileGone(file=file.name)
        if not place.is_file() or place.stat().st_size != file.size:
            raise LocalDenied(file=file.name, reason="it was not staged whole")

    def _check_one_file_system(self) -> None:
        """Publishing renames, and no rename leaves its file system."""
        self.library.create()
        own = self.library.own.stat().st_dev
        for folder in (self.library.vm_lib, self.library.img_lib, self.library.state_lib):
            if folder.stat().st_dev != own:
                raise LocalDenied(file=str(folder), reason="it lies on another file system than the library itself")


def dispose(library: Library, folder: Path) -> None:
    """Remove a folder and all in it. To everybody else it is gone in one step, even if this is killed half-way."""
    if not folder.exists():
        return
    trash = library.own / "trash"
    trash.mkdir(parents=True, exist_ok=True)
    gone = trash / secrets.token_hex(8)
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)  # what stays, the next `recover` removes


def recover(library: Library) -> list[S3regError]:
    """Finish what was interrupted, publishing and removing, and drop what dead imports left; what cannot be, as errors.

    A staging that only waits for its pull to go on is left alone.
    """
    problems: list[S3regError] = []
    staging = library.own / "staging"
    if not any(folder.is_dir() and any(folder.iterdir()) for folder in (staging, library.own / "trash")):
        return problems  # without a lock: a library that may only be read needs none
    with library.lock(PUBLISHING, wait=True), platform.refusals_named(library.own):
        for left in sorted((library.own / "trash").glob("*")):
            try:
                removal.finish(library, left)
            except S3regError as e:
                problems.append(e)
            else:
                shutil.rmtree(left, ignore_errors=True)
        for folder in sorted(staging.glob("*")):
            try:
                _recover_one(library, folder)
            except S3regError as e:
                problems.append(e)
    return problems


def _recover_one(library: Library, folder: Path) -> None:
    plan = arriving.read_plan(folder / "plan.json")
    if plan is not None:
        with platform.refusals_named(folder):
            arriving.check_still(library, plan, force=plan.force)
            Staging(library, plan.arrival.template, plan.arrival.version)._run(plan)  # noqa: SLF001 - this module's own
    elif (folder / AT_WORK).is_file() and not is_locked(folder / AT_WORK):
        dispose(library, folder)
