"""`/registry/*` and `/log` as the clients of an Anka registry expect them. How answers look is in shapes.py."""

from __future__ import annotations

import hashlib
import json
import secrets
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, request

from s3reg import __version__
from s3reg.api import audit, render, selectors, shapes
from s3reg.api.guard import asker
from s3reg.api.operations import received
from s3reg.api.rows import Rows
from s3reg.api.wiring import registry, wiring
from s3reg.errors import RequestTooLarge

if TYPE_CHECKING:
    from s3reg.api.selectors import Selector
    from s3reg.registry import Retired

blueprint = Blueprint("anka", __name__)

BUILD = f"{__version__}-{hashlib.sha256(__version__.encode()).hexdigest()[:8]}"
"""Clients expect a version and eight hex digits behind it."""
LARGEST_EVENT = 64 * 1024
"""Bytes of what a machine may report at once."""
_NAMES = Rows(lambda head: {head.id: head.name}, *render.ANKA_LIST)
_SIZES = Rows(shapes.listed, *render.ANKA_LIST)


@blueprint.get("/registry/status")
def status() -> Response:
    """That the registry runs. Clients also use it to find out whether they must log in."""
    return render.anka({"status": "Running", "version": BUILD})


@blueprint.get("/registry/vm")
def list_v1() -> Response:
    """All templates as `{id: name}`, or with `?id=` one template."""
    if request.args.get("id"):
        return describe()
    return render.written(_NAMES.answer(registry().templates(asker())))


@blueprint.get("/registry/v2/vm")
def list_v2() -> Response:
    """All templates with their sizes, or with `?id=` one template."""
    if request.args.get("id"):
        return describe()
    return render.written(_SIZES.answer(registry().templates(asker())))


def describe() -> Response:
    """The template that `?id=` names."""
    return render.anka(shapes.template(registry().describe(asker(), request.args["id"])))


@blueprint.get("/registry/vm/info")
def info() -> Response:
    """The config of a version, the newest by default, as JSON."""
    asked = selectors.to_read()
    return render.anka(registry().config(asker(), asked.id, tag=_tag(asked), number=asked.number))


@blueprint.delete("/registry/vm")
def delete() -> Response:
    """Remove a template with all its versions."""
    remove_template()
    return render.anka(None)


def remove_template() -> None:
    """Remove what query or body name."""
    _note(registry().delete(asker(), selectors.to_delete(), operation=_operation()))


@blueprint.delete("/registry/revert")
def revert() -> Response:
    """Remove a version, the newest by default, and all newer ones; with the oldest, the template."""
    asked = selectors.to_remove()
    tag = _tag(asked, to_remove=True)
    _note(registry().revert(asker(), asked.id, tag=tag, number=asked.number, operation=_operation()))
    return render.anka(None)


def _note(gone: Retired) -> None:
    audit.about(template=gone.head.id, name=gone.head.name, removed=[entry.tag for entry in gone.removed])


@blueprint.put("/registry/vm/arch")
def set_arch() -> Response:
    """Say which architecture a template is for: `arm64` or `amd64`."""
    template, arch = selectors.to_set_arch()
    head = registry().set_arch(asker(), template, arch=arch, operation=_operation())
    audit.about(template=head.id, name=head.name)
    return render.anka(None)


@blueprint.get("/registry/disk")
def disk() -> Response:
    """Bytes free and in all: of a directory, its disk's; of a bucket, so that their difference is what templates hold."""
    room = registry().disk(asker())
    return render.anka({"free": room.free, "total": room.total})


@blueprint.post("/log")
def log() -> Response:
    """Keep what a machine reports, if the store takes it soon; the answer waits for neither."""
    data = received()
    if len(data) > LARGEST_EVENT:
        raise RequestTooLarge(limit=LARGEST_EVENT)
    wiring().event(asker(), _said(data))
    return render.anka(None)


def _said(data: bytes) -> dict[str, Any]:
    """What a body says; where it is no flat JSON object, all of it as text: shell scripts quote badly."""
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        said = None
    if isinstance(said, dict) and not any(isinstance(value, dict | list | float) for value in said.values()):
        return said
    return {"content": data.decode("utf-8", "replace")}


def _tag(asked: Selector, *, to_remove: bool = False) -> str | None:
    """The tag that is meant, by the versions that there are where it has two readings."""
    if len(asked.tags) < 2:  # noqa: PLR2004 - a single one needs no look
        return next(iter(asked.tags), None)
    return asked.tag(registry().find(asker(), asked.id), to_remove=to_remove)


def _operation() -> str:
    """Anka's clients give their changes no ids: each request is a change of its own.

    A proxy that asks another replica when one is gone repeats a request, with the same key: it is done once
    (draft-ietf-httpapi-idempotency-key-header).
    """
    key = request.headers.get("Idempotency-Key")
    if key:
        return hashlib.sha256(key.encode()).hexdigest()[:32]
    return secrets.token_hex(16)
