"""A process of pushers and pullers: says what they did, a line of JSON a second, and last what must never be."""

from __future__ import annotations

import argparse
import json
import os
import threading
from pathlib import Path

from soak.actor import Actor, Stage
from soak.book import Book
from soak.puller import Puller
from soak.pusher import Pusher

_EACH_SECONDS = 1
_NICE = 10
"""Sweeps and servers go first: a second is short where forty nodes share the cores."""
SHARING = 4
"""Every so many of the pushers push to the shared template too."""


def main() -> None:
    """Run the actors of these numbers until it is time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--until", type=float, required=True)
    parser.add_argument("--turns", type=int, required=True)
    parser.add_argument("--pushers", type=int, nargs="*", default=[])
    parser.add_argument("--pullers", type=int, nargs="*", default=[])
    asked = parser.parse_args()
    os.nice(_NICE)
    stage = Stage(asked.url, asked.folder / "nodes", Book(asked.folder / "book"), asked.seed, asked.until, asked.turns)
    actors: list[Actor] = [Pusher(stage, f"pusher-{n}", shares=n % SHARING == 0) for n in asked.pushers]
    actors += [Puller(stage, f"puller-{n}") for n in asked.pullers]
    threads = [threading.Thread(target=actor.run) for actor in actors]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(_EACH_SECONDS)
            print(json.dumps({"counts": stage.counts.taken(), "violations": stage.counts.violations}), flush=True)
    print(json.dumps({"counts": stage.counts.taken(), "violations": stage.counts.violations, "done": True}), flush=True)


if __name__ == "__main__":
    main()
