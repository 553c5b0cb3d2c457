"""A disk as virtual machines have them, and the same disk after an update: real files on ext4, in a sparse raw image.

    CACHE/disk-<GB>gb/base.img       made by mke2fs -d from trees of this machine, logs and a database among them
                     /updated.img    the same after an update (bench/update.py)
                     /facts.json     what changed, in blocks of 4 KiB

Made once. Needs no root: with it the update goes through the kernel's own ext4 on a loop device.

    python -m bench.corpus --gb 8 --cache DIR [--tree DIR]...
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench import update

if TYPE_CHECKING:
    from collections.abc import Iterator

GB, MIB, BLOCK = 10**9, 1024**2, 4096
ROOM = 1.75
"""The file system is as much larger than what lies in it: a disk is never full."""
DEFAULT_CACHE = Path(os.environ.get("S3REG_BENCH_CACHE") or Path.home() / ".cache/s3reg/bench")
_LIKELY = (
    "/usr",
    "~/.pyenv",
    "~/.rustup",
    "~/go/pkg/mod",
    "~/.cargo",
    "/opt",
    "/var/lib",
    "~/.npm",
    "/Library/Developer",
)
_LOGS = 24


@dataclass(frozen=True, slots=True)
class Facts:
    """What the update changed, counted from the two images."""

    trees: tuple[str, ...]
    size: int
    """Bytes of the disk, holes included."""
    data: int
    """Bytes of the blocks of 4 KiB that are not zeros, before the update."""
    changed: int
    """Blocks of 4 KiB that differ."""
    zeroed: int
    """Those of them that are zeros now."""
    through: str
    """What applied the update."""

    @property
    def changed_bytes(self) -> int:
        """Of the blocks that differ."""
        return self.changed * BLOCK


@dataclass(frozen=True, slots=True)
class Corpus:
    """The two disks."""

    base: Path
    updated: Path
    facts: Facts


def corpus(gb: float, cache: Path = DEFAULT_CACHE, trees: tuple[str, ...] = ()) -> Corpus:
    """The disk with `gb` of data and its update, made if they are not in `cache`."""
    folder = cache / f"disk-{gb:g}gb"
    if not (folder / "facts.json").exists():
        cache.mkdir(parents=True, exist_ok=True)
        making = cache / f".making-{gb:g}gb"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir()
        try:
            facts = _make(making, int(gb * GB), trees or _trees())
            (making / "facts.json").write_text(json.dumps(dataclasses.asdict(facts), indent=1))
            making.rename(folder)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    values = json.loads((folder / "facts.json").read_text())
    return Corpus(folder / "base.img", folder / "updated.img", Facts(**{**values, "trees": tuple(values["trees"])}))


def say(text: str) -> None:
    """One line of what is being done."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def _trees() -> tuple[str, ...]:
    found = [Path(tree).expanduser() for tree in _LIKELY]
    return tuple(str(tree) for tree in found if tree.is_dir())


def _make(folder: Path, wanted: int, trees: tuple[str, ...]) -> Facts:
    tree = folder / "tree"
    base, updated = folder / "base.img", folder / "updated.img"
    say(f"corpus: choosing {wanted / GB:.1f} GB of files from {', '.join(trees)}")
    files = gather(tree, wanted, [Path(one) for one in trees])
    say(f"corpus: mke2fs -d of {len(files)} files")
    size = int(wanted * ROOM) // MIB * MIB
    with base.open("wb") as file:
        file.truncate(size)
    # Without the lazy initialisation a mount would go on writing for minutes.
    command = ["mke2fs", "-q", "-t", "ext4", "-m", "0", "-F", "-E", "lazy_itable_init=0,root_owner=0:0"]
    subprocess.run([*command, "-d", str(tree), str(base)], check=True)
    say("corpus: updating a copy of the disk")
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", str(base), str(updated)], check=True)
    through = update.apply(updated, tree, files, folder)
    shutil.rmtree(tree)
    changed, zeroed, data = compare(base, updated)
    facts = Facts(trees, size, data, changed, zeroed, through)
    say(
        f"corpus: {data / GB:.2f} GB of data on {size / GB:.1f} GB; {changed * BLOCK / MIB:.0f} MiB changed, "
        f"{zeroed * BLOCK / MIB:.0f} MiB of it to zeros ({through})"
    )
    return facts


