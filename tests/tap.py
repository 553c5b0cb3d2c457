"""A guard before a registry: Anka's TAP login and root token as their public clients know them.

with sites.serving(Guard(app)) as url:
    Connection(Access(url, key_id="ci", api_key=guard.admit("ci")))
"""

from __future__ import annotations

import base64
import functools
import json
import secrets
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from secrets_seen import keep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
UNAUTHENTICATED = b'{"status":"FAIL","message":"Authentication Required"}'
REASONS = {200: "OK", 401: "Unauthorized", 404: "Not Found", 503: "Service Unavailable"}


@functools.cache
def key(name: str = "") -> rsa.RSAPrivateKey:
    """A key, made once for all tests."""
    del name
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def pem(of: Any, *, form: str = "TraditionalOpenSSL", password: bytes | None = None) -> bytes:
    sealed = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return of.private_bytes(serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form), sealed)


def der(of: rsa.RSAPrivateKey) -> bytes:
    """PKCS #1."""
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return of.private_bytes(serialization.Encoding.DER, form, serialization.NoEncryption())


def printed(of: rsa.RSAPrivateKey) -> str:
    """As a registry prints it: DER in base64, one line, no armour."""
    return base64.b64encode(der(of)).decode()


def kept(of: rsa.RSAPrivateKey, folder: Path) -> Path:
    """A file with the key."""
    path = folder / "api-key.pem"
    path.write_bytes(pem(of))
    return path


@dataclass
class Seen:
    """A request that came by."""

    path: str
    headers: dict[str, str] = field(repr=False)
    """Names as WSGI has them."""
    body: bytes = field(repr=False)

    @property
    def proof(self) -> str | None:
        return self.headers.get("HTTP_AUTHORIZATION")


def fine(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """A registry that says yes to everything."""
    del environ
    start_response("200 OK", [("Content-Type", "application/json")])
    return [b'{"fine": true}']


class Guard:
    """Asks whoever calls `app` who they are, except for signed links. Keys are known by id; a secret is good for one shake.

    `ttl`: what the answer to a shake says of the session's life. `root`: the password of root. A test sees and spoils what
    comes by with `before(seen)`: what it gives, `(status, body)`, is the answer.
    """

    def __init__(self, app: Any = fine, *, ttl: Any = None, root: str | None = None) -> None:
        self.app = app
        self.ttl = ttl
        self.root = root
        self.keys: dict[str, Any] = {}
        self.seen: list[Seen] = []
        self.before: Callable[[Seen], tuple[int, bytes] | None] = lambda _: None
        self.secrets: dict[str, str] = {}
        self.sessions: list[dict[str, str]] = []
        self._lock = threading.Lock()

    def admit(self, key_id: str, of: rsa.RSAPrivateKey | None = None) -> rsa.RSAPrivateKey:
        """Know the public half of a key under this id; gives the key."""
        found = of or key()
        self.keys[key_id] = found.public_key()
        return found

    def end_sessions(self) -> None:
        self.sessions.clear()

    def of(self, path: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.path == path]

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        body = b""
        if path.startswith("/tap/"):
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        seen = Seen(path, {name: value for name, value in environ.items() if name.startswith("HTTP_")}, body)
        with self._lock:
            self.seen.append(seen)
        answer = self.before(seen)
        if answer is None and path == "/tap/v1/hand":
            answer = self._hand(json.loads(body))
        if answer is None and path == "/tap/v1/shake":
            answer = self._shake(json.loads(body))
        if answer is None and not path.startswith("/objects/") and not self._is_known(seen.proof or ""):
            answer = 401, UNAUTHENTICATED
        if answer is None:
            return self.app(environ, start_response)
        status, said = answer
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(said)))]
        start_response(f"{status} {REASONS.get(status, 'Whatever')}", headers)
        return [said]

    def _hand(self, asked: dict[str, str]) -> tuple[int, bytes]:
        public = self.keys.get(asked["id"])
        if public is None:
            return 401, UNAUTHENTICATED
        secret = base64.urlsafe_b64encode(secrets.token_bytes(20)).rstrip(b"=")
        with self._lock:
            self.secrets[keep(secret.decode())] = asked["id"]
        return 200, base64.b64encode(public.encrypt(secret, OAEP))

    def _shake(self, asked: dict[str, str]) -> tuple[int, bytes]:
        with self._lock:
            known = self.secrets.pop(asked["secret"], None)
        if known is None or known != asked["id"]:
            return 401, UNAUTHENTICATED
        data = {
            "userName": asked["id"],
            "token": keep(secrets.token_urlsafe(40)),
            "sessionId": "6f9619ff-8b86-d011-b42d-00cf4fc964ffx",
            "later": "what this client does not know",
        }
        self.sessions.append(data)
        told = {"id": asked["id"], "data": data, **({} if self.ttl is None else {"ttl": self.ttl})}
        return 200, json.dumps(told).encode()

    def _is_known(self, proof: str) -> bool:
        scheme, _, said = proof.partition(" ")
        text = base64.b64decode(said)
        if scheme == "Basic":
            user, _, password = text.decode().partition(":")
            return self.root is not None and user in {"root", ""} and password == self.root
        return scheme == "Bearer" and json.loads(text) in self.sessions
