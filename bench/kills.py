"""kill -9 of the client, the API and MinIO in turns, while a disk goes up and while it comes down.

Whatever is killed is started again at once: a server at its address, the client by the same command. The moments and the
order are drawn; the same seed draws the same. A proxy before the store notes every byte of an object that a client sent or
was sent. What counts as sent again is what went up beyond the packs and maps that the version names: how large those are
hangs on how hard the push compressed, so the bytes of an undisturbed push say less. What counts as received again is every
byte of an object that came more than once.

    python -m bench.kills [--gb 8] [--seed 1] [--kills 10] [--cache DIR] [--work DIR]
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Generic, TypeVar

from bench import measure, servers
from bench.corpus import DEFAULT_CACHE, MIB, say
from bench.lab import Asked, lab
from bench.table import Row, markdown
from bench.tap import Exchange, Loss, Tap, refused, tap, twice, unneeded
from s3reg.client.fetch import RANGE_BYTES
from s3reg.client.library import Library
from s3reg.client.pace import MOST
from s3reg.client.packer import ON_THE_LINE, PACK_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.lab import Lab, Node

CLIENT, API, MINIO = "client", "API", "MinIO"
SEED, KILLS = 1, 10
BUCKET = "killed"
FIRST, LAST = 0.01, 0.95
"""The part of a transfer that kills are spread over: behind it, one might find nobody to kill."""
UNDERWAY = {"push": ON_THE_LINE * PACK_BYTES, "pull": MOST * RANGE_BYTES}
"""Bytes that are on the line at once, at most."""
_LOOK_SECONDS = 0.01
_QUIET_SECONDS = 30
_SECONDS_A_KILL = 1
"""That a transfer takes at least: whoever was killed is at work again before the next kill."""
_MORE_TRIES = 3
"""Times that a command may fail by itself, servers going under it."""


@dataclass(slots=True)
class Kill:
    """One of them: who, when, and what it cost."""

    number: int
    who: str
    share: float
    """Of the transfer's bytes that are to have passed."""
    passed: int = 0
    """Bytes that had passed and were of use."""
    struck: float | None = None
    """By `time.monotonic`; None: the transfer was over before."""
    cost: int = 0
    """Bytes that had to pass again."""
    cut: int = 0
    """Requests, wholly or in part."""


Kind = TypeVar("Kind", servers.Minio, servers.Registry)


class Server(Generic[Kind]):
    """A server at one address, however often it is killed."""

    def __init__(self, start: Callable[[], contextlib.AbstractContextManager[Kind]]) -> None:
        self._start: Callable[[], contextlib.AbstractContextManager[Kind]] = start
        self._ending = contextlib.ExitStack()
        self.running: Kind = self._ending.enter_context(start())

    def kill(self) -> None:
        """SIGKILL, workers and all; then start it again."""
        os.killpg(self.running.process.pid, signal.SIGKILL)
        self.close()
        self.running = self._ending.enter_context(self._start())

    def close(self) -> None:
        """End it, if it still runs."""
        self._ending.close()


@dataclass(frozen=True, slots=True)
class Stand:
    """A store, a registry on it, and the tap between the store and the nodes."""

    tap: Tap
    url: str
    """The registry's."""
    packs: Path
    """Where the store has packs."""
    kill: dict[str, Callable[[], None]]
    """Kills one of the servers and starts it again."""


@contextlib.contextmanager
def _stand(at: Lab) -> Iterator[Stand]:
    folder, address, listen = at.folder / at.new("killed"), *(f"127.0.0.1:{_port(number)}" for number in range(2))
    with contextlib.ExitStack() as ending:
        store = ending.enter_context(contextlib.closing(Server(lambda: servers.minio(folder, address))))
        bucket, endpoint = store.running.bucket(BUCKET), store.running.endpoint
        between = ending.enter_context(tap(endpoint))

        def start() -> contextlib.AbstractContextManager[servers.Registry]:
            log = folder / "registry.log"
            return servers.registry_at(listen, bucket, log, endpoint=endpoint, signing=between.url)

        api = ending.enter_context(contextlib.closing(Server(start)))
        packs = folder / "data" / BUCKET / "packs"
        yield Stand(between, api.running.url, packs, {MINIO: store.kill, API: api.kill})


