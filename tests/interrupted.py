"""Runs `s3reg` and sends it signals at its steps: `python interrupted.py SIGNAL,… N ARGUMENTS`.

A step is a removal below `packs.d`, or a line that a push or a pull notes in its log. Each signal comes at one of them, the
first at the N-th. They are seen by Python's own audit events, so that the program knows nothing of it.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys

from s3reg.cli.main import main


def _is_step(event: str, arguments: tuple[object, ...]) -> bool:
    if event == "open":
        flags = arguments[2]
        return isinstance(flags, int) and bool(flags & os.O_APPEND) and "/.s3reg/" in str(arguments[0])
    return event == "os.remove" and "packs.d" in str(arguments[0])


def _arm(numbers: list[int], first: int) -> None:
    left = itertools.count(1)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if _is_step(event, arguments):
            at = next(left) - first
            if 0 <= at < len(numbers):
                os.kill(os.getpid(), numbers[at])

    sys.addaudithook(hook)


if __name__ == "__main__":
    _arm([signal.Signals[name] for name in sys.argv[1].split(",")], int(sys.argv[2]))
    sys.argv[1:3] = []
    main()
