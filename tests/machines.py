"""Virtual machines for the tests: libraries of Anka's shape with a VM in them, and changes as file systems make them."""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import yaml

KIB, MIB = 1024, 1024**2


@dataclass
class Machine:
    """A VM in a library: its disks, its state, its folder."""

    library: Path
    name: str = "sequoia"
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    drives: list[str] = field(default_factory=list)
    state: str | None = None

    @property
    def folder(self) -> Path:
        return self.library / "vm_lib" / self.id

    def disk(self, number: int = 0) -> Path:
        return self.library / "img_lib" / self.drives[number]

    def write_config(self, *, file_name: str = "config.yaml", **more: object) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        values: dict[str, object] = {
            "name": self.name,
            "uuid": self.id,
            "version": 1,
            "ram": "4G",
            "cpu": {"cores": 2},
            "nvram": True,
            "hard_drives": [{"controller": "ablk", "pci_slot": 4 + n, "file": d} for n, d in enumerate(self.drives)],
            **more,
        }
        if self.state is not None:
            values["state_file"] = self.state
        (self.folder / file_name).write_text(yaml.safe_dump(values, sort_keys=False))


def make(
    library: Path,
    *,
    sizes: tuple[int, ...] = (6 * MIB, 3 * MIB + 1234),
    state_size: int = MIB + 5,
    name: str = "sequoia",
    seed: int = 1,
) -> Machine:
    """A VM of two drives, a suspended state, an nvram and an extra file. The same seed gives the same bytes."""
    chance = random.Random(seed)
    machine = Machine(library, name=name)
    for folder in ("vm_lib", "img_lib", "state_lib"):
        (library / folder).mkdir(parents=True, exist_ok=True)
    for number, size in enumerate(sizes):
        machine.drives.append(f"{chance.getrandbits(128):032x}.ank")
        fill(machine.disk(number), size, chance)
    if state_size:
        machine.state = f"{chance.getrandbits(128):032x}.ank"
        fill(library / "state_lib" / machine.state, state_size, chance)
    machine.write_config()
    (machine.folder / "nvram").write_bytes(chance.randbytes(700))
    (machine.folder / "policy.json").write_text('{"allow": []}')
    return machine


def fill(path: Path, size: int, chance: random.Random) -> None:
    """A file as a file system leaves it: text, noise, zeros and holes."""
    with path.open("wb") as file:
        file.truncate(size)
        at = 0
        while at < size:
            length = min(size - at, chance.randrange(8 * KIB, 900 * KIB))
            kind = chance.random()
            file.seek(at)
            if kind < 0.4:
                file.write((b"line %d of a log\n" % at * (length // 16 + 1))[:length])
            elif kind < 0.7:
                file.write(chance.randbytes(length))
            elif kind < 0.8:
                file.write(bytes(length))
            at += length


def scatter(path: Path, blocks: int, *, seed: int = 2) -> int:
    """Change this many blocks of 4 KiB anywhere in the file; the bytes changed."""
    chance = random.Random(seed)
    with path.open("r+b") as file:
        size = path.stat().st_size
        for _ in range(blocks):
            file.seek(chance.randrange(max(1, size // 4096)) * 4096)
            file.write(chance.randbytes(min(4096, size - file.tell())))
    return blocks * 4096


def contents(library: Path, machine: Machine) -> dict[str, bytes]:
    """Every byte of a VM, by path inside the library."""
    wanted = [*(Path("img_lib") / drive for drive in machine.drives)]
    if machine.state is not None:
        wanted.append(Path("state_lib") / machine.state)
    wanted += [Path("vm_lib") / machine.id / file.name for file in (library / "vm_lib" / machine.id).iterdir()]
    return {str(path): (library / path).read_bytes() for path in wanted}
