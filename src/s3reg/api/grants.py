"""What may be done with templates, as requests and answers name it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from s3reg.errors import Invalid
from s3reg.model.identity import Action

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from s3reg.model.access import Group
    from s3reg.model.names import TemplateId

N = TypeVar("N", bound=str)
_BY_NAME = {action.value: action for action in Action}
_LONGEST_SHOWN = 80


def by_name(told: Iterable[tuple[N, Iterable[object]]]) -> dict[N, frozenset[Action]]:
    """Each name's actions. Raises Invalid for a name that comes twice, and for an action that there is not."""
    found: dict[N, frozenset[Action]] = {}
    for name, actions in told:
        if name in found:
            raise Invalid(reason=f"{name} comes twice")
        found[name] = frozenset(map(_action, actions))
    return found


def named(given: Iterable[Action]) -> tuple[str, ...]:
    """The names of these, always in the same order."""
    return tuple(sorted(action.value for action in given))


def told(group: Group) -> dict[str, object]:
    """What a group gives, as it is written down of a change."""
    return {
        "group": group.name,
        "permissions": sorted(group.permissions) or "none",
        "templates": "all" if group.templates is None else told_templates(group.templates),
        "domains": _each(group.domains),
    }


def told_templates(given: Mapping[TemplateId, frozenset[Action]]) -> object:
    """With which templates what may be done, as it is written down of a change."""
    return _each(given) or "none"


def _each(given: Mapping[N, frozenset[Action]]) -> list[str]:
    return [f"{name}={','.join(named(given[name]))}" for name in sorted(given)]


def _action(name: object) -> Action:
    found = _BY_NAME.get(name) if isinstance(name, str) else None
    if found is None:
        shown = str(name)[:_LONGEST_SHOWN]
        raise Invalid(reason=f"there is no permission {shown!r} for a template; there are {', '.join(_BY_NAME)}")
    return found
