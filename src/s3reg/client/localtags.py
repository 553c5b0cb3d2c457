"""Tags without a registry: `push --local` notes what a VM is now, `pull --local` makes it that again.

A tag is a row in the ledger, with what lay in the VM's folder kept beside it (client/tagbook.py). Layers stay where they are
and are shared: a tag can be gone back to as long as its layers are as they were noted. Who runs a VM on its plain disk
changes that disk; who runs it on a layer of its own, as Anka does, leaves it as it was.
"""

from __future__ import annotations

import contextlib
import unicodedata
import uuid
from typing import TYPE_CHECKING

from s3reg.client import copies, platform, vmconfig
from s3reg.client.library import PUBLISHING, LocalFile, LocalVm
from s3reg.client.reuse import Column
from s3reg.client.scan import Crew, OpenFile, hash_file
from s3reg.client.staging import StagedFile, Staging, recover
from s3reg.client.tagbook import LAYERS, TagFile
from s3reg.errors import ConfigInvalid, FileChanged, LocalTagNotFound, NotLocal, TagTaken, VmNotFound
from s3reg.model import names
from s3reg.model.chunks import CHUNK_LOG2
from s3reg.model.template import CONFIG_BYTES, Role, bytes_digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from s3reg.client.library import Library
    from s3reg.client.progress import Progress
    from s3reg.client.tagbook import LocalTag
    from s3reg.model.names import Digest, TemplateId


def note(library: Library, vm: LocalVm, tag: str, progress: Progress, *, force: bool = False) -> None:
    """Note that `vm` as it is now is the version `tag`. Raises TagTaken, VmRunning, FileChanged, Busy.

    Files whose size, mtime and inode are as recorded are not read.
    """
    tag = names.tag(tag)
    with library.lock(f"push-{vm.id}"), platform.refusals_named(library.root):
        library.check_stopped(vm)
        if tag in library.ledger.tags(vm.id) and not force:
            raise TagTaken(template=vm.name, tag=tag)
        unread = sum(file.path.stat().st_size for file in vm.files if library.ledger.known(file.path) is None)
        if unread:
            progress.start("hashing", unread)
        with contextlib.closing(Crew()) as crew:
            members = [
                TagFile(file.name, file.role, _noted(library, file, crew, progress.advance)) for file in vm.files
            ]
            if bytes_digest(vm.config) != members[0].digest:
                raise FileChanged(file=vm.config_name)  # it may name other files by now
            progress.finish()
            with library.lock(PUBLISHING, wait=True):
                for file, member in zip(vm.files, members, strict=True):
                    if file.role not in LAYERS:
                        _keep(library, file, member.digest, crew)
                    if library.ledger.known(file.path) != member.digest:
                        raise FileChanged(file=file.name)
                library.ledger.set_tag(vm.id, tag, names.version_id(uuid.uuid4().hex), vm.name, members, local=True)


def named(library: Library, ref: str) -> tuple[TemplateId, str]:
    """Id and name of the VM; also of one that is gone or cannot be read, as long as this library has a tag of it.

    Raises what `Library.peek` raises.
    """
    try:
        vm = library.peek(ref)
    except (VmNotFound, ConfigInvalid):
        readable = {vm.id for vm in library.vms()}
        tags = [(template, row.name) for template, _, row in library.ledger.every_tag() if template not in readable]
        called = unicodedata.normalize("NFC", ref)
        found = {template: name for template, name in tags if called == name or ref.lower() == template}
        if len(found) != 1:
            raise
        return next(iter(found.items()))
    return vm.id, vm.name


def recall(library: Library, template: TemplateId, tag: str) -> LocalVm:
    """The VM as it was under this tag: its layers where they lie in the library, its other files where they are kept.

    Raises LocalTagNotFound, and NotLocal unless each of them has the bytes that it had then.
    """
    name, row = named(library, template)[1], library.ledger.tags(template).get(tag)
    if row is None:
        raise LocalTagNotFound(vm=name, tag=tag)
    missing = NotLocal(template=name, tag=tag, library=str(library.root))
    with contextlib.closing(Crew()) as crew:
        files = [_recalled(library, template, member, crew) for member in row.members]
    there = [file for file in files if file is not None]
    config = next((file for file in there if file.role is Role.CONFIG), None)
    if len(there) < len(files) or config is None:
        raise missing
    data = config.path.read_bytes()
    try:
        parsed = vmconfig.parse(data, config.name)
    except ConfigInvalid:
        raise missing from None
    folder = library.folder_of(template)
    return LocalVm(template, parsed.name or name, parsed.arch, folder, config.name, data, parsed.values, tuple(there))


