"""Who is asking, and whether they may ask for that: looked at before a route is, and before a body is read.

With access control off, everyone may do everything.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import time
from typing import TYPE_CHECKING, cast

from flask import current_app, g, request
from werkzeug.exceptions import HTTPException

from s3reg.api import peer, render
from s3reg.api.needs import NEEDS, Need
from s3reg.api.wiring import wiring
from s3reg.errors import (
    DomainUnclear,
    Forbidden,
    ForeignPage,
    S3regError,
    TemplateIdTaken,
    TemplateNotFound,
    Unauthenticated,
)
from s3reg.model.identity import EVERYONE, Identity

if TYPE_CHECKING:
    from flask import Flask, Response

    from s3reg.auth.gate import Gate

DRAIN_SECONDS = 5.0
"""For what a refused client is still sending: closed on before, it would not see the answer."""
_PIECE = 64 * 1024
_SAFE = {"GET", "HEAD", "OPTIONS"}
_LONGEST_SHOWN = 200


def install(app: Flask) -> None:
    """Ask whoever asks anything of `app` who they are, if access control is on."""
    app.before_request(_admit)
    for refusal in (Forbidden, TemplateNotFound, TemplateIdTaken, DomainUnclear):
        app.register_error_handler(refusal, _looked_at_again)


def asker() -> Identity:
    """The identity behind the request at hand. Raises Unauthenticated where nobody was asked for one."""
    found = g.get("asker")
    if found is None:
        raise Unauthenticated
    return cast("Identity", found)


def _admit() -> None:
    gate = wiring().gate
    need = g.need = NEEDS.get(request.endpoint or "")
    if need is not None and need.public:
        return
    try:
        g.asker = EVERYONE if gate is None else _identified(gate)
        _refuse_foreign_pages()
        if gate is not None:
            g.admitted = g.asker = gate.permit(g.asker, _permissions(need))
    except S3regError:
        _drain()
        raise


def _looked_at_again(error: S3regError) -> Response:
    """The answer by rights as they are now, where they are others than the call was let in with; else the refusal.

    Once, and only of a call that was let in: what it takes to be called must be permitted by these rights too.
    """
    gate, admitted = wiring().gate, g.pop("admitted", None)
    if gate is None or admitted is None:
        return render.failure(error)
    try:
        g.asker = gate.permit(gate.renewed(admitted), _permissions(g.need))
        if g.asker.rights == admitted.rights:
            return render.failure(error)
        return current_app.make_response(current_app.dispatch_request())
    except S3regError as e:
        return render.failure(e)


def _refuse_foreign_pages() -> None:
    """A page that somebody merely looks at must not change anything with what the browser knows, or can reach.

    Browsers say which site a page is of with everything but a GET (RFC 6454 §7); programs say nothing.
    """
    origin = request.headers.get("Origin")
    if origin is None or request.method in _SAFE:
        return
    if origin.rpartition("://")[2].lower() != request.host.lower():
        raise ForeignPage(origin=origin[:_LONGEST_SHOWN])


def _permissions(need: Need | None) -> tuple[str, ...]:
    """What the route at hand asks for. One that there is not asks for nothing more: that it is not there is no secret."""
    if need is not None:
        return need.asked().permissions
    if request.endpoint is None:
        return ()
    raise LookupError(f"{request.endpoint} is missing in the table of needs")


def _identified(gate: Gate) -> Identity:
    """Who asks. The header counts before a certificate: who sends one means it, and is told if it is wrong."""
    scheme, _, proof = request.headers.get("Authorization", "").strip().partition(" ")
    match scheme.lower():
        case "basic":
            user, password = _basic(proof)
            return gate.basic(user, password, peer.address())
        case "bearer":
            return gate.bearer(proof.strip().encode("latin-1", "replace"), peer.address())
        case "":
            certificate = peer.presented()
            if certificate is not None:
                return gate.certificate(certificate, peer.address())
    raise Unauthenticated


def _basic(proof: str) -> tuple[str, bytes]:
    """User and password (RFC 7617). The password is bytes: which characters they are, no two clients agree on."""
    text = "".join(proof.split()).translate(str.maketrans("-_", "+/")).rstrip("=")
    try:
        user, colon, password = base64.b64decode(text + "=" * (-len(text) % 4), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        raise Unauthenticated from None
    if not colon:
        raise Unauthenticated
    return user.decode("utf-8", "replace"), password


def _drain() -> None:
    """Take what the body still brings, as far as one may be: a client that sends all before it reads sees the answer.

    Under gunicorn no thread waits for that: the worker sees to it when it closes the connection (cli/patience.py).
    """
    if "gunicorn.socket" in request.environ:
        return
    until = time.monotonic() + DRAIN_SECONDS
    with contextlib.suppress(HTTPException, OSError):
        while time.monotonic() < until and request.stream.read(_PIECE):
            pass
