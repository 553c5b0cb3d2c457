"""`make soak`: MinIO, two replicas, twenty pushers, twenty pullers and a sweep every second, for ten minutes.

make soak                  ten minutes
make soak SOAK=60          so many seconds
make soak SEED=2           other draws

Ends with 1 if anything was lost, damaged or left over, and keeps its folder then: what every node has, what the servers
said, the store itself.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench import servers
from bench.corpus import DEFAULT_CACHE, MIB, say
from bench.lab import library_environment

from s3reg.client.connection import Access, Connection
from s3reg.client.library import Library
from s3reg.client.progress import Silent
from s3reg.client.push import PushOptions, push
from soak import vms
from soak.actor import SHARED, Counts, Stage
from soak.book import Book
from soak.kept import Last, left_over
from soak.sweeps import Sweeps

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

_SAY_SECONDS, _LOOK_SECONDS = 10, 0.2
_GRACE_SECONDS = 900
"""For what is under way when the time is over."""


@dataclass(frozen=True)
class Asked:
    """How much, and how long."""

    seconds: int
    turns: int
    """That everybody takes at least."""
    seed: int
    pushers: int
    pullers: int
    workers: int
    idle: int
    """Seconds after which a silent push may be given up."""
    age: int
    trash: int
    dead: int
    """After which a sweep takes another's marker for a dead one's."""

    @property
    def limits(self) -> tuple[int, int, int]:
        """What `hurried` takes."""
        return self.idle, self.age, self.dead

    @property
    def s3reg(self) -> list[object]:
        """The command line with these limits."""
        return [sys.executable, "-m", "soak.hurried", *self.limits]


@dataclass
class Soak:
    """One at work."""

    asked: Asked
    folder: Path
    counts: Counts = field(default_factory=Counts)
    total: Counter[str] = field(default_factory=Counter)

    def run(self) -> None:
        """All of it; `counts.violations` says what must never be."""
        asked = self.asked
        with contextlib.ExitStack() as ending:
            minio = ending.enter_context(servers.minio(self.folder / "minio"))
            bucket = minio.bucket("soak")
            urls = [
                ending.enter_context(
                    servers.registry_at(
                        "127.0.0.1:0",
                        bucket,
                        self.folder / f"replica-{number}.log",
                        endpoint=minio.endpoint,
                        settings={"S3REG_TRASH_SECONDS": str(asked.trash), "S3REG_WORKERS": "1"},
                        program=asked.s3reg,
                    )
                ).url
                for number in range(2)
            ]
            between = ending.enter_context(servers.counting(*urls))
            stage = Stage(
                between.url,
                self.folder / "nodes",
                Book(self.folder / "book"),
                asked.seed,
                time.time() + asked.seconds,
                counts=self.counts,
            )
            _seed_shared(stage)
            where = [bucket, "--s3-endpoint", minio.endpoint, "--log-level", "warning"]
            sweeps = Sweeps(where, asked.limits, self.folder, asked.seed, self.counts)
            self._all_at_once(stage, sweeps)
            self._take()
            if not self.counts.violations:
                say(f"{asked.idle + asked.dead + asked.trash} s pass: pushes, the trash and markers come to their end")
                time.sleep(asked.idle + asked.dead + asked.trash)
                self.counts.violations += left_over(sweeps, asked.s3reg, bucket, minio.endpoint)
                Last(stage, "last").run()
                self._take()
            self.total["bytes through the API"] = between.bytes

    def _all_at_once(self, stage: Stage, sweeps: Sweeps) -> None:
        """Until the time is over."""
        asked = self.asked
        with contextlib.ExitStack() as ending:
            readers = []
            for number in range(asked.workers):
                words: list[object] = [sys.executable, "-m", "soak.worker", "--url", stage.url, "--folder", self.folder]
                words += ["--seed", asked.seed, "--until", stage.until, "--turns", asked.turns]
                words += ["--pushers", *range(number, asked.pushers, asked.workers)]
                words += ["--pullers", *range(number, asked.pullers, asked.workers)]
                log = self.folder / f"worker-{number}.log"
                worker = ending.enter_context(servers.process(words, log, library_environment()))
                readers.append(threading.Thread(target=self._read, args=(worker, log)))
            for reader in readers:
                reader.start()
            sweeping = threading.Thread(target=sweeps.run)
            sweeping.start()
            try:
                told = time.monotonic()
                while any(reader.is_alive() for reader in readers) and not self.counts.violations:
                    time.sleep(_LOOK_SECONDS)
                    if time.monotonic() - told > _SAY_SECONDS:
                        told = time.monotonic()
                        self._take()
                        say(f"{max(0, stage.until - time.time()):.0f} s left: {self._line()}")
                    if time.time() > stage.until + _GRACE_SECONDS:
                        self.counts.violations.append("somebody does not come to an end")
            finally:
                sweeps.stop()
                sweeping.join()

    def _read(self, worker: subprocess.Popen[str], log: Path) -> None:
        """What a worker says, to its end."""
        assert worker.stdout is not None
        done = False
        for line in worker.stdout:
            told = json.loads(line)
            for what, count in told["counts"].items():
                self.counts.add(what, count)
            new = [one for one in told["violations"] if one not in self.counts.violations]
            self.counts.violations += new
            done = told.get("done", False)
        if not done and not self.counts.violations:
            self.counts.violations.append(f"a worker ended by itself: {log.read_text()[-2000:]}")

    def _take(self) -> None:
        self.total.update(self.counts.taken())

    def _line(self) -> str:
        names = ("pushes", "pushes forced", "pushes killed", "pulls", "restores", "sweeps", "objects swept")
        return ", ".join(f"{self.total[name]} {name}" for name in names)

    def table(self) -> str:
        """What happened, as Markdown."""
        rows = []
        for what, count in sorted(self.total.items()):
            text = f"{count / MIB:,.0f} MiB" if what.startswith("bytes") else f"{count:,}"
            rows.append(f"| {what} | {text} |")
        return "\n".join(["| what | how much |", "|---|---:|", *rows])


def _seed_shared(stage: Stage) -> None:
    """The first version of the template that many push to."""
    library = Library(stage.folder / "first")
    vms.make(library.root, SHARED, "shared", random.Random(stage.seed))
    stage.book.note("none", library.find(SHARED))
    with contextlib.closing(Connection(Access(stage.url))) as connection:
        push(connection, library, library.find(SHARED), PushOptions("first"), Silent())


@contextlib.contextmanager
def _kept_if_wrong(work: Path, counts: Counts) -> Iterator[Path]:
    """A folder that is gone when the block ends, unless there is something to look at."""
    work.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="soak-", dir=work))
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if counts.violations:
        say(f"the evidence is in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Soak and say what it came to."""
    parser = argparse.ArgumentParser(
        prog="soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--turns", type=int, default=0, help="that everybody takes at least, however long that is")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pushers", type=int, default=20)
    parser.add_argument("--pullers", type=int, default=20)
    parser.add_argument("--workers", type=int, default=4, help="processes of pushers and pullers")
    parser.add_argument("--idle", type=int, default=8, help="seconds after which a silent push may be given up")
    parser.add_argument("--age", type=int, default=90, help="seconds that a push may last at most")
    parser.add_argument("--trash", type=int, default=6, help="seconds that the trash keeps what was removed")
    parser.add_argument("--dead", type=int, default=20, help="seconds after which a sweep's marker is a dead one's")
    parser.add_argument("--work", type=Path, default=DEFAULT_CACHE, help="where servers and libraries lie meanwhile")
    found = vars(parser.parse_args())
    work = found.pop("work")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    counts = Counts()
    with _kept_if_wrong(work.absolute(), counts) as folder:
        soak = Soak(Asked(**found), folder, counts)
        say(f"seed {soak.asked.seed}")
        soak.run()
    print(f"\n{soak.table()}\n")
    for violation in counts.violations:
        print(f"VIOLATION: {violation}")
    print("something was lost, damaged or left over" if counts.violations else "nothing lost, nothing left over")
    sys.exit(1 if counts.violations else 0)


if __name__ == "__main__":
    main()
