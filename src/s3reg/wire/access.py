"""The native API's messages about who may do what: API keys, groups, and what they come to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from marshmallow import fields, validate

from s3reg.model import names
from s3reg.model.format_access import MOST_RESOURCES
from s3reg.wire import Bytes, Message, Named, count, many

LARGEST_KEY = 16 * 1024
"""Bytes of the largest API key: RSA of 16,384 bits has 9 KiB."""
MOST_GROUPS = 256
"""Groups of one key."""
MOST_GRANTS = MOST_RESOURCES
"""Templates or domains that one group tells apart: as many as its record, or a list of groups could not be read."""
LONGEST_LIFE = 100 * 366 * 86_400
"""Seconds for which a key may be made; one that should live longer is made without an end."""


def _groups(**more: Any) -> fields.List[str]:
    return fields.List(Named(names.group_name), validate=validate.Length(max=MOST_GROUPS), **more)


@dataclass(frozen=True, slots=True)
class WhoAmI:
    """Who asks, as far as the registry can tell."""

    name: str
    """`root`, `key:<id>`, `cert:<CN>`; `everyone` where access control is off."""
    groups: tuple[str, ...]
    access_control: bool
    authorization: bool
    """Whether groups decide; else any credential may do everything."""
    permissions: tuple[str, ...] | None
    """What its groups permit; null: everything."""


class WhoAmISchema(Message):
    makes = WhoAmI
    name = fields.String(required=True)
    groups = fields.List(fields.String(), required=True)
    access_control = fields.Boolean(required=True)
    authorization = fields.Boolean(required=True)
    permissions = fields.List(fields.String(), required=True, allow_none=True)


# --- API keys --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Key:
    """An API key, without its private half."""

    id: str
    groups: tuple[str, ...]
    created: float
    """Seconds since 1970."""
    expires: float | None
    """Seconds since 1970; null: never."""
    fingerprint: str
    """SHA-256 of its public half (SubjectPublicKeyInfo, DER), in hex."""
    damaged: str | None = None
    """What is wrong with its record, of which then only the id says something."""


class KeySchema(Message):
    makes = Key
    id = fields.String(required=True)
    groups = fields.List(fields.String(), required=True)
    created = fields.Float(required=True)
    expires = fields.Float(required=True, allow_none=True)
    fingerprint = fields.String(required=True)
    damaged = fields.String(load_default=None, allow_none=True)


@dataclass(frozen=True, slots=True)
class KeysAnswer:
    """All API keys, by id; those that have ended too."""

    keys: tuple[Key, ...]


class KeysAnswerSchema(Message):
    makes = KeysAnswer
    keys = fields.List(fields.Nested(KeySchema), required=True)


@dataclass(frozen=True, slots=True)
class NewKey:
    """Make an API key."""

    id: str
    ttl: int | None = None
    """Seconds that it lives; null: without an end."""
    groups: tuple[str, ...] = ()
    public_key: bytes | None = field(default=None, repr=False)
    """SubjectPublicKeyInfo, DER; null: the registry makes a pair, and gives the private half once."""


class NewKeySchema(Message):
    makes = NewKey
    id = Named(names.key_id, required=True)
    # Said by whoever wants a key that never ends: a misspelt one must not make one.
    ttl = count(LONGEST_LIFE, 1, required=True, allow_none=True)
    groups = _groups(load_default=())
    public_key = Bytes(LARGEST_KEY, load_default=None, allow_none=True)


@dataclass(frozen=True, slots=True)
class MadeKey:
    """An API key that was made or changed."""

    key: Key
    private_key: bytes | None = field(default=None, repr=False)
    """PKCS #1, DER: given this once and kept nowhere; null where the registry did not make it."""


class MadeKeySchema(Message):
    makes = MadeKey
    key = fields.Nested(KeySchema, required=True)
    private_key = Bytes(LARGEST_KEY, load_default=None, allow_none=True)


@dataclass(frozen=True, slots=True)
class KeyChange:
    """Change what an API key has; its public half stays."""

    id: str
    ttl: int | None = None
    """Seconds that it lives from now on; null: as it is."""
    groups: tuple[str, ...] | None = None
    """Instead of those that it has; null: as they are."""
    endless: bool = False
    """Without an end from now on."""


class KeyChangeSchema(Message):
    makes = KeyChange
    id = Named(names.key_id, required=True)
    ttl = count(LONGEST_LIFE, 1, load_default=None, allow_none=True)
    groups = _groups(load_default=None, allow_none=True)
    endless = fields.Boolean(load_default=False)


