"""A copy of a store becomes a store of its own.

A copy is read-only: its `format.json` names the place where the original was made. Until the last step it stays so, and a
registry that reaches this very bucket under the other name is stopped with the first one. So an adoption may die anywhere,
and be repeated; of two at once at most one succeeds.

    1  look: every head → version → map → pack is there
    2  format.json names no place at all: nobody writes any more
    3  the original's sweeps are none of this store's: their markers go
       its pushes go on there: here they are given up, and the next sweep clears up behind them
    4  a new secret: the original's logins and links are worth nothing here, nor these there
    5  format.json names this place, and a new store
"""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass, replace
from logging import WARNING
from typing import TYPE_CHECKING

from s3reg import crypto
from s3reg.errors import (
    AdoptionDisturbed,
    CopyDamaged,
    FormatUnknown,
    NameInvalid,
    NotACopy,
    PreconditionFailed,
    PutUnsettled,
    RecordDamaged,
    SessionNotFound,
)
from s3reg.model import format as fmt
from s3reg.model import format_access
from s3reg.model.template import SessionState
from s3reg.registry import setup
from s3reg.registry.push import expired
from s3reg.store import ABSENT, Match
from s3reg.store.paths import of_folder
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3reg.model.format import StoreFormat
    from s3reg.registry.damage import Checked, Damage
    from s3reg.registry.records import Records
    from s3reg.store import Object

SHOWN = 3
"""Things that are wrong, in an error."""


@dataclass(frozen=True, slots=True)
class Adopted:
    """A copy that is a store of its own now."""

    store: str
    """Its id."""
    made_as: str
    """Where the original was made."""
    checked: Checked
    """What it holds."""
    sessions: int
    """Pushes of the original that were given up here."""
    markers: int
    """Of the original's sweeps, that were removed here."""


def adopt(records: Records, check: Callable[[], Checked], *, force: bool, agreed: Callable[[Checked], None]) -> Adopted:
    """Make the copy a store of its own.

    `check` is asked what is wrong with it; `agreed` is called with that before anything is written, and may raise. `force`:
    although something is wrong. Raises NotACopy, CopyDamaged, AdoptionDisturbed, RecordDamaged, FormatUnknown.
    """
    before, store = _copy(records)
    found = check()
    if not force:
        _check_whole(records, found)
    agreed(found)
    # Read before format.json is written: whoever else adopts has not written it yet, or spoils our next step.
    secret = records.read(format_access.SIGNING_KEY)
    nowhere = replace(store, also=(), made_as=f"{store.made_as} (copy {secrets.token_hex(4)}, about to be adopted)")
    begun = _swap(records, fmt.FORMAT_KEY, fmt.write_format(nowhere, before.data), before.stat.etag)
    markers, sessions = _drop_markers(records), _give_up_sessions(records)
    fresh = format_access.write_signing(crypto.new_secret())
    _swap(records, format_access.SIGNING_KEY, fresh, None if secret is None else secret.stat.etag)
    ours = replace(store, store=uuid.uuid4().hex, made_as=records.store.made_as, also=())
    _swap(records, fmt.FORMAT_KEY, fmt.write_format(ours, before.data), begun)
    emit("store-adopted", store=ours.store, made_as=store.made_as, damage=len(found.damage))
    if found.damage:
        # Only now may it be written down what no push must build on.
        check()
    return Adopted(ours.store, store.made_as, found, sessions, markers)


def _check_whole(records: Records, found: Checked) -> None:
    """Raise CopyDamaged for what lacks something, and for a directory's files that were copied to a bucket as they are."""
    if found.damage:
        some = "; ".join(_told(one) for one in found.damage[:SHOWN])
        raise CopyDamaged(store=records.store.location, count=len(found.damage), some=some)
    if found.versions:
        return
    as_folders = [stat.key for stat in records.store.list(of_folder(fmt.HEADS))]
    if as_folders:
        some = f"{as_folders[0]!r}: these are the folders of a directory, not a bucket's keys"
        raise CopyDamaged(store=records.store.location, count=len(as_folders), some=some)


def note_same(records: Records, agreed: Callable[[StoreFormat], None]) -> StoreFormat:
    """The store is no copy but the original, reached by another name: from now on it may be written by this one too.

    `agreed` is called with what the store says it is before anything is written, and may raise. Raises NotACopy,
    AdoptionDisturbed, StoreFormatDamaged, FormatUnknown.
    """
    before, store = _copy(records)
    agreed(store)
    ours = replace(store, also=(*store.also, records.store.made_as))
    _swap(records, fmt.FORMAT_KEY, fmt.write_format(ours, before.data), before.stat.etag)
    emit("store-also-here", store=ours.store, made_as=store.made_as, also=records.store.made_as)
    return ours


def _copy(records: Records) -> tuple[Object, StoreFormat]:
    """Its format.json, as it lies there and read. Raises NotACopy."""
    setup.prepare(records, write=False)
    before = records.read(fmt.FORMAT_KEY)
    store = None if before is None else fmt.read_format(before.data)
    if before is None or store is None or setup.is_here(store, records):
        raise NotACopy(store=records.store.location)
    setup.check_features(store, write=True)
    return before, store


def _told(one: Damage) -> str:
    what = " ".join(filter(None, (one.name, one.tag, one.file))) or one.key
    return f"{what}{' (in the trash)' if one.trash else ''}: {one.reason}"


def _swap(records: Records, key: str, data: bytes, etag: str | None) -> str:
    """Replace what has this ETag, or create; the new one. Raises AdoptionDisturbed where it is another by now."""
    try:
        return records.store.put(key, data, only_if=ABSENT if etag is None else Match(etag))
    except (PreconditionFailed, PutUnsettled):
        now: Object | None = records.read(key)
        # Its bytes were drawn by lot: if they are there, the answer was lost and nothing else.
        if now is not None and now.data == data:
            return now.stat.etag
        raise AdoptionDisturbed(what=key, store=records.store.location) from None


def _drop_markers(records: Records) -> int:
    markers = [stat.key for stat in records.store.list(fmt.MARKERS) if fmt.is_marker_key(stat.key)]
    records.store.delete(markers)
    return len(markers)


def _give_up_sessions(records: Records) -> int:
    """Only that: what a sweep does to the template before the record goes is what keeps a late commit out."""
    given_up = 0
    for stat in records.store.list(fmt.SESSIONS):
        try:
            session = records.change_session(fmt.session_of_key(stat.key), expired)
        except (NameInvalid, SessionNotFound):
            continue
        except (RecordDamaged, FormatUnknown) as e:
            emit("session-unreadable", level=WARNING, key=stat.key, reason=str(e))
            continue
        given_up += session.state is SessionState.EXPIRED
    return given_up
