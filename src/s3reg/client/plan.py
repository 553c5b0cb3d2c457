"""A pull's plan: what the registry says of a version, and links that stay fresh while workers use them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from s3reg import wire
from s3reg.errors import AnswerInvalid, NameInvalid, RecordDamaged
from s3reg.model.template import Role, check_file_names

if TYPE_CHECKING:
    from s3reg.client.connection import Connection
    from s3reg.model.packs import PackRef


class Plan:
    """A pull's plan, and fresh links when the old ones end. Shared by all workers."""

    def __init__(self, connection: Connection, ref: str, tag: str | None, number: int | None) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._renewals = 0
        self._looked = threading.local()
        self.answer = self._ask({"ref": ref, "tag": tag, "number": number})
        self._urls = self._links()

    def url(self, ref: PackRef | wire.MapLink) -> str:
        """The link of a pack or a map."""
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
            fresh = self._ask({"ref": self.answer.template, "tag": self.answer.tag, "number": None})
            if fresh.version != self.answer.version:
                raise RecordDamaged(what="the pull", reason="the tag was given to another version meanwhile")
            self.answer = fresh
            self._urls = self._links()
            self._renewals += 1

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
