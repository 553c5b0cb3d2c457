"""A disk that does not compress: what a VM was suspended to, encrypted. A line is then what is measured, not zstd."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from bench.corpus import GB, MIB, say

if TYPE_CHECKING:
    from pathlib import Path


def noise(gb: float, cache: Path) -> Path:
    """A disk of `gb` of noise, the same on every machine, made if it is not in `cache`."""
    path = cache / f"noise-{gb:g}gb.img"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        say(f"corpus: {gb:g} GB of noise")
        making = cache / f".making-{path.name}"
        chance = random.Random(7)
        with making.open("wb") as file:
            for _ in range(int(gb * GB) // MIB):
                file.write(chance.randbytes(MIB))
        making.rename(path)
    return path
