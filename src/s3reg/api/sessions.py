"""The native API's view of the pushes under way: what there are, and an end to one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint

from s3reg import wire
from s3reg.api import audit
from s3reg.api.guard import asker
from s3reg.api.operations import Operations
from s3reg.api.wiring import registry
from s3reg.model import names
from s3reg.wire import sessions as messages

if TYPE_CHECKING:
    from s3reg.registry import UnderWay

blueprint = Blueprint("sessions", __name__, url_prefix=wire.PREFIX)
operations = Operations(blueprint)


@operations.add("GET", "/sessions", gives=messages.SessionsAnswerSchema)
def list_sessions() -> messages.SessionsAnswer:
    """List the pushes under way: the asker's own; everybody's for whoever has no limits."""
    return messages.SessionsAnswer(tuple(_entry(one) for one in registry().sessions(asker())))


@operations.add("POST", "/sessions/abort", takes=messages.SessionNameSchema)
def abort_any_session(asked: messages.SessionName) -> None:
    """Give a push up, the asker's own or, for whoever has no limits, anybody's. Its next call is refused."""
    session = registry().abort_any(asker(), names.session_id(asked.session))
    audit.about(template=session.template)


def _entry(one: UnderWay) -> messages.SessionEntry:
    session = one.session
    if session is None:
        beat = int(one.beat)
        return messages.SessionEntry(one.id, "damaged", "", "", "", "", beat, beat, int(one.until), 0, 0, one.damaged)
    return messages.SessionEntry(
        session=session.id,
        state=session.state.value,
        owner=session.owner,
        template=session.template,
        name=one.name,
        domain=session.domain,
        opened=int(one.beat) if session.opened is None else session.opened,
        beat=int(one.beat),
        until=int(one.until),
        signed=session.signed,
        limit=session.limit,
    )


operations.route()
