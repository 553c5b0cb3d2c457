"""JSON records written, and read with bounds: what does not have the shape of a record is said to be damage."""

from __future__ import annotations

import contextlib
import json
import math
from typing import TYPE_CHECKING, Any

from s3reg.errors import FormatUnknown, NameInvalid, RecordDamaged

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORD_VERSION = 1
LARGEST_RECORD = 64 * 1024**2
"""Bytes of the largest JSON record that is read."""
MOST_ENTRIES = 100_000
LARGEST_SIZE = 1 << 53
"""JSON readers keep integers exact up to here."""
MISSHAPEN = (NameInvalid, LookupError, TypeError, ValueError, AttributeError, RecursionError)
"""What reading a record raises that does not have the shape of one; base64's own error is a ValueError."""


def dump(value: dict[str, Any]) -> bytes:
    """A record as it lies on the store."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError:
        # A lone surrogate, in a config or in a field that we do not know: JSON can say it, UTF-8 cannot.
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def load(data: bytes) -> dict[str, Any]:
    """A JSON object of at most LARGEST_RECORD bytes."""
    if len(data) > LARGEST_RECORD:
        raise ValueError("it is larger than any record")
    try:
        raw = json.loads(data, parse_float=_finite, parse_constant=_finite)
    except (json.JSONDecodeError, UnicodeDecodeError) as e:
        raise ValueError(f"it is no JSON text: {e}") from e
    if not isinstance(raw, dict):
        raise TypeError("it is not a JSON object")
    return raw


def record(data: bytes) -> dict[str, Any]:
    """A record of our version. Raises FormatUnknown for one of another."""
    raw = load(data)
    if count(raw["v"]) != RECORD_VERSION:
        raise FormatUnknown(what="a record", feature=f"version {raw['v']}")
    return raw


@contextlib.contextmanager
def reading(what: str, damage: type[RecordDamaged] = RecordDamaged) -> Iterator[None]:
    """Whatever is wrong with a record's shape, said as `damage` with its name."""
    try:
        yield
    except (KeyError, IndexError) as e:
        raise damage(what=what, reason=f"it lacks {e}") from e
    except MISSHAPEN as e:
        raise damage(what=what, reason=str(e)[:200]) from e


def count(value: object) -> int:
    """A whole number from 0 that every JSON reader keeps exact."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST_SIZE:
        raise ValueError(f"{str(value)[:40]!r} is not a count")
    return value


def string(value: object) -> str:
    """Text."""
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:40]!r} is not text")
    return value


def truth(value: object) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise TypeError(f"{str(value)[:40]!r} is neither true nor false")
    return value


def entries(value: object, most: int = MOST_ENTRIES) -> list[Any]:
    """A list of at most so many."""
    if not isinstance(value, list) or len(value) > most:
        raise TypeError("a list is missing or too long")
    return value


def fields(value: object, most: int = MOST_ENTRIES) -> dict[str, Any]:
    """An object of at most so many fields."""
    if not isinstance(value, dict) or len(value) > most:
        raise TypeError("an object is missing or too large")
    return value


def _finite(text: str) -> float:
    """A number as JSON has it: what Python reads besides could not be written again."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is not a number of JSON")
    return value
