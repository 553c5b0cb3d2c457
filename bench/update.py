"""An update of a disk, as a night brings it: packages replaced, added and removed, a database touched, logs grown.

With root it goes through the kernel's ext4 on a loop device and ends with fstrim. Without, debugfs writes the files and
e2fsck frees what is unused; its allocator packs closer than the kernel's.
"""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = 4096
# Shares of the disk's data, as they were in an update of a Linux machine with 11.5 GB.
REPLACED, ADDED, REMOVED = 0.040, 0.017, 0.017
GROWN = 0.12
ROWS_PER_GB = 450
_WORDS = [
    "the",
    "node",
    "took",
    "a",
    "pack",
    "from",
    "the",
    "store",
    "and",
    "wrote",
    "its",
    "chunks",
    "while",
    "error",
    "warning",
    "info",
    "request",
    "200",
    "404",
    "of",
    "user",
    "in",
    "ms",
]


@dataclass
class Changes:
    """What the update does, by path inside the disk."""

    written: dict[str, Path] = field(default_factory=dict)
    """New files, and new contents under a name that is there: written aside, then renamed."""
    removed: list[str] = field(default_factory=list)
    grown: dict[str, bytes] = field(default_factory=dict)
    pages: dict[str, list[tuple[int, bytes]]] = field(default_factory=dict)
    """Pages of 4 KiB written in place."""


def apply(image: Path, tree: Path, files: dict[str, int], scratch: Path) -> str:
    """Update the disk `image`, which was made of `tree` with these files; by what it was done."""
    fresh = scratch / "fresh"
    fresh.mkdir()
    changes = _decide(tree, files, fresh)
    try:
        if os.geteuid() == 0 and _mountable(image, scratch / "mount"):
            _through_kernel(changes, scratch / "mount", image)
            return "the kernel's ext4"
        _through_debugfs(changes, tree, image, scratch)
        return "debugfs"
    finally:
        shutil.rmtree(fresh)


def other(data: bytes, seed: int) -> bytes:
    """Bytes that differ in every block, compress as well, and lie a little further back: as a new release of a file."""
    letters = list(range(1, 256))
    random.Random(seed).shuffle(letters)
    return data[: 16 * seed % 4000] + data.translate(bytes([0, *letters]))


