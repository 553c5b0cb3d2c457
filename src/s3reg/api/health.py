"""Whether the process lives, whether the store answers, and a word to whoever comes with a browser."""

from __future__ import annotations

from flask import Blueprint, Response

from s3reg import __version__
from s3reg.api import render
from s3reg.api.wiring import registry, wiring
from s3reg.errors import ObjectNotFound, StoreUnavailable
from s3reg.model import format as layout

blueprint = Blueprint("health", __name__)


@blueprint.get("/livez")
def livez() -> Response:
    """200 as long as the process answers at all: restarting it would not help a store that is away."""
    return render.anka(None)


@blueprint.get("/readyz")
def readyz() -> Response:
    """200 if the store answers, at the price of one HEAD; else 503, so that a load balancer asks another replica."""
    registry()
    try:
        wiring().store.stat(layout.FORMAT_KEY)
    except ObjectNotFound as e:
        raise StoreUnavailable(store=wiring().store.location, reason="its format.json is gone") from e
    return render.anka(None)


@blueprint.get("/")
def welcome() -> Response:
    """What this is."""
    text = f"s3reg {__version__}: a registry for virtual-machine templates.\nIts API: /transfer/v1/openapi.json\n"
    return Response(text, mimetype="text/plain")
