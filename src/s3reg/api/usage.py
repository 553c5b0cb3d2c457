"""The native API's view of what templates take on the store, and of when they were last of use."""

from __future__ import annotations

from flask import Blueprint

from s3reg import wire
from s3reg.api.guard import asker
from s3reg.api.operations import Operations, Parameter
from s3reg.api.wiring import registry
from s3reg.model import names
from s3reg.model.template import Base
from s3reg.wire import usage as messages

blueprint = Blueprint("usage", __name__, url_prefix=wire.PREFIX)
operations = Operations(blueprint)
_REF = Parameter("ref", "The template's id, or its name if only one carries it; default: all of them.")


@operations.add("GET", "/usage", gives=messages.UsageAnswerSchema, query=(_REF,))
def show_usage(ref: str | None) -> messages.UsageAnswer:
    """Tell what templates and their versions take on the store, and what taking them out frees."""
    found = registry().usage(asker(), ref)
    templates = tuple(
        messages.TemplateUsage(
            template=one.head.id,
            name=one.head.name,
            deleted=one.head.deleted,
            exclusive=one.exclusive,
            shared=one.shared,
            live=one.live,
            trash=one.trash,
            frees=one.frees,
            tags=tuple(
                messages.TagUsage(
                    tag=version.entry.tag,
                    version=version.entry.id,
                    size=version.entry.size,
                    exclusive=version.exclusive,
                    shared=version.shared,
                    live=version.live,
                    frees=version.frees,
                    damaged=version.damaged or None,
                )
                for version in one.versions
            ),
            damaged=one.head.damaged or None,
        )
        for one in found.templates
    )
    return messages.UsageAnswer(templates, found.stored, found.live, found.trash, found.uploading)


@operations.add("POST", "/usage/frees", takes=messages.GoingSchema, gives=messages.FreedSchema)
def tell_freed(asked: messages.Going) -> messages.Freed:
    """Tell what taking versions out would free, all of them together. Changes nothing."""
    going = {Base(names.template_id(one.template), names.version_id(one.version)) for one in asked.versions}
    return messages.Freed(registry().frees(asker(), going))


@operations.add("GET", "/uses", gives=messages.UsesAnswerSchema, query=(_REF,))
def list_uses(ref: str | None) -> messages.UsesAnswer:
    """List when versions were made and last pulled, and what time it is: what rules of retention look at."""
    uses = registry().uses(asker(), ref)
    templates = tuple(
        messages.UsedTemplate(
            template=head.id,
            name=head.name,
            domain=head.domain,
            versions=tuple(
                messages.Used(entry.id, entry.tag, entry.size, entry.created, uses.last_pulls.get(entry.id))
                for entry in head.versions
            ),
            damaged=head.damaged or None,
        )
        for head in uses.heads
    )
    return messages.UsesAnswer(templates, uses.now)


operations.route()
