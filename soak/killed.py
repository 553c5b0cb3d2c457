"""A push by the command line that is killed at a drawn moment, with kill -9."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING

from bench import servers

from s3reg import errors
from soak.book import Violation

if TYPE_CHECKING:
    from s3reg.client.push import PushOptions
    from soak.actor import Actor

_LATEST = 1.5
"""Seconds after its session is open at which a push is killed, at most."""
_LOOK_SECONDS = 0.02


class Killed:
    """A push that dies, or comes to its end before; it may be run again."""

    def __init__(self, actor: Actor, template: str, options: PushOptions, rate: int) -> None:
        self.tries = 0
        self._actor = actor
        self._log = actor.library.own / "push" / f"{template}.jsonl"
        words: list[object] = [
            *servers.S3REG,
            "-j",
            "--library",
            actor.library.root,
            "-a",
            actor.stage.url,
            "push",
            template,
        ]
        words += ["-t", options.tag, "-d", options.description, "--limit-rate", rate]
        words += ["--force"] if options.force else []
        words += [word for base in options.bases for word in ("--base", base)]
        self._command = [str(word) for word in words]

    def run(self) -> bool:
        """Whether it came to its end before it was killed. Raises what the registry refused it for."""
        self.tries += 1
        began, delay = time.time(), self._actor.chance.uniform(0, _LATEST)
        with (
            tempfile.TemporaryFile("w+") as out,
            subprocess.Popen(self._command, env=servers.environment(), stdin=subprocess.DEVNULL, stdout=out) as client,
        ):
            while client.poll() is None and not self._is_open(began):
                time.sleep(_LOOK_SECONDS)
            with contextlib.suppress(subprocess.TimeoutExpired):
                client.wait(timeout=delay)
            if client.poll() is None:
                client.kill()
                client.wait()
                self._actor.counts.add("pushes killed")
                return False
            out.seek(0)
            _check(out.read())
            return True

    def _is_open(self, began: float) -> bool:
        """Whether this run has its session, or found the one that another left."""
        with contextlib.suppress(FileNotFoundError):
            return self.tries > 1 or self._log.stat().st_mtime >= began
        return False


def _check(said: str) -> None:
    """Raise what the command ended with, unless that is a version."""
    try:
        answer = json.loads(said.splitlines()[-1])
    except (IndexError, ValueError):
        raise Violation(f"a push said {said[-1000:]!r}") from None
    if answer["status"] == "OK":
        return
    kind = getattr(errors, answer["exception_type"], None)
    if kind is None:
        raise Violation(f"a push ended with {answer}")
    raise kind
