"""Small VMs: two plain disks and nvram. Most of their chunks are drawn from a pool that all VMs of a soak have in common."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

from soak.book import FIELD

if TYPE_CHECKING:
    from pathlib import Path

CHUNK = 256 * 1024
POOL = 160
"""Chunks that any VM may have."""
LARGEST = 12
"""Chunks of a disk."""
_SHARED = 0.6
"""Of what is written comes from the pool."""
_HOLES = 0.1
_NVRAM = 40_000
_CONFIG = """\
name: {name}
uuid: {uuid}
version: 1
ram: 4G
cpu:
  cores: 2
hard_drives:
- controller: ablk
  pci_slot: 4
  file: {uuid}-system.img
- controller: ablk
  pci_slot: 5
  file: {uuid}-data.img
{field}: none
"""


def make(library: Path, uuid: str, name: str, chance: random.Random) -> None:
    """A VM in a library, which may have nothing yet."""
    folder = library / "vm_lib" / uuid
    for path in (folder, library / "img_lib", library / "state_lib"):
        path.mkdir(parents=True, exist_ok=True)
    for disk in ("system", "data"):
        path = library / "img_lib" / f"{uuid}-{disk}.img"
        path.write_bytes(b"".join(_chunk(chance) for _ in range(chance.randint(2, LARGEST))) + chance.randbytes(1000))
    (folder / "nvram").write_bytes(chance.randbytes(_NVRAM))
    (folder / "config.yaml").write_text(_CONFIG.format(name=name, uuid=uuid, field=FIELD))


def change(disks: list[Path], chance: random.Random) -> None:
    """Write some chunks of some disks; now and then one grows."""
    for path in chance.sample(disks, chance.randint(1, len(disks))):
        chunks = path.stat().st_size // CHUNK
        with path.open("r+b") as file:
            for place in chance.sample(range(chunks), chance.randint(1, min(4, chunks))):
                file.seek(place * CHUNK)
                file.write(_chunk(chance))
            if chunks < LARGEST and chance.random() < 0.2:
                file.seek(chunks * CHUNK)
                file.write(_chunk(chance))


def name_push(config: Path, push: str) -> None:
    """Let the configuration say which push it belongs to."""
    config.write_text(re.sub(rf"(?m)^{FIELD}: .*$", f"{FIELD}: {push}", config.read_text()))


def _chunk(chance: random.Random) -> bytes:
    drawn = chance.random()
    if drawn < _HOLES:
        return bytes(CHUNK)
    if drawn < _HOLES + _SHARED:
        return random.Random(chance.randrange(POOL)).randbytes(CHUNK)
    return chance.randbytes(CHUNK)
