"""The registry: its verbs in one object over a store. It knows neither HTTP nor the native API's messages.

Every verb takes first who is asking. A template that the asker may not list reads as TemplateNotFound. All verbs are safe
to repeat, from any replica: what one of them left half done, the same call finishes (docs/design.md §4).
"""

from __future__ import annotations

import time
from logging import WARNING
from typing import TYPE_CHECKING, Any

from s3reg.model import names
from s3reg.model.template import EventKind
from s3reg.registry import adopt, commit, disk, fsck, labels, pull, pulls, retire, sessions, setup, sweep, trash
from s3reg.registry.catalog import Catalog
from s3reg.registry.events import Events, Wanted, newest, shown_to
from s3reg.registry.evidence import Evidence
from s3reg.registry.push import Pushing
from s3reg.registry.records import Records
from s3reg.registry.sight import may_list
from s3reg.registry.usage import Accounts, Usage
from s3reg.registry.values import (
    Committed,
    Described,
    Limits,
    Opened,
    Opening,
    Plan,
    Proposal,
    Restored,
    Retired,
    Status,
    Swept,
    Trashed,
    UnderWay,
    Uses,
)
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from s3reg.model.format import StoreFormat
    from s3reg.model.identity import Identity
    from s3reg.model.names import Digest, SessionId, TemplateId, VersionId
    from s3reg.model.template import Base, Entry, Event, Head, Session, Version
    from s3reg.registry.adopt import Adopted
    from s3reg.registry.damage import Checked
    from s3reg.store import Link, ObjectStore, Room


