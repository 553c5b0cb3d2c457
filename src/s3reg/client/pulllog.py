"""Which chunks of a file being pulled are written and verified, so that a killed pull goes on where it was.

One file beside each staged file: a header with the boot of the machine and the file's digest, then (first, count) pairs.
A pair is written after its chunks. A kill loses neither, since both are in the system's cache; a power cut may keep the
pair and lose the chunks. So after another boot, what is noted counts as a claim: it is hashed again.
"""

from __future__ import annotations

import os
import struct
import threading
from typing import TYPE_CHECKING

from s3reg.client import platform

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_PAIR = struct.Struct("<II")
_MAGIC = b"s3reg pull 1\n"


class PullLog:
    """The journal of one staged file. `boot` tells the machine's boots apart; by default this one's."""

    def __init__(self, path: Path, digest: str, boot: str | None = None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._boot = platform.boot_id() if boot is None else boot
        self._header = _MAGIC + f"{self._boot} {digest}\n".encode()
        self._digest = digest

    def read(self) -> tuple[list[tuple[int, int]], bool]:
        """The (first, count) pairs noted for this digest, and whether they are of this boot."""
        try:
            data = self._path.read_bytes()
        except OSError:
            return [], True
        head, _, rest = data.removeprefix(_MAGIC).partition(b"\n")
        boot, _, digest = head.decode("utf-8", "replace").partition(" ")
        if not data.startswith(_MAGIC) or digest != self._digest:
            return [], True
        whole = len(rest) - len(rest) % _PAIR.size
        # Where the system cannot tell one boot from another, every one counts as another.
        return list(_PAIR.iter_unpack(rest[:whole])), boot == self._boot != "unknown"

    def begin(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Start the journal of this boot with what is known to be done."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_bytes(self._header + b"".join(_PAIR.pack(*pair) for pair in pairs))

    def note(self, positions: Sequence[int]) -> None:
        """These chunks are written and verified."""
        left = b"".join(_PAIR.pack(first, count) for first, count in _pairs(sorted(positions)))
        with self._lock, self._path.open("ab", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            # A row that a full disk cut short would shift all behind it: they would vouch for chunks that nobody wrote.
            file.truncate(max(0, size - (size - len(self._header)) % _PAIR.size))
            while left:
                left = left[file.write(left) :]


def _pairs(positions: list[int]) -> Iterator[tuple[int, int]]:
    first = count = 0
    for position in positions:
        if count and position == first + count:
            count += 1
            continue
        if count:
            yield first, count
        first, count = position, 1
    if count:
        yield first, count
