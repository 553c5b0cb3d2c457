"""What other processes do to a directory store in the tests: a module of its own, so that they can import it."""

from __future__ import annotations

import io
import random
import sys
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from s3reg.errors import PreconditionFailed
from s3reg.store import ABSENT, Absent, Match
from s3reg.store.files import FilesStore

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.synchronize import Barrier

WAIT_SECONDS = 60


def race(root: Path, number: int, rounds: int, barrier: Barrier, answer: Connection) -> None:
    """Create a key and replace an object in each round, together with the others; send (created, replaced) for each."""
    store, wins = FilesStore(root), []
    for turn in range(rounds):
        # Whoever comes here before the others must not see their round's object.
        barrier.wait(WAIT_SECONDS)
        old = Match(store.stat("heads/a").etag)
        barrier.wait(WAIT_SECONDS)
        created = _put(store, f"auth/{turn}", number, ABSENT)
        replaced = _put(store, "heads/a", number, old)
        wins.append((created, replaced))
    answer.send(wins)
    answer.close()


def _put(store: FilesStore, key: str, number: int, only_if: Absent | Match) -> bool:
    try:
        store.put(key, b"by %d" % number, only_if=only_if)
    except PreconditionFailed:
        return False
    return True


def whole(count: int, length: int) -> bytes:
    """An object that tells by itself whether it is whole: its digest, then a number, then filling."""
    body = count.to_bytes(8, "big") + bytes([count % 251]) * length
    return sha256(body).digest() + body


def is_whole(data: bytes) -> bool:
    """Whether `data` is what `whole` gave."""
    return sha256(data[32:]).digest() == data[:32]


def write_until_killed(root: Path, seed: int) -> None:
    """Write, replace, receive and delete; say `key count` once the answer is there."""
    store, chosen = FilesStore(root), random.Random(seed)
    count = 0
    while True:
        count += 1
        data = whole(count, chosen.choice([0, 100, 300_000]))
        key = f"heads/{chosen.randrange(4)}"
        store.put(key, data)
        sys.stdout.write(f"{key} {count}\n")
        sys.stdout.flush()
        pack = f"packs/main/{seed}/{count}"
        store.receive(pack, io.BytesIO(data), size=len(data), sha256=sha256(data).hexdigest())
        sys.stdout.write(f"{pack} {count}\n")
        sys.stdout.flush()
        store.put("sessions/x", data)
        store.delete(["sessions/x"])


def tell_changes(root: Path, rounds: int) -> None:
    """Put, replace and delete under changes/, as fast as it goes; say `key etag`, or `key -`, once the answer is there."""
    store = FilesStore(root)

    def say(key: str, etag: str) -> None:
        sys.stdout.write(f"{key} {etag}\n")
        sys.stdout.flush()

    for number in range(rounds):
        new, old, oldest = (f"changes/{number - back}" for back in (0, 1, 4))
        say(new, store.put(new, b"same size"))
        say(old, store.put(old, b"same size"))
        store.delete([oldest])
        say(oldest, "-")


if __name__ == "__main__":
    if sys.argv[2] == "changes":
        tell_changes(Path(sys.argv[1]), int(sys.argv[3]))
    else:
        write_until_killed(Path(sys.argv[1]), int(sys.argv[2]))
