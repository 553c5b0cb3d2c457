"""What each request is called, and its line in the log.

The id is whoever asks' own, if it is one (wire/requestid.py), else one of ours: every line of the request has it, and so
have the store's calls made for it and the answer, whoever gives that.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from flask import g, request

from s3reg.api import audit, peer
from s3reg.telemetry import emit, of_request
from s3reg.wire import requestid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flask import Flask, Response

    Application = Callable[..., Iterable[bytes]]

PROBES = {"/livez", "/readyz"}
"""Asked every few seconds by whatever watches the process."""
LONGEST_PATH = 200
_ENVIRON = "HTTP_X_REQUEST_ID"
_BAD_REQUEST = 400


def install(app: Flask) -> None:
    """Give every request of `app` its line."""
    app.before_request(_begin)
    app.after_request(_line)


def named(inner: Application) -> Application:
    """`inner`, each of whose requests has an id, also where it answers by no route at all."""

    def outer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        known = environ[_ENVIRON] = settled(environ.get(_ENVIRON))

        def begin(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start(status, [*headers, (requestid.HEADER, known)], exc_info)

        with of_request(known):
            return inner(environ, begin)

    return outer


def settled(said: str | None) -> str:
    """The id of a request whose header says this; of more headers than one, as servers join them, none is taken."""
    return requestid.valid(said) or requestid.fresh()


def route() -> str | None:
    """The pattern that the path of the request at hand fits: never a path, which may be a stranger's."""
    return None if request.url_rule is None else request.url_rule.rule


def _begin() -> None:
    g.started = time.monotonic()


def _line(answer: Response) -> Response:
    """One line for each request. Signed links and whatever else a query holds stay out of it: the path tells enough."""
    told: dict[str, Any] = {"status": answer.status_code, "bytes": answer.content_length}
    if "started" in g:
        told["ms"] = round((time.monotonic() - g.started) * 1000, 1)
    is_quiet = request.path in PROBES and answer.status_code < _BAD_REQUEST
    emit(
        "request",
        level=logging.DEBUG if is_quiet else logging.INFO,
        method=request.method,
        route=route(),
        path=request.path[:LONGEST_PATH],
        address=peer.address(),
        by=audit.who(),
        **told,
    )
    return answer
