"""The client as a library, in a process of its own: for what the command line does not say.

python -m bench.driver push --registry URL --library DIR VM TAG     sent, stored_raw
python -m bench.driver hash FILE                                                 SHA-256 of every chunk, on all cores
python -m bench.driver copy HOST PORT BYTES CONNECTIONS up|down                  a plain copy (bench/plain_copy.py)
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import queue
import threading
from pathlib import Path

from bench import plain_copy
from s3reg.client.connection import Access, Connection
from s3reg.client.library import Library
from s3reg.client.progress import Silent
from s3reg.client.push import PushOptions, push

_PIECE = 4 * 1024**2
_CHUNK = 256 * 1024


def push_one(registry: str, library: Path, vm: str, tag: str) -> dict[str, object]:
    """A push; what it came to."""
    connection, own = Connection(Access(registry)), Library(library)
    try:
        done = push(connection, own, own.find(vm), PushOptions(tag=tag), Silent())
    finally:
        connection.close()
    return {"sent": done.sent, "stored_raw": done.stored_raw, "size": done.answer.size}


def hash_all(path: Path) -> dict[str, object]:
    """Hash every chunk of a sparse file's data; two threads a core, so that some read while others hash."""
    pieces: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    threads = [threading.Thread(target=_hash, args=(path, pieces)) for _ in range(2 * (os.cpu_count() or 1))]
    total = 0
    with path.open("rb") as file:
        size, at = os.fstat(file.fileno()).st_size, 0
        while at < size:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            for piece in range(max(at, start // _PIECE * _PIECE), end, _PIECE):
                pieces.put(piece)
                total += _PIECE
            at = -(-end // _PIECE) * _PIECE
    for _ in threads:
        pieces.put(None)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"bytes": total}


def _hash(path: Path, pieces: queue.SimpleQueue[int | None]) -> None:
    buffer = memoryview(bytearray(_PIECE))
    with path.open("rb", buffering=0) as file:
        while (at := pieces.get()) is not None:
            length = os.preadv(file.fileno(), [buffer], at)
            for start in range(0, length, _CHUNK):
                hashlib.sha256(buffer[start : min(start + _CHUNK, length)]).digest()


def main() -> None:
    """One of them, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    pushing = commands.add_parser("push")
    pushing.add_argument("--registry", required=True)
    pushing.add_argument("--library", type=Path, required=True)
    pushing.add_argument("vm")
    pushing.add_argument("tag")
    commands.add_parser("hash").add_argument("file", type=Path)
    copying = commands.add_parser("copy")
    copying.add_argument("host")
    for name in ("port", "bytes", "connections"):
        copying.add_argument(name, type=int)
    copying.add_argument("way", choices=("up", "down"))
    asked = parser.parse_args()
    if asked.what == "push":
        told = push_one(asked.registry, asked.library, asked.vm, asked.tag)
    elif asked.what == "hash":
        told = hash_all(asked.file)
    else:
        told = plain_copy.client(asked.host, asked.port, asked.way, asked.bytes, asked.connections)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
