"""Traces of requests, and of the store's calls that they took: an extra, of which nothing is loaded unless asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import request

from s3reg.api import requestlog
from s3reg.errors import SettingInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flask import Flask, Response

    from s3reg.api.requestlog import Application
    from s3reg.api.spans import Spans

SECONDS = 1.5
"""For what waits to be sent when a process ends: less than its arbiter has to spare."""
_PARENT = "HTTP_TRACEPARENT"


def opened(url: str | None) -> Spans | None:
    """What traces are told to, if the setting names a collector. To be made after a fork. Raises SettingInvalid."""
    if url is None:
        return None
    check(url)
    from s3reg.api.spans import Spans  # noqa: PLC0415 - an extra

    return Spans(url)


def check(url: str | None) -> None:
    """Raise SettingInvalid if traces are wanted, and what it takes is not installed."""
    if url is None:
        return
    try:
        import s3reg.api.spans  # noqa: PLC0415 - an extra
    except ImportError as e:
        reason = "it takes OpenTelemetry, which is not installed: pip install 's3reg[traces]'"
        raise SettingInvalid(name="S3REG_TRACES", reason=reason) from e
    del s3reg


def install(app: Flask, spans: Spans | None) -> None:
    """Let `spans` be told of each request of `app`, but of no probe."""
    if spans is None:
        return
    inner: Application = app.wsgi_app

    def outer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("PATH_INFO") in requestlog.PROBES:
            return inner(environ, start)
        with spans.request(environ.get(_PARENT)):
            return inner(environ, start)

    def answered(answer: Response) -> Response:
        spans.answered(request.method, requestlog.route(), answer.status_code)
        return answer

    app.wsgi_app = outer  # type: ignore[assignment]  # Flask's own way to wrap it
    app.after_request(answered)
    app.extensions["s3reg-spans"] = spans


def finish(app: Flask) -> None:
    """Send what waits to be sent; takes at most `SECONDS`."""
    spans: Spans | None = app.extensions.get("s3reg-spans")
    if spans is not None:
        spans.finish(SECONDS)
