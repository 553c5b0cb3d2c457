"""Nightly versions of a disk of which only the newest are kept, older ones untagged every night and swept by `s3reg gc`.

What the store holds for each byte that is live in the kept ones, and what the newest costs whoever pulls it whole, beside
the same disk pushed afresh: with the rule by which a push stores chunks again (client/reuse.py), and without it. Both push
the very same disk; their pulls and the fresh one's take turns.

    python -m bench.kept [--kept 10] [--mib 384] [--versions 200] [--rounds 5] [--together 1] [--work DIR]
"""

from __future__ import annotations

import argparse
import contextlib
import math
import secrets
import shutil
import statistics
import sys
import tempfile
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench import measure, nightlies, servers
from bench.corpus import DEFAULT_CACHE, MIB, say
from bench.lab import Node
from bench.nightlies import CHUNK, Disk, Origin
from bench.table import Row, markdown
from s3reg import wire
from s3reg.client import reuse
from s3reg.client.connection import Access, Connection
from s3reg.wire import trash as messages

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.servers import Minio
    from s3reg.model.maps import FileMap

KEPT = 10
SWEPT = ("packs", "maps")
WITH, WITHOUT, FRESH = "with the rule", "without", "a fresh push"


@contextlib.contextmanager
def most_held(factor: float) -> Iterator[None]:
    """Let pushes of this process hold so many bytes for each that is live; without a bound they store nothing again."""
    usual, reuse.MOST_HELD = reuse.MOST_HELD, factor
    try:
        yield
    finally:
        reuse.MOST_HELD = usual


@dataclass
class Store:
    """A bucket, the registry over it and the node that pushes there."""

    minio: Minio
    bucket: str
    origin: Origin
    factor: float
    """What `most_held` takes."""
    kept: deque[tuple[str, FileMap]]
    """Tags and maps of the disk, oldest first."""
    sent: list[int] = field(default_factory=list)
    held: list[float] = field(default_factory=list)
    """After each sweep, bytes stored for each that is live."""
    pulls: list[tuple[float, int]] = field(default_factory=list)
    """Seconds and bytes."""

    def night(self, tag: str) -> None:
        """Push the disk as it is, and untag what is one version too many."""
        with most_held(self.factor):
            made, sent = self.origin.push(tag)
        self.sent.append(sent)
        if len(self.kept) == self.kept.maxlen:
            untag = messages.Untag(_operation(), self.origin.node.vm, tag=self.kept[0][0])
            self._ask(wire.RevertedSchema, "/untag", untag)
        self.kept.append((tag, made))

    def sweep(self) -> None:
        """As a machine's timer would, once nothing lies in the trash."""
        self._ask(messages.PurgedSchema, "/trash/purge", messages.Purge(_operation(), self.origin.node.vm))
        words = ["gc", self.bucket, "--s3-endpoint", self.minio.endpoint, "--log-level", "warning"]
        measure.run([sys.executable, "-m", "s3reg.cli.main", "-j", *words], servers.environment())
        self.held.append(self.stored() / self.live())

    def _ask(self, schema: type[wire.Message], path: str, body: object) -> None:
        with contextlib.closing(Connection(Access(self.origin.node.registry))) as connection:
            connection.ask(schema, "POST", wire.PREFIX + path, wire.write(body))

    def stored(self) -> int:
        """Bytes of all packs and maps on the store, as it lists them."""
        found = (
            measure.run(self.minio.s5cmd("du", f"{self.bucket}/{kind}/*"), servers.environment()) for kind in SWEPT
        )
        return sum(int(one.out.split()[0]) for one in found)

    def live(self) -> int:
        """Bytes of the frames that the kept versions need, each chunk once."""
        return sum({digest: size for _, made in self.kept for digest, size in nightlies.frames(made).items()}.values())

    @property
    def newest(self) -> FileMap:
        """The map of the disk as it was pushed last."""
        return self.kept[-1][1]