def _port(number: int) -> int:
    """A free port that the kernel gives to no connection while the server that had it is away; another for each number."""
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.Random(f"{os.getpid()} {number}").sample(range(low // 2, low), 200):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise SystemExit("bench: no port is free")


# --- A transfer -------------------------------------------------------------------------------------------------------


@dataclass
class Transfer:
    """A push or a pull, repeated until it says that it is done."""

    way: str
    stand: Stand
    command: list[str]
    kills: list[Kill]
    runs: int = 0
    seconds: float = 0
    failed: list[str] = field(default_factory=list)
    """What runs said that nobody killed and that ended all the same."""

    def run(self, expected: int) -> None:
        """All of it; `expected`: the bytes that are to pass, of which the kills have their shares."""
        self.stand.tap.exchanges.clear()
        waiting, began = deque(self.kills), time.monotonic()
        while not self._once(waiting, expected):
            if len(self.failed) > _MORE_TRIES:
                raise SystemExit(f"bench: the {self.way} cannot be brought to an end: {self.failed[-1]}")
        self.seconds = time.monotonic() - began
        deadline = time.monotonic() + _QUIET_SECONDS
        while not self.stand.tap.quiet():
            if time.monotonic() > deadline:
                raise SystemExit(f"bench: the {self.way} is over, and something is still on the line")
            time.sleep(_LOOK_SECONDS)

    def _once(self, waiting: deque[Kill], expected: int) -> bool:
        """Run the command; whether it came to its end."""
        self.runs += 1
        with tempfile.TemporaryFile("w+") as out, _started(self.command, out) as client:
            while not _over(client):
                if not waiting or not self._goes_on() or (passed := self._useful()) < waiting[0].share * expected:
                    continue
                kill = waiting.popleft()
                kill.passed, kill.struck = passed, time.monotonic()
                say(f"  {self.way}: kill {kill.number}, {kill.who}, at {passed / expected:.0%}")
                if kill.who == CLIENT:
                    client.kill()
                    client.wait()
                    return False
                self.stand.kill[kill.who]()
            out.seek(0)
            if client.returncode:
                self.failed.append(f"it ended with {client.returncode}: {out.read()[-1000:]}")
                say(f"  {self.way}: {self.failed[-1]}")
        return client.returncode == 0

    def _goes_on(self) -> bool:
        """Whether something was asked of the store since the last kill."""
        seen, last = self.stand.tap.exchanges, max((kill.struck or 0 for kill in self.kills), default=0)
        return bool(seen) and seen[-1].began > last

    def _useful(self) -> int:
        """Bytes that passed and need not pass again, as far as that can be told now."""
        seen = list(self.stand.tap.exchanges)
        lost = refused(seen) if self.way == "push" else [loss.size for loss in twice(seen)]
        return sum(one.passed for one in seen) - sum(lost)


@contextlib.contextmanager
def _started(command: list[str], out: IO[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command, env=servers.environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out, text=True
    ) as client:
        try:
            yield client
        finally:
            client.kill()


def _over(client: subprocess.Popen[str]) -> bool:
    """Whether it has ended; waits a moment for that."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        client.wait(timeout=_LOOK_SECONDS)
        return True
    return False


# --- Who is to blame --------------------------------------------------------------------------------------------------


def _blame(losses: list[Loss], kills: list[Kill]) -> int:
    """Charge each loss to its kill; the bytes that are nobody's."""
    nobody = 0
    for loss in losses:
        if (kill := _cause(loss, [one for one in kills if one.struck is not None])) is None:
            nobody += loss.size
        else:
            kill.cost += loss.size
            kill.cut += loss.size > 0
    return nobody


def _cause(loss: Loss, kills: list[Kill]) -> Kill | None:
    """What a client had is lost with the client; what did not arrive, with whoever was killed last."""
    first, again = loss.first, loss.again
    if first.whole or again is not None:
        until = time.monotonic() if again is None else again.began
        for kill in kills:
            if kill.who == CLIENT and first.began <= (kill.struck or 0) <= until:
                return kill
    ended = first.ended or time.monotonic()
    return next((kill for kill in reversed(kills) if (kill.struck or 0) <= ended), None)


# --- The rows ---------------------------------------------------------------------------------------------------------


def rows(at: Lab, seed: int = SEED, count: int = KILLS) -> list[Row]:
    """Kills of the client, the API and MinIO in each direction."""
    chance, disk = random.Random(seed), at.corpus.base
    say(f"  seed {seed}")
    with _stand(at) as stand:
        origin, other = at.node(stand.url).has(disk), at.node(stand.url)
        expected = _calm_push(at, stand)
        up = _words(origin.command("push", origin.vm, "-t", "v1", *_slowly(expected, count)))
        push = Transfer("push", stand, up, _drawn(chance, count))
        pushed = _measured(push, expected, lambda seen: unneeded(seen, _objects(origin)))
        calm = at.node(stand.url)
        expected = _undisturbed("pull", stand, calm, "pull", origin.vm, "-t", "v1")
        _compare(origin, calm)
        calm.forget()
        down = _words(other.command("pull", origin.vm, "-t", "v1", *_slowly(expected, count)))
        pull = Transfer("pull", stand, down, _drawn(chance, count))
        pulled = _measured(pull, expected, twice)
        # Whole and once: a byte that the tap missed would be one that nobody needed.
        assert sum(one.passed for one in stand.tap.exchanges) == expected + sum(kill.cost for kill in pull.kills)
        _compare(origin, other)
    return [pushed, pulled]


def _calm_push(at: Lab, stand: Stand) -> int:
    """Bytes that an undisturbed push sends; nothing of it is left."""
    node = at.node(stand.url).has(at.corpus.base)
    sent = _undisturbed("push", stand, node, "push", node.vm, "-t", "v1")
    # Nothing broke: if the count is right, nothing was in vain.
    assert not unneeded(stand.tap.exchanges, _objects(node))
    node.forget()
    measure.run(["rm", "-rf", stand.packs])
    return sent


def _undisturbed(way: str, stand: Stand, node: Node, *words: str) -> int:
    transfer = Transfer(way, stand, _words(node.command(*words)), [])
    transfer.run(0)
    passed = sum(one.passed for one in stand.tap.exchanges)
    say(f"  undisturbed {way}: {passed} bytes in {transfer.seconds:.1f} s")
    return passed


def _slowly(expected: int, count: int) -> tuple[str, str]:
    """The options that make a transfer last as long as so many kills take: they may hold a fast one back."""
    return "--limit-rate", str(expected // (count * _SECONDS_A_KILL))


def _measured(transfer: Transfer, expected: int, lost: Callable[[list[Exchange]], list[Loss]]) -> Row:
    """Run it with its kills; what they came to."""
    transfer.run(expected)
    seen, kills, way = transfer.stand.tap.exchanges, transfer.kills, transfer.way
    losses = lost(seen)
    nobody, passed, again = _blame(losses, kills), sum(one.passed for one in seen), sum(loss.size for loss in losses)
    struck = [kill for kill in kills if kill.struck is not None]
    print(_table(way, struck, expected))
    say(f"  {way}: {passed} bytes, {passed - again} of them needed, {again} again, {nobody} of those through no kill")
    each = ", ".join(
        f"{who} {' '.join(f'{kill.cost / MIB:.1f}' for kill in struck if kill.who == who)}"
        for who in (CLIENT, API, MINIO)
    )
    most = max(kill.cost for kill in struck)
    return Row(
        f"{way}, {len(struck)} times `kill -9`",
        f"the same bytes; {(passed - again) / MIB:.0f} MiB and {again / MIB:.1f} MiB again, by kill: {each}; "
        f"{transfer.runs} runs, {len(transfer.failed)} of them gave up; {transfer.seconds:.0f} s, "
        f"held to {expected / (len(kills) * _SECONDS_A_KILL) / 10**6:.0f} MB/s",
        f"{passed / (passed - again):.3f} ×",
        f"≤ {UNDERWAY[way] // MIB} MiB a kill",
        most <= UNDERWAY[way] and nobody == 0 and len(struck) == len(kills),
    )


def _table(way: str, kills: list[Kill], expected: int) -> str:
    """A line a kill."""
    lines = [f"| {way}: kill | of | at MB | % | MB again | requests |", "|---|---|---|---|---|---|"]
    for kill in kills:
        at = f"{kill.passed / 10**6:.1f} | {kill.passed / expected:.0%}"
        lines.append(f"| {kill.number} | {kill.who} | {at} | {kill.cost / 10**6:.2f} | {kill.cut} |")
    return "\n".join(lines)


def _drawn(chance: random.Random, count: int) -> list[Kill]:
    """Everybody's turn as often as anybody's, in any order; one moment anywhere in each stretch of the transfer."""
    who = [(CLIENT, API, MINIO)[number % 3] for number in range(count)]
    chance.shuffle(who)
    shares = [FIRST + (LAST - FIRST) * (number + chance.random()) / count for number in range(count)]
    return [Kill(number, one, share) for number, (one, share) in enumerate(zip(who, shares, strict=True), 1)]


def _objects(node: Node) -> set[str]:
    """The packs and the map of the disk, as the node that pushed it recorded them."""
    ledger = Library(node.library).ledger
    digest = ledger.known(node.disk)
    assert digest is not None
    made, data = ledger.map_of(digest, node.disk.stat().st_size), ledger.map_bytes(digest)
    assert made is not None
    assert data is not None
    return {pack.sha256 for pack in made.packs} | {hashlib.sha256(data).hexdigest()}


def _compare(origin: Node, node: Node) -> None:
    """Every byte of every file of the VM."""
    measure.run(["cmp", origin.disk, node.disk])
    measure.run(["diff", "-r", *(one.library / "vm_lib" for one in (origin, node))])


def _words(command: list[object]) -> list[str]:
    return [str(word) for word in command]


def main() -> None:
    """Kill, count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=8, help="of data on the disk")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--kills", type=int, default=KILLS, help="in each direction")
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="where disks are kept between runs")
    parser.add_argument("--work", type=Path, help="where servers and libraries lie meanwhile; default: the cache")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with lab(Asked(asked.gb, 1, asked.cache.absolute(), asked.work, (), "no")) as at:
        print(markdown(rows(at, asked.seed, asked.kills)))


if __name__ == "__main__":
    main()
