"""A library and a registry, and what goes between them: what programs use that push and pull by themselves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Self

from s3reg import wire
from s3reg.client import pull, push
from s3reg.client.connection import Access, Connection
from s3reg.client.estimate import DownloadSize, Estimate, FileEstimate
from s3reg.client.library import Library
from s3reg.client.outlook import FileOutlook, Outlook, Pushed
from s3reg.client.pace import Pace
from s3reg.client.platform import default_library
from s3reg.client.progress import Progress, Silent
from s3reg.client.pull import Pulled, PullOptions
from s3reg.client.push import PushOptions
from s3reg.client.remotes import Remotes, remotes_path

if TYPE_CHECKING:
    from s3reg.client.library import VmFolder

__all__ = [
    "Access",
    "DownloadSize",
    "Estimate",
    "FileEstimate",
    "FileOutlook",
    "Library",
    "Node",
    "Outlook",
    "Progress",
    "PullOptions",
    "Pulled",
    "PushOptions",
    "Pushed",
]


class Node:
    """The VMs of one library, and one registry. Use it in a `with`, from one thread at a time.

    `library`: its folder; None for the one that this user's commands take. `registry`: an address, the name of a registry
    that `s3reg add` made known, or an Access with certificates; None for the one that this user's commands take.
    `limit_rate`: the most bytes to send or receive a second. `jobs`: requests to the store at once.
    """

    def __init__(
        self,
        library: Path | str | None = None,
        registry: Access | str | None = None,
        *,
        limit_rate: int | None = None,
        jobs: int | None = None,
    ) -> None:
        self.library = Library(Path(library or default_library()).expanduser().absolute())
        self.library.create()
        if not isinstance(registry, Access):
            known = Remotes(remotes_path(os.environ))
            registry = known.chosen(remote=registry, address=None, environment=os.environ).access
        self._connection = Connection(registry, pace=Pace(limit_rate=limit_rate, jobs=jobs))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""
        self._connection.close()

    def vms(self) -> list[VmFolder]:
        """The VMs of the library, by name."""
        return self.library.vms()

    def templates(self) -> list[wire.TemplateEntry]:
        """The templates of the registry, by name, with their versions."""
        answer = self._connection.ask(wire.TemplatesAnswerSchema, "GET", f"{wire.PREFIX}/templates")
        assert isinstance(answer, wire.TemplatesAnswer)
        return list(answer.templates)

    def push(self, vm: str, options: PushOptions, progress: Progress | None = None) -> Pushed:
        """Push the VM of this name or id as a new version."""
        return push.push(self._connection, self.library, self.library.find(vm), options, progress or Silent())

    def plan_push(self, vm: str, options: PushOptions, progress: Progress | None = None) -> Outlook:
        """What `push` would send now. It reads what `push` would read, and sends nothing."""
        return push.foresee(self._connection, self.library, self.library.find(vm), options, progress or Silent())

    def pull(self, template: str, options: PullOptions | None = None, progress: Progress | None = None) -> Pulled:
        """Pull a version of the template of this name or id into the library; the newest one by default."""
        return pull.pull(self._connection, self.library, template, options or PullOptions(), progress or Silent())

    def plan_pull(self, template: str, options: PullOptions | None = None) -> Estimate:
        """What `pull` would receive and write now, to the byte."""
        return pull.estimate(self._connection, self.library, template, options or PullOptions())

    def download_size(self, template: str, options: PullOptions | None = None) -> DownloadSize:
        """`plan_pull` in three numbers, and without looking at what would stand in the way of a pull."""
        return pull.download_size(self._connection, self.library, template, options or PullOptions())
