"""Which versions of a template are to stay: rules, what they come to, and policies, files of them.

A version stays if any rule keeps it; it goes if none does. The newest one always stays: a template is deleted by name, not
by age. Everything is a pure function of what the registry told, its clock included: this machine's may be wrong.
"""

from __future__ import annotations

import difflib
import fnmatch
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from s3reg.client.periods import period
from s3reg.errors import Invalid, PolicyInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from s3reg.wire.usage import Used, UsedTemplate

LARGEST_POLICY = 1024**2
"""Bytes."""
_ALL = ("*",)


@dataclass(frozen=True, slots=True)
class Rule:
    """What keeps a version. With nothing in it, nothing is kept but the newest."""

    keep_last: int | None = None
    """So many of the newest."""
    keep_within: int | None = None
    """What was made within so many seconds."""
    keep_tags: tuple[str, ...] = ()
    """Patterns: * stands for any characters, ? for one, [ab] for one of these."""
    unused_for: int | None = None
    """What was made or pulled within so many seconds."""

    @property
    def says_something(self) -> bool:
        """Whether it has any rule at all."""
        return self != Rule()


@dataclass(frozen=True, slots=True)
class Clause:
    """A policy's rule, and the group of templates that it is for: those of these names, or ids, in these domains."""

    rule: Rule
    templates: tuple[str, ...] = _ALL
    """Patterns of names, or ids."""
    domains: tuple[str, ...] = _ALL
    """Patterns."""

    @property
    def is_for_all(self) -> bool:
        """Whether it leaves no template to a later one."""
        return all(any(set(one) == {"*"} for one in patterns) for patterns in (self.templates, self.domains))

    def is_for(self, template: UsedTemplate) -> bool:
        """Whether it is for this template."""
        named = any(template.template == one.lower() or _fits(template.name, one) for one in self.templates)
        return named and any(_fits(template.domain, one) for one in self.domains)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a version."""

    version: Used
    reason: str
    """Why it stays; empty: it goes."""

    @property
    def goes(self) -> bool:
        """Whether nothing keeps it."""
        return not self.reason


def judged(versions: Sequence[Used], rule: Rule, now: int) -> list[Verdict]:
    """What becomes of each of a template's versions, which come oldest first. `now`: in seconds since 1970."""
    last = len(versions) - 1
    return [Verdict(version, _reason(version, last - place, rule, now)) for place, version in enumerate(versions)]


def clause_for(policy: Sequence[Clause], template: UsedTemplate) -> Clause | None:
    """The first of the policy's that is for this template."""
    return next((clause for clause in policy if clause.is_for(template)), None)


def _reason(version: Used, newer: int, rule: Rule, now: int) -> str:
    """Why it stays; `newer`: how many newer ones there are."""
    if newer == 0:
        return "the newest"
    if rule.keep_last is not None and newer < rule.keep_last:
        return f"one of the newest {rule.keep_last}"
    for pattern in rule.keep_tags:
        if _fits(version.tag, pattern):
            return f"its tag fits {pattern}"
    if rule.keep_within is not None and now - version.created < rule.keep_within:
        return "made lately"
    if rule.unused_for is not None and now - max(version.created, version.last_pull or 0) < rule.unused_for:
        return "used lately"
    return ""


def _fits(text: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(_composed(text), _composed(pattern))


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


# --- Policies ---------------------------------------------------------------------------------------------------------


def read_policy(text: str, file: str) -> tuple[Clause, ...]:
    """The clauses of a policy as YAML. `file`: what it is called, for the error. Raises PolicyInvalid."""

    def refuse(reason: str) -> PolicyInvalid:
        return PolicyInvalid(file=file, reason=reason)

    if len(text) > LARGEST_POLICY:
        raise refuse(f"it is longer than {LARGEST_POLICY} characters")
    try:
        raw = yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except _Twice as e:
        raise refuse(str(e)) from e
    except (yaml.YAMLError, RecursionError, ValueError) as e:
        mark = getattr(e, "problem_mark", None)
        raise refuse(f"it is no YAML{f', in line {mark.line + 1}' if mark else ''}") from e
    if not isinstance(raw, list) or not raw:
        raise refuse("it is not a list of clauses, each with the templates that it is for, and rules")
    clauses = tuple(_clause(one, place, refuse) for place, one in enumerate(raw, 1))
    for place, clause in enumerate(clauses[:-1], 1):
        if clause.is_for_all:
            raise refuse(f"clause {place + 1} is never used: clause {place} is for all; put that one last")
    return clauses


class _Twice(Exception):
    """Which key is, and where."""


class _Loader(yaml.SafeLoader):
    """YAML in which a key that is there twice is refused: the usual loader takes the last, and loses a rule."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """See SafeLoader."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise _Twice(f"line {key.start_mark.line + 1}: {key.value} is there twice; say it once")
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _clause(raw: Any, place: int, refuse: Callable[[str], PolicyInvalid]) -> Clause:
    if not isinstance(raw, dict):
        raise refuse(f"clause {place} is not names with values")
    for name in raw:
        if name not in (*_WHICH, *_READ):
            near = difflib.get_close_matches(str(name), [*_WHICH, *_READ], n=1, cutoff=0.0)[0]
            raise refuse(f"clause {place}: there is no {str(name)!r}; {near} is the nearest")
    if not any(name in raw for name in _WHICH):
        raise refuse(f"clause {place} does not say which templates it is for, or which domain; templates: '*' is all")
    try:
        which = {field: _texts(raw[name], name) for name, field in _WHICH.items() if name in raw}
        rule = Rule(**{name: _READ[name](value, name) for name, value in raw.items() if name in _READ})
    except Invalid as e:
        raise refuse(f"clause {place}: {e}") from e
    if not rule.says_something:
        raise refuse(f"clause {place} has no rule: it would keep the newest version alone; keep_tags: '*' keeps all")
    return Clause(rule, **which)


def _texts(value: Any, name: str) -> tuple[str, ...]:
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not found or not all(isinstance(one, str) and one.strip() for one in found):
        raise Invalid(reason=f"{name}: write a pattern, or a list of them, in quotes where it begins with *")
    return tuple(found)


def _number(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise Invalid(reason=f"{name}: {value!r} is not a whole number from 1 on")
    return value


def _period(value: Any, name: str) -> int:
    return period(str(value), name)


_WHICH = {"templates": "templates", "domain": "domains"}
"""Fields of Clause, by the names that a policy has for them."""
_READ: dict[str, Callable[[Any, str], Any]] = {
    "keep_last": _number,
    "keep_within": _period,
    "keep_tags": _texts,
    "unused_for": _period,
}
"""By the names of Rule's fields."""
