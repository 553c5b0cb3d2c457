"""Which layer lies below a layer.

s3reg's own record of the file says so; else Anka's `anka_image info`, where it is installed, reads it out of the layer's
header; else a file is a plain disk and has nothing below it. A guess would push half a disk: where Anka's program is there
and fails, the push is refused.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

from s3reg.errors import LayersUnknown, NameInvalid
from s3reg.model import names

if TYPE_CHECKING:
    from pathlib import Path

    from s3reg.client.ledger import Ledger

PROGRAM = "anka_image"
SECONDS = 60
_BASE = re.compile(r"^\s*Base Image:[ \t]*(.*?)\s*$", re.IGNORECASE | re.MULTILINE)
_NONE = {"", "-", "none", "null", "n/a"}


def parent(ledger: Ledger, path: Path) -> str | None:
    """The file name of the layer below the one at `path`; None for the lowest. Raises LayersUnknown."""
    record = ledger.record_of(path)
    program = shutil.which(PROGRAM)
    # A layer that changed since goes on standing on the same one; but who can look into it knows better.
    if record is not None and (program is None or ledger.is_as_recorded(path)):
        return record.parent
    return _asked(program, path) if program else None


def _asked(program: str, path: Path) -> str | None:
    try:
        answer = subprocess.run(  # noqa: S603 - a fixed program with a full path as its argument
            [program, "info", str(path.absolute())],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise LayersUnknown(file=path.name, reason=f"{PROGRAM} did not answer ({type(e).__name__})") from e
    if answer.returncode != 0:
        raise LayersUnknown(file=path.name, reason=f"{PROGRAM} info ended with status {answer.returncode}")
    told = _BASE.search(answer.stdout)
    base = told.group(1).strip("'\"") if told else ""
    if base.casefold() in _NONE:
        return None
    try:
        return names.file_name(base.rsplit("/", 1)[-1])
    except NameInvalid as e:
        raise LayersUnknown(file=path.name, reason=str(e)) from e
