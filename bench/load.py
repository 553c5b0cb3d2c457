"""Requests a second of one replica and of two, and the memory of one over many requests: `python -m bench.load`.

wrk asks, over MinIO; replicas, MinIO and wrk share this machine's cores. A replica has one worker here, so that two of them
stand for two machines. Each replica has a wrk of its own, because what stands before them would take its share too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench import measure, programs, servers
from bench.corpus import MIB, say
from bench.listing import Made
from s3reg import wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REPLICAS = 2
PLANNED = 20
"""Templates whose plan can be asked for: `listing` writes so many versions."""
SAMPLES = (0.1, 0.5, 1.0)
"""Of all requests: where memory is looked at."""
MIXED = {"status": 60, "list": 30, "plan": 10}
"""Of a hundred requests, where memory is looked at."""
SLICE_SECONDS = 5
WARM_SECONDS = 2
_SCRIPT = """
local paths = {%s}
local at = %d
request = function()
   at = at %% #paths + 1
   return wrk.format("GET", paths[at])
end
done = function(summary, latency, requests)
   local wrong = 0
   for _, count in pairs(summary.errors) do wrong = wrong + count end
   io.write(string.format('{"requests": %%d, "seconds": %%.3f, "p50": %%.3f, "p99": %%.3f, "wrong": %%d}\\n',
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, wrong))
end
"""


@dataclass(frozen=True, slots=True)
class Told:
    """What one wrk found; times in ms."""

    requests: int
    seconds: float
    p50: float
    p99: float
    wrong: int
    """Requests without an answer, or with another than 200."""

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


@dataclass(frozen=True, slots=True)
class Asking:
    """How wrk asks."""

    folder: Path
    seconds: int
    connections: int

    def told(self, url: str, paths: Sequence[str], first: int = 0) -> Told:
        """For these paths in turn, from the `first` on."""
        program = programs.installed("wrk")
        if program is None:
            raise SystemExit("bench: wrk is missing: apt-get install wrk")
        with tempfile.NamedTemporaryFile("w", dir=self.folder, suffix=".lua") as script:
            script.write(_SCRIPT % (", ".join(json.dumps(path) for path in paths), first))
            script.flush()
            how = ["-t1", f"-c{self.connections}", f"-d{self.seconds}s", "--timeout", "30s", "-s", script.name]
            done = subprocess.run([program, *how, url], capture_output=True, text=True, check=True)
        return Told(**json.loads(done.stdout.splitlines()[-1]))


@contextlib.contextmanager
def replica(minio: servers.Minio, bucket: str, folder: Path) -> Iterator[servers.Registry]:
    """One more over the bucket, of one worker, which is not replaced."""
    settings = {"S3REG_WORKERS": "1", "S3REG_MAX_REQUESTS": "0"}
    with servers.registry_at(
        "127.0.0.1:0", bucket, folder / "registry.log", endpoint=minio.endpoint, settings=settings
    ) as started:
        yield started


def rates(urls: Sequence[str], paths: dict[str, list[str]], asking: Asking) -> list[str]:
    """A row of the table for each kind of request."""
    rows = []
    with ThreadPoolExecutor(len(urls)) as pool:
        for name, asks in paths.items():
            alone = asking.told(urls[0], asks)
            # Not the same plans at once: one that was asked for a moment ago comes from memory.
            begun = [pool.submit(asking.told, url, asks, at * len(asks) // 2) for at, url in enumerate(urls)]
            both = [one.result() for one in begun]
            if wrong := alone.wrong + sum(one.wrong for one in both):
                raise SystemExit(f"bench: {wrong} requests for {name} were not answered with 200")
            together = sum(one.rate for one in both)
            p50, p99 = max(one.p50 for one in both), max(one.p99 for one in both)
            one = f"{alone.rate:.0f}/s; {alone.p50:.1f}, {alone.p99:.0f} ms"
            rows.append(
                f"| {name} | {one} | {together:.0f}/s; {p50:.1f}, {p99:.0f} ms | {together / alone.rate:.2f} × |"
            )
            say(f"  {rows[-1]}")
    return rows


def memory(started: servers.Registry, paths: dict[str, list[str]], count: int, asking: Asking) -> str:
    """The worker's resident set after a part of so many requests, and after all of them."""
    mixed = [asks[number % len(asks)] for name, asks in paths.items() for number in range(MIXED[name])]
    done, found = 0, [(0, _resident(started))]
    for part in SAMPLES:
        while done < part * count:
            done += asking.told(started.url, mixed, done).requests
        found.append((done, _resident(started)))
        say(f"  after {done} requests: {found[-1][1] / MIB:.1f} MiB")
    return ", ".join(f"{size / MIB:.1f} MiB after {requests:,}" for requests, size in found)


def _resident(started: servers.Registry) -> int:
    """Bytes of the only worker of a registry: the youngest of its processes."""
    pid = started.process.pid
    while children := Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        pid = int(children[0])
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="bench.load", description=__doc__)
    parser.add_argument("--seconds", type=int, default=20, help="for each measurement")
    parser.add_argument("--connections", type=int, default=8, help="to each replica")
    parser.add_argument("--templates", type=int, default=1000, help="in the registry")
    parser.add_argument("--requests", type=int, default=100_000, help="over which memory is looked at; 0: not at all")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as ending:
        folder = Path(name)
        minio = ending.enter_context(servers.minio(folder / "minio"))
        bucket = minio.bucket("load")
        running = [ending.enter_context(replica(minio, bucket, folder)) for _ in range(REPLICAS)]
        made = Made(wanted.templates)
        made.write(folder / "records", lambda key: key)
        measure.run(minio.s5cmd("cp", f"{folder}/records/*", f"{bucket}/"), servers.environment())
        paths = {
            "status": ["/registry/status"],
            "list": ["/registry/v2/vm"],
            "plan": [f"{wire.PREFIX}/plan?ref={head.id}" for head in made.heads[:PLANNED]],
        }
        urls = [one.url for one in running]
        for url in urls:
            for asks in paths.values():
                Asking(folder, WARM_SECONDS, wanted.connections).told(url, asks)
        rows = rates(urls, paths, Asking(folder, wanted.seconds, wanted.connections))
        busy = os.getloadavg()[0]
        told = ""
        if wanted.requests:
            told = memory(running[0], paths, wanted.requests, Asking(folder, SLICE_SECONDS, wanted.connections))
    print("\n| | one replica: a second; p50, p99 | two | ratio |\n|---|---|---|---|\n" + "\n".join(rows))
    if told:
        print(f"\nResident set of a worker: {told}.")
    about = f"{os.cpu_count()} cores, {platform.system()} {platform.release().split('-')[0]}, shared with wrk and MinIO"
    how = f"{wanted.connections} connections to each replica of one worker; {wanted.seconds} s each"
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    print(f"\n{about}; {wanted.templates} templates; {how}; load of the machine {busy:.1f}; {when}.")


if __name__ == "__main__":
    main()
