"""Two hundred nightly versions of a disk: what the newest costs whoever pulls it whole, beside the same disk pushed afresh.

Every night changes 12 % of the chunks, here one and there one, by rewriting 26 of their 64 blocks of 4 KiB: 5 % of all
blocks, scattered as an update of packages was seen to scatter them. Changed chunks that lie side by side are easier on
every later pull: --together N.

    python -m bench.nightlies [--mib 384] [--versions 200] [--rounds 5] [--together 1] [--work DIR]
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bench import measure, servers
from bench.corpus import DEFAULT_CACHE, MIB, say
from bench.lab import Node
from bench.table import Row, markdown
from s3reg.client.connection import Access, Connection
from s3reg.client.fetch import Wanted, group, ranges
from s3reg.client.library import Library
from s3reg.client.progress import Silent
from s3reg.client.pull import PullOptions, pull
from s3reg.client.push import PushOptions, push
from s3reg.model import names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from s3reg.model.maps import FileMap

CHUNK, BLOCK = 256 * 1024, 4096
SHARE = 0.12
"""Of the chunks, a night."""
REWRITTEN = 26
"""Blocks of a changed chunk."""
RETAINED = (1, 7, 30)
"""Newest versions that a registry may keep."""
_NOISE = 0.45
"""Of a block cannot be compressed, in the middle."""


class Disk:
    """A raw image whose bytes are drawn: the same ones for the same seed."""

    def __init__(self, path: Path, chunks: int, together: int) -> None:
        self.path = path
        self._chunks = chunks
        self._together = together
        self._chance = random.Random(chunks)
        with path.open("wb") as file:
            for _ in range(chunks):
                file.write(b"".join(map(self._block, [self._chance.betavariate(2, 2 / _NOISE - 2)] * (CHUNK // BLOCK))))

    def _block(self, noise: float) -> bytes:
        drawn = self._chance.randbytes(max(1, int(BLOCK * noise)))
        return drawn + bytes(BLOCK - len(drawn))

    def night(self) -> None:
        """Change what a night changes."""
        changed: set[int] = set()
        while len(changed) < SHARE * self._chunks:
            first = self._chance.randrange(self._chunks)
            changed.update(range(first, min(first + self._together, self._chunks)))
        with self.path.open("r+b") as file:
            for chunk in sorted(changed):
                for block in self._chance.sample(range(CHUNK // BLOCK), REWRITTEN):
                    file.seek(chunk * CHUNK + block * BLOCK)
                    file.write(self._block(_NOISE))


@dataclass
class History:
    """What the pushes came to, night by night."""

    new: list[int] = field(default_factory=list)
    """Bytes of the frames that no version had before."""
    sent: list[int] = field(default_factory=list)
    """Bytes of the frames that were stored, again or not, and of what belongs to them."""
    held: list[float] = field(default_factory=list)
    """Bytes of the version's packs for each byte that is live."""
    packs: list[dict[str, int]] = field(default_factory=list)
    """Sizes of the version's packs, by name."""
    newest: FileMap | None = None

    def add(self, made: FileMap, sent: int) -> None:
        """One more version."""
        before = frames(self.newest) if self.newest is not None else {}
        self.new.append(sum(length for digest, length in frames(made).items() if digest not in before))
        self.sent.append(sent)
        self.packs.append({pack.sha256: pack.size for pack in made.packs})
        self.held.append(sum(self.packs[-1].values()) / live(made))
        self.newest = made

    def retained(self, versions: int) -> float:
        """Bytes of packs that so many newest versions hold, for each byte that is live in the newest."""
        assert self.newest is not None
        kept = {name: size for packs in self.packs[-versions:] for name, size in packs.items()}
        return sum(kept.values()) / live(self.newest)


def frames(made: FileMap) -> dict[bytes, int]:
    """Lengths of a version's frames by digest."""
    return {chunk.digest: chunk.length for chunk in made.chunks()}


def live(made: FileMap) -> int:
    """Bytes of the frames that a version needs."""
    return sum(made.live_bytes().values())


def asked(made: FileMap) -> int:
    """Ranges that a full pull asks for."""
    nobody = cast("Any", None)  # only where frames lie is looked at
    chunks = ((one.pack, Wanted(one.offset, one.length, one.digest, 0, nobody, one.position)) for one in made.chunks())
    return sum(1 for _ in ranges(group(chunks)))


@dataclass
class Origin:
    """A node that pushes one VM to a registry of its own."""

    node: Node

    def push(self, tag: str) -> tuple[FileMap, int]:
        """The map of the version's disk, and the bytes that were sent."""
        connection, library = Connection(Access(self.node.registry)), Library(self.node.library)
        try:
            sent = push(connection, library, library.find(self.node.vm), PushOptions(tag=tag), Silent()).sent
        finally:
            connection.close()
        digest = library.ledger.known(self.node.disk)
        assert digest is not None
        made = library.ledger.map_of(digest, self.node.disk.stat().st_size)
        assert made is not None
        return made, sent

    def pull(self, into: Path) -> tuple[float, int]:
        """Seconds of a full pull of the newest version into an empty library, and the bytes that came over the line."""
        shutil.rmtree(into, ignore_errors=True)
        measure.settle("cold")
        connection = Connection(Access(self.node.registry))
        try:
            began = time.perf_counter()
            done = pull(connection, Library(into), names.template_id(self.node.vm), PullOptions(), Silent())
            return time.perf_counter() - began, done.received
        finally:
            connection.close()


