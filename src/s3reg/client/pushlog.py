"""What a push has already brought to the store, so that a killed one goes on where it was.

One file a template, a JSON line a pack: its name, its size, and the length and digest of each frame. The first line says
which session they belong to. A line that a crash cut short, or that is otherwise none, is left out: its pack is sent again.
Every line is durable before it counts: a power cut costs no more than a kill, the packs that were on the line.
"""

from __future__ import annotations

import array
import base64
import contextlib
import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from s3reg.client import platform
from s3reg.client.records import write_durably
from s3reg.client.reuse import Place
from s3reg.errors import NameInvalid
from s3reg.model import names
from s3reg.model.chunks import DIGEST_BYTES
from s3reg.model.packs import LARGEST_PACK, PackRef, seek_table_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from s3reg.client.reuse import Shelf

LOG_VERSION = 1


@dataclass(frozen=True, slots=True)
class Began:
    """The push that a log belongs to."""

    registry: str
    session: str
    version: str
    """The id that its version has, if it was committed."""


class PushLog:
    """The log of one template's push. Written by the threads that send, read when a push begins."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def read(self, shelf: Shelf) -> Began | None:
        """The push that was underway, if any; its packs are put on the shelf as the push's own."""
        try:
            lines = self._path.read_bytes().split(b"\n")
        except OSError:
            return None
        rows = [row for row in map(_parsed, lines) if row is not None]
        if not rows or rows[0].get("v") != LOG_VERSION:
            return None
        first = rows[0]
        try:
            began = Began(
                str(first["registry"]), names.session_id(first["session"]), names.version_id(first["version"])
            )
        except (KeyError, NameInvalid):
            return None
        for row in rows[1:]:
            # A bad row must take nothing with it: neither the others, nor half of its own pack.
            with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError, NameInvalid):
                _shelve(shelf, row, began.session)
        return began

    def begin(self, began: Began) -> None:
        """Start anew for this push."""
        line = {"v": LOG_VERSION, "registry": began.registry, "session": began.session, "version": began.version}
        write_durably(self._path, json.dumps(line).encode() + b"\n")

    def note(self, pack: PackRef, compressed: array.array[int], digests: bytes) -> None:
        """The store has this pack."""
        line = {
            "pack": pack.sha256,
            "size": pack.size,
            "lengths": compressed.tolist(),
            "digests": base64.b64encode(digests).decode(),
        }
        with self._path.open("ab") as file:
            with self._lock:
                # What a kill left of a line before ends here, and takes nothing of this one with it.
                file.write(b"\n" + json.dumps(line, separators=(",", ":")).encode() + b"\n")
                file.flush()
            platform.sync(file.fileno())

    def forget(self) -> None:
        """The push is done, or its session is over."""
        self._path.unlink(missing_ok=True)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _shelve(shelf: Shelf, row: dict[str, Any], session: str) -> None:
    lengths = array.array("I", row["lengths"])
    digests = base64.b64decode(row["digests"], validate=True)
    pack = PackRef(names.session_id(session), names.digest(row["pack"]), int(row["size"]))
    whole = sum(lengths) + seek_table_bytes(len(lengths)) == pack.size <= LARGEST_PACK
    if not whole or len(digests) != len(lengths) * DIGEST_BYTES or 0 in lengths:
        raise ValueError("the line does not hold together")
    at, index = 0, shelf.row(pack)
    shelf.own.add(index)
    for number, length in enumerate(lengths):
        digest = digests[number * DIGEST_BYTES : (number + 1) * DIGEST_BYTES]
        shelf.chunks[digest] = Place(index, at, length)
        at += length
