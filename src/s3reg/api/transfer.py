"""The native API, `/transfer/v1`: what our own CLI and agent speak. Each view parses, asks the registry, and answers."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response

from s3reg import wire
from s3reg.api import access, audit, events, messages, openapi, render, sessions, trash, usage
from s3reg.api.guard import asker
from s3reg.api.operations import Operations, Parameter
from s3reg.api.rows import Rows
from s3reg.api.wiring import registry
from s3reg.errors import SelectorsDisagree
from s3reg.model import names

if TYPE_CHECKING:
    from s3reg.registry import Plan

blueprint = Blueprint("transfer", __name__, url_prefix=wire.PREFIX)
operations = Operations(blueprint)
_ROWS = Rows(lambda head: wire.write(messages.listed_template(head)), '{"templates":', "}")

_REF = Parameter("ref", "The template's id, or its name if only one carries it.", required=True)
_SELECT = (
    _REF,
    Parameter("tag", "The version's tag; default: the newest version."),
    Parameter("number", "The version's number, from 0.", whole=True),
)


@operations.add("GET", "/templates", gives=wire.TemplatesAnswerSchema)
def list_templates() -> Response:
    """List the templates with their versions, by name."""
    return render.written(_ROWS.answer(registry().templates(asker())))


@operations.add("GET", "/template", gives=wire.TemplateEntrySchema, query=(_REF,))
def describe_template(ref: str) -> wire.TemplateEntry:
    """Describe one template: its versions, their files and last pulls."""
    return messages.template_entry(registry().describe(asker(), ref))


@operations.add("GET", "/plan", gives=wire.PlanAnswerSchema, query=_SELECT)
def plan_pull(ref: str, tag: str | None, number: int | None) -> Response:
    """Plan a pull: every file of a version, with links to its maps and packs."""
    audit.about(template=ref, tag=tag, number=number)
    plan = registry().plan(asker(), ref, tag=tag, number=number)
    audit.about(template=plan.head.id, name=plan.head.name, tag=plan.entry.tag)
    return render.written(_last_plan.text(plan))


class LastPlan:
    """The last plan's answer as JSON, for all who ask for the same plan within the second that its links were signed in.

    A hundred nodes that pull one new version at once are answered a megabyte each; it is put together once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: tuple[object, object, str] = (None, None, "")

    def text(self, plan: Plan) -> str:
        """The answer."""
        # A head of one generation and a version never change; which links these are, only the list itself can tell.
        key = (plan.head.id, plan.head.gen, plan.entry.id, plan.now)
        with self._lock:
            if self._kept[0] != key or self._kept[1] is not plan.links:
                self._kept = (key, plan.links, render.text(wire.write(messages.plan_answer(plan))))
            return self._kept[2]


_last_plan = LastPlan()


@operations.add("POST", "/pulls", takes=wire.VersionRefSchema)
def report_pull(asked: wire.VersionRef) -> None:
    """Report that a node has pulled a version, whole and verified."""
    registry().pulled(asker(), names.template_id(asked.template), names.version_id(asked.version))


@operations.add("POST", "/sessions", takes=wire.OpenRequestSchema, gives=wire.SessionAnswerSchema, status=201)
def open_session(asked: wire.OpenRequest) -> wire.SessionAnswer:
    """Open a push session."""
    return messages.session_answer(registry().open(asker(), messages.opening(asked)))


@operations.add("GET", "/sessions/<sid>", gives=wire.SessionStatusSchema)
def show_session(sid: str) -> wire.SessionStatus:
    """Show a push session as it stands."""
    return messages.session_status(registry().session(asker(), names.session_id(sid)))


@operations.add("POST", "/sessions/<sid>/bases", takes=wire.BasesRequestSchema, gives=wire.SessionAnswerSchema)
def add_bases(sid: str, asked: wire.BasesRequest) -> wire.SessionAnswer:
    """Add versions that the push may build on. The answer holds, of those, the ones that may be used."""
    return messages.session_answer(registry().add_bases(asker(), names.session_id(sid), messages.bases(asked.bases)))


@operations.add("POST", "/sessions/<sid>/uploads", takes=wire.UploadsRequestSchema, gives=wire.UploadsAnswerSchema)
def sign_uploads(sid: str, asked: wire.UploadsRequest) -> wire.UploadsAnswer:
    """Give upload links for packs and maps; the session's heartbeat too."""
    links = registry().sign_uploads(asker(), names.session_id(sid), messages.uploads(asked))
    return messages.upload_links(links)


@operations.add("POST", "/sessions/<sid>/commit", takes=wire.CommitRequestSchema, gives=wire.CommitAnswerSchema)
def commit_session(sid: str, asked: wire.CommitRequest) -> wire.CommitAnswer:
    """Make the session's version visible. Safe to repeat: the answer is the same."""
    return messages.commit_answer(registry().commit(asker(), names.session_id(sid), messages.proposal(asked)))


@operations.add("DELETE", "/sessions/<sid>")
def abort_session(sid: str) -> None:
    """Give a push session up. A session that is gone already is no error."""
    registry().abort(asker(), names.session_id(sid))


@operations.add("POST", "/revert", takes=wire.RevertSchema, gives=wire.RevertedSchema)
def revert_template(asked: wire.Revert) -> wire.Reverted:
    """Take a version and all newer ones out of a template, or delete it. Safe to repeat: it is done once."""
    template, operation, newest = asked.template, asked.operation, asked.newest
    if not asked.everything:
        tag, number = asked.tag, asked.number
        gone = registry().revert(asker(), template, tag=tag, number=number, operation=operation, newest=newest)
    elif asked.tag is None and asked.number is None:
        gone = registry().delete(asker(), template, operation=operation, newest=newest)
    else:
        raise SelectorsDisagree(first="everything", second="one version")
    return messages.reverted(gone)


@operations.add("POST", "/rename", takes=wire.RenameSchema, gives=wire.RenamedSchema)
def rename_template(asked: wire.Rename) -> wire.Renamed:
    """Give a template another name. Safe to repeat: it is done once."""
    head = registry().rename(
        asker(), asked.template, name=asked.name, same_name=asked.same_name, operation=asked.operation
    )
    return wire.Renamed(head.id, head.name)


operations.route()


@blueprint.get("/openapi.json")
def describe_api() -> Response:
    """The description of all this, as OpenAPI 3.1."""
    return render.native(_document())


@functools.cache
def _document() -> dict[str, Any]:
    parts = (operations, access.operations, events.operations, trash.operations, sessions.operations, usage.operations)
    return openapi.document([operation for part in parts for operation in part])