# --- The files ------------------------------------------------------------------------------------------------------


def gather(tree: Path, wanted: int, sources: list[Path]) -> dict[str, int]:
    """Fill `tree` with `wanted` bytes of files; their sizes by path. Linked where that works; copies that differ if the
    machine has too few.
    """
    files = {"var/db/app.sqlite": _database(tree / "var/db/app.sqlite", wanted // 32)}
    for number in range(_LOGS):
        log = f"var/log/service-{number}.log"
        files[log] = _log(tree / log, wanted // 64 // _LOGS, number)
    used, turn = sum(files.values()), 0
    while used < wanted:
        before = used
        for path, name, size in _walk(sources):
            if used >= wanted:
                break
            target = f"{turn}{name}" if turn else name.lstrip("/")
            if _take(path, tree / target, turn):
                files[target] = size
                used += -(-size // BLOCK) * BLOCK
        if used == before:
            raise SystemExit("bench: these trees hold no files; name others with --tree")
        turn += 1
    return files


def _walk(sources: list[Path]) -> Iterator[tuple[Path, str, int]]:
    """Regular files with plain names, folder by folder from anywhere: a small disk is a sample of the same kind."""
    folders = sorted({folder: names for source in sources for folder, _, names in os.walk(str(source))}.items())
    random.Random(1).shuffle(folders)
    seen: set[tuple[int, int]] = set()
    for at, names in folders:
        for path in sorted(Path(at, name) for name in names):
            if not str(path).isascii() or not str(path).isprintable() or set(str(path)) & set("\"' \\<>"):
                continue
            try:
                found = path.lstat()
            except OSError:
                continue
            if stat.S_ISREG(found.st_mode) and found.st_size and (found.st_dev, found.st_ino) not in seen:
                seen.add((found.st_dev, found.st_ino))
                yield path, str(path), found.st_size


def _take(source: Path, target: Path, turn: int) -> bool:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if turn:
            target.write_bytes(update.other(source.read_bytes(), turn))
            return True
        try:
            os.link(source, target)
        except OSError:
            shutil.copy2(source, target)
    except OSError:
        return False
    return True


def _database(path: Path, size: int) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    chance = random.Random(1)
    with sqlite3.connect(path) as database:
        database.execute("create table events (id integer primary key, at integer, body text)")
        rows = ((n, chance.getrandbits(40), update.words(chance, 320)) for n in range(size // 400))
        database.executemany("insert into events values (?, ?, ?)", rows)
    database.close()
    return path.stat().st_size


def _log(path: Path, size: int, seed: int) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(update.log_lines(random.Random(seed), size))
    return path.stat().st_size


# --- What changed -----------------------------------------------------------------------------------------------------


def compare(one: Path, other: Path, step: int = MIB) -> tuple[int, int, int]:
    """Blocks of 4 KiB that differ, those that are zeros in `other`, and the bytes of blocks with data in `one`."""
    changed = zeroed = data = 0
    zeros = bytes(step)
    with one.open("rb") as left, other.open("rb") as right:
        while before := left.read(step):
            after = right.read(step)
            if before != zeros[: len(before)]:
                data += sum(before[at : at + BLOCK] != zeros[: len(before[at : at + BLOCK])] for at in _blocks(before))
            if before == after:
                continue
            for at in _blocks(before):
                if before[at : at + BLOCK] != after[at : at + BLOCK]:
                    changed += 1
                    zeroed += not any(after[at : at + BLOCK])
    return changed, zeroed, data * BLOCK


def _blocks(piece: bytes) -> range:
    return range(0, len(piece), BLOCK)


def main() -> None:
    """Make it, from a shell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=8)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    parser.add_argument("--tree", action="append", default=[], help="take files from here; repeatable")
    asked = parser.parse_args()
    made = corpus(asked.gb, asked.cache, tuple(asked.tree))
    say(f"{made.base}: {made.facts}")


if __name__ == "__main__":
    main()
