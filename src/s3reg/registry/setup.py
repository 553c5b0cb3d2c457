"""What a store is, before any template is looked at: its format, whether it is a copy, its signing secret."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from s3reg import crypto
from s3reg.errors import FormatUnknown, StoreCopied, StoreFormatDamaged
from s3reg.model import format as fmt
from s3reg.model import format_access
from s3reg.model.format import StoreFormat
from s3reg.registry.values import Status
from s3reg.store.places import same_place

if TYPE_CHECKING:
    from s3reg.registry.records import Records

FEATURES: frozenset[str] = frozenset()
"""What this release knows of the features that a store may ask for."""


def prepare(records: Records, *, write: bool) -> StoreFormat:
    """What the store says it is; an empty one is made ours, if it may be written.

    Raises FormatUnknown for a format or feature that this release does not know, StoreCopied for a copy that is to be
    written, StoreFormatDamaged for a store that has lost its format.json.
    """
    found = records.read(fmt.FORMAT_KEY)
    if found is not None:
        store = fmt.read_format(found.data)
    elif next(iter(records.store.list(fmt.HEADS)), None) is not None:
        # A new id and no features asked for: that would be a guess about somebody's templates.
        raise StoreFormatDamaged(what="the store", reason=f"it holds templates and no {fmt.FORMAT_KEY}")
    elif write:
        fresh = StoreFormat(store=uuid.uuid4().hex, made_as=records.store.made_as)
        store = fmt.read_format(records.create(fmt.FORMAT_KEY, fmt.write_format(fresh)))
    else:
        return StoreFormat(store="", made_as=records.store.made_as)
    check_features(store, write=write)
    if write and not is_here(store, records):
        raise StoreCopied(made_as=store.made_as, now=records.store.made_as)
    return store


def signing_secret(records: Records) -> bytes:
    """The secret that every replica signs with; made by whichever asks first. Raises StoreCopied for a copy without one."""
    found = records.read(format_access.SIGNING_KEY)
    if found is not None:
        return format_access.read_signing(found.data)
    prepare(records, write=True)
    return format_access.read_signing(
        records.create(format_access.SIGNING_KEY, format_access.write_signing(crypto.new_secret()))
    )


def status(records: Records) -> Status:
    """Whether the store answers and may be read, and what it is. Raises what says that it does not."""
    store = prepare(records, write=False)
    return Status(store.store, records.store.location, copied=not is_here(store, records))


def is_here(store: StoreFormat, records: Records) -> bool:
    """Whether the store was made where we reach it, by its names, those that `adopt --same` noted included: no copy."""
    return any(same_place(name, records.store.made_as) for name in (store.made_as, *store.also))


def check_features(store: StoreFormat, *, write: bool) -> None:
    """Raise FormatUnknown for a feature that this release does not know and has to, to read or also to write."""
    needed = store.read | (store.write if write else frozenset())
    for feature in sorted(needed - FEATURES):
        raise FormatUnknown(what="the store", feature=f"feature {feature!r}")
