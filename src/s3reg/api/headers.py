"""Headers that go with every answer: it is data for programs, and nothing that a browser should guess at, frame or keep."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from flask import request

if TYPE_CHECKING:
    from flask import Flask, Response

ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    # Of an object too: its link ends, and what somebody in between had kept of it would not.
    "Cache-Control": "no-store",
}
OVER_TLS = "max-age=86400"
"""A day only: a browser takes it for all ports of the host, and those may be somebody else's."""


def install(app: Flask) -> None:
    """Let them go with every answer of `app`."""
    app.after_request(_add)


def _add(answer: Response) -> Response:
    for name, value in ALWAYS.items():
        answer.headers.setdefault(name, value)
    if isinstance(request.environ.get("gunicorn.socket"), ssl.SSLSocket):
        answer.headers.setdefault("Strict-Transport-Security", OVER_TLS)
    return answer
