"""The native API's messages about pushes under way, for who looks after them."""

from __future__ import annotations

from dataclasses import dataclass

from marshmallow import fields

from s3reg.model import names
from s3reg.wire import Message, Named, count, many

MOST_SESSIONS = 100_000
"""In one answer."""


@dataclass(frozen=True, slots=True)
class SessionEntry:
    """A push under way, or one that was given up and is not cleared away yet."""

    session: str
    state: str
    """`open`, `expired`, or `damaged`: then only the id and the times say something."""
    owner: str
    template: str
    name: str
    """Of the template; empty where that would be new."""
    domain: str
    opened: int
    """Seconds since 1970 by the store's clock, as are the next two."""
    beat: int
    """When a node last asked something for it."""
    until: int
    """When a sweep may give it up, if nothing more is asked for it."""
    signed: int
    """Bytes that upload links were given for."""
    limit: int
    """Bytes that it may upload."""
    damaged: str | None = None
    """What is wrong with its record."""


class SessionEntrySchema(Message):
    makes = SessionEntry
    session = fields.String(required=True)
    state = fields.String(required=True)
    owner = fields.String(required=True)
    template = fields.String(required=True)
    name = fields.String(required=True)
    domain = fields.String(required=True)
    opened = count(required=True)
    beat = count(required=True)
    until = count(required=True)
    signed = count(required=True)
    limit = count(required=True)
    damaged = fields.String(load_default=None, allow_none=True)


@dataclass(frozen=True, slots=True)
class SessionsAnswer:
    """The pushes under way, oldest first."""

    sessions: tuple[SessionEntry, ...]


class SessionsAnswerSchema(Message):
    makes = SessionsAnswer
    sessions = many(SessionEntrySchema, MOST_SESSIONS, required=True)


@dataclass(frozen=True, slots=True)
class SessionName:
    """A push by its id."""

    session: str


class SessionNameSchema(Message):
    makes = SessionName
    session = Named(names.session_id, required=True)
