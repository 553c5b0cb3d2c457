"""Answers and errors as HTTP, in the dialect of the path's prefix: native JSON, or the Anka envelope.

By prefix and not by blueprint: a 404 or 405 raised in routing has no blueprint. Here an error's journey ends on the server;
what is a defect, or the store's fault, is logged with its traceback, and of a defect the answer tells only where to look.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from flask import Response, g, request
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed, NotFound, RequestEntityTooLarge

from s3reg import errors, wire
from s3reg.api.wiring import wiring
from s3reg.errors import (
    AccessOff,
    Kind,
    RegistryUnready,
    RequestInvalid,
    RequestTooLarge,
    RouteNotFound,
    S3regError,
    TagNotFound,
    Unauthenticated,
    VersionNotFound,
)
from s3reg.store import links
from s3reg.telemetry import emit, request_id

if TYPE_CHECKING:
    from flask import Flask

RETRY_SECONDS = 2
"""What a client is asked to wait while the store is away."""
CHALLENGE = 'Basic realm="s3reg", charset="UTF-8"'
"""Goes with each 401 (RFC 9110 §11.6.1): wget and PowerShell send a password only when they are asked for one."""
_LONGEST_PATH = 200
_SERVER_FAULT = 500
_TOLD_WHY = {Kind.FORBIDDEN, Kind.UNAUTHENTICATED}
"""Refusals of which the log says why: which permission lacks, what a certificate has."""
ANKA_LIST = ('{"status":"OK","body":', ',"message":""}')
"""What `anka` puts around a body."""

_ANKA_STATUS = {Kind.NOT_FOUND: 400, Kind.CONFLICT: 400, Kind.EXPIRED: 400}
"""Where Anka's clients expect another status than ours: to them, what is not there is bad input (facts of its registry)."""


def install_errors(app: Flask) -> None:
    """Give every error its dialect."""
    app.register_error_handler(HTTPException, _of_http)
    app.register_error_handler(S3regError, failure)
    app.register_error_handler(Exception, _unexpected)


def native(value: object, status: int = 200) -> Response:
    """JSON values as an answer of the native API. Not to be kept by anything in between: it may hold signed links."""
    return written(text(value), status)


def text(value: object) -> str:
    """JSON values as JSON."""
    return json.dumps(value, default=str, separators=(",", ":"))


def written(json_text: str | bytes, status: int = 200) -> Response:
    """JSON as an answer of `native`."""
    return Response(json_text, status, {"Cache-Control": "no-store"}, mimetype="application/json")


def anka(body: object) -> Response:
    """A success in the Anka envelope."""
    return native({"status": "OK", "body": body, "message": ""})


def anka_later(body: object) -> Response:
    """A success in the Anka envelope as its later endpoints write it, with the body last: scripts cut it out there."""
    return native({"status": "OK", "message": "", "body": body})


def done() -> Response:
    """A success in the Anka envelope where it has no body, not even an empty one."""
    return native({"status": "OK", "message": ""})


def saved() -> Response:
    """That it was kept, in the words of Anka's administrators' pages."""
    return native({"status": "OK", "message": "Saved"})


def failure(error: S3regError, status: int | None = None) -> Response:
    """An error in the dialect of the request's path; `status` where the path's protocol has its own."""
    shown = _presentable(error)
    g.code = error.code
    if error.kind in _TOLD_WHY:
        g.reason = error.detail.get("reason")
    if _is_native():
        answer = native({"error": shown.as_dict()}, status or _status(shown))
    else:
        answer = native({"status": "FAIL", "message": _anka_text(shown)}, status or _anka_status(shown))
    match error.kind:
        case Kind.UNAVAILABLE:
            answer.headers["Retry-After"] = str(RETRY_SECONDS)
        case Kind.TOO_MANY:
            answer.headers["Retry-After"] = str(error.detail.get("seconds", RETRY_SECONDS))
        case Kind.UNAUTHENTICATED:
            answer.headers["WWW-Authenticate"] = CHALLENGE
    return answer


def _is_native() -> bool:
    return request.path.startswith((wire.PREFIX + "/", links.PREFIX))


def _status(error: S3regError) -> int:
    # RFC 9110 has a status of its own for a wrong method.
    return 405 if isinstance(error, errors.MethodNotAllowed) else error.kind.status


def _anka_status(error: S3regError) -> int:
    if isinstance(error, RouteNotFound):
        return 404
    return _ANKA_STATUS.get(error.kind, _status(error))


def _anka_text(error: S3regError) -> str:
    """What it says; in the words that Anka's clients know where they have some."""
    match error:
        case Unauthenticated():
            return Unauthenticated.says  # exporters log in anew when they read this
        case TagNotFound():
            return f"Did not find any versions with tag {error.detail.get('tag')}"
        case VersionNotFound():
            return f"Did not find any versions with tag {error.detail.get('version')}"
    return str(error)


def _presentable(error: S3regError) -> S3regError:
    """`error` as the other end may see it, logged where it is not the other end's own."""
    if error.kind.status < _SERVER_FAULT or isinstance(error, AccessOff):
        return error
    emit("request-failed", level=logging.ERROR, trouble=error, code=error.code)
    if error.kind is Kind.UNAVAILABLE and not _is_known():
        return RegistryUnready(reason=f"its {_more()}")
    return _hidden() if error.kind is Kind.INTERNAL else error


def _is_known() -> bool:
    """Whether whoever asks has said who it is, where that is asked: a stranger is not told where the store is."""
    return "asker" in g or wiring().gate is None


def _hidden() -> S3regError:
    return S3regError(reason=f"the registry's {_more()}")


def _more() -> str:
    return f"log tells more under request {request_id()}"


def _of_http(error: HTTPException) -> Response:
    """Flask's own refusals."""
    path = request.path if len(request.path) <= _LONGEST_PATH else request.path[:_LONGEST_PATH] + "…"
    match error:
        case InternalServerError():
            # What an error's handler met: Flask asks nobody else what to make of it.
            return _unexpected(error.original_exception or error)
        case NotFound():
            return failure(RouteNotFound(path=path))
        case MethodNotAllowed():
            answer = failure(errors.MethodNotAllowed(path=path, method=request.method))
            answer.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
            return answer
        case RequestEntityTooLarge():
            return failure(
                RequestTooLarge(limit=min(request.max_content_length or wire.LARGEST_BODY, wire.LARGEST_BODY))
            )
    return failure(RequestInvalid(reason=error.description or error.name, problems={}))


def _unexpected(error: BaseException) -> Response:
    """A defect of ours."""
    emit("request-failed", level=logging.ERROR, trouble=error, code="internal")
    hidden = _hidden()
    g.code = hidden.code
    if _is_native():
        return native({"error": hidden.as_dict()}, _SERVER_FAULT)
    return native({"status": "FAIL", "message": "Internal server error"}, _SERVER_FAULT)
