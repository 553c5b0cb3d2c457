"""The native API's messages about single versions: taken out, given another tag, and what lies in the trash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from marshmallow import fields, validate

from s3reg.model import names
from s3reg.wire import Message, Named, count, many

MOST_ASKED = 10_000
"""Versions in one request."""
MOST_LISTED = 1_000_000
"""Versions in one answer."""


def _versions(**more: Any) -> fields.List[str]:
    return fields.List(Named(names.version_id), validate=validate.Length(1, MOST_ASKED), **more)


@dataclass(frozen=True, slots=True)
class Untag:
    """Take one version out of a template, named by tag or number, else by id; newer ones stay."""

    operation: str
    """Chosen by the caller for this one change: asked for again, it is not made again."""
    template: str
    tag: str | None = None
    number: int | None = None
    version: str | None = None
    """Its id: if the tag or number is another version's, nothing is removed."""
    newest: str | None = None
    """The id of the newest version that the caller knows: if another one is, nothing is removed."""


class UntagSchema(Message):
    makes = Untag
    operation = Named(names.operation_id, required=True)
    template = Named(names.template_id, required=True)
    tag = Named(names.tag, load_default=None, allow_none=True)
    number = count(load_default=None, allow_none=True)
    version = Named(names.version_id, load_default=None, allow_none=True)
    newest = Named(names.version_id, load_default=None, allow_none=True)


@dataclass(frozen=True, slots=True)
class Retag:
    """Give a version another tag."""

    operation: str
    """Chosen by the caller for this one change: asked for again, it is not made again."""
    template: str
    tag: str
    new: str
    """The tag that it is to have."""


class RetagSchema(Message):
    makes = Retag
    operation = Named(names.operation_id, required=True)
    template = Named(names.template_id, required=True)
    tag = Named(names.tag, required=True)
    new = Named(names.tag, required=True)


@dataclass(frozen=True, slots=True)
class Retagged:
    """A version under its new tag."""

    template: str
    name: str
    tag: str


class RetaggedSchema(Message):
    makes = Retagged
    template = Named(names.template_id, required=True)
    name = fields.String(required=True)
    tag = fields.String(required=True)


@dataclass(frozen=True, slots=True)
class TrashEntry:
    """A version that was removed and can be restored."""

    template: str
    name: str
    """Of the template."""
    deleted: bool
    """The template is; it comes back with the version."""
    version: str
    tag: str
    description: str
    size: int
    """Bytes of all its images and states, shared or not."""
    created: int
    """Seconds since 1970."""
    removed: int
    """When it was removed, in seconds since 1970."""
    removed_by: str
    until: int
    """When it may go for good, in seconds since 1970: with the first sweep from then on."""


class TrashEntrySchema(Message):
    makes = TrashEntry
    template = Named(names.template_id, required=True)
    name = fields.String(required=True)
    deleted = fields.Boolean(required=True)
    version = Named(names.version_id, required=True)
    tag = fields.String(required=True)
    description = fields.String(required=True)
    size = count(required=True)
    created = count(required=True)
    removed = count(required=True)
    removed_by = fields.String(required=True)
    until = count(required=True)


@dataclass(frozen=True, slots=True)
class TrashAnswer:
    """What can be restored: by template, in the order in which it went."""

    entries: tuple[TrashEntry, ...]


class TrashAnswerSchema(Message):
    makes = TrashAnswer
    entries = many(TrashEntrySchema, MOST_LISTED, required=True)


@dataclass(frozen=True, slots=True)
class Restore:
    """Put versions of a template's trash back in their places, all of them or none."""

    operation: str
    """Chosen by the caller for this one change: asked for again, it is not made again."""
    template: str
    versions: tuple[str, ...]
    """Their ids."""
    as_tag: str | None = None
    """Another tag, for the one version that is named."""
    same_name: bool = False
    """Let a deleted template come back although another one carries its name by now."""


class RestoreSchema(Message):
    makes = Restore
    operation = Named(names.operation_id, required=True)
    template = Named(names.template_id, required=True)
    versions = _versions(required=True)
    as_tag = Named(names.tag, load_default=None, allow_none=True)
    same_name = fields.Boolean(load_default=False)


@dataclass(frozen=True, slots=True)
class Restored:
    """A template after versions came back."""

    template: str
    name: str
    restored: tuple[str, ...]
    """The tags of those that were asked for, in their order in the template."""
    deleted: bool
    """Only where this operation had been done before, and the template was deleted since."""


class RestoredSchema(Message):
    makes = Restored
    template = Named(names.template_id, required=True)
    name = fields.String(required=True)
    restored = fields.List(fields.String(), required=True)
    deleted = fields.Boolean(required=True)


@dataclass(frozen=True, slots=True)
class Purge:
    """Let go for good what lies in the trash: these versions of a template, all of its, or all of everything."""

    operation: str
    """Chosen by the caller for this one change: asked for again, it is not made again."""
    template: str | None = None
    """null: of every template of which the asker may remove versions."""
    versions: tuple[str, ...] | None = None
    """Their ids; null: all of the template's."""


class PurgeSchema(Message):
    makes = Purge
    operation = Named(names.operation_id, required=True)
    template = Named(names.template_id, load_default=None, allow_none=True)
    versions = _versions(load_default=None, allow_none=True)


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge did."""

    purged: int
    """Versions that went with this call; 0 where it had been done before."""


class PurgedSchema(Message):
    makes = Purged
    purged = count(required=True)
