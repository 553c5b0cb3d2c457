"""Records read and written through the port: fresh, or cached where they never change, and changed by compare-and-swap."""

from __future__ import annotations

import contextlib
import random
import time
from logging import WARNING
from typing import TYPE_CHECKING, TypeVar

from s3reg.errors import (
    FormatUnknown,
    ObjectNotFound,
    PreconditionFailed,
    PutUnsettled,
    RecordDamaged,
    SessionNotFound,
    TooBusy,
)
from s3reg.model import format as fmt
from s3reg.model.bounded import LARGEST_RECORD, LARGEST_SIZE
from s3reg.model.template import Base, union_bytes
from s3reg.registry.recent import Recent
from s3reg.registry.withheld import given
from s3reg.store import ABSENT, Match
from s3reg.store.together import gather
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from s3reg.model.names import Domain, SessionId, TemplateId, VersionId
    from s3reg.model.template import Head, Session, Version
    from s3reg.registry.values import Limits
    from s3reg.store import Object, ObjectStore, Stat

T = TypeVar("T")

VERSION_BYTES = 64 * 1024**2
"""Of version records, as they lie on the store, whose values are kept."""
LONGEST_PAUSE = 0.5
"""Seconds between two attempts."""


class Records:
    """The records of one store, and what all verbs need besides: limits and the clock."""

    def __init__(
        self,
        store: ObjectStore,
        limits: Limits,
        clock: Callable[[], float],
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.store = store
        self.limits = limits
        self.clock = clock
        self._sleep = sleep
        self._versions: Recent[tuple[TemplateId, VersionId], Version] = Recent(VERSION_BYTES)

    # --- Reading -----------------------------------------------------------------------------------------------------

    def read(self, key: str) -> Object | None:
        """The object, or None where there is none. At most what a record may have is read, and one byte."""
        try:
            return self.store.get(key, length=LARGEST_RECORD + 1)
        except ObjectNotFound:
            return None

    def head(self, template: TemplateId) -> Head | None:
        """The template's head as it is now. Raises RecordDamaged, FormatUnknown."""
        found = self.read(fmt.head_key(template))
        return fmt.read_head(found.data, template) if found else None

    def domain_of_damaged(self, template: TemplateId) -> Domain | None:
        """The domain of a head that cannot be read whole, as far as it tells one."""
        found = self.read(fmt.head_key(template))
        head = fmt.read_damaged_head(found.data, template, "") if found else None
        return (head.domain or None) if head else None

    def session(self, sid: SessionId) -> tuple[Session, Stat] | None:
        """The session as it is now, and when it was last written. Raises RecordDamaged, FormatUnknown."""
        found = self.read(fmt.session_key(sid))
        return (fmt.read_session(found.data, sid), found.stat) if found else None

    def version(self, template: TemplateId, vid: VersionId) -> Version:
        """A version that a head names: so it exists, never changes, and may come from memory.

        Raises RecordDamaged, also where it is missing; FormatUnknown.
        """

        def read() -> tuple[Version, int]:
            found = self.read(fmt.version_key(template, vid))
            if found is None:
                raise RecordDamaged(what=f"version {vid} of template {template}", reason="its record is missing")
            return fmt.read_version(found.data, template, vid), len(found.data)

        def read_again() -> tuple[Version, int]:
            # What was garbled once on its way must not count as damaged: a head's size would say so for long.
            with contextlib.suppress(RecordDamaged):
                return read()
            return read()

        return self._versions.get((template, vid), read_again)

    def remember(self, version: Version, size: int) -> None:
        """Keep a version whose record of `size` bytes was just written, as if it had been read."""
        self._versions.get((version.template, version.id), lambda: (version, size))

    def versions(self, wanted: Sequence[Base], *, withheld: bool = False) -> list[Version | None]:
        """Each of the versions, in this order; None, and a line in the log, for one whose record cannot be read.

        `withheld`: also for one that the store has, and does not give.
        """

        def read(base: Base) -> Version | None:
            try:
                if not withheld:
                    return self.version(base.template, base.version)
                key = fmt.version_key(base.template, base.version)
                return given(self.store, key, lambda: self.version(base.template, base.version))
            except (RecordDamaged, FormatUnknown) as e:
                emit("version-unreadable", level=WARNING, template=base.template, version=base.version, reason=str(e))
                return None

        return gather(read, wanted)

    def union_size(self, head: Head) -> int:
        """Bytes of the union, by digest, of the images and states of the head's versions.

        One whose record cannot be read counts for no more than the largest such: what it shares is not known.
        """
        # A record that the store withholds must not keep every other version from being pushed or taken out.
        found = self.versions([Base(head.id, entry.id) for entry in head.versions], withheld=True)
        lost = [entry.size for entry, version in zip(head.versions, found, strict=True) if version is None]
        union = union_bytes(version for version in found if version is not None)
        return min(max([union, *lost]), LARGEST_SIZE)

    # --- Writing -----------------------------------------------------------------------------------------------------

    def create(self, key: str, data: bytes) -> bytes:
        """Write an object that must not be there yet; the bytes that lie there now: ours, or those of who came first."""
        for attempt in range(self.limits.attempts):
            try:
                self.store.put(key, data, only_if=ABSENT)
            except (PreconditionFailed, PutUnsettled):
                found = self.read(key)
                if found is not None:
                    return found.data
                # An unsettled put that did not count, or a key that was deleted in between.
                self._pause(attempt)
            else:
                return data
        raise TooBusy(what=key)

    def change_head(
        self, template: TemplateId, operation: str | None, change: Callable[[Head | None], Head | None]
    ) -> Head | None:
        """Compare-and-swap of a template's head: what `change` makes of it, one generation on; the head as it is then.

        Done already if the head's operation ids hold `operation`: a lost answer, or the same call on another replica.
        None for what may be done twice, which crowds out no id of a call that may not.
        `change` is called anew for each attempt, between reading the head and replacing it; what it returns as None, or
        raises, leaves the head as it is. Raises TooBusy.
        """
        key = fmt.head_key(template)
        for attempt in range(self.limits.attempts):
            found = self.read(key)
            head = fmt.read_head(found.data, template) if found else None
            if head is not None and operation in head.operations:
                return head
            changed = change(head)
            if changed is None:
                return head
            new = changed.wrote(operation)
            data = fmt.write_head(new)
            # What we could not read again would hide the template from everyone: better to fail here.
            fmt.read_head(data, template)
            try:
                self.store.put(key, data, only_if=Match(found.stat.etag) if found else ABSENT)
            except (PreconditionFailed, PutUnsettled):
                self._pause(attempt)
            else:
                return new
        raise TooBusy(what=f"template {template}")

    def change_session(self, sid: SessionId, change: Callable[[Session, Stat], Session | None]) -> Session:
        """Compare-and-swap of a session: what `change` makes of it; None leaves it as it is.

        `change` may be applied twice when an answer was lost. Raises SessionNotFound, TooBusy.
        """
        for attempt in range(self.limits.attempts):
            found = self.session(sid)
            if found is None:
                raise SessionNotFound(session=sid)
            session, stat = found
            new = change(session, stat)
            if new is None:
                return session
            try:
                self.store.put(fmt.session_key(sid), fmt.write_session(new), only_if=Match(stat.etag))
            except (PreconditionFailed, PutUnsettled):
                self._pause(attempt)
            else:
                return new
        raise TooBusy(what=f"session {sid}")

    def _pause(self, attempt: int) -> None:
        # Full jitter: those who met once must not meet again at the same distance.
        self._sleep(random.uniform(0, min(LONGEST_PAUSE, 0.005 * 2**attempt)))  # noqa: S311 - no secret hangs on it