def is_whole(library: Library, template: TemplateId, tag: str) -> bool:
    """Whether the VM can be made this version without a registry."""
    try:
        recall(library, template, tag)
    except NotLocal:
        return False
    return True


def check_out(library: Library, ref: str, tag: str | None, *, force: bool = False) -> LocalVm:
    """Make the VM the version `tag` (None: the one pulled, pushed or noted last) that this library has; the VM.

    One that is gone, or cannot be read, comes back so. Nothing is read or moved if it is that already. Raises NotLocal,
    VmNotFound, NameAmbiguous, VmRunning and, unless `force`, LocalChanges if the VM has bytes now that neither a tag nor a
    registry has.
    """
    template, name = named(library, ref)
    with library.lock(f"pull-{template}", wait=True), platform.refusals_named(library.root):
        recover(library)
        current = library.ledger.current(template)
        wanted = current if tag is None else names.tag(tag)
        row = library.ledger.tags(template).get(wanted or "")
        if wanted is None or row is None:
            raise NotLocal(template=name, tag=wanted or "?", library=str(library.root))
        if wanted == current and is_at(library, template, row):
            return library.find(template)
        _switch(library, recall(library, template, wanted), wanted, row, force=force)
        return library.find(template)


def is_at(library: Library, template: TemplateId, row: LocalTag) -> bool:
    """Whether the VM has the files of this version, going by what is recorded of them; small ones are read if need be."""
    files = library.whatever(template).files if library.holds(template) else ()
    return {(f.name, f.role, _known(library, f.path)) for f in files} == {
        (m.name, m.role, m.digest) for m in row.members
    }


def _switch(library: Library, vm: LocalVm, tag: str, row: LocalTag, *, force: bool) -> None:
    """Publish the recalled files as the VM."""
    staging = Staging(library, vm.id, row.version)
    staging.discard()  # a pull of this version that was given up: all of it is here
    digests = {(member.name, member.role): member.digest for member in row.members}
    with staging.at_work():
        staged = []
        for file in vm.files:
            record = library.ledger.record_of(file.path) if file.role in LAYERS else None
            if file.role not in LAYERS:
                copies.copy(file.path, staging.path(file.name, file.role))
            staged.append(
                StagedFile(
                    file.name,
                    file.role,
                    file.path.stat().st_size,
                    digests[file.name, file.role],
                    file.parent,
                    origin=record.origin if record else None,
                    twin=record.twin if record else None,
                )
            )
        staging.publish(staged, name=row.name, tag=tag, force=force, local=row.local)


def _recalled(library: Library, template: TemplateId, member: TagFile, crew: Crew) -> LocalFile | None:
    """A file of a tag; None if it is not here any more, or not as it was."""
    if member.role in LAYERS:
        path = library.path_of(member.name, member.role, template)
        record = library.ledger.record_of(path)
        if record is None or library.ledger.known(path) != member.digest:
            return None
        return LocalFile(member.name, member.role, path, None, record.parent)
    path = library.ledger.kept(member.digest)
    if not path.is_file() or _read_digest(path, crew, lambda _: None) != member.digest:
        return None
    return LocalFile(member.name, member.role, path)


def _keep(library: Library, file: LocalFile, digest: Digest, crew: Crew) -> None:
    """Keep the file, also where what was kept of this digest is damaged."""
    kept = library.ledger.kept(digest)
    if kept.is_file() and _read_digest(kept, crew, lambda _: None) != digest:
        kept.unlink()
    library.ledger.keep(digest, file.path)


def _known(library: Library, path: Path) -> Digest | None:
    """The file's digest: as recorded, or, for one that is small enough to travel inline, read."""
    known = library.ledger.known(path)
    return bytes_digest(path.read_bytes()) if known is None and path.stat().st_size <= CONFIG_BYTES else known


def _noted(library: Library, file: LocalFile, crew: Crew, advance: Callable[[int], None]) -> Digest:
    """The file's digest, which is recorded."""
    known = library.ledger.known(file.path)
    if known is not None:
        return known
    before = library.ledger.record_of(file.path)
    with OpenFile(file.path) as opened:
        digest = _hashed(opened, crew, advance)
        origin = before.origin if before is not None and library.ledger.is_as_recorded(file.path) else None
        library.ledger.record(file.path, digest, parent=file.parent, seen=opened.seen, origin=origin)
        return digest


def _read_digest(path: Path, crew: Crew, advance: Callable[[int], None]) -> Digest:
    with OpenFile(path) as opened:
        return _hashed(opened, crew, advance)


def _hashed(opened: OpenFile, crew: Crew, advance: Callable[[int], None]) -> Digest:
    column = Column(opened.size, CHUNK_LOG2)
    hash_file(crew, opened, column, advance)
    opened.check_unchanged()
    return column.file_digest()
