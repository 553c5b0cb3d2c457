"""`/registry/*` as the clients of an Anka registry expect it: its envelope, its field names, its order of layers.

Where its versions differ the answer holds what any of them has, so that old and new clients find their fields. Sizes and
times are always whole numbers: an exporter reads them as unsigned.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, request

from s3reg import __version__
from s3reg.api import render
from s3reg.api.guard import asker
from s3reg.api.wiring import registry
from s3reg.errors import RequestInvalid
from s3reg.model.template import Role

if TYPE_CHECKING:
    from collections.abc import Iterable

    from s3reg.model.template import Entry, File, Version
    from s3reg.registry import Described

blueprint = Blueprint("anka", __name__, url_prefix="/registry")

BUILD = f"{__version__}-{hashlib.sha256(__version__.encode()).hexdigest()[:8]}"
"""Clients expect a version and eight hex digits behind it."""
_MOST_DIGITS = 9


@blueprint.get("/status")
def status() -> Response:
    """That the registry runs. Clients also use it to find out whether they must log in."""
    return render.anka({"status": "Running", "version": BUILD})


@blueprint.get("/vm")
def list_v1() -> Response:
    """All templates as `{id: name}`, or with `?id=` one template."""
    ref = request.args.get("id")
    if ref:
        return render.anka(_template(registry().describe(asker(), ref)))
    return render.anka([{head.id: head.name} for head in registry().templates(asker())])


@blueprint.get("/v2/vm")
def list_v2() -> Response:
    """All templates with their sizes, or with `?id=` one template."""
    ref = request.args.get("id")
    if ref:
        return render.anka(_template(registry().describe(asker(), ref)))
    heads = registry().templates(asker())
    return render.anka([{"id": head.id, "name": head.name, "size": head.size} for head in heads])


@blueprint.get("/vm/info")
def info() -> Response:
    """The config of a version, the newest by default, as JSON."""
    ref = request.args.get("id")
    if not ref:
        raise RequestInvalid(reason="id: missing in the query", problems={"id": ["missing"]})
    tag = request.args.get("tag") or None
    return render.anka(registry().config(asker(), ref, tag=tag, number=_number(request.args.get("version"))))


def _number(text: str | None) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise RequestInvalid(reason="version: not a whole number", problems={"version": ["not a whole number"]})
    return int(text)


def _template(described: Described) -> dict[str, Any]:
    head, pulls = described.head, described.last_pulls
    pairs = zip(head.versions, described.versions, strict=True)
    return {
        "id": head.id,
        "name": head.name,
        "versions": [
            {"number": number, **_version(head.id, entry, version, pulls.get(entry.id, 0))}
            for number, (entry, version) in enumerate(pairs)
        ],
        "size": head.size,
        "arch": head.arch,
        "last_pull": max((pulls.get(entry.id, 0) for entry in head.versions), default=0),
        "last_push": max((entry.created for entry in head.versions), default=0),
    }


def _version(template: str, entry: Entry, version: Version | None, last_pull: int) -> dict[str, Any]:
    """One version; of one whose record cannot be read, what the head knows."""
    files = version.files if version else ()
    states = _top_first(file for file in files if file.role is Role.STATE)
    return {
        "tag": entry.tag,
        "config_file": f"{template}.yaml",
        "nvram": "nvram",
        "images": _top_first(file for file in files if file.role is Role.IMAGE),
        "state_files": states,
        "description": entry.description,
        "state_file": states[0] if states else "",
        "size": entry.size,
        "arch": "",  # a template has one; Anka's own answers leave this empty too
        "last_pull": last_pull,
        "last_push": entry.created,
        "creation_date": entry.created,
    }


def _top_first(layers: Iterable[File]) -> list[str]:
    """The layers' names, drive by drive, each chain from its top to its base."""
    files = sorted(layers, key=lambda file: (file.drive is None, file.drive or 0))
    by_name = {file.name: file for file in files}
    parents = {file.parent for file in files}
    # A top is nobody's parent. What no top leads to comes last: it can only be a ring, which no commit lets in.
    order: dict[str, None] = {}
    for start in [*(file for file in files if file.name not in parents), *files]:
        here: File | None = start
        while here and here.name not in order:
            order[here.name] = None
            here = by_name.get(here.parent) if here.parent else None
    return list(order)
