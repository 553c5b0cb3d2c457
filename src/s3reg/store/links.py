"""Signed links of the directory store: what S3 does with presigned URLs, for objects that the API itself serves.

    /objects/<key>?expires=<seconds since 1970>&signature=<mac>
    /objects/<key>?expires=…&size=<bytes>&sha256=<hex>&signature=<mac>

The signature covers the method and everything before it, so a link is good for one method, one key and, for a PUT, one
content. A link is its own credential: nobody else is asked who is asking.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from s3reg import crypto
from s3reg.errors import LinkRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "/objects/"
_PURPOSE = "s3reg object link 1"
"""In every signature: the same secret signs other things, none of which may pass for a link."""
_FIELDS = {"GET": ("expires",), "PUT": ("expires", "size", "sha256")}


@dataclass(frozen=True, slots=True)
class Grant:
    """What a link allows: reading `key`, or creating it from exactly these bytes."""

    key: str
    size: int | None = None
    """In bytes; None for a GET."""
    sha256: str | None = None
    """64 hex digits; None for a GET."""


def sign(secret: bytes, method: str, key: str, **fields: str) -> str:
    """The link's path and query, signed. `fields` are those of the method, in their order."""
    signature = _signature(secret, method, key, fields)
    return f"{PREFIX}{quote(key)}?{urlencode({**fields, 'signature': signature})}"


def verify(secret: bytes, method: str, key: str, query: Mapping[str, str], now: float) -> Grant:
    """What the link allows at the time `now`. Raises LinkRefused.

    The reason tells an expired link from a wrong one, but nothing about which part of a wrong one is wrong.
    """
    names = _FIELDS.get(method)
    if names is None or query.keys() != {*names, "signature"}:
        raise LinkRefused(reason="it is not a link for this method")
    fields = {name: query[name] for name in names}
    # Nothing of the query is read as a number, and no key is looked at, before the signature has vouched for it.
    if not crypto.same(query["signature"], _signature(secret, method, key, fields)):
        raise LinkRefused(reason="its signature does not match")
    if now >= int(fields["expires"]):
        raise LinkRefused(reason="it has expired")
    if method == "GET":
        return Grant(key)
    return Grant(key, int(fields["size"]), fields["sha256"])


def _signature(secret: bytes, method: str, key: str, fields: Mapping[str, str]) -> str:
    return crypto.mac(secret, _PURPOSE, method, key, *(fields[name] for name in _FIELDS[method]))
