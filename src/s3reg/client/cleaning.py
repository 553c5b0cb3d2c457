"""What s3reg left in a library and nobody needs: stagings of pulls that were given up, layers without a VM, maps, logs of
pushes that no registry goes on with.

Never a file that s3reg did not write, nor one that was written to since.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3reg.client import platform, removal
from s3reg.client.library import PUBLISHING, is_locked
from s3reg.client.staging import AT_WORK, dispose, recover
from s3reg.errors import Busy, NameInvalid
from s3reg.model import names

if TYPE_CHECKING:
    from pathlib import Path

    from s3reg.client.library import Library

_ID = 36
"""Characters of a template's id, with which a staging's name begins."""
_LONGEST_PUSH = 7 * 24 * 3600
"""Seconds after which no session of a push is open any more (docs/design.md §3)."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What went, in bytes on the disk."""

    stagings: int
    """Of pulls that were interrupted, or only fetched."""
    layers: int
    records: int
    """Maps, logs of pushes, and what was kept for tags that are gone."""


def clean(library: Library) -> Cleaned:
    """Drop all that; what another process is at work on stays. What is wrong with a VM that cannot be read is raised.

    A pull that was interrupted begins anew afterwards.
    """
    library.create()
    with platform.refusals_named(library.root):
        recover(library)
        stagings = sum(_drop_staging(library, folder) for folder in sorted((library.own / "staging").glob("*")))
        logs = sum(_drop_log(library, place) for place in sorted((library.own / "push").glob("*.jsonl")))
        with library.lock(PUBLISHING, wait=True):
            layers = removal.remove_layers(library, _orphans(library), removal.needed(library))
            before = _records(library)
            library.ledger.prune()
        return Cleaned(stagings, layers, before - _records(library) + logs)


def _drop_staging(library: Library, folder: Path) -> int:
    """Remove a staging, unless somebody is at work on it, or its publishing has begun; the bytes that went."""
    try:
        template = names.template_id(folder.name[:_ID])
    except NameInvalid:
        return 0
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(library.lock(f"pull-{template}"))
        except Busy:
            return 0
        if (folder / "plan.json").exists() or is_locked(folder / AT_WORK):
            return 0
        size = _allocated(folder)
        dispose(library, folder)
        return size


def _drop_log(library: Library, place: Path) -> int:
    """Remove the log of a push, unless it is under way or may go on yet; the bytes that went."""
    with contextlib.suppress(Busy, NameInvalid), library.lock(f"push-{names.template_id(place.stem)}"):
        seen = place.stat()
        if time.time() - seen.st_mtime > _LONGEST_PUSH:
            place.unlink()
            return seen.st_blocks * 512
    return 0


def _orphans(library: Library) -> list[Path]:
    """Layers that s3reg wrote and that are as it wrote them, or as they were pushed."""
    shared = {library.img_lib, library.state_lib}
    return [path for path, record in library.ledger.recorded() if record.ours and path.parent in shared]


def _records(library: Library) -> int:
    return sum(_allocated(library.own / name) for name in ("maps", "kept"))


def _allocated(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
