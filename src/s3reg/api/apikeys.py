"""`/v1/apikey`: API keys, as the scripts of Anka's administrators make and revoke them.

Their documents show parameters in the query and send them in a JSON body, with any method; either is taken.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, request

from s3reg.api import audit, render
from s3reg.api.operations import MOST_DIGITS, body, received, wrong
from s3reg.api.wiring import gate
from s3reg.errors import RequestInvalid, SelectorsDisagree
from s3reg.model import names

if TYPE_CHECKING:
    from s3reg.model.access import ApiKey

blueprint = Blueprint("apikeys", __name__)

NEVER = "2200-01-01T00:00:00.000000+00:00"
"""When a key without an end ends, to clients that know only keys with one. Nearer than 2262: Go counts nanoseconds."""


@blueprint.get("/v1/apikey")
@blueprint.get("/api/v1/apikey")
def show() -> Response:
    """All keys, or with `id` one of them: an array either way."""
    asked = _asked()
    keys = [gate().keys.find(_id(asked))] if "id" in asked else gate().keys.all()
    return render.anka_later([_shown(key) for key in keys])


@blueprint.post("/v1/apikey")
@blueprint.post("/api/v1/apikey")
def create() -> Response:
    """Make a key. Its private half is given this once, unless the caller has it already and sends the public one."""
    asked = _asked()
    key_id, ttl, groups = _id(asked), _ttl(asked), _groups(asked) or ()
    if ttl is None:
        raise wrong("ttl", "missing: say for how many seconds the key works")
    audit.about(key=key_id, groups=groups, ttl=ttl)
    _, private = gate().keys.create(key_id, ttl=ttl, groups=groups, public_key=_public_key(asked))
    return render.done() if private is None else render.anka_later(base64.b64encode(private).decode())


@blueprint.put("/v1/apikey")
@blueprint.put("/api/v1/apikey")
def change() -> Response:
    """Give a key another end, counted from now, or other groups. Logins that there are have them at once."""
    asked = _asked()
    key_id, ttl, groups = _id(asked), _ttl(asked), _groups(asked)
    audit.about(key=key_id, groups=groups, ttl=ttl)
    if "publickey" in asked:
        raise wrong("publicKey", "never changes: delete the key and make another one")
    if ttl is None and groups is None:
        raise RequestInvalid(reason="there is nothing to change: give ttl or groups", problems={})
    gate().keys.change(key_id, ttl=ttl, groups=groups)
    return render.done()


@blueprint.delete("/v1/apikey")
@blueprint.delete("/api/v1/apikey")
def delete() -> Response:
    """Revoke a key, and with it all its logins."""
    key_id = _id(_asked())
    audit.about(key=key_id)
    gate().keys.delete(key_id)
    return render.done()


def _shown(key: ApiKey) -> dict[str, object]:
    expires = NEVER if key.expires is None else _time(key.expires)
    return {"id": key.id, "groups": list(key.groups), "expiration": expires, "created": _time(key.created)}


def _time(seconds: float) -> str:
    """RFC 3339 with microseconds and a numeric offset, as its samples have it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def _asked() -> dict[str, Any]:
    """The parameters by name in lower case. Raises SelectorsDisagree where query and body say two things of one."""
    found: dict[str, Any] = {}
    said = body(once=True) if received() else {}
    if said is not None and not isinstance(said, dict):
        raise RequestInvalid(reason="its body is not a JSON object", problems={})
    for name, value in [*_query(), *(said or {}).items()]:
        if value is None or value == "":
            continue
        before = found.setdefault(name.lower(), value)
        if before != value and str(before) != str(value):
            raise SelectorsDisagree(first=f"one {name}", second="the other")
    return found


def _query() -> list[tuple[str, str]]:
    """Of a key in base64 a query's blank was a plus: nobody escapes it."""
    given = request.args.items(multi=True)
    return [(name, value.replace(" ", "+") if name.lower() == "publickey" else value) for name, value in given]


def _id(asked: dict[str, Any]) -> str:
    if "id" not in asked:
        raise wrong("id", "missing")
    return names.key_id(asked["id"])


def _ttl(asked: dict[str, Any]) -> int | None:
    value = asked.get("ttl")
    if value is None:
        return None
    text = str(value)
    if isinstance(value, bool) or not (
        text.isascii() and text.isdigit() and 0 < len(text) <= MOST_DIGITS and int(text)
    ):
        raise wrong("ttl", "not a whole number of seconds, from 1 to 999999999")
    return int(text)


def _groups(asked: dict[str, Any]) -> tuple[str, ...] | None:
    """An array, or text with commas."""
    value = asked.get("groups")
    if value is None:
        return None
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",") if name.strip()]
    if not isinstance(value, list):
        raise wrong("groups", "neither an array nor text with commas")
    return tuple(dict.fromkeys(map(names.group_name, value)))


def _public_key(asked: dict[str, Any]) -> bytes | None:
    value = asked.get("publickey")
    if value is not None and not isinstance(value, str):
        raise wrong("publicKey", "not text")
    return None if value is None else value.encode("utf-8", "replace")
