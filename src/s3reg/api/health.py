"""Whether the process lives, whether it can serve, and a word to whoever comes with a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from flask import Blueprint, Response

from s3reg import __version__
from s3reg.api import render
from s3reg.api.wiring import wiring

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask

    from s3reg.api.wiring import Wiring

blueprint = Blueprint("health", __name__)
_UNREADY = 503


@blueprint.get("/livez")
def livez() -> Response:
    """200 as long as the process answers at all: restarting it would not help a store that is away."""
    return render.anka(None)


@blueprint.get("/readyz")
def readyz() -> Response:
    """200 if calls may be sent here; else 503 and why, so that a load balancer asks another replica.

    Asked by strangers: `body.reason` is a word for programs, and nothing tells where the store is.
    """
    found = wiring().readiness.now()
    body = {"reason": found.reason, "next": found.next_step}
    if found.ready:
        return render.native({"status": "OK", "body": body, "message": ""})
    answer = render.native({"status": "FAIL", "body": body, "message": found.words}, _UNREADY)
    answer.headers["Retry-After"] = str(render.RETRY_SECONDS)
    return answer


def ending(app: Flask, when: Callable[[], bool] = lambda: True) -> None:
    """`/readyz` of this process says that it ends as soon as `when` does. All else is answered as before."""
    cast("Wiring", app.extensions["s3reg"]).readiness.ending(when)


@blueprint.get("/")
def welcome() -> Response:
    """What this is."""
    text = f"s3reg {__version__}: a registry for virtual-machine templates.\nIts API: /transfer/v1/openapi.json\n"
    return Response(text, mimetype="text/plain")
