"""The native API's messages about what templates take on the store, and about what rules of retention look at."""

from __future__ import annotations

from dataclasses import dataclass

from marshmallow import fields

from s3reg.model import names
from s3reg.wire import Message, Named, VersionRef, VersionRefSchema, count, many

MOST_GOING = 50_000
"""Versions in one request: what its body has room for."""


@dataclass(frozen=True, slots=True)
class TagUsage:
    """A version's bytes on the store, packs and maps: `exclusive` and `shared` make all that it needs."""

    tag: str
    version: str
    """Its id."""
    size: int
    """Bytes of all its images and states, as a node has them."""
    exclusive: int
    """That no other version needs, in a template or in the trash."""
    shared: int
    """That others need too."""
    live: int
    """Of both, what it uses: the rest are frames of its packs that only others need, or nobody."""
    frees: int
    """What untagging it frees in the end, when all that is in the trash by now has left it too."""
    damaged: str | None = None
    """Why its record cannot be read; it counts for nothing then."""


class TagUsageSchema(Message):
    makes = TagUsage
    tag = fields.String(required=True)
    version = Named(names.version_id, required=True)
    size = count(required=True)
    exclusive = count(required=True)
    shared = count(required=True)
    live = count(required=True)
    frees = count(required=True)
    damaged = fields.String(load_default=None, allow_none=True)


@dataclass(frozen=True, slots=True)
class TemplateUsage:
    """What a template's versions take on the store together, each pack and map counted once."""

    template: str
    name: str
    deleted: bool
    """It is here because of its trash."""
    exclusive: int
    """That neither another template nor any trash needs."""
    shared: int
    """The rest of what its versions need."""
    live: int
    """Of both, what they use, at least."""
    trash: int
    """That only its trash needs: what purging that gives back."""
    frees: int
    """What deleting the template frees in the end, besides its trash."""
    tags: tuple[TagUsage, ...]
    """Oldest first."""
    damaged: str | None = None
    """Why its record cannot be read whole; what is said of it is not all then."""


class TemplateUsageSchema(Message):
    makes = TemplateUsage
    template = Named(names.template_id, required=True)
    name = fields.String(required=True)
    deleted = fields.Boolean(required=True)
    exclusive = count(required=True)
    shared = count(required=True)
    live = count(required=True)
    trash = count(required=True)
    frees = count(required=True)
    tags = fields.List(fields.Nested(TagUsageSchema), required=True)
    damaged = fields.String(load_default=None, allow_none=True)


@dataclass(frozen=True, slots=True)
class UsageAnswer:
    """What was asked for, and its sums, in bytes."""

    templates: tuple[TemplateUsage, ...]
    stored: int
    """That the versions and the trash of these templates need, each pack and map counted once."""
    live: int
    """Of these, what versions outside the trash use, at least."""
    trash: int
    """Of these, what no version outside the trash needs."""
    uploading: int
    """That pushes under way have sent, at most; 0 where one template was asked for."""


class UsageAnswerSchema(Message):
    makes = UsageAnswer
    templates = fields.List(fields.Nested(TemplateUsageSchema), required=True)
    stored = count(required=True)
    live = count(required=True)
    trash = count(required=True)
    uploading = count(required=True)


@dataclass(frozen=True, slots=True)
class Going:
    """Versions that somebody thinks of taking out."""

    versions: tuple[VersionRef, ...]


class GoingSchema(Message):
    makes = Going
    versions = many(VersionRefSchema, MOST_GOING, required=True)


@dataclass(frozen=True, slots=True)
class Freed:
    """What taking them out frees in the end, together: when they, and all that is in the trash by now, have left it."""

    frees: int


class FreedSchema(Message):
    makes = Freed
    frees = count(required=True)


@dataclass(frozen=True, slots=True)
class Used:
    """A version, and when it was last of use."""

    version: str
    """Its id."""
    tag: str
    size: int
    created: int
    """Seconds since 1970, as is the next."""
    last_pull: int | None = None
    """Never, where there is none."""


class UsedSchema(Message):
    makes = Used
    version = Named(names.version_id, required=True)
    tag = fields.String(required=True)
    size = count(required=True)
    created = count(required=True)
    last_pull = count(load_default=None, allow_none=True)


@dataclass(frozen=True, slots=True)
class UsedTemplate:
    """A template and its versions, oldest first."""

    template: str
    name: str
    domain: str
    """Empty where a damaged record does not tell it."""
    versions: tuple[Used, ...]
    damaged: str | None = None
    """Why its record cannot be read whole; nothing should be done on its word."""


class UsedTemplateSchema(Message):
    makes = UsedTemplate
    template = Named(names.template_id, required=True)
    name = fields.String(required=True)
    domain = fields.String(required=True)
    versions = fields.List(fields.Nested(UsedSchema), required=True)
    damaged = fields.String(load_default=None, allow_none=True)


@dataclass(frozen=True, slots=True)
class UsesAnswer:
    """What rules of retention look at."""

    templates: tuple[UsedTemplate, ...]
    now: int
    """The registry's clock, in seconds since 1970."""


class UsesAnswerSchema(Message):
    makes = UsesAnswer
    templates = fields.List(fields.Nested(UsedTemplateSchema), required=True)
    now = count(required=True)
