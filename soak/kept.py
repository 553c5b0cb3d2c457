"""What must hold when all have stopped and time has passed: sound, whole, and nothing over."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from bench.lab import library_environment

from s3reg.client.pull import PullOptions
from soak.actor import SHARED, Actor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from soak.sweeps import Sweeps


class Last(Actor):
    """Who comes when all others are gone, and pulls every version there is."""

    def goes_on(self) -> bool:
        """Once."""
        return not self._turns

    def turn(self) -> None:
        """All of them, each onto a fresh machine where another VM's files could be in its way, else onto the last one."""
        for template in self.templates():
            self.forget()
            for version in template.versions:
                if template.id == SHARED:
                    self.forget()
                self.pull(template.id, PullOptions(tag=version.tag, force=True, shrink=True, durable=False))
                self.counts.add("versions kept")


def left_over(sweeps: Sweeps, s3reg: Sequence[object], bucket: str, endpoint: str) -> Iterator[str]:
    """What two sweeps left over, and what is damaged or missing."""
    sweeps.once()
    sweeps.once()
    where = [bucket, "--s3-endpoint", endpoint]
    checked = _said([*s3reg, "-j", "fsck", *where, "--read-data"])
    if checked["status"] != "OK":
        yield f"fsck ended with {checked}"
        return
    body = checked["body"]
    sweeps.counts.add("packs read by fsck", body["read"]["packs"])
    orphans = {sort: tally for sort, tally in body["orphans"].items() if tally["count"]}
    if body["damage"] or orphans or body["foreign_count"]:
        yield f"fsck found damage {body['damage']}, orphans {orphans}, foreign keys {body['foreign']}"
    for what, keys in _said([sys.executable, "-m", "soak.inventory", bucket, endpoint]).items():
        if keys:
            yield f"{len(keys)} objects: {what}: {', '.join(keys[:20])}"


def _said(command: Sequence[object]) -> dict[str, Any]:
    """The JSON object that a command says last."""
    done = subprocess.run(
        [str(word) for word in command],
        env=library_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {"status": "ERROR", "message": f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}"}
    assert isinstance(answer, dict)
    return answer
