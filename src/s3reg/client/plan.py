"""A pull's plan: what the registry says of a version, and links that stay fresh while workers use them."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from s3reg import wire
from s3reg.errors import AnswerInvalid, NameInvalid, RecordDamaged, S3regError
from s3reg.model.template import Role, check_file_names

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3reg.client.connection import Connection
    from s3reg.model.packs import PackRef

EARLY = 0.8
"""Of their life: then links are renewed, before one of them is refused in the middle of something."""
SHORTEST_REST = 2
"""Seconds left by then, at least: the registry tells times in whole seconds."""


class Plan:
    """A pull's plan, and fresh links before the old ones end. Shared by all workers."""

    def __init__(
        self,
        connection: Connection,
        ref: str,
        tag: str | None,
        number: int | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._clock = clock
        self._lock = threading.Lock()
        self._renewals = 0
        self._looked = threading.local()
        self._early = self._end = asked = clock()
        self._adopt(self._ask({"ref": ref, "tag": tag, "number": number}), asked)

    def url(self, ref: PackRef | wire.MapLink) -> str:
        """The link of a pack or a map. They are renewed when most of their life is over, by whoever asks first then."""
        if self._early <= self._clock() < self._end and self._lock.acquire(blocking=False):
            try:
                self._renew_early()
            finally:
                self._lock.release()
        self._looked.renewals = self._renewals
        try:
            return self._urls[ref.sid, ref.sha256]
        except KeyError:
            raise RecordDamaged(what="the plan", reason=f"it has no link for {ref.sha256}") from None

    def refresh(self, stale: str) -> None:
        """Fresh links for all, unless another worker has already got them since `stale` was one."""
        with self._lock:
            # Links that were signed within one second are equal: what a worker saw is told by when it looked, too.
            if stale not in self._urls.values() or getattr(self._looked, "renewals", 0) != self._renewals:
                return
            self._renew()

    def _renew_early(self) -> None:
        """Fresh links, if the registry has them now: the old ones are good for a while."""
        now = self._clock()
        if now < self._early:
            return  # somebody else was faster
        # Half of what is left from now, should it fail.
        self._early = now + (self._end - now) / 2
        with contextlib.suppress(S3regError):
            self._renew()

    def _renew(self) -> None:
        asked = self._clock()
        fresh = self._ask({"ref": self.answer.template, "tag": self.answer.tag, "number": None})
        if fresh.version != self.answer.version:
            raise RecordDamaged(what="the pull", reason="the tag was given to another version meanwhile")
        self._adopt(fresh, asked)
        self._renewals += 1

    def _adopt(self, answer: wire.PlanAnswer, asked: float) -> None:
        """The answer to what was asked then. How long its links live is the registry's word: no clock here is asked."""
        life = answer.expires - answer.now
        self.answer = answer
        self._urls = self._links()
        self._end = asked + life
        self._early = asked + EARLY * life if (1 - EARLY) * life >= SHORTEST_REST else self._end

    def _ask(self, query: dict[str, object]) -> wire.PlanAnswer:
        path = f"{wire.PREFIX}/plan"
        answer: wire.PlanAnswer = self._connection.ask(wire.PlanAnswerSchema, "GET", path, query=query)
        try:
            check_file_names((file.name, Role(file.role)) for file in answer.files)
        except NameInvalid as e:
            raise AnswerInvalid(url=self._connection.url, reason=str(e)) from e
        return answer

    def _links(self) -> dict[tuple[str, str], str]:
        urls = {(pack.sid, pack.sha256): pack.url for pack in self.answer.packs}
        maps_of = (file.map for file in self.answer.files)
        return urls | {(link.sid, link.sha256): link.url for link in maps_of if link is not None and link.url}
