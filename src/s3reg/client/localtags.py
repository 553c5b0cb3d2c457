"""Tags without a registry: `push --local` notes what a VM is now, `pull --local` tells whether it still is.

A local tag is a row in the ledger, nothing more: the files stay where they are. It holds as long as they are as they were.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from s3reg.client.reuse import Column
from s3reg.client.scan import Crew, OpenFile, hash_file
from s3reg.errors import NotLocal, TagTaken
from s3reg.model import names
from s3reg.model.chunks import CHUNK_LOG2
from s3reg.model.template import CONFIG_BYTES, bytes_digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from s3reg.client.library import Library, LocalVm
    from s3reg.client.progress import Progress
    from s3reg.model.names import Digest


def note(library: Library, vm: LocalVm, tag: str, progress: Progress, *, force: bool = False) -> None:
    """Note that `vm` as it is now is the version `tag`. Raises TagTaken, VmRunning, FileChanged.

    Files whose size, mtime and inode are as recorded are not read.
    """
    tag = names.tag(tag)
    library.check_stopped(vm)
    if tag in library.ledger.tags(vm.id) and not force:
        raise TagTaken(template=vm.name, tag=tag)
    crew = Crew()
    try:
        progress.start("hashing", sum(file.path.stat().st_size for file in vm.files))
        digests = {file.name: _digest(library, file.path, crew, progress.advance, file.parent) for file in vm.files}
        progress.finish()
    finally:
        crew.close()
    version = names.version_id(uuid.uuid4().hex)
    library.ledger.set_tag(vm.id, tag, version, vm.name, digests, local=True)


def check_out(library: Library, ref: str, tag: str | None) -> LocalVm:
    """The VM, if it is the version `tag` (None: the one pulled or pushed last) with every file as it was then.

    Raises NotLocal, VmNotFound, NameAmbiguous, LibraryIncomplete.
    """
    vm = library.find(ref)
    current = library.ledger.current(vm.id)
    wanted = current if tag is None else tag
    found = library.ledger.tags(vm.id).get(wanted or "")
    if found is None or wanted != current:
        raise NotLocal(template=vm.name, tag=wanted or "?", library=str(library.root))
    if {file.name: _known(library, file.path) for file in vm.files} != found.files:
        raise NotLocal(template=vm.name, tag=wanted, library=str(library.root))
    return vm


def _known(library: Library, path: Path) -> Digest | None:
    """The file's digest: as recorded, or, for one that is small enough to travel inline, read."""
    known = library.ledger.known(path)
    return bytes_digest(path.read_bytes()) if known is None and path.stat().st_size <= CONFIG_BYTES else known


def _digest(library: Library, path: Path, crew: Crew, advance: Callable[[int], None], parent: str | None) -> Digest:
    known = library.ledger.known(path)
    if known is not None:
        return known
    with OpenFile(path) as opened:
        column = Column(opened.size, CHUNK_LOG2)
        hash_file(crew, opened, column, advance)
        opened.check_unchanged()
        digest = column.file_digest()
        library.ledger.record(path, digest, parent=parent, seen=opened.seen)
        return digest
