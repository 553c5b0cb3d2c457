"""A registry with access control over a directory, asked in the tests' own process, and credentials that are made for it.

    closed = Closed(tmp_path / "store", authorization=True)
    closed.group("ci", "list_vms", templates={TEMPLATE: ["list"]})
    closed.http.get("/registry/vm", headers=closed.key("ci", groups=["ci"]))

Root token, keys, logins and certificates are real and made at run time; all API keys share one RSA key, because making one
takes long.
"""

from __future__ import annotations

import base64
import functools
import ipaddress
import json
import secrets
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cryptography.hazmat.primitives import serialization

import tap
from s3reg.api import create_app
from s3reg.model.access import Group
from s3reg.model.identity import Action
from s3reg.model.names import domain as domain_name
from s3reg.model.names import template_id
from s3reg.settings import Settings
from s3reg.store.files import FilesStore
from secrets_seen import keep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric import rsa
    from flask.testing import FlaskClient
    from werkzeug.test import TestResponse

    from pki import Authority
    from s3reg.auth.gate import Gate
    from s3reg.store import ObjectStore

Headers = dict[str, str]
PROXIED: dict[str, Any] = {"proxies": (ipaddress.ip_network("127.0.0.1"),), "proxy_certificates": "nginx"}
"""Where Flask's test clients come from, there is an nginx."""


def basic(password: str, user: str = "root") -> Headers:
    """HTTP Basic, as any client sends a root token."""
    keep(password)
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def bearer(data: Any) -> Headers:
    """What a shake gave under `data`, as Anka's clients send it back."""
    text = data if isinstance(data, str) else json.dumps(data)
    if isinstance(data, dict) and isinstance(data.get("token"), str):
        keep(data["token"])
    return {"Authorization": "Bearer " + base64.b64encode(text.encode()).decode()}


@functools.cache
def public_der(key: rsa.RSAPrivateKey) -> bytes:
    """Its public half: SubjectPublicKeyInfo."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.DER, form)


class Closed:
    """One replica over the directory `folder`. `settings` are further fields of Settings.

    `store`: what it works on, where that is not just the directory; `token`: its root token, else a new one; `clock`: what
    access control takes for the time; `authority`: whose client certificates it takes, out of the hands of an nginx on
    this machine.
    """

    def __init__(
        self,
        folder: Path,
        *,
        store: ObjectStore | None = None,
        token: str | None = None,
        clock: Callable[[], float] = time.time,
        authority: Authority | None = None,
        **settings: Any,
    ) -> None:
        self.folder = folder
        self.token = keep(token or secrets.token_urlsafe(24))
        self.clock = clock
        self.authority = authority
        if authority is not None:
            settings = {**PROXIED, "client_ca": str(authority.write(folder.with_name("client-ca.pem"))), **settings}
        self.settings = settings
        self.store = store or FilesStore(folder)
        told = Settings(store=str(folder), root_token=self.token, **settings)
        self.app = create_app(told, self.store, clock=clock)
        self.http: FlaskClient = self.app.test_client()

    def replica(self) -> Closed:
        """Another process over the same store, as far as one can be had in this one."""
        more = {**self.settings, "authority": self.authority}
        return Closed(self.folder, token=self.token, clock=self.clock, **more)

    def client(self, headers: Headers) -> FlaskClient:
        """Asks with these headers each time."""
        made = self.app.test_client()
        made.environ_base |= {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()}
        return made

    def exactly(self, url: str, method: str = "GET", **more: Any) -> TestResponse:
        """The answer to a request with this path and query, as a server hands on what it has decoded once."""
        path, _, query = url.partition("?")
        environ = {"PATH_INFO": path.encode().decode("latin-1"), "QUERY_STRING": query}
        return self.http.open(method=method, environ_overrides=environ, **more)

    @property
    def gate(self) -> Gate:
        """What its requests are asked by."""
        gate = self.app.extensions["s3reg"].gate
        assert gate is not None, "access control is off"
        return gate

    @property
    def root(self) -> Headers:
        """The root token's."""
        return basic(self.token)

    def group(
        self,
        name: str,
        *permissions: str,
        templates: Mapping[str, Iterable[str]] | None = None,
        domains: Mapping[str, Iterable[str]] | None = None,
    ) -> str:
        """Write a group, whatever it was before; gives its name. `templates` None: all of them."""
        by_template = (
            None
            if templates is None
            else {template_id(one): frozenset(map(Action, actions)) for one, actions in templates.items()}
        )
        by_domain = {domain_name(one): frozenset(map(Action, actions)) for one, actions in (domains or {}).items()}
        self.gate.groups.write(Group(name, frozenset(permissions), by_template, by_domain), gen=None)
        return name

    def key(self, key_id: str, groups: Iterable[str] = (), *, ttl: int | None = None) -> Headers:
        """Make an API key and log in with it."""
        self.make(key_id, groups, ttl=ttl)
        return self.login(key_id)

    def make(
        self, key_id: str, groups: Iterable[str] = (), *, ttl: int | None = None, of: rsa.RSAPrivateKey | None = None
    ) -> None:
        """Make an API key."""
        self.gate.keys.create(key_id, ttl=ttl, groups=tuple(groups), public_key=public_der(of or tap.key()))

    def login(self, key_id: str, of: rsa.RSAPrivateKey | None = None) -> Headers:
        """Log in as Anka's clients do."""
        return bearer(self.data(key_id, of))

    def data(self, key_id: str, of: rsa.RSAPrivateKey | None = None) -> dict[str, Any]:
        """What a login gives under `data`."""
        answer = self.shake(key_id, self.secret(key_id, of))
        assert answer.status_code == 200, answer.text
        return answer.json["data"]

    def secret(self, key_id: str, of: rsa.RSAPrivateKey | None = None) -> str:
        """What a hand gives, opened."""
        answer = self.hand(key_id)
        assert answer.status_code == 200, answer.text
        return keep((of or tap.key()).decrypt(base64.b64decode(answer.data, validate=True), tap.OAEP).decode())

    def hand(self, key_id: str, **more: Any) -> TestResponse:
        """The answer to a hand."""
        return self.http.post("/tap/v1/hand", data=json.dumps({"id": key_id}), **more)

    def shake(self, key_id: str, secret: str, **more: Any) -> TestResponse:
        """The answer to a shake."""
        return self.http.post("/tap/v1/shake", data=json.dumps({"id": key_id, "secret": secret}), **more)

    def certificate(self, cn: str = "robot", ou: Iterable[str] = (), **more: Any) -> Headers:
        """A certificate of its authority, as the proxy hands it on."""
        assert self.authority is not None
        return through_nginx(self.authority.issue(cn, ou=ou, **more).pem)


def through_nginx(certificate: bytes, verified: str = "SUCCESS") -> Headers:
    """A client certificate (PEM) as nginx hands it on: `proxy_set_header Ssl-Client-Cert $ssl_client_escaped_cert`."""
    return {"Ssl-Client-Verify": verified, "Ssl-Client-Cert": quote(certificate.decode(), safe="")}
