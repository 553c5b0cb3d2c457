"""What every push wrote: a folder that all processes of a soak read and write.

A push has a name, which stands in the configuration of the VM that it brings: whoever pulls that VM knows from its own
bytes which push to compare them with, whatever the registry says. Everything is noted before it is done.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from typing import TYPE_CHECKING

from s3reg.model.template import Role

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from s3reg.client.library import LocalVm

FIELD = "soak"
"""Of the configuration: the push's name."""


class Violation(Exception):
    """What must never be."""


class Book:
    """The notes below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("pushes", "versions", "doomed"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def note(self, push: str, vm: LocalVm) -> None:
        """What the push is about to write."""
        self._write("pushes", push, json.dumps(digests(vm)))

    def tie(self, version: str, push: str) -> None:
        """The version is what this push made. Raises Violation if it is another one's."""
        if not self._write("versions", version, push):
            known = (self._folder / "versions" / version).read_text()
            if known != push:
                raise Violation(f"the version {version} of {known} is one of {push} too")

    def doom(self, versions: Iterable[str]) -> None:
        """These versions may be gone from now on."""
        for version in versions:
            (self._folder / "doomed" / version).touch()

    def is_doomed(self, version: str) -> bool:
        """Whether somebody was about to remove it, ever."""
        return (self._folder / "doomed" / version).exists()

    def compare(self, vm: LocalVm) -> str:
        """The push that the VM's files are of, each byte of them. Raises Violation."""
        push = str(vm.values.get(FIELD))
        found, path = digests(vm), self._folder / "pushes" / push
        if not path.exists():
            raise Violation(f"{vm.id} says that it is of {push}, which nobody pushed")
        wanted = json.loads(path.read_text())
        if found != wanted:
            wrong = sorted(name for name in found | wanted if found.get(name) != wanted.get(name))
            raise Violation(f"{vm.id} of {push} has other bytes than were pushed: {', '.join(wrong)}")
        return push

    def _write(self, kind: str, name: str, text: str) -> bool:
        """Whole, or not at all; False if it was there."""
        aside = self._folder / uuid.uuid4().hex
        aside.write_text(text)
        try:
            os.link(aside, self._folder / kind / name)
        except FileExistsError:
            return False
        finally:
            aside.unlink()
        return True


def digests(vm: LocalVm) -> dict[str, str]:
    """The SHA-256 of each of the VM's files but its configuration, in which a push may rewrite names."""
    return {
        file.name: hashlib.sha256(file.path.read_bytes()).hexdigest()
        for file in vm.files
        if file.role is not Role.CONFIG
    }
