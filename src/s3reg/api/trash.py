"""The native API's view of single versions: one taken out, given another tag, and what lies in the trash."""

from __future__ import annotations

from flask import Blueprint

from s3reg import wire
from s3reg.api import audit, messages
from s3reg.api.guard import asker
from s3reg.api.operations import Operations, Parameter
from s3reg.api.wiring import registry
from s3reg.model import names
from s3reg.wire import trash as wired

blueprint = Blueprint("trash", __name__, url_prefix=wire.PREFIX)
operations = Operations(blueprint)
_REF = Parameter("ref", "Of the template of this id, else of those of this name; default: of all.")


@operations.add("POST", "/untag", takes=wired.UntagSchema, gives=wire.RevertedSchema)
def untag_version(asked: wired.Untag) -> wire.Reverted:
    """Take one version out of a template; newer ones stay. Safe to repeat: it is done once."""
    version = None if asked.version is None else names.version_id(asked.version)
    gone = registry().untag(
        asker(),
        asked.template,
        tag=asked.tag,
        number=asked.number,
        version=version,
        newest=asked.newest,
        operation=asked.operation,
    )
    return messages.reverted(gone)


@operations.add("POST", "/retag", takes=wired.RetagSchema, gives=wired.RetaggedSchema)
def retag_version(asked: wired.Retag) -> wired.Retagged:
    """Give a version another tag. Safe to repeat: it is done once."""
    audit.about(old=asked.tag, new=asked.new)
    head = registry().retag(asker(), asked.template, tag=asked.tag, new=asked.new, operation=asked.operation)
    return wired.Retagged(head.id, head.name, asked.new)


@operations.add("GET", "/trash", gives=wired.TrashAnswerSchema, query=(_REF,))
def list_trash(ref: str | None) -> wired.TrashAnswer:
    """List what was removed and can be restored, deleted templates' too."""
    return wired.TrashAnswer(
        tuple(
            wired.TrashEntry(
                template=one.head.id,
                name=one.head.name,
                deleted=one.head.deleted,
                version=one.entry.id,
                tag=one.entry.tag,
                description=one.entry.description,
                size=one.entry.size,
                created=one.entry.created,
                removed=one.entry.removed or 0,
                removed_by=one.entry.removed_by or "",
                until=one.entry.until or 0,
            )
            for one in registry().trash(asker(), ref)
        )
    )


@operations.add("POST", "/trash/restore", takes=wired.RestoreSchema, gives=wired.RestoredSchema)
def restore_versions(asked: wired.Restore) -> wired.Restored:
    """Put versions back in their places, all or none; a deleted template comes back. Safe to repeat: it is done once."""
    done = registry().restore(
        asker(),
        names.template_id(asked.template),
        versions=_ids(asked.versions),
        as_tag=asked.as_tag,
        same_name=asked.same_name,
        operation=asked.operation,
    )
    tags = tuple(entry.tag for entry in done.restored)
    audit.about(restored=tags)
    return wired.Restored(done.head.id, done.head.name, tags, done.head.deleted)


@operations.add("POST", "/trash/purge", takes=wired.PurgeSchema, gives=wired.PurgedSchema)
def purge_trash(asked: wired.Purge) -> wired.Purged:
    """Let go for good what was removed. Safe to repeat."""
    template = None if asked.template is None else names.template_id(asked.template)
    versions = None if asked.versions is None else _ids(asked.versions)
    gone = registry().purge(asker(), template, versions=versions, operation=asked.operation)
    if template is not None:
        audit.about(name=next((one.head.name for one in gone), None))
    audit.about(purged=len(gone), tags=tuple(one.entry.tag for one in gone))
    return wired.Purged(len(gone))


def _ids(versions: tuple[str, ...]) -> list[names.VersionId]:
    return [names.version_id(version) for version in versions]


operations.route()
