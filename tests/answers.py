"""JSON answers against what was expected of them, where ids, sizes and times are not known before."""

from __future__ import annotations

import base64
import re
import time
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.serialization import load_der_private_key

RECENT = 600
"""Seconds."""
DAY = 86_400
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d")


def _is_recent(seconds: float) -> bool:
    return 0 <= time.time() - seconds < RECENT


def _is_moment(value: Any, later: int = 0) -> bool:
    """RFC 3339 to the microsecond, with the zone as numbers: a moment ago, or so many seconds later."""
    told = isinstance(value, str) and _MOMENT.fullmatch(value)
    return bool(told) and _is_recent(datetime.fromisoformat(value).timestamp() - later)


def _is_private_key(value: Any) -> bool:
    return isinstance(value, str) and bool(load_der_private_key(base64.b64decode(value, validate=True), None))


WILD = {
    "<release>": lambda value: isinstance(value, str) and re.fullmatch(r"\d+\.\d+\.\d+-[0-9a-f]{8}", value),
    "<time>": lambda value: type(value) is int and _is_recent(value),
    "<moment>": _is_moment,
    "<in a day>": lambda value: _is_moment(value, DAY),
    "<private key>": _is_private_key,
    "<count>": lambda value: type(value) is int and value >= 0,
    "<text>": lambda value: isinstance(value, str) and value,
}
"""What may be expected instead of a value: a registry's release, a moment ago (in seconds since 1970, or spelled), an API
key's private half, a whole number, a text that is not empty."""


def differences(wanted: Any, found: Any, at: str = "answer", *, part: bool = False) -> list[str]:
    """Where `found` is not what was wanted, a line each. `part`: objects may have more than was wanted."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        told = [f"{at}.{name}: missing" for name in wanted if name not in found]
        told += [] if part else [f"{at}.{name}: not expected" for name in found if name not in wanted]
        both = [name for name in wanted if name in found]
        return told + [
            line for name in both for line in differences(wanted[name], found[name], f"{at}.{name}", part=part)
        ]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        pairs = enumerate(zip(wanted, found, strict=True))
        return [line for n, (left, right) in pairs for line in differences(left, right, f"{at}[{n}]", part=part)]
    wild = WILD.get(wanted) if isinstance(wanted, str) else None
    fits = wild(found) if wild else type(wanted) is type(found) and wanted == found
    return [] if fits else [f"{at}: {found!r} instead of {wanted!r}"]