def rows(
    mib: int = 384, versions: int = 200, rounds: int = 5, together: int = 1, work: Path | None = None
) -> list[Row]:
    """The rows of the table. It takes some minutes, and room for about 16 times the disk."""
    parent = work or DEFAULT_CACHE
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="nightlies-", dir=parent))
    with contextlib.ExitStack() as ending:
        ending.callback(shutil.rmtree, folder, ignore_errors=True)
        minio = ending.enter_context(servers.minio(folder / "minio"))
        aged, fresh = (
            Origin(
                Node(
                    folder / name,
                    ending.enter_context(
                        servers.registry(minio.bucket(name), folder / f"{name}.log", endpoint=minio.endpoint)
                    ),
                )
            )
            for name in ("aged", "fresh")
        )
        disk = Disk(folder / "disk.img", mib * MIB // CHUNK, together)
        aged.node.has(disk.path)
        history = History()
        for night in range(versions):
            if night:
                disk.night()
            history.add(*aged.push(f"night-{night}"))
            if night % 20 == 0 or night == versions - 1:
                say(
                    f"  version {night + 1} of {versions}: {history.sent[-1] / MIB:.0f} MiB, held {history.held[-1]:.2f}"
                )
        fresh.node.has(disk.path)
        again, _ = fresh.push("fresh")
        took: dict[str, list[tuple[float, int]]] = {"aged": [], "fresh": []}
        for number in range(rounds):
            for name, origin in (("aged", aged), ("fresh", fresh)):
                took[name].append(origin.pull(folder / "pulled"))
                say(f"  full pull, {name}, {number + 1} of {rounds}: {took[name][-1][0]:.2f} s")
        same = (folder / "pulled/img_lib" / aged.node.disk.name).read_bytes() == disk.path.read_bytes()
        assert same, "what was pulled is not what was pushed"
    return _rows(history, again, took["aged"], took["fresh"], about=f"{versions} versions of {mib} MiB")


def _rows(
    history: History,
    again: FileMap,
    aged: Sequence[tuple[float, int]],
    fresh: Sequence[tuple[float, int]],
    *,
    about: str,
) -> list[Row]:
    assert history.newest is not None
    seconds = [statistics.median(took for took, _ in runs) for runs in (aged, fresh)]
    each = [one[0] / other[0] for one, other in zip(aged, fresh, strict=True)]
    received = [runs[0][1] for runs in (aged, fresh)]
    calls = [asked(history.newest), asked(again)]
    steady = slice(min(20, len(history.sent) // 2), None)
    nightly = [sent / new for sent, new in zip(history.sent[steady], history.new[steady], strict=True)]
    kept = ", ".join(f"the last {count}: {history.retained(count):.2f} ×" for count in RETAINED)
    return [
        Row(
            f"{about}: bytes of a full pull of the newest, beside a fresh push",
            f"{received[0] / MIB:.0f} and {received[1] / MIB:.0f} MiB in {calls[0]} and {calls[1]} ranges",
            f"{received[0] / received[1]:.2f} ×",
            "≤ 2 ×",
            received[0] <= 2 * received[1],
        ),
        Row(
            f"{about}: time of that pull",
            f"{seconds[0]:.2f} and {seconds[1]:.2f} s",
            f"{seconds[0] / seconds[1]:.2f} × ({min(each):.2f}–{max(each):.2f})",
            "≤ 2 ×",
            seconds[0] <= 2 * seconds[1],
        ),
        Row(
            f"{about}: bytes held for each that is live",
            f"the newest: {history.held[-1]:.2f}, most: {max(history.held):.2f}; packs of {kept}",
            f"{max(history.held):.2f} ×",
            "≤ 1.7 ×",
            max(history.held) <= 1.7,
        ),
        Row(
            f"{about}: sent a night, beside what is new",
            f"{statistics.mean(history.sent[steady]) / MIB:.1f} MiB; most {max(nightly):.2f} ×",
            f"{sum(history.sent[steady]) / sum(history.new[steady]):.2f} ×",
        ),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=384, help="of the disk")
    parser.add_argument("--versions", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5, help="of pulls that take turns")
    parser.add_argument("--together", type=int, default=1, help="changed chunks that lie side by side")
    parser.add_argument("--work", type=Path, help="where servers and libraries lie meanwhile")
    found = parser.parse_args()
    print(markdown(rows(found.mib, found.versions, found.rounds, found.together, found.work)))


if __name__ == "__main__":
    main()
