"""What a request in the Anka dialect names: a template, a version of it. Every spelling that its clients have ever used.

A parameter may come in the query or in a JSON body, under any of its names, more than once; where two of them say two
things, nothing is done. In a query, `+` is a blank or itself: a tag from there may have two readings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from flask import request

from s3reg.api import audit
from s3reg.api.operations import MOST_DIGITS, body, received, wrong
from s3reg.errors import RequestInvalid, SelectorsDisagree

if TYPE_CHECKING:
    from collections.abc import Iterable

    from s3reg.model.template import Head

SPELLINGS = {
    "id": "id", "tag": "tag", "tag_name": "tag", "version": "version", "number": "version", "arch": "arch",
    "apiver": "apiver",
}  # fmt: skip
"""Compared in lower case: clients write `Version` too. What a client adds to every request, `apiVer`, says nothing here."""
VERSION = ("tag", "version")

Readings = tuple[object, ...]
"""What one parameter may mean, the likeliest first."""


@dataclass(frozen=True, slots=True)
class Selector:
    """A version of a template, as far as a request says which."""

    id: str
    tags: tuple[str, ...]
    """The readings of its tag; none: no tag was given."""
    number: int | None

    def tag(self, head: Head, *, to_remove: bool) -> str | None:
        """The reading that is a tag of the template, the likeliest if two are or none is.

        Raises RequestInvalid if two are and one is to be removed.
        """
        there = [tag for tag in self.tags if head.tagged(tag)]
        if to_remove and len(there) > 1:
            raise wrong(
                "tag", f"{' and '.join(map(repr, there))} are both there: write %20 for a blank, %2B for a plus"
            )
        return next(iter((*there, *self.tags)), None)


def to_read() -> Selector:
    """The version that the query names; the newest, if it names none. Raises RequestInvalid, SelectorsDisagree."""
    return _selector(_agreed(_query()))


def to_remove() -> Selector:
    """The version that query and body name; the newest, if they name none. Raises RequestInvalid, SelectorsDisagree.

    What is misspelt or left blank would mean the newest too, and take from somebody what he did not name: it is refused.
    """
    given = [*_query(), *_body()]
    found = _agreed(given)
    if not found.keys() & set(VERSION):
        for name, _ in given:
            if SPELLINGS.get(name, VERSION[0]) in VERSION:
                raise wrong(name, "blank" if name in SPELLINGS else "not a name for a version: write tag or version")
    return _selector(found)


def to_delete() -> str:
    """The template that query and body name, and no version of it. Raises RequestInvalid, SelectorsDisagree."""
    found = _agreed([*_query(), *_body()])
    for name in VERSION:
        if name in found:
            raise wrong(name, "not taken: this removes the template with all its versions")
    template = _text(found, "id")
    audit.about(template=template)
    return template


def to_set_arch() -> tuple[str, str]:
    """The template and the architecture that query and body name. Raises RequestInvalid, SelectorsDisagree."""
    found = _agreed([*_query(), *_body()])
    template, arch = _text(found, "id"), _text(found, "arch")
    audit.about(template=template, arch=arch)
    return template, arch


def _selector(found: dict[str, Readings]) -> Selector:
    tags = tuple(tag for tag in found.get("tag", ()) if isinstance(tag, str))
    if "tag" in found and not tags:
        raise wrong("tag", "not text")
    number = found.get("version", (None,))[0]
    asked = Selector(_text(found, "id"), tags, None if number is None else _number(number))
    audit.about(template=asked.id, tag=next(iter(tags), None), number=asked.number)
    return asked


def _query() -> list[tuple[str, Readings]]:
    text = request.query_string.decode("utf-8", "replace")
    blanks = parse_qsl(text, keep_blank_values=True)
    pluses = parse_qsl(text.replace("+", "%2B"), keep_blank_values=True)
    return [
        (name.lower(), tuple(dict.fromkeys((one, other))))
        for (name, one), (_, other) in zip(blanks, pluses, strict=True)
    ]


def _body() -> list[tuple[str, Readings]]:
    if not received():
        return []
    said = body(once=True)
    if said is not None and not isinstance(said, dict):
        raise RequestInvalid(reason="its body is not a JSON object", problems={})
    return [(name.lower(), (value,)) for name, value in (said or {}).items() if value is not None]


def _agreed(given: Iterable[tuple[str, Readings]]) -> dict[str, Readings]:
    """What all that is said of a parameter has in common; those that are blank, or not known, say nothing."""
    found: dict[str, Readings] = {}
    for spelling, said in given:
        name = SPELLINGS.get(spelling)
        if name is None or said == ("",):
            continue
        readings = (_number(said[0]),) if name == "version" else said
        before = found.setdefault(name, readings)
        found[name] = tuple(one for one in before if one in readings)
        if not found[name]:
            raise SelectorsDisagree(first=f"one {name}", second="the other")
    return found


def _text(found: dict[str, Readings], name: str) -> str:
    value = found.get(name, (None,))[0]
    if not isinstance(value, str):
        raise wrong(name, "missing" if value is None else "not text")
    return value


def _number(value: object) -> int:
    text = str(value)
    if isinstance(value, bool) or not (text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS):
        raise wrong("version", "not a whole number")
    return int(text)
