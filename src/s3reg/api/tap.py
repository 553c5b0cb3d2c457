"""`/tap/v1/*`: an API key's login, as Anka's clients make it. Nobody is asked who they are: this is where they say it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, Response, request

from s3reg.api import audit, peer, render
from s3reg.api.operations import body
from s3reg.api.wiring import wiring
from s3reg.errors import RequestInvalid, RouteNotFound

if TYPE_CHECKING:
    from s3reg.auth.gate import Gate

blueprint = Blueprint("tap", __name__, url_prefix="/tap/v1")

LARGEST_BODY = 16 * 1024
"""Bytes that somebody unknown may send."""


@blueprint.post("/hand")
def hand() -> Response:
    """A secret, sealed for the key that is named: base64 and nothing else, because Java's decoder takes no newline."""
    gate = _gate()
    (key_id,) = _asked("id")
    audit.about(key=key_id)
    return Response(gate.hand(key_id, peer.address()), headers={"Cache-Control": "no-store"}, mimetype="text/plain")


@blueprint.post("/shake")
def shake() -> Response:
    """A login, for the secret that was in there. Clients send all of `data` back, in base64, as their bearer."""
    gate = _gate()
    key_id, secret = _asked("id", "secret")
    audit.about(key=key_id)
    login = gate.shake(key_id, secret, peer.address())
    audit.about(by=f"key:{login.user}")
    data = {"userName": login.user, "token": login.token, "sessionId": login.session}
    return render.native({"id": key_id, "data": data, "ttl": login.ttl})


def _gate() -> Gate:
    """Access control, if there is any: to a client's login, a registry without it is one that has no such route."""
    gate = wiring().gate
    if gate is None:
        raise RouteNotFound(path=request.path)
    return gate


def _asked(*names: str) -> list[str]:
    request.max_content_length = LARGEST_BODY
    said = body()
    found = []
    for name in names:
        value = said.get(name) if isinstance(said, dict) else None
        if not isinstance(value, str):
            raise RequestInvalid(reason=f"{name}: missing, or not text", problems={name: ["missing, or not text"]})
        found.append(value)
    return found
