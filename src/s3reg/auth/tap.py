"""The TAP login without state: what a secret and a login are made of, and what proves that they are ours.

A secret is 64 URL-safe characters: 8 of its end in milliseconds since 1970, 8 random ones, 5 of a first MAC, 43 of the MAC.
A login's session id looks like a UUID: 16 random hex digits, 16 of a first MAC; its token is 11 characters of its end and
the 43 of the MAC. The MAC covers the key's serial, which is in its record; the first MAC does not, so that what is made up
is refused before the store is asked for anything.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from s3reg import crypto
from s3reg.errors import NameInvalid, Unauthenticated
from s3reg.model import names

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3reg.model.access import ApiKey

LARGEST_DATA = 4096
"""Bytes of what stands behind `Bearer`, decoded."""
SKEW_SECONDS = 60
"""That the clocks of two replicas may differ."""
_SECRET = re.compile(r"([A-Za-z0-9_-]{8})([A-Za-z0-9_-]{8})([A-Za-z0-9_-]{5})([A-Za-z0-9_-]{43})")
_SESSION = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{12})")
_TOKEN = re.compile(r"([A-Za-z0-9_-]{11})([A-Za-z0-9_-]{43})")
# In every MAC: one secret signs other things too, none of which may pass for another.
_OF_SECRET, _FIRST_OF_SECRET = "s3reg login secret 1", "s3reg login secret 1, first"
_OF_LOGIN, _FIRST_OF_LOGIN = "s3reg login 1", "s3reg login 1, first"


@dataclass(frozen=True, slots=True)
class Login:
    """What a shake gives."""

    user: str
    session: str = field(repr=False)
    token: str = field(repr=False)
    ttl: int
    """Seconds, whole ones."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A login's secret, taken apart."""

    end: float
    """Seconds since 1970."""
    nonce: str
    """24 hex digits."""
    signed: tuple[str, ...] = field(repr=False)
    mac: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Bearer:
    """A login as clients send it back, taken apart."""

    user: str
    signed: tuple[str, ...] = field(repr=False)
    mac: str = field(repr=False)


class Tap:
    """Secrets and logins, made and checked. `secret`: what all replicas sign with."""

    def __init__(
        self, secret: Callable[[], bytes], clock: Callable[[], float], *, login_seconds: int, secret_seconds: int
    ) -> None:
        self._secret = secret
        self._clock = clock
        self._login_seconds = login_seconds
        self._secret_seconds = secret_seconds

    def new_secret(self, key: ApiKey) -> str:
        """A secret for the key's owner, not sealed yet."""
        end = _text(int((self._clock() + self._secret_seconds) * 1000), 6)
        nonce = secrets.token_urlsafe(6)
        first = crypto.mac(self._secret(), _FIRST_OF_SECRET, end, nonce, key.id)[:5]
        return end + nonce + first + crypto.mac(self._secret(), _OF_SECRET, end, nonce, key.id, key.serial)

    def read_secret(self, text: str, key_id: str) -> Secret:
        """A secret that has not ended and looks as if we made it for this key. Raises Unauthenticated."""
        found = _SECRET.fullmatch(text)
        if found is None:
            raise Unauthenticated
        end_text, nonce, first, mac = found.groups()
        end, now = _milliseconds(end_text), self._clock()
        if not now < end <= now + self._secret_seconds + SKEW_SECONDS:
            raise Unauthenticated
        if not crypto.same(first, crypto.mac(self._secret(), _FIRST_OF_SECRET, end_text, nonce, key_id)[:5]):
            raise Unauthenticated
        spent = base64.urlsafe_b64decode(end_text + nonce).hex()
        return Secret(end, spent, (_OF_SECRET, end_text, nonce, key_id), mac)

    def login(self, key: ApiKey) -> Login:
        """A login of the key, until its time is over or the key's is."""
        now = self._clock()
        end = now + self._login_seconds if key.expires is None else min(now + self._login_seconds, key.expires)
        end_text = _text(int(end * 1000), 8)
        nonce = secrets.token_hex(8)
        digits = nonce + self._first(key.id, end_text, nonce)
        session = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
        mac = crypto.mac(self._secret(), _OF_LOGIN, end_text, key.id, session, key.serial)
        return Login(key.id, session, end_text + mac, max(1, int(end - now)))

    def read_bearer(self, data: bytes) -> Bearer:
        """What stands behind `Bearer `, if it has not ended and looks as if we made it. Raises Unauthenticated.

        Clients write its JSON anew, each in its way: fields are compared, and whatever else is there is ignored.
        """
        user, session, token = _fields(data)
        found, parts = _TOKEN.fullmatch(token), _SESSION.fullmatch(session)
        if found is None or parts is None:
            raise Unauthenticated
        end_text, mac = found.groups()
        if self._clock() >= _milliseconds(end_text):
            raise Unauthenticated
        digits = "".join(parts.groups())
        if not crypto.same(digits[16:], self._first(user, end_text, digits[:16])):
            raise Unauthenticated
        return Bearer(user, (_OF_LOGIN, end_text, user, session), mac)

    def proves(self, found: Secret | Bearer, key: ApiKey) -> bool:
        """Whether it was made for this very key."""
        return crypto.same(found.mac, crypto.mac(self._secret(), *found.signed, key.serial))

    def _first(self, user: str, end: str, nonce: str) -> str:
        mac = crypto.mac(self._secret(), _FIRST_OF_LOGIN, end, nonce, user)
        return base64.urlsafe_b64decode(mac + "=")[:8].hex()


def _fields(data: bytes) -> tuple[str, str, str]:
    """User, session and token of a bearer."""
    try:
        told = json.loads(_decoded(data))
        user, session, token = (told[name] for name in ("userName", "sessionId", "token"))
        if not isinstance(session, str) or not isinstance(token, str):
            raise Unauthenticated
        return names.key_id(user), session, token
    except (ValueError, LookupError, TypeError, RecursionError, NameInvalid):
        raise Unauthenticated from None


def _decoded(data: bytes) -> bytes:
    """Base64 of either alphabet, padded or not, in one line or many."""
    if len(data) > 2 * LARGEST_DATA:
        raise Unauthenticated
    text = b"".join(data.split()).translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    try:
        decoded = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise Unauthenticated from None
    if len(decoded) > LARGEST_DATA:
        raise Unauthenticated
    return decoded


def _text(number: int, size: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(size, "big")).rstrip(b"=").decode()


def _milliseconds(text: str) -> float:
    """Seconds since 1970."""
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big") / 1000