def rows(
    mib: int = 384,
    versions: int = 200,
    rounds: int = 5,
    together: int = 1,
    *,
    kept: int = KEPT,
    work: Path | None = None,
) -> list[Row]:
    """The rows of the table. It takes a quarter of an hour, and room for about eight times the disk."""
    parent = work or DEFAULT_CACHE
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="kept-", dir=parent))
    with contextlib.ExitStack() as ending:
        ending.callback(shutil.rmtree, folder, ignore_errors=True)
        minio = ending.enter_context(servers.minio(folder / "minio"))

        def store(name: str, factor: float) -> Store:
            bucket = minio.bucket(name)
            log = folder / f"{name}.log"
            url = ending.enter_context(servers.registry(bucket, log, endpoint=minio.endpoint))
            return Store(minio, bucket, Origin(Node(folder / name, url)), factor, deque(maxlen=kept))

        sides = {WITH: store("with", reuse.MOST_HELD), WITHOUT: store("without", math.inf)}
        disk = Disk(folder / "disk.img", mib * MIB // CHUNK, together)
        for side in sides.values():
            side.origin.node.has(disk.path)
        for night in range(versions):
            if night:
                disk.night()
            for name, side in sides.items():
                side.night(f"night-{night}")
                if night % kept == kept - 1 or night == versions - 1:
                    side.sweep()
                    say(
                        f"  night {night + 1} of {versions}, {name}: {side.held[-1]:.2f} bytes stored for each live one"
                    )
        sides[FRESH] = store("fresh", reuse.MOST_HELD)
        sides[FRESH].origin.node.has(disk.path)
        sides[FRESH].night("fresh")
        for number in range(rounds):
            for name, side in sides.items():
                side.pulls.append(side.origin.pull(folder / "pulled"))
                say(f"  full pull, {name}, {number + 1} of {rounds}: {side.pulls[-1][0]:.2f} s")
                same = (folder / "pulled/img_lib" / side.origin.node.disk.name).read_bytes() == disk.path.read_bytes()
                assert same, "what was pulled is not what was pushed"
        about = f"{versions} nights of {mib} MiB, {kept} kept" + (f", {together} chunks side by side" * (together > 1))
        return [_row(about, name, sides[name], sides[FRESH]) for name in sides]


def _row(about: str, name: str, side: Store, fresh: Store) -> Row:
    """What one side came to."""
    each = [one[0] / other[0] for one, other in zip(side.pulls, fresh.pulls, strict=True)]
    seconds = statistics.median(took for took, _ in side.pulls)
    stored, live, received = side.stored(), side.live(), side.pulls[0][1]
    most = f", most {max(side.held):.2f} ×" if side.held else ""
    nights = side.sent[len(side.sent) // 10 :]
    told = (
        f"{stored / MIB:.0f} MiB stored, {live / MIB:.0f} live: {stored / live:.2f} ×{most}; "
        f"newest: {received / MIB:.0f} MiB in {nightlies.asked(side.newest)} ranges of {len(side.newest.packs)} packs, "
        f"{received / fresh.pulls[0][1]:.2f} × the bytes; {seconds:.2f} s; "
        f"sent a night {statistics.mean(nights) / MIB:.1f} MiB"
    )
    ratio = seconds / statistics.median(took for took, _ in fresh.pulls)
    return Row(f"{about}: {name}", told, f"time {ratio:.2f} × ({min(each):.2f}–{max(each):.2f})")


def _operation() -> str:
    return secrets.token_hex(16)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kept", type=int, default=KEPT, help="newest versions; a sweep every so many nights")
    parser.add_argument("--mib", type=int, default=384, help="of the disk")
    parser.add_argument("--versions", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5, help="of pulls that take turns")
    parser.add_argument("--together", type=int, default=1, help="changed chunks that lie side by side")
    parser.add_argument("--work", type=Path, help="where servers and libraries lie meanwhile")
    found = parser.parse_args()
    print(markdown(rows(found.mib, found.versions, found.rounds, found.together, kept=found.kept, work=found.work)))


if __name__ == "__main__":
    main()
