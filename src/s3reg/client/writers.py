"""Who writes a file: of Linux /proc tells it, of macOS lsof."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def open_for_writing(paths: Iterable[Path]) -> set[Path]:
    """Those of `paths` that another process has open for writing.

    Only what this user may see counts: other users' processes are visible to root alone. On Linux a file behind a writable
    loop device counts too.
    """
    wanted: dict[tuple[int, int], Path] = {}
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            found = path.stat()
            wanted[found.st_dev, found.st_ino] = path
    if not wanted:
        return set()
    if sys.platform == "darwin":
        return _written_says_lsof(set(wanted.values()))
    return {wanted[key] for key in _written_says_proc(wanted.keys())}


def _written_says_proc(wanted: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those (device, inode) that /proc shows open for writing in another process; man 5 proc_pid_fdinfo."""
    keys, found = set(wanted), set[tuple[int, int]]()
    own = str(os.getpid())
    for process in os.scandir("/proc"):
        if not process.name.isdigit() or process.name == own:
            continue
        # Processes end, and close files, while we look.
        with contextlib.suppress(OSError):
            for file in os.scandir(f"/proc/{process.name}/fd"):
                with contextlib.suppress(OSError):
                    seen = file.stat()
                    key = (seen.st_dev, seen.st_ino)
                    if key in keys and _opened_to_write(f"/proc/{process.name}/fdinfo/{file.name}"):
                        found.add(key)
    for device in Path("/sys/block").glob("loop*"):
        with contextlib.suppress(OSError):
            backing = Path((device / "loop" / "backing_file").read_text(encoding="utf-8").rstrip("\n")).stat()
            if (backing.st_dev, backing.st_ino) in keys and (device / "ro").read_text(encoding="ascii").strip() == "0":
                found.add((backing.st_dev, backing.st_ino))
    return found


def _opened_to_write(fdinfo: str) -> bool:
    with open(fdinfo, encoding="ascii", errors="replace") as lines:  # noqa: PTH123 - a hot loop over /proc
        for line in lines:
            if line.startswith("flags:"):
                return int(line.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY
    return False


def _written_says_lsof(paths: set[Path]) -> set[Path]:
    """What lsof -F prints: a line each for process (p), file descriptor (f), access (a: r, w or u) and name (n)."""
    by_name = {str(path.resolve()): path for path in paths}
    lsof = shutil.which("lsof", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if lsof is None:
        return set()
    # It exits 1 when one of the files is open nowhere: what it printed is the answer.
    answer = subprocess.run(  # noqa: S603 - a fixed program, full paths as arguments
        [lsof, "-F", "pan", "--", *by_name], capture_output=True, text=True, check=False, timeout=60
    )
    found, own, access = set[Path](), False, ""
    for line in answer.stdout.splitlines():
        kind, text = line[:1], line[1:]
        if kind == "p":
            own = text == str(os.getpid())
        elif kind == "a":
            access = text
        elif kind == "n" and access in {"w", "u"} and not own and text in by_name:
            found.add(by_name[text])
    return found
