"""What pushers and pullers have in common: a node of their own, a line to the replicas, a count of what they did."""

from __future__ import annotations

import abc
import random
import secrets
import shutil
import threading
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from s3reg import wire
from s3reg.client.connection import Access, Connection
from s3reg.client.library import Library
from s3reg.client.pace import Pace
from s3reg.client.progress import Silent
from s3reg.client.pull import Pulled, PullOptions, pull
from s3reg.wire import trash as messages
from soak.book import Book, Violation

if TYPE_CHECKING:
    from pathlib import Path

    from s3reg.errors import S3regError

_LONGEST_REST = 0.4
SHARED = "5eed5eed-0000-4000-8000-000000000000"
"""A template that many push to, each of them other VMs."""


class Counts:
    """What happened, for all threads of a process."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.violations: list[str] = []

    def add(self, what: str, count: int = 1) -> None:
        """So many more."""
        with self._lock:
            self._counts[what] += count

    def failed(self, what: str, code: str) -> None:
        """One that failed, as it may."""
        self.add(f"{what}: {code}")

    def taken(self) -> dict[str, int]:
        """What happened since this was asked last."""
        with self._lock:
            taken, self._counts = self._counts, Counter()
            return dict(taken)


@dataclass(frozen=True)
class Stage:
    """What all actors act on."""

    url: str
    folder: Path
    book: Book
    seed: int
    until: float
    """In seconds since 1970; nobody begins anything new after it, who had his turns."""
    turns: int = 0
    """That everybody takes at least, however long that is."""
    counts: Counts = field(default_factory=Counts)


class Actor(abc.ABC):
    """Somebody with a node. What it does is drawn; the same seed draws the same."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.stage = stage
        self.name = name
        self.book, self.counts = stage.book, stage.counts
        self.chance = random.Random(f"{stage.seed} {name}")
        self.library = Library(stage.folder / name)
        self.connection = Connection(Access(stage.url))
        self._turns = 0

    def run(self) -> None:
        """Act until the end; what must never be ends it."""
        try:
            while self.goes_on() and not self.counts.violations:
                self._turns += 1
                self.turn()
                time.sleep(self.chance.uniform(0, _LONGEST_REST))
        except Violation as e:
            self.counts.violations.append(f"{self.name}: {e}")
        except Exception:  # noqa: BLE001 - whatever it is, nobody foresaw it
            self.counts.violations.append(f"{self.name}: {traceback.format_exc()}")
        finally:
            self.connection.close()

    def goes_on(self) -> bool:
        """Whether there is another turn."""
        return time.time() < self.stage.until or self._turns < self.stage.turns

    @abc.abstractmethod
    def turn(self) -> None:
        """One thing more."""

    # --- Asking ------------------------------------------------------------------------------------------------------

    def post(self, schema: type[wire.Message], path: str, body: object) -> Any:
        """The registry's answer to a change."""
        return self.connection.ask(schema, "POST", wire.PREFIX + path, wire.write(body))

    def describe(self, template: str) -> list[wire.VersionEntry]:
        """The versions of a template, oldest first. Raises TemplateNotFound."""
        answer = self.connection.ask(
            wire.TemplateEntrySchema, "GET", f"{wire.PREFIX}/template", query={"ref": template}
        )
        assert isinstance(answer, wire.TemplateEntry)
        return list(answer.versions)

    def templates(self) -> list[wire.TemplateEntry]:
        """All templates."""
        answer = self.connection.ask(wire.TemplatesAnswerSchema, "GET", f"{wire.PREFIX}/templates")
        assert isinstance(answer, wire.TemplatesAnswer)
        return list(answer.templates)

    def trash(self, template: str) -> list[messages.TrashEntry]:
        """What can be restored of a template. Raises TemplateNotFound."""
        answer = self.connection.ask(messages.TrashAnswerSchema, "GET", f"{wire.PREFIX}/trash", query={"ref": template})
        assert isinstance(answer, messages.TrashAnswer)
        return list(answer.entries)

    def may_fail(self, what: str, error: S3regError, *codes: str) -> None:
        """Count the error if it is one of these; raise Violation if not."""
        if error.code not in codes:
            raise Violation(f"{what} ended with {error.code}: {error}") from error
        self.counts.failed(what, error.code)

    # --- Pulling -----------------------------------------------------------------------------------------------------

    def pull(self, template: str, options: PullOptions) -> Pulled:
        """Pull it, and compare each byte with what was pushed. Raises Violation, and what a pull raises."""
        done = pull(self.connection, self.library, template, options, Silent())
        vm = self.library.find(template)
        push = self.book.compare(vm)
        tag = self.library.ledger.current(vm.id)
        assert tag is not None
        self.book.tie(self.library.ledger.tags(vm.id)[tag].version, push)
        self.counts.add("pulls")
        self.counts.add("bytes received", done.received)
        self.counts.add("bytes compared", sum(file.path.stat().st_size for file in vm.files))
        return done

    def forget(self) -> None:
        """A new machine: nothing is left of the old one."""
        shutil.rmtree(self.library.root, ignore_errors=True)
        self.library = Library(self.library.root)

    def slowly(self, rate: int) -> Connection:
        """A line that carries so many bytes a second."""
        return Connection(Access(self.stage.url), pace=Pace(limit_rate=rate))


def operation() -> str:
    """What tells one change from all others."""
    return secrets.token_hex(16)
