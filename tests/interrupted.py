"""Runs `s3reg` and sends it signals while it removes files: `python interrupted.py SIGNAL,… N ARGUMENTS`.

Each signal comes at one removal below `packs.d`, the first at the N-th. Removals are seen by Python's own audit events, so
that the program knows nothing of it.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys

from s3reg.cli.main import main


def _arm(numbers: list[int], first: int) -> None:
    left = itertools.count(1)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "os.remove" and "packs.d" in str(arguments[0]):
            at = next(left) - first
            if 0 <= at < len(numbers):
                os.kill(os.getpid(), numbers[at])

    sys.addaudithook(hook)


if __name__ == "__main__":
    _arm([signal.Signals[name] for name in sys.argv[1].split(",")], int(sys.argv[2]))
    sys.argv[1:3] = []
    main()
