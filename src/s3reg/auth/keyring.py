"""API keys: made, changed, deleted; and looked up by every call."""

from __future__ import annotations

import secrets
from dataclasses import replace
from logging import WARNING
from typing import TYPE_CHECKING

from s3reg import crypto
from s3reg.auth.kept import Kept
from s3reg.errors import FormatUnknown, Invalid, KeyNotFound, KeyTaken, RecordDamaged
from s3reg.model import format_access as fmt
from s3reg.model import names
from s3reg.model.access import ApiKey
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from s3reg.auth.accessrecords import AccessRecords
    from s3reg.store import Object

LONGEST_TTL = 100 * 366 * 24 * 3600
"""Seconds."""


class Keyring:
    """The API keys of one store. Safe to share between threads."""

    def __init__(self, records: AccessRecords, clock: Callable[[], float]) -> None:
        self._records = records
        self._clock = clock
        self._kept: Kept[ApiKey] = Kept(self._read, clock)

    # --- For people --------------------------------------------------------------------------------------------------

    def all(self) -> list[ApiKey]:
        """Every key that was not deleted, by id: ended ones too, and what is left of damaged ones."""
        found = (_readable(key, one) for key, one in self._records.all(fmt.KEYS))
        return sorted((key for key in found if not key.deleted), key=lambda key: key.id)

    def find(self, key_id: str) -> ApiKey:
        """The key as it is now, also if it has ended. Raises KeyNotFound, RecordDamaged."""
        return _there(self._records.read(fmt.api_key_key(names.key_id(key_id))), names.key_id(key_id))

    def create(
        self, key_id: str, *, ttl: int | None, groups: Iterable[str], public_key: bytes | None
    ) -> tuple[ApiKey, bytes | None]:
        """A new key, for `ttl` seconds or, None, for ever; and its private half (PKCS #1, DER) if it was made here.

        `public_key`: DER, base64 or PEM. Raises KeyTaken, unless the key that has this id has ended; Invalid.
        """
        key_id = names.key_id(key_id)
        groups, lifetime = _groups(groups), _lifetime(ttl)
        if public_key is not None:
            private, public = None, _public(public_key)
        else:
            self._refuse_taken(key_id)
            private, public = crypto.new_key()
        now = round(self._clock(), 6)
        new = ApiKey(key_id, secrets.token_hex(16), public, groups, now, None if lifetime is None else now + lifetime)

        def make(found: Object | None) -> tuple[bytes | None, ApiKey]:
            old = None if found is None else fmt.read_api_key(found.data, fmt.api_key_key(key_id))
            if old is not None and old.serial == new.serial:
                return None, old
            if old is not None and not old.ended(self._clock()):
                raise KeyTaken(key=key_id)
            made = new if old is None else replace(new, gen=old.gen, unknown=old.unknown)
            return _next(made)

        return self._change(key_id, make), private

    def change(
        self, key_id: str, *, ttl: int | None = None, groups: Iterable[str] | None = None, endless: bool = False
    ) -> ApiKey:
        """The key with another end, `ttl` seconds from now or never, or other groups. Raises KeyNotFound, Invalid."""
        key_id = names.key_id(key_id)
        new_groups, lifetime = None if groups is None else _groups(groups), _lifetime(ttl)
        if endless and lifetime is not None:
            raise Invalid(reason="a key has a ttl, or no end; it cannot have both")
        expires = None if lifetime is None else round(self._clock(), 6) + lifetime

        def alter(found: Object | None) -> tuple[bytes | None, ApiKey]:
            old = _there(found, key_id)
            new = replace(
                old,
                groups=old.groups if new_groups is None else new_groups,
                expires=old.expires if expires is None and not endless else expires,
            )
            return (None, old) if new == old else _next(new)

        return self._change(key_id, alter)

    def delete(self, key_id: str) -> None:
        """Nobody logs in with it any more, and its logins are refused. Raises KeyNotFound."""
        key_id = names.key_id(key_id)
        deleted = False

        def end(found: Object | None) -> tuple[bytes | None, ApiKey]:
            nonlocal deleted
            old = None if found is None else _replaceable(fmt.api_key_key(key_id), found)
            if old is not None and old.deleted and deleted:
                return None, old
            if old is None or old.deleted:
                raise KeyNotFound(key=key_id)
            deleted = True
            return _next(replace(old, id=key_id, public_key=b"", groups=(), deleted=True))

        self._change(key_id, end)

    # --- For calls ---------------------------------------------------------------------------------------------------

    def standing(self, key_id: str, good: Callable[[ApiKey], bool] = lambda _: True, *, anew: bool = False) -> ApiKey:
        """The key, which has not ended and is `good`, by what was known a moment ago, else, or `anew`, as it is now.

        Raises KeyNotFound: also for a key whose record is damaged, which is logged.
        """

        def stands(key: ApiKey) -> bool:
            return not key.ended(self._clock()) and good(key)

        key = self._kept.get(key_id, lambda key: not anew and stands(key))
        if not stands(key):
            raise KeyNotFound(key=key_id)
        return key

    def is_known(self, key_id: str) -> bool:
        """Whether the key stood when it was last looked at, however long ago."""
        seen = self._kept.seen(key_id)
        return seen is not None and not seen.value.ended(self._clock())

    def _read(self, key_id: str) -> ApiKey:
        try:
            return _there(self._records.read(fmt.api_key_key(key_id)), key_id)
        except (RecordDamaged, FormatUnknown) as e:
            emit("key-unreadable", level=WARNING, key=key_id, reason=str(e))
            raise KeyNotFound(key=key_id) from None

    def _change(self, key_id: str, change: Callable[[Object | None], tuple[bytes | None, ApiKey]]) -> ApiKey:
        try:
            return self._records.change(fmt.api_key_key(key_id), f"API key {key_id!r}", change)
        finally:
            self._kept.forget(key_id)

    def _refuse_taken(self, key_id: str) -> None:
        """Before work is done for it; what counts is what is there when the record is written."""
        try:
            if not self.find(key_id).ended(self._clock()):
                raise KeyTaken(key=key_id)
        except KeyNotFound:
            pass


