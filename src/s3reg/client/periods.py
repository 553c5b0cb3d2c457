"""How long something is, as people write it: 90m, 12h, 30d, 2w."""

from __future__ import annotations

import re

from s3reg.errors import Invalid

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PERIOD = re.compile(r"([0-9]{1,6})([smhdw])")
WRITTEN = "write a number and its unit: 90m, 12h, 30d, 2w"


def seconds(text: str) -> int | None:
    """The period in seconds; None for what is none."""
    found = _PERIOD.fullmatch(text)
    return int(found[1]) * UNITS[found[2]] if found else None


def period(text: str, what: str) -> int:
    """The period in seconds, more than none. Raises Invalid, which says `what` was to be one."""
    found = seconds(text)
    if not found:
        raise Invalid(reason=f"{what}: {text!r} is no period; {WRITTEN}")
    return found
