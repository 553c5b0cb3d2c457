"""What may be done with templates, as requests and answers name it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3reg.errors import Invalid
from s3reg.model.identity import Action

if TYPE_CHECKING:
    from collections.abc import Iterable

_BY_NAME = {action.value: action for action in Action}
_LONGEST_SHOWN = 80


def actions(told: Iterable[object]) -> frozenset[Action]:
    """The actions of these names. Raises Invalid for one that there is not."""
    return frozenset(_action(name) for name in told)


def named(given: Iterable[Action]) -> tuple[str, ...]:
    """The names of these, always in the same order."""
    return tuple(sorted(action.value for action in given))


def _action(name: object) -> Action:
    found = _BY_NAME.get(name) if isinstance(name, str) else None
    if found is None:
        shown = str(name)[:_LONGEST_SHOWN]
        raise Invalid(reason=f"there is no permission {shown!r} for a template; there are {', '.join(_BY_NAME)}")
    return found