def _next(key: ApiKey) -> tuple[bytes, ApiKey]:
    key = replace(key, gen=key.gen + 1)
    data = fmt.write_api_key(key)
    # What we could not read again would be a key that nobody can use.
    return data, fmt.read_api_key(data, fmt.api_key_key(key.id))


def _there(found: Object | None, key_id: str) -> ApiKey:
    key = None if found is None else fmt.read_api_key(found.data, fmt.api_key_key(key_id))
    if key is None or key.deleted:
        raise KeyNotFound(key=key_id)
    return key


def _readable(key: str, found: Object) -> ApiKey:
    try:
        return _replaceable(key, found)
    except FormatUnknown as e:
        return fmt.read_damaged_api_key(found.data, key, str(e))


def _replaceable(key: str, found: Object) -> ApiKey:
    """The key, or what is left of it. Raises FormatUnknown: what a later release wrote is not ours to replace."""
    try:
        return fmt.read_api_key(found.data, key)
    except RecordDamaged as e:
        return fmt.read_damaged_api_key(found.data, key, str(e))


def _groups(given: Iterable[str]) -> tuple[str, ...]:
    groups = tuple(dict.fromkeys(names.group_name(name) for name in given))
    if len(groups) > fmt.MOST_GROUPS:
        raise Invalid(reason=f"a key is in at most {fmt.MOST_GROUPS} groups")
    return groups


def _lifetime(ttl: object) -> int | None:
    if ttl is None:
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, int) or not 0 < ttl <= LONGEST_TTL:
        raise Invalid(reason="a key's ttl is a whole number of seconds, from 1 to a hundred years")
    return ttl


def _public(given: bytes) -> bytes:
    try:
        return crypto.PublicKey(given).der
    except ValueError as e:
        raise Invalid(reason=f"the public key is not usable: {e}") from None
