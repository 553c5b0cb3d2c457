"""Access control in one object: who is asking, and what may they do."""

from __future__ import annotations

import base64
import time
from dataclasses import replace
from logging import WARNING
from typing import TYPE_CHECKING

from s3reg import crypto
from s3reg.auth import rights
from s3reg.auth.accessrecords import AccessRecords
from s3reg.auth.failures import Failures
from s3reg.auth.groups import Groups
from s3reg.auth.keyring import Keyring
from s3reg.auth.rights import Unions
from s3reg.auth.tap import Tap
from s3reg.errors import Forbidden, KeyNotFound, NameInvalid, Unauthenticated
from s3reg.model import format_access, names
from s3reg.model.identity import ROOT, Identity
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from s3reg.auth.certificates import Certificates, Presented
    from s3reg.auth.rights import Explanation
    from s3reg.auth.roottoken import RootTokens
    from s3reg.auth.tap import Login
    from s3reg.model.access import ApiKey
    from s3reg.model.template import Head
    from s3reg.store import ObjectStore

_ROOT_USERS = {"root", ""}
"""A client of Anka's sends no user with the root token."""
_OF_KEY = "key:"


class Gate:
    """Who is asking, and what may they do: one per process. Safe to share between threads.

    `secret`: what all replicas sign with. `writable` raises what forbids to write to the store. `authorization`: groups
    say who may do what; without it any credential may do everything. What is asked of the store is asked of records that
    were read at most 2 s ago, and nobody is refused before they were read anew.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        secret: Callable[[], bytes],
        roots: RootTokens,
        certificates: Certificates | None = None,
        authorization: bool = False,
        login_seconds: int = 300,
        secret_seconds: int = 10,
        writable: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._records = AccessRecords(store, writable, clock)
        self._roots = roots
        self._certificates = certificates
        self._tap = Tap(secret, clock, login_seconds=login_seconds, secret_seconds=secret_seconds)
        self._failures = Failures(clock)
        self._unions = Unions()
        self._clock = clock
        self.authorization = authorization
        self.keys = Keyring(self._records, clock)
        self.groups = Groups(self._records, clock)

    def check(self) -> None:
        """Raise RootTokenUnreadable or SettingInvalid if it could let nobody in, because what it needs cannot be read."""
        self._roots.check()
        if self._certificates is not None:
            self._certificates.check()

    # --- Who is asking -----------------------------------------------------------------------------------------------

    def basic(self, user: str, password: bytes, address: str) -> Identity:
        """Root, if `password` is a root token. Raises Unauthenticated, TooManyFailures."""
        self._failures.check(address, ROOT.name)
        if user in _ROOT_USERS and self._roots.holds(password):
            return ROOT
        self._failures.note(address, ROOT.name)
        raise Unauthenticated

    def bearer(self, data: bytes, address: str) -> Identity:  # noqa: ARG002 - nobody can guess, so nobody is counted
        """Whose login stands behind `Bearer `; `data` is base64 still. Raises Unauthenticated."""
        found = self._tap.read_bearer(data)
        try:
            key = self.keys.standing(found.user, lambda key: self._tap.proves(found, key))
        except KeyNotFound:
            raise Unauthenticated from None
        return self._identity(_OF_KEY + key.id, key.groups)

    def certificate(self, presented: Presented, address: str) -> Identity:
        """Who a client certificate was made for. Raises CertificateRefused, Unauthenticated where none is taken."""
        if self._certificates is None:
            raise Unauthenticated
        try:
            holder = self._certificates.holder(presented)
        except Unauthenticated as e:
            emit("certificate-refused", level=WARNING, address=address, reason=str(e))
            raise
        return self._identity(f"cert:{holder.user}", holder.groups)

    def hand(self, key_id: str, address: str) -> str:
        """A secret that only the key's owner can read: base64, one line. Raises Unauthenticated, TooManyFailures."""
        try:
            key_id = names.key_id(key_id)
        except NameInvalid:
            raise Unauthenticated from None
        if not self.keys.is_known(key_id):
            self._failures.check(address, key_id)
        try:
            key = self.keys.standing(key_id)
            sealed = crypto.PublicKey(key.public_key).seal(self._tap.new_secret(key).encode())
        except KeyNotFound:
            self._failures.note(address, key_id)
            raise Unauthenticated from None
        except ValueError as e:
            emit("key-unreadable", level=WARNING, key=key_id, reason=str(e))
            raise Unauthenticated from None
        return base64.b64encode(sealed).decode()

    def shake(self, key_id: str, secret: str, address: str) -> Login:  # noqa: ARG002 - as for a bearer
        """A login, for a secret that was handed out and not used yet.

        Raises Unauthenticated; PutUnsettled, StoreUnavailable where the store does not say that it is the first use.
        """
        try:
            key_id = names.key_id(key_id)
        except NameInvalid:
            raise Unauthenticated from None
        found = self._tap.read_secret(secret, key_id)
        try:
            key = self.keys.standing(key_id, lambda key: self._tap.proves(found, key))
        except KeyNotFound:
            raise Unauthenticated from None
        if not self._records.create(format_access.spent_key(found.end, found.nonce)):
            raise Unauthenticated
        return self._tap.login(key)

    # --- What may they do --------------------------------------------------------------------------------------------

    def permit(self, asker: Identity, permissions: Iterable[str]) -> Identity:
        """The asker, who has these permissions; with rights read anew if those it came with lack one. Raises Forbidden."""
        wanted = tuple(permissions)
        if asker.lacks(wanted) is None:
            return asker
        asker = self.renewed(asker)
        missing = asker.lacks(wanted)
        if missing is not None:
            raise Forbidden(reason=f"{asker.name} lacks the permission {missing}", permission=missing)
        return asker

    def renewed(self, asker: Identity) -> Identity:
        """The asker with its groups, and their rights, as they are now. Raises Unauthenticated if its key is gone."""
        if asker.rights is None:
            return asker
        groups = asker.groups
        if asker.name.startswith(_OF_KEY):
            try:
                groups = self.keys.standing(asker.name.removeprefix(_OF_KEY), anew=True).groups
            except KeyNotFound:
                raise Unauthenticated from None
        return replace(asker, groups=groups, rights=self._unions.of(self.groups.of(groups, anew=True)))

    def explain(self, key_id: str, head: Head) -> Explanation:
        """What an API key may do with a template, and by which group. Raises KeyNotFound."""
        key: ApiKey = self.keys.find(key_id)
        groups = self.groups.of(key.groups, anew=True)
        return rights.explain(key, groups, head, ended=key.ended(self._clock()), authorization=self.authorization)

    def _identity(self, name: str, groups: tuple[str, ...]) -> Identity:
        if not self.authorization:
            return Identity(name, groups)
        return Identity(name, groups, self._unions.of(self.groups.of(groups)))