class Registry:
    """Templates in a store, and the verbs that list, push and pull them. Safe to share between threads.

    `dropped` is told of events that could not be kept: how many.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
        dropped: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.store = store
        self.limits = limits or Limits()
        self.clock = clock
        self._records = Records(store, self.limits, clock)
        self._catalog = Catalog(self._records)
        self._events = Events(self._records, dropped)
        self._accounts = Accounts(self._records, self._catalog)
        self._pushing = Pushing(self._records, self._catalog, Evidence(self._records))

    # --- The store ---------------------------------------------------------------------------------------------------

    def prepare(self, *, write: bool = True) -> StoreFormat:
        """What the store is; an empty one is made a store of ours, if it may be written."""
        return setup.prepare(self._records, write=write)

    def signing_secret(self) -> bytes:
        """The secret of links and logins, the same for every replica; made at the first call ever."""
        return setup.signing_secret(self._records)

    def status(self) -> Status:
        """Whether the store answers, and what it is."""
        return setup.status(self._records)

    def disk(self, asker: Identity) -> Room:
        """How much room there is, so that what is not free is what the templates hold that the asker may list."""
        return disk.room(self.store, self._catalog, asker)

    def event(self, asker: Identity, said: dict[str, Any]) -> None:
        """Keep what a machine reported, if the store can take it soon. Never waits, never fails."""
        if not self._events.keep(EventKind.REPORT, asker.name, said):
            emit(
                "event-dropped",
                level=WARNING,
                by=asker.name,
                reason="the store does not take them as fast as they come",
            )

    def note(self, by: str, said: dict[str, Any]) -> bool:
        """Keep what somebody asked for and how it ended; False if there is no room for it. Never waits, never fails."""
        return self._events.keep(EventKind.AUDIT, by, said)

    def events(self, asker: Identity, wanted: Wanted) -> list[Event]:
        """What was reported and noted: the newest of what is wanted, in the order of time.

        An asker that may not list all templates is shown what it did itself, and what was done with those that it may list.
        """
        return newest(self._records, wanted, shown_to(asker, self._catalog))

    def finish(self, seconds: float) -> None:
        """Give the store what waits for it, at the process's end; takes at most so long."""
        self._events.finish(seconds)

    # --- Listing -----------------------------------------------------------------------------------------------------

    def templates(self, asker: Identity) -> list[Head]:
        """All templates that the asker may list, by name, then id; damaged ones as far as they can be read."""
        return self._catalog.templates(asker)

    def find(self, asker: Identity, ref: str) -> Head:
        """The template of this id, else of this name. Raises TemplateNotFound, NameAmbiguous."""
        return self._catalog.find(asker, ref)

    def describe(self, asker: Identity, ref: str) -> Described:
        """A template with its versions."""
        return self._catalog.describe(asker, ref)

    def version(
        self, asker: Identity, ref: str, *, tag: str | None = None, number: int | None = None
    ) -> tuple[Head, Entry, Version]:
        """One version, the newest by default. Raises TagNotFound, VersionNotFound."""
        return self._catalog.version(asker, ref, tag=tag, number=number)

    def config(self, asker: Identity, ref: str, *, tag: str | None = None, number: int | None = None) -> Any:
        """The config of a version, as JSON values: it may hold a display's password. Raises Forbidden besides."""
        return self._catalog.config(asker, ref, tag=tag, number=number)

    def last_pulls(self, asker: Identity, heads: Iterable[Head]) -> dict[VersionId, int]:
        """When versions of these templates were last pulled, in seconds since 1970; those that never were are missing."""
        return pulls.last_pulls(self._records, [head for head in heads if may_list(asker, head)])

    # --- Push --------------------------------------------------------------------------------------------------------

    def open(self, asker: Identity, opening: Opening) -> Opened:
        """A new push session.

        Raises TagTaken, NameTaken, DomainMismatch, Forbidden; DomainRefused, DomainUnclear, TemplateIdTaken where the
        template would be new.
        """
        return self._pushing.open(asker, opening)

    def add_bases(self, asker: Identity, sid: SessionId, bases: Sequence[Base]) -> Opened:
        """More versions to build on; of what is asked for, the answer holds what may be used."""
        return self._pushing.add_bases(asker, sid, bases)

    def session(self, asker: Identity, sid: SessionId) -> Session:
        """The asker's push session. Raises SessionNotFound."""
        return self._pushing.session(asker, sid)

    def sign_uploads(self, asker: Identity, sid: SessionId, objects: Sequence[tuple[str, Digest, int]]) -> list[Link]:
        """Links to upload `pack`s and `map`s of these digests and sizes; the session's heartbeat too.

        Raises SessionNotFound, SessionExpired, SessionTooLarge, Forbidden.
        """
        return self._pushing.sign_uploads(asker, sid, objects)

    def commit(self, asker: Identity, sid: SessionId, proposal: Proposal) -> Committed:
        """Make the session's version visible, or, if it is already, say the same again.

        Raises TagTaken, NameTaken, ParentUnknown, NameInvalid, ConfigInvalid, CommitInvalid, DomainMismatch,
        TemplateIdTaken, Forbidden, SessionNotFound, SessionExpired.
        """
        return commit.commit(self._pushing, asker, sid, proposal)

    def abort(self, asker: Identity, sid: SessionId) -> None:
        """Give a session up. What it uploaded, the sweep removes. One that is gone, or somebody else's, is no error."""
        self._pushing.abort(asker, sid)

    # --- Changing a template -----------------------------------------------------------------------------------------

    def revert(
        self,
        asker: Identity,
        ref: str,
        *,
        tag: str | None = None,
        number: int | None = None,
        operation: str,
        newest: str | None = None,
    ) -> Retired:
        """Take the version asked for, the newest by default, and all newer ones out; with the oldest goes the template.

        `operation`: 32 hex digits that the caller chose; the same again does nothing more, here and below. `newest`: the
        id of the version that has to be the newest still. Raises TemplateNotFound, NameAmbiguous, TagNotFound,
        VersionNotFound, SelectorsDisagree, TemplateChanged, Forbidden, TooBusy.
        """
        once = retire.Once(names.operation_id(operation), newest)
        return retire.revert(self._records, self._catalog, asker, ref, tag=tag, number=number, once=once)

    def delete(self, asker: Identity, ref: str, *, operation: str, newest: str | None = None) -> Retired:
        """Take all versions out, and the template. Raises as `revert`."""
        once = retire.Once(names.operation_id(operation), newest)
        return retire.delete(self._records, self._catalog, asker, ref, once=once)

    def untag(
        self,
        asker: Identity,
        ref: str,
        *,
        tag: str | None = None,
        number: int | None = None,
        operation: str,
        version: VersionId | None = None,
        newest: str | None = None,
    ) -> Retired:
        """Take one version out, by tag or number, or by id; newer ones stay. With the last one goes the template.

        `version`: the id that it has to have. Raises VersionChanged where it has not; else as `revert`, and Invalid.
        """
        once = retire.Once(names.operation_id(operation), newest)
        return retire.untag(
            self._records, self._catalog, asker, ref, tag=tag, number=number, version=version, once=once
        )

    def retag(self, asker: Identity, ref: str, *, tag: str, new: str, operation: str) -> Head:
        """Give a version another tag; it stays in its place. Raises TagNotFound, NewTagTaken besides."""
        return labels.retag(
            self._records, self._catalog, asker, ref, tag=tag, new=new, operation=names.operation_id(operation)
        )

    def rename(self, asker: Identity, ref: str, *, name: str, same_name: bool = False, operation: str) -> Head:
        """Give a template another name; `same_name`: though another one carries it. Raises NameTaken besides."""
        return labels.rename(
            self._records,
            self._catalog,
            asker,
            ref,
            name=name,
            same_name=same_name,
            operation=names.operation_id(operation),
        )

    def set_arch(self, asker: Identity, ref: str, *, arch: str, operation: str) -> Head:
        """Say which architecture a template is for: `arm64` or `amd64`."""
        return labels.set_arch(
            self._records, self._catalog, asker, ref, arch=arch, operation=names.operation_id(operation)
        )

    # --- What was removed --------------------------------------------------------------------------------------------

    def trash(self, asker: Identity, ref: str | None = None) -> list[Trashed]:
        """What can be restored: of all templates, or of those of an id or name, deleted ones too.

        Raises TemplateNotFound, Forbidden, RecordDamaged.
        """
        return trash.listed(self._records, self._catalog, asker, ref)

    def restore(
        self,
        asker: Identity,
        template: TemplateId,
        *,
        versions: Collection[VersionId],
        as_tag: str | None = None,
        same_name: bool = False,
        operation: str,
    ) -> Restored:
        """Put versions back in their places, all of them or none; a deleted template comes back with them.

        `as_tag`: another tag for the one that is restored; `same_name`: though another template carries the name by now.
        Raises TemplateNotFound, NotInTrash, RestoreTagTaken, NameTaken, Forbidden, Invalid, TooBusy.
        """
        return trash.restore(
            self._records,
            self._catalog,
            asker,
            template,
            versions=versions,
            as_tag=None if as_tag is None else names.tag(as_tag),
            same_name=same_name,
            operation=names.operation_id(operation),
        )

    def purge(
        self,
        asker: Identity,
        template: TemplateId | None,
        *,
        versions: Collection[VersionId] | None = None,
        operation: str,
    ) -> list[Trashed]:
        """Let go for good what was removed: these versions of a template, all of its, or all that the asker may remove.

        What went. Raises TemplateNotFound, Forbidden, Invalid, TooBusy.
        """
        return trash.purge(
            self._records,
            self._catalog,
            asker,
            template,
            versions=versions,
            operation=names.operation_id(operation),
        )

    # --- Pull --------------------------------------------------------------------------------------------------------

    def plan(self, asker: Identity, ref: str, *, tag: str | None = None, number: int | None = None) -> Plan:
        """Where every byte of a version lies, with links to read it. Raises Forbidden, TagNotFound, VersionNotFound."""
        return pull.plan(self._records, self._catalog, asker, ref, tag=tag, number=number)

    def pulled(self, asker: Identity, template: TemplateId, version: VersionId) -> None:
        """Note that a node has pulled this version; written down at most once a minute."""
        pull.pulled(self._records, asker, template, version)

    # --- Looking after the store -------------------------------------------------------------------------------------

    def sessions(self, asker: Identity) -> list[UnderWay]:
        """The pushes under way, oldest first: the asker's own; everybody's for whoever has no limits."""
        return sessions.listed(self._records, self._catalog, asker)

    def abort_any(self, asker: Identity, sid: SessionId) -> Session:
        """Give up one of these. Raises SessionNotFound, RecordDamaged."""
        return sessions.abort(self._records, asker, sid)

    def usage(self, asker: Identity, ref: str | None = None) -> Usage:
        """What templates take on the store, all or one; what cannot be read counts for nothing, and is named.

        Raises TemplateNotFound, NameAmbiguous, RecordDamaged.
        """
        return self._accounts.usage(asker, ref)

    def frees(self, asker: Identity, going: Collection[Base]) -> int:
        """Bytes that go in the end if these versions are taken out: what no other one outside the trash needs."""
        return self._accounts.frees(asker, going)

    def uses(self, asker: Identity, ref: str | None = None) -> Uses:
        """When the versions of all templates, or of one, were last of use. Raises as `usage`."""
        return pulls.uses(self._records, self._catalog, asker, ref)

    def sweep(
        self, *, dry_run: bool = False, lost: Iterable[str] = (), told: Callable[[Swept], None] = lambda _: None
    ) -> Swept:
        """Remove what neither a push under way nor a head names. Any number at once, from anywhere.

        `lost`: ids of templates whose heads are gone for good. `told` is called now and then with what was done so far.
        Raises SweepStopped, HeadLost, StoreCopied; HeadThere, TemplateNotFound, NameInvalid for an id of no lost one.
        """
        gone = tuple(dict.fromkeys(map(names.template_id, lost)))
        return sweep.sweep(self._records, dry_run=dry_run, gone=gone, told=told)

    def last_sweep(self) -> float | None:
        """When the last one came to its end, in seconds since 1970 by the store's clock; None: none has."""
        return sweep.last_ended(self._records)

    def fsck(
        self,
        *,
        read_data: float = 0,
        seed: int = 0,
        only: Collection[str] = (),
        record: bool = True,
        told: Callable[[Checked], None] = lambda _: None,
    ) -> Checked:
        """Look at all that heads name, or those of the ids and names `only`.

        `read_data`: percent of the packs to read whole, chosen by `seed`. Changes nothing but what is noted of bad packs,
        and that only if `record`. Pushes and sweeps may run meanwhile. Raises TemplateNotFound.
        """
        return fsck.fsck(
            self._records,
            read_data=read_data,
            seed=seed,
            only=only,
            record=record,
            told=told,
        )

    def adopt(self, *, force: bool = False, agreed: Callable[[Checked], None] = lambda _: None) -> Adopted:
        """Make a copy of a store a store of its own. `agreed` hears what it holds before anything is written, and may raise.

        `force`: though something is wrong with it. Raises NotACopy, CopyDamaged, AdoptionDisturbed.
        """
        return adopt.adopt(self._records, self.fsck, force=force, agreed=agreed)

    def note_same(self, agreed: Callable[[StoreFormat], None] = lambda _: None) -> StoreFormat:
        """Let the store be written by the name that it is reached by here: it is the original, and no copy."""
        return adopt.note_same(self._records, agreed)
