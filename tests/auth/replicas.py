"""Gates over one store as the replicas of a registry have them, and logins as clients make them."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import tap
from s3reg.auth.gate import Gate
from s3reg.auth.roottoken import RootTokens

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import rsa

    from clocks import Clock
    from s3reg.auth.tap import Login
    from s3reg.model.access import ApiKey
    from s3reg.store import ObjectStore

SECRET = bytes(range(32))
ROOT_TOKEN = 'a:b@c/d%e+f"g é'
HOME = "192.0.2.1"
AWAY = "192.0.2.2"
KEPT = 2.0
"""Seconds for which a replica goes by what it read."""


class Replicas:
    """Makes gates over one store, by one clock; each has a memory of its own."""

    def __init__(self, store: ObjectStore, clock: Clock) -> None:
        self.store = store
        self.clock = clock

    def gate(self, store: ObjectStore | None = None, **more: Any) -> Gate:
        """Another one; `store` is what it sees of the common one."""
        more = {"secret": lambda: SECRET, "roots": RootTokens.fixed(ROOT_TOKEN), "clock": self.clock} | more
        return Gate(store or self.store, **more)


def public(of: rsa.RSAPrivateKey) -> bytes:
    return of.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def admit(gate: Gate, key_id: str = "ci", *, groups: Any = (), ttl: int | None = None) -> ApiKey:
    """Make an API key whose private half is `tap.key()`."""
    key, private = gate.keys.create(key_id, ttl=ttl, groups=groups, public_key=public(tap.key()))
    assert private is None
    return key


def opened(handed: str) -> str:
    """The secret in what a hand gave."""
    return tap.key().decrypt(base64.b64decode(handed, validate=True), tap.OAEP).decode()


def secret(gate: Gate, key_id: str = "ci", address: str = HOME) -> str:
    return opened(gate.hand(key_id, address))


def login(gate: Gate, key_id: str = "ci", address: str = HOME) -> Login:
    return gate.shake(key_id, secret(gate, key_id, address), address)


def data(of: Login) -> dict[str, Any]:
    return {"userName": of.user, "token": of.token, "sessionId": of.session}


def bearer(of: Login | dict[str, Any]) -> bytes:
    """What a client sends behind `Bearer `."""
    return base64.b64encode(json.dumps(of if isinstance(of, dict) else data(of)).encode())
