"""The registry: its verbs in one object over a store. It knows neither HTTP nor the native API's messages.

Every verb takes first who is asking. A template that the asker may not list reads as TemplateNotFound. All verbs are safe
to repeat, from any replica: what one of them left half done, the same call finishes (docs/design.md §4).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from s3reg.registry.values import (
    LARGEST_MAP,
    Committed,
    Described,
    Limits,
    Opened,
    Opening,
    Plan,
    Proposal,
    ProposedFile,
    Status,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from s3reg.model.format import StoreFormat
    from s3reg.model.identity import Identity
    from s3reg.model.names import Digest, SessionId, TemplateId, VersionId
    from s3reg.model.template import Base, Entry, Head, Session, Version
    from s3reg.store import Link, ObjectStore

__all__ = [
    "LARGEST_MAP",
    "Committed",
    "Described",
    "Limits",
    "Opened",
    "Opening",
    "Plan",
    "Proposal",
    "ProposedFile",
    "Registry",
    "Status",
]


class Registry:
    """Templates in a store, and the verbs that list, push and pull them. Safe to share between threads."""

    def __init__(
        self, store: ObjectStore, *, limits: Limits | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.store = store
        self.limits = limits or Limits()
        self.clock = clock

    # --- The store ---------------------------------------------------------------------------------------------------

    def prepare(self, *, write: bool = True) -> StoreFormat:
        """What the store is; an empty one is made a store of ours, if it may be written."""
        raise NotImplementedError

    def signing_secret(self) -> bytes:
        """The secret of links and logins, the same for every replica; made at the first call ever."""
        raise NotImplementedError

    def status(self) -> Status:
        """Whether the store answers, and what it is."""
        raise NotImplementedError

    # --- Listing -----------------------------------------------------------------------------------------------------

    def templates(self, asker: Identity) -> list[Head]:
        """All templates that the asker may list, by name, then id. Damaged heads are left out and logged."""
        raise NotImplementedError

    def find(self, asker: Identity, ref: str) -> Head:
        """The template of this id, else of this name. Raises TemplateNotFound, NameAmbiguous."""
        raise NotImplementedError

    def describe(self, asker: Identity, ref: str) -> Described:
        """A template with its versions."""
        raise NotImplementedError

    def version(
        self, asker: Identity, ref: str, *, tag: str | None = None, number: int | None = None
    ) -> tuple[Head, Entry, Version]:
        """One version, the newest by default. Raises TagNotFound, VersionNotFound."""
        raise NotImplementedError

    # --- Push --------------------------------------------------------------------------------------------------------

    def open(self, asker: Identity, opening: Opening) -> Opened:
        """A new push session. Raises TagTaken, NameTaken, DomainMismatch, Forbidden."""
        raise NotImplementedError

    def add_bases(self, asker: Identity, sid: SessionId, bases: Sequence[Base]) -> Opened:
        """More versions to build on; of what is asked for, the answer holds what may be used."""
        raise NotImplementedError

    def session(self, asker: Identity, sid: SessionId) -> Session:
        """The asker's push session. Raises SessionNotFound."""
        raise NotImplementedError

    def sign_uploads(self, asker: Identity, sid: SessionId, objects: Sequence[tuple[str, Digest, int]]) -> list[Link]:
        """Links to upload `pack`s and `map`s of these digests and sizes; the session's heartbeat too.

        Raises SessionNotFound, SessionExpired, SessionTooLarge.
        """
        raise NotImplementedError

    def commit(self, asker: Identity, sid: SessionId, proposal: Proposal) -> Committed:
        """Make the session's version visible, or, if it is already, say the same again.

        Raises TagTaken, NameTaken, ParentUnknown, NameInvalid, ConfigInvalid, CommitInvalid, DomainMismatch,
        SessionNotFound, SessionExpired.
        """
        raise NotImplementedError

    def abort(self, asker: Identity, sid: SessionId) -> None:
        """Give a session up. What it uploaded, the sweep removes. A session that is gone is no error."""
        raise NotImplementedError

    # --- Pull --------------------------------------------------------------------------------------------------------

    def plan(self, asker: Identity, ref: str, *, tag: str | None = None, number: int | None = None) -> Plan:
        """Where every byte of a version lies, with links to read it. Raises Forbidden, TagNotFound, VersionNotFound."""
        raise NotImplementedError

    def pulled(self, asker: Identity, template: TemplateId, version: VersionId) -> None:
        """Note that a node has pulled this version; written down at most once a minute."""
        raise NotImplementedError
