"""HAProxy before registries, with a configuration that people are given."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import nginx
import servers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SECONDS = 60


@contextlib.contextmanager
def running(folder: Path, configuration: str, port: int) -> Iterator[None]:
    """HAProxy, once it listens at `port`."""
    program = servers.needs("haproxy")
    folder.mkdir(parents=True, exist_ok=True)
    file, log = folder / "haproxy.cfg", folder / "haproxy.log"
    file.write_text(configuration)
    with servers.until_stdin_ends([program, "-db", "-f", str(file)], log, {}):
        deadline = time.monotonic() + _SECONDS
        while not nginx.listens(port):
            told = log.read_text()
            assert "[ALERT]" not in told, told
            assert time.monotonic() < deadline, told
            time.sleep(0.02)
        yield
