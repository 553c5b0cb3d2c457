"""The id of a request: made by whoever asks, logged by everybody whom it passes."""

from __future__ import annotations

import re
import secrets
from typing import Final

HEADER: Final = "X-Request-Id"
_VALID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def fresh() -> str:
    """An id that nobody else has: 16 hexadecimal digits."""
    return secrets.token_hex(8)


def valid(said: str | None) -> str | None:
    """What somebody said in the header, if it is an id: nothing else may stand in a log or in a header of ours."""
    return said if said is not None and _VALID.fullmatch(said) else None
