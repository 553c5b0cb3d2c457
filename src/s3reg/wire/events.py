"""The native API's messages about events: what machines reported, and what the registry noted of who asked for what."""

from __future__ import annotations

from dataclasses import dataclass

from marshmallow import fields

from s3reg.wire import Message, count, many

MOST_EVENTS = 1000
"""In one answer."""


@dataclass(frozen=True, slots=True)
class EventEntry:
    """An event."""

    id: str
    time: int
    """Seconds since 1970, by the clock of the registry that wrote it down."""
    kind: str
    """`report`: a machine told it; `audit`: the registry noted it."""
    by: str
    """Who told it, or asked for it."""
    said: dict[str, str | int | bool | None]
    """Each thing of it by name."""


class EventEntrySchema(Message):
    makes = EventEntry
    id = fields.String(required=True)
    time = count(required=True)
    kind = fields.String(required=True)
    by = fields.String(required=True)
    said = fields.Dict(keys=fields.String(), required=True)


@dataclass(frozen=True, slots=True)
class EventsAnswer:
    """Events in the order of time."""

    events: tuple[EventEntry, ...]


class EventsAnswerSchema(Message):
    makes = EventsAnswer
    events = many(EventEntrySchema, MOST_EVENTS, required=True)
