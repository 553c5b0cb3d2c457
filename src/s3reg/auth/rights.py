"""What groups give, together: they add up, and never take away. And which of them gives what."""

from __future__ import annotations

import operator
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from s3reg.model.identity import NONE, Action, Rights

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from s3reg.model.access import ApiKey, Group
    from s3reg.model.names import Domain, TemplateId
    from s3reg.model.template import Head

N = TypeVar("N", bound=str)

NOTHING = Rights()
MOST_KEPT = 64
"""Unions."""


class Unions:
    """What groups give together, added up once as long as they are the same. Safe to share between threads.

    Of two groups of a thousand templates each it takes a millisecond, and every call asks for it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, ...], tuple[Sequence[Group], Rights]] = OrderedDict()
        """By the groups' names."""

    def of(self, groups: Sequence[Group]) -> Rights:
        """The rights of whoever is in all of these groups."""
        names = tuple(group.name for group in groups)
        with self._lock:
            known, rights = self._kept.get(names, ((), NOTHING))
        if len(known) == len(groups) and all(map(operator.is_, known, groups)):
            return rights
        rights = union(groups)
        with self._lock:
            self._kept[names] = (groups, rights)
            self._kept.move_to_end(names)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return rights


def union(groups: Sequence[Group]) -> Rights:
    """The rights of whoever is in all of these groups."""
    return Rights(
        permissions=frozenset().union(*(group.permissions for group in groups)),
        all_templates=any(group.templates is None for group in groups),
        templates=_together([group.templates for group in groups if group.templates is not None]),
        domains=_together([group.domains for group in groups]),
    )


def _together(parts: Sequence[Mapping[N, frozenset[Action]]]) -> Mapping[N, frozenset[Action]]:
    if len(parts) == 1:
        return parts[0]
    found: dict[N, frozenset[Action]] = {}
    for part in parts:
        for name, actions in part.items():
            found[name] = found.get(name, NONE) | actions
    return found


@dataclass(frozen=True, slots=True)
class Given:
    """A group that gives an action with a template, and by what: `all templates`, `template` or `domain`."""

    group: str
    by: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why somebody may do something with a template, or may not."""

    key: ApiKey
    ended: bool
    authorization: bool
    """Off: whoever has a credential may do everything, and the rest tells what would hold if it were on."""
    groups: tuple[str, ...]
    """Of the key."""
    missing: tuple[str, ...]
    """Those of them that have no record: they give nothing."""
    template: TemplateId
    domain: Domain
    permissions: Mapping[str, tuple[str, ...]]
    """Each permission that is given, to the groups that give it."""
    actions: Mapping[Action, tuple[Given, ...]]
    """Each action to what gives it; empty: nobody does."""


def explain(key: ApiKey, groups: Iterable[Group], head: Head, *, ended: bool, authorization: bool) -> Explanation:
    """What the key's `groups`, as far as there are any, give it with the template."""
    known = sorted(groups, key=lambda group: group.name)
    permissions: dict[str, tuple[str, ...]] = {}
    for name in sorted(frozenset().union(*(group.permissions for group in known))):
        permissions[name] = tuple(group.name for group in known if name in group.permissions)
    return Explanation(
        key=key,
        ended=ended,
        authorization=authorization,
        groups=key.groups,
        missing=tuple(name for name in key.groups if name not in {group.name for group in known}),
        template=head.id,
        domain=head.domain,
        permissions=permissions,
        actions={action: tuple(_givers(known, action, head)) for action in Action},
    )


def _givers(groups: Iterable[Group], action: Action, head: Head) -> Iterable[Given]:
    for group in groups:
        if group.templates is None:
            yield Given(group.name, "all templates")
            continue
        if action in group.templates.get(head.id, NONE):
            yield Given(group.name, "template")
        if action in group.domains.get(head.domain, NONE):
            yield Given(group.name, "domain")
