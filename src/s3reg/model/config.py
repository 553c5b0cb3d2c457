"""A VM's configuration as values: YAML from a stranger into what JSON has.

The file itself is kept byte for byte; this is its reading, the same on a node and in the registry: what a node takes, no
registry refuses after an hour of upload. Hostile input costs neither memory nor
time: aliases, by which a kilobyte becomes a terabyte, and deep nesting are refused before anything is built.
"""

from __future__ import annotations

import base64
import datetime as dt
import math
from typing import TYPE_CHECKING, Any

import yaml

from s3reg.errors import ConfigInvalid
from s3reg.model.template import CONFIG_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

# The one in C, where PyYAML's wheel has it: 1 MiB takes the one in Python ten seconds.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

DEEPEST = 64
MOST_VALUES = 100_000
LONGEST_PLAIN = 1024
"""Characters of a value that may be read as a number: YAML 1.1 takes `1:1:1:…` for one, in quadratic time."""
LARGEST_INTEGER = 1 << 64

_NUMERIC = frozenset("0123456789abcdefABCDEFox+-_.:")


class _Refused(ValueError):
    """What is wrong, in words that quote nothing: a configuration may hold a password."""


def parse(name: str, data: bytes) -> dict[str, Any]:
    """The configuration as JSON values: keys are text, dates are text in ISO 8601. Raises ConfigInvalid with `name`."""
    if len(data) > CONFIG_BYTES:
        raise ConfigInvalid(file=name, reason=f"it is larger than {CONFIG_BYTES} bytes")
    try:
        text = data.decode("utf-8-sig")
        _check_events(yaml.parse(text, Loader=LOADER))
        return _mapping(yaml.load(text, Loader=LOADER))  # noqa: S506 - the safe loader
    except _Refused as e:
        raise ConfigInvalid(file=name, reason=str(e)) from e
    except UnicodeError as e:
        raise ConfigInvalid(file=name, reason="it is no text in UTF-8") from e
    except yaml.YAMLError as e:
        raise ConfigInvalid(file=name, reason=_told(e)) from e
    except (ValueError, OverflowError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as e:
        # PyYAML's constructors let these out for a value that is not what its tag or its looks say.
        raise ConfigInvalid(file=name, reason="a value is not of the type that it looks like") from e


def _check_events(events: Iterable[Any]) -> None:
    """Raise ValueError before anything is built that could be larger, or deeper, than its text looks."""
    depth = 0
    for values, event in enumerate(events):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _Refused("it has aliases or anchors")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.ScalarEvent) and len(event.value) > LONGEST_PLAIN:
            _check_long(event)
        if depth > DEEPEST:
            raise _Refused(f"it is nested more than {DEEPEST} deep")
        if values > MOST_VALUES:
            raise _Refused(f"it has more than {MOST_VALUES} values")


def _check_long(event: Any) -> None:
    is_text = event.style in {"'", '"', "|", ">"} and event.tag is None
    if not is_text and _NUMERIC.issuperset(event.value):
        raise _Refused("it has a number of more than a thousand digits")


def _json(value: Any) -> Any:
    """`value`, as the safe loader makes it, in what JSON has."""
    found = value
    match value:
        case None | bool():
            pass
        case str():
            value.encode()  # a lone surrogate has no UTF-8
        case int():
            if abs(value) >= LARGEST_INTEGER:
                raise _Refused("it has a number of more than 64 bits")
        case float():
            if not math.isfinite(value):
                raise _Refused("it has a number that is none, or infinite")
        case dt.date():
            found = value.isoformat()
        case bytes():
            found = base64.b64encode(value).decode()
        case list() | tuple():
            found = [_json(item) for item in value]
        case dict():
            found = _mapping(value)
        case _:
            raise _Refused(f"it has a value of type {type(value).__name__}")
    return found


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Refused("it is no mapping")
    out: dict[str, Any] = {}
    for key, item in value.items():
        name = _key(key)
        if name in out:
            raise _Refused("two of its keys read alike")
        out[name] = _json(item)
    return out


def _key(key: Any) -> str:
    """A mapping's key as text: numbers, truth values and nothing as JSON spells them."""
    match _json(key):
        case str(text):
            return text
        case None:
            return "null"
        case bool(truth):
            return "true" if truth else "false"
        case int(number) | float(number):
            return str(number)
    raise _Refused("a key is no simple value")


def _told(e: yaml.YAMLError) -> str:
    """What is wrong and where, in a line, without the text around it: a configuration may hold a password."""
    mark = getattr(e, "problem_mark", None)
    where = f" in line {mark.line + 1}" if mark is not None else ""
    return f"{getattr(e, 'problem', None) or 'it is no YAML'}{where}"