@dataclass(frozen=True, slots=True)
class KeyName:
    """An API key, by id."""

    id: str


class KeyNameSchema(Message):
    makes = KeyName
    id = Named(names.key_id, required=True)


# --- Groups ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TemplateGrant:
    """What a group may do with one template."""

    id: str
    permissions: tuple[str, ...]


class TemplateGrantSchema(Message):
    makes = TemplateGrant
    id = Named(names.template_id, required=True)
    permissions = fields.List(fields.String(), required=True)


@dataclass(frozen=True, slots=True)
class DomainGrant:
    """What a group may do with every template of a domain."""

    name: str
    permissions: tuple[str, ...]


class DomainGrantSchema(Message):
    makes = DomainGrant
    name = Named(names.domain, required=True)
    permissions = fields.List(fields.String(), required=True)


@dataclass(frozen=True, slots=True)
class GroupEntry:
    """What a group gives its members."""

    name: str
    permissions: tuple[str, ...] = ()
    """What its members may call."""
    templates: tuple[TemplateGrant, ...] | None = None
    """null: everything, with every template."""
    domains: tuple[DomainGrant, ...] = ()
    gen: int | None = None
    """Grows with every change. To change a group, that of the group as it was read; null: there must be none yet."""
    damaged: str | None = None
    """What is wrong with its record: it gives nothing. Nobody sends this."""


class GroupEntrySchema(Message):
    makes = GroupEntry
    name = Named(names.group_name, required=True)
    permissions = fields.List(fields.String(), load_default=())
    # Said in each: one that was forgotten, or misspelt, would be all of them.
    templates = many(TemplateGrantSchema, MOST_GRANTS, required=True, allow_none=True)
    domains = many(DomainGrantSchema, MOST_GRANTS, load_default=())
    gen = count(load_default=None, allow_none=True)
    damaged = fields.String(load_default=None, allow_none=True)


@dataclass(frozen=True, slots=True)
class GroupsAnswer:
    """All groups, by name."""

    groups: tuple[GroupEntry, ...]


class GroupsAnswerSchema(Message):
    makes = GroupsAnswer
    groups = fields.List(fields.Nested(GroupEntrySchema), required=True)


@dataclass(frozen=True, slots=True)
class GroupName:
    """A group, by name."""

    name: str


class GroupNameSchema(Message):
    makes = GroupName
    name = Named(names.group_name, required=True)


# --- What they come to -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Given:
    """A permission of a group, and the groups that give it."""

    permission: str
    groups: tuple[str, ...]


class GivenSchema(Message):
    makes = Given
    permission = fields.String(required=True)
    groups = fields.List(fields.String(), required=True)


@dataclass(frozen=True, slots=True)
class Giver:
    """A group that lets something be done with a template, and by what."""

    group: str
    by: str
    """`all templates`, `template` or `domain`."""


class GiverSchema(Message):
    makes = Giver
    group = fields.String(required=True)
    by = fields.String(required=True)


@dataclass(frozen=True, slots=True)
class GivenAction:
    """What may be done with a template, and the groups that let it be done."""

    action: str
    by: tuple[Giver, ...]
    """None: it may not be done."""


class GivenActionSchema(Message):
    makes = GivenAction
    action = fields.String(required=True)
    by = fields.List(fields.Nested(GiverSchema), required=True)


@dataclass(frozen=True, slots=True)
class Explained:
    """What an API key may do with a template, and why."""

    key: Key
    ended: bool
    """The key's time is over: it may do nothing."""
    authorization: bool
    """Whether groups decide; else the key may do everything, and the rest tells what would hold if they did."""
    template: str
    name: str
    domain: str
    permissions: tuple[Given, ...]
    """What may be called at all."""
    actions: tuple[GivenAction, ...]
    """What may be done with this template, where what may be called leads to it."""
    missing: tuple[str, ...] = ()
    """Groups of the key of which there is no record: they give nothing."""


class ExplainedSchema(Message):
    makes = Explained
    key = fields.Nested(KeySchema, required=True)
    ended = fields.Boolean(required=True)
    authorization = fields.Boolean(required=True)
    template = Named(names.template_id, required=True)
    name = fields.String(required=True)
    domain = fields.String(required=True)
    permissions = fields.List(fields.Nested(GivenSchema), required=True)
    actions = fields.List(fields.Nested(GivenActionSchema), required=True)
    missing = fields.List(fields.String(), load_default=())
