"""Permissions as people write them: by name, by a role that stands for several, and of templates as `NAME=list,pull`.

What a registry does not know is not sent: whoever misspells a name is told the nearest one.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from s3reg.errors import Invalid
from s3reg.model.access import PERMISSIONS
from s3reg.model.identity import Action

if TYPE_CHECKING:
    from collections.abc import Iterable

_PULL = ("index", "list_vms", "pull_vm", "download_vm")
ROLES: dict[str, tuple[str, ...]] = {
    "pull": _PULL,
    "push": (*_PULL, "head_push_vm", "push_vm"),
    "admin": tuple(PERMISSIONS),
}
"""Sets of a group's permissions: to list and pull; to push too; everything."""
ROLES_TOLD = f"pull ({', '.join(_PULL)}), push (these, head_push_vm, push_vm), admin (all of them)"
ACTIONS = tuple(action.value for action in Action)
EVERYTHING = "all"
_SPELLINGS = {"view_permission_groups": "view_prmission_groups"}
"""Right, and as Anka spells it."""


def of_group(words: Iterable[str], roles: Iterable[str] = ()) -> frozenset[str]:
    """The permissions that these words and roles name. Raises Invalid."""
    named = [_SPELLINGS.get(word, word) for text in words for word in _separate(text)]
    given = {_known(word, (*PERMISSIONS, *_SPELLINGS), "permission") for word in named}
    return frozenset(given).union(*(ROLES[role] for role in roles))


def of_templates(text: str) -> frozenset[str]:
    """What may be done with a template, of `list,pull` or `all`. Raises Invalid."""
    words = _separate(text)
    if words == [EVERYTHING]:
        return frozenset(ACTIONS)
    return frozenset(_known(word, (*ACTIONS, EVERYTHING), "permission of a template") for word in words)


def split(text: str) -> tuple[str, frozenset[str] | None]:
    """`NAME=list,pull` as the name and what is permitted of it; None where only a name stands. Raises Invalid."""
    # From the right: a template's name may have an equals sign, no permission has.
    name, equals, words = text.rpartition("=")
    return (name, of_templates(words)) if equals else (text, None)


def granted(text: str) -> tuple[str, frozenset[str]]:
    """`split`, where permissions have to stand. Raises Invalid."""
    name, permissions = split(text)
    if not permissions:
        raise Invalid(reason=f"{text!r} names no permission; write {text.rstrip('=')}=list,pull, or =all")
    return name, permissions


def as_role(permissions: Iterable[str]) -> str | None:
    """The role that gives just these."""
    found = set(permissions)
    return next((role for role, gives in ROLES.items() if set(gives) == found), None)


def in_order(permissions: Iterable[str]) -> list[str]:
    """In the order of the documents, and by name what a later release knows."""
    places = {name: place for place, name in enumerate((*PERMISSIONS, *ACTIONS))}
    return sorted(permissions, key=lambda name: (places.get(name, len(places)), name))


def in_short(given: Iterable[str]) -> str:
    """A group's permissions in a table."""
    return as_role(given) or ", ".join(in_order(given)) or "nothing"


def listed(given: Iterable[str]) -> str:
    """What may be done with a template, as `granted` takes it."""
    given = frozenset(given)
    return EVERYTHING if given >= frozenset(ACTIONS) else ",".join(in_order(given))


def _separate(text: str) -> list[str]:
    return [word for word in (part.strip() for part in text.split(",")) if word]


def _known(word: str, known: tuple[str, ...], what: str) -> str:
    if word not in known:
        near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
        told = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise Invalid(reason=f"there is no {what} {word!r}; {told}")
    return word
