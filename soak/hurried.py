"""s3reg whose pushes and markers end within seconds: `python -m soak.hurried IDLE AGE DEAD WORD...`, all three in seconds.

No setting says how long a push may be silent, how old it may grow, or when a sweep takes another one for dead: a day, a
week and an hour fit everybody. A soak has minutes for all of it.
"""

from __future__ import annotations

import functools
import sys
from unittest import mock

from s3reg.api import wiring
from s3reg.cli import main as cli
from s3reg.registry import Limits, sweep


def hurry(idle: int, age: int, dead: int) -> None:
    """The command line that `sys.argv` says, with these limits."""
    limits = functools.partial(Limits, idle_seconds=idle, age_seconds=age)
    with mock.patch.object(wiring, "Limits", limits), mock.patch.object(sweep, "DEAD_SECONDS", dead):
        cli.main()


if __name__ == "__main__":
    _, *told = sys.argv[:4]
    sys.argv = [sys.argv[0], *sys.argv[4:]]
    hurry(*map(int, told))
