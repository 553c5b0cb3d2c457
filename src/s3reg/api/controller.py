"""`/api/v1/*`: what an Anka controller answers of its registry, so that its readers can do without one."""

from __future__ import annotations

from flask import Blueprint, Response, request

from s3reg.api import anka, peer, render, shapes
from s3reg.api.guard import asker
from s3reg.api.wiring import registry

blueprint = Blueprint("controller", __name__, url_prefix="/api/v1")


@blueprint.get("/status")
def status() -> Response:
    """That the registry runs, as a controller says it."""
    return render.anka(
        {
            "status": "Running",
            "version": anka.BUILD,
            "registry_address": peer.origin(),
            "registry_status": "Running",
            "license": "enterprise plus",  # there are no licences; this one lacks nothing that a client asks for
        }
    )


@blueprint.get("/registry/vm")
def list_templates() -> Response:
    """All templates, `?apiVer=v1` without sizes and times; with `?id=` one template, with `?info` a version's config."""
    if "info" in request.args:
        return anka.info()
    if request.args.get("id"):
        return anka.describe()
    heads = registry().templates(asker())
    if request.args.get("apiVer") == "v1":
        return render.anka([{"id": head.id, "name": head.name} for head in heads])
    pulls = registry().last_pulls(asker(), heads)
    return render.anka([shapes.listed_with_times(head, pulls) for head in heads])


@blueprint.delete("/registry/vm")
def delete() -> Response:
    """Remove a template with all its versions."""
    anka.remove_template()
    return render.done()


blueprint.add_url_rule("/registry/revert", view_func=anka.revert, methods=["DELETE"])
blueprint.add_url_rule("/registry/disk", view_func=anka.disk, methods=["GET"])
