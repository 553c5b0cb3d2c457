"""How s3reg's own records lie on a node: small JSON files, each whole or as it was before.

Every record is written aside, synced and renamed: a crash leaves the old one or the new one. A record that cannot be read is
as good as none; one of a newer release is refused with FormatUnknown.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any, TypeVar

from s3reg.client import platform
from s3reg.errors import FormatUnknown, NameInvalid
from s3reg.model import names

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Found = TypeVar("Found")

RECORD_VERSION = 1
LARGEST_RECORD = 16 * 1024**2


def write_durably(path: Path, data: bytes) -> None:
    """Put `data` at `path`: all of it, or what was there before, whatever happens in between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with aside.open("xb") as out:
            out.write(data)
            out.flush()
            platform.sync(out.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    platform.sync_folder(path.parent)


def read(path: Path, most: int = LARGEST_RECORD) -> bytes | None:
    """The record's bytes; None if there is none, or if it is larger than any that we write."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError:
        return None
    return data if len(data) <= most else None


def parsed(data: bytes | None, what: str, parse: Callable[[dict[str, Any]], Found]) -> Found | None:
    """What `parse` makes of a record's bytes; None if there are none, or none that it can read. Raises FormatUnknown."""
    if data is None:
        return None
    try:
        raw = json.loads(data)
        if raw["v"] != RECORD_VERSION:
            raise FormatUnknown(what=what, feature=f"version {raw['v']}")
        return parse(raw)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, NameInvalid):
        return None


def names_of_path(text: object) -> str:
    """A relative path out of a record, if each of its components is a fit file name; NameInvalid otherwise."""
    if not isinstance(text, str):
        raise NameInvalid(what="path", text=text, reason="it is not text")
    return "/".join(names.file_name(part) for part in text.split("/"))
