"""The native API's view of the events: what machines reported, and what was noted of who asked for what."""

from __future__ import annotations

import time

from flask import Blueprint

from s3reg import wire
from s3reg.api.guard import asker
from s3reg.api.operations import Operations, Parameter
from s3reg.api.wiring import registry
from s3reg.errors import RequestInvalid
from s3reg.model.template import EventKind
from s3reg.registry import Wanted
from s3reg.wire import events as messages

blueprint = Blueprint("events", __name__, url_prefix=wire.PREFIX)
operations = Operations(blueprint)

USUAL = 100
"""Events in an answer where nobody says how many."""
USUAL_SECONDS = 7 * 24 * 3600
"""Before the end, where nobody says from when on: a rare asker's are looked for in everybody's."""
MOST_DIGITS = 12
_QUERY = (
    Parameter("since", "Not before this time, in seconds since 1970; default: seven days before `until`."),
    Parameter("until", "Not after this time, in seconds since 1970; default: now."),
    Parameter("by", "Of this asker: `root`, `key:ID`, `cert:CN`, `everyone`, `nobody`."),
    Parameter("kind", "`report`: what machines told; `audit`: what the registry noted. Default: both."),
    Parameter("template", "About the template of this id, or that had this name."),
    Parameter("limit", f"The newest so many, at most {messages.MOST_EVENTS}; default: {USUAL}.", whole=True),
)


@operations.add("GET", "/events", gives=messages.EventsAnswerSchema, query=_QUERY)
def list_events(
    *, since: str | None, until: str | None, by: str | None, kind: str | None, template: str | None, limit: int | None
) -> messages.EventsAnswer:
    """List events, the newest last. Whoever may not list all templates sees its own, and those about what it may list."""
    end = _moment("until", until, int(time.time()))
    wanted = Wanted(
        since=_moment("since", since, end - USUAL_SECONDS),
        until=end,
        limit=min(USUAL if limit is None else limit, messages.MOST_EVENTS),
        by=by,
        kind=_kind(kind),
        template=template,
    )
    found = registry().events(asker(), wanted)
    return messages.EventsAnswer(
        tuple(messages.EventEntry(one.id, one.time, one.kind.value, one.by, one.said) for one in found)
    )


def _moment(name: str, text: str | None, otherwise: int) -> int:
    if text is None:
        return max(0, otherwise)
    if not (text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS):
        raise RequestInvalid(reason=f"{name}: not a time in seconds", problems={name: ["not a time in seconds"]})
    return int(text)


def _kind(text: str | None) -> EventKind | None:
    try:
        return None if text is None else EventKind(text)
    except ValueError:
        told = "neither report nor audit"
        raise RequestInvalid(reason=f"kind: {told}", problems={"kind": [told]}) from None


operations.route()
