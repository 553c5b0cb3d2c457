"""Commands of s3reg in processes of their own, forked off one that has imported everything: what costs a second else.

    with forks() as start:
        start("gc", folder).outcome()
        start("gc", folder, dies=(3, "behind")).outcome()     kill -9 at its third call of the store, once that is done

The other half is forking.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import running
import secrets_seen
from campaign import forking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


PATIENCE = 30.0
"""Seconds that a node waits for a silent server, and a registry for its store."""


@dataclass
class Forked:
    """A command under way, or ended."""

    folder: Path
    arguments: tuple[str, ...]
    pid: int = 0
    code: int | None = None
    began: threading.Event = field(default_factory=threading.Event, repr=False)
    ended: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def killed(self) -> bool:
        """Whether it came to its end by kill -9."""
        assert self.ended.wait(running.SECONDS), self.arguments
        return self.code == -signal.SIGKILL

    def kill(self) -> None:
        """kill -9, its children too; returns when it is gone."""
        assert self.began.wait(running.SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        assert self.ended.wait(running.SECONDS), self.arguments

    def outcome(self) -> running.Outcome:
        """What it came to."""
        assert self.ended.wait(running.SECONDS), self.arguments
        out, err = ((self.folder / name).read_text(errors="replace") for name in ("out", "err"))
        secrets_seen.watch(err)
        assert "Traceback" not in err, err
        assert self.code is not None
        return running.Outcome(self.code, out, err)

    def done(self) -> running.Outcome:
        """It must have succeeded."""
        outcome = self.outcome()
        assert outcome.code == 0, (self.arguments, outcome.code, outcome.err)
        return outcome


@contextlib.contextmanager
def forks() -> Iterator[Callable[..., Forked]]:
    """`start(arguments…, dies=(n, moment), patience=seconds, **environment)`: a command is under way."""
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, "-P", forking.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        ) as process,
    ):
        assert process.stdin is not None
        children: dict[int, Forked] = {}
        threading.Thread(target=_listen, args=(process.stdout, children), daemon=True).start()
        lock = threading.Lock()

        def start(
            *arguments: object, dies: tuple[int, str] | None = None, patience: float = PATIENCE, **environment: str
        ) -> Forked:
            assert process.stdin is not None
            with lock:
                number = len(children)
                child = Forked(Path(folder, str(number)), tuple(map(str, arguments)))
                child.folder.mkdir()
                children[number] = child
                row = {
                    "number": number,
                    "arguments": child.arguments,
                    "environment": running.environment(**secrets_seen.kept(environment)),
                    "folder": str(child.folder),
                    "dies": dies,
                    "patience": patience,
                }
                process.stdin.write(json.dumps(row) + "\n")
            return child

        try:
            yield start
        finally:
            process.stdin.close()
            process.wait(timeout=running.SECONDS)


def _listen(stream: Any, children: dict[int, Forked]) -> None:
    for line in stream:
        row = json.loads(line)
        child = children[row["number"]]
        if "pid" in row:
            child.pid = row["pid"]
            child.began.set()
        else:
            child.code = row["code"]
            child.began.set()
            child.ended.set()