def words(chance: random.Random, length: int) -> str:
    """Text of this many characters."""
    text = f"{chance.getrandbits(64):x} " + " ".join(chance.choices(_WORDS, k=length // 4))
    return text[:length]


def log_lines(chance: random.Random, size: int) -> bytes:
    """A log of about `size` bytes."""
    at, lines, length = chance.getrandbits(30), [], 0
    while length < size:
        at += chance.randrange(2000)
        lines.append(f"{at} {words(chance, 90)}\n".encode())
        length += len(lines[-1])
    return b"".join(lines)


# --- What ---------------------------------------------------------------------------------------------------------------


def _decide(tree: Path, files: dict[str, int], fresh: Path) -> Changes:
    chance = random.Random(7)
    changes = Changes()
    total = sum(files.values())
    packages = _packages({path: size for path, size in files.items() if not path.startswith("var/")})
    order = sorted(packages)
    chance.shuffle(order)
    choose = iter(order)
    for path in _take(choose, packages, files, REPLACED * total):
        changes.written[path] = _released(tree / path, fresh / f"{len(changes.written)}", 3)
    for path in _take(choose, packages, files, ADDED * total):
        changes.written[f"{path}.new-package"] = _released(tree / path, fresh / f"{len(changes.written)}", 5)
    changes.removed = list(_take(choose, packages, files, REMOVED * total))
    for path in (path for path in files if path.startswith("var/log/")):
        changes.grown[path] = log_lines(chance, int(files[path] * GROWN))
    database = "var/db/app.sqlite"
    changes.pages[database] = _touched(tree / database, fresh / "database", int(total / 10**9 * ROWS_PER_GB), chance)
    return changes


def _packages(files: dict[str, int]) -> dict[str, list[str]]:
    """Files by folder: what is installed together."""
    packages: dict[str, list[str]] = {}
    for path in files:
        packages.setdefault(path.rpartition("/")[0], []).append(path)
    return packages


def _take(choose: Iterator[str], packages: dict[str, list[str]], files: dict[str, int], wanted: float) -> Iterator[str]:
    taken = 0
    while taken < wanted:
        package = next(choose, None)
        if package is None:
            return
        # A release of something huge would be the whole update.
        if sum(files[path] for path in packages[package]) > wanted / 3:
            continue
        for path in packages[package]:
            taken += files[path]
            yield path


def _released(source: Path, target: Path, seed: int) -> Path:
    target.write_bytes(other(source.read_bytes(), seed))
    return target


def _touched(before: Path, after: Path, rows: int, chance: random.Random) -> list[tuple[int, bytes]]:
    """The pages that updates of as many rows write."""
    shutil.copyfile(before, after)
    with sqlite3.connect(after) as database:
        (most,) = database.execute("select max(id) from events").fetchone()
        chosen = ((words(chance, 320), chance.randrange(most)) for _ in range(rows))
        database.executemany("update events set body = ? where id = ?", chosen)
    database.close()
    old, new = before.read_bytes(), after.read_bytes()
    spans = [slice(at, at + PAGE) for at in range(0, len(new), PAGE)]
    return [(span.start, new[span]) for span in spans if new[span] != old[span]]


# --- Through the kernel -----------------------------------------------------------------------------------------------


def _mountable(image: Path, point: Path) -> bool:
    point.mkdir()
    done = subprocess.run(
        ["mount", "-o", "loop,noinit_itable", str(image), str(point)], check=False, capture_output=True
    )
    return done.returncode == 0


def _through_kernel(changes: Changes, root: Path, image: Path) -> None:
    try:
        for path, source in changes.written.items():
            new = root / f"{path}.dpkg-new"
            shutil.copyfile(source, new)
            new.rename(root / path)
        for path in changes.removed:
            (root / path).unlink()
        for path, more in changes.grown.items():
            with (root / path).open("ab") as file:
                file.write(more)
        for path, pages in changes.pages.items():
            with (root / path).open("r+b") as file:
                for at, page in pages:
                    os.pwrite(file.fileno(), page, at)
        os.sync()
        subprocess.run(["fstrim", str(root)], check=True)
    finally:
        subprocess.run(["umount", str(root)], check=True)
    subprocess.run(["e2fsck", "-fn", str(image)], check=True, capture_output=True)


# --- Without root -----------------------------------------------------------------------------------------------------


def _through_debugfs(changes: Changes, tree: Path, image: Path, scratch: Path) -> None:
    written = dict(changes.written)
    for number, (path, more) in enumerate(changes.grown.items()):
        written[path] = scratch / "fresh" / f"grown-{number}"
        written[path].write_bytes((tree / path).read_bytes() + more)
    places = {path: _places(image, path, [at for at, _ in pages]) for path, pages in changes.pages.items()}
    commands = []
    for path, source in written.items():
        folder, _, name = path.rpartition("/")
        # As packages do it: the new bytes find a place before the old ones leave theirs.
        commands += [f"cd /{folder}", f"write {source} {name}.dpkg-new"]
        commands += [f"rm /{path}"] if (tree / path).exists() else []
        commands += [f"ln {name}.dpkg-new {name}", f"unlink {name}.dpkg-new"]
    commands += [f"rm /{path}" for path in changes.removed]
    _debugfs(image, commands, scratch, write=True)
    with image.open("r+b") as file:
        for path, pages in changes.pages.items():
            for (_, page), place in zip(pages, places[path], strict=True):
                os.pwrite(file.fileno(), page, place * PAGE)
    # Twice: what had to be put right keeps it from freeing what is unused. 1: corrected.
    for extra in ([], ["-E", "discard"]):
        done = subprocess.run(["e2fsck", "-fy", *extra, str(image)], check=False, capture_output=True)
        if done.returncode > 1:
            raise SystemExit(f"bench: the updated disk is damaged: {done.stdout.decode()[-500:]}")


def _places(image: Path, path: str, offsets: list[int]) -> list[int]:
    told = _debugfs(image, [f"bmap /{path} {at // PAGE}" for at in offsets], image.parent, write=False)
    return [int(line) for line in told.splitlines() if line.isdigit()]


def _debugfs(image: Path, commands: list[str], scratch: Path, *, write: bool) -> str:
    script = scratch / "debugfs.txt"
    script.write_text("\n".join(commands) + "\n")
    command = ["debugfs", *(["-w"] if write else []), "-f", str(script), str(image)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout
