"""The native API's calls about who may do what: keys, groups, and what somebody may do. For administrators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint

from s3reg import wire
from s3reg.api import audit, grants
from s3reg.api.guard import asker
from s3reg.api.operations import Operations, Parameter
from s3reg.api.wiring import gate, registry, wiring
from s3reg.crypto import PublicKey
from s3reg.model import names
from s3reg.model.access import Group
from s3reg.wire import access as messages

if TYPE_CHECKING:
    from s3reg.model.access import ApiKey

blueprint = Blueprint("access", __name__, url_prefix=wire.PREFIX)
operations = Operations(blueprint)


@operations.add("GET", "/whoami", gives=messages.WhoAmISchema)
def who_am_i() -> messages.WhoAmI:
    """Tell who asks, and what its groups permit."""
    who, guarded = asker(), wiring().gate
    permissions = None if who.rights is None else tuple(sorted(who.rights.permissions))
    return messages.WhoAmI(
        name=who.name,
        groups=who.groups,
        access_control=guarded is not None,
        authorization=guarded is not None and guarded.authorization,
        permissions=permissions,
    )


# --- Keys ------------------------------------------------------------------------------------------------------------


@operations.add("GET", "/keys", gives=messages.KeysAnswerSchema)
def list_keys() -> messages.KeysAnswer:
    """List the API keys, those that have ended too."""
    return messages.KeysAnswer(tuple(_key(key) for key in gate().keys.all()))


@operations.add("POST", "/keys", takes=messages.NewKeySchema, gives=messages.MadeKeySchema, status=201)
def create_key(asked: messages.NewKey) -> messages.MadeKey:
    """Make an API key. Its private half is in this answer, if the registry makes it, and nowhere else."""
    audit.about(key=asked.id, groups=asked.groups, ttl=_told(asked.ttl, endless=asked.ttl is None))
    made, private = gate().keys.create(asked.id, ttl=asked.ttl, groups=tuple(asked.groups), public_key=asked.public_key)
    return messages.MadeKey(_key(made), private)


@operations.add("POST", "/keys/change", takes=messages.KeyChangeSchema, gives=messages.MadeKeySchema)
def change_key(asked: messages.KeyChange) -> messages.MadeKey:
    """Give an API key another end, or other groups. Logins that there are have them at once."""
    audit.about(key=asked.id, groups=asked.groups, ttl=_told(asked.ttl, endless=asked.endless))
    groups = None if asked.groups is None else tuple(asked.groups)
    changed = gate().keys.change(asked.id, ttl=asked.ttl, groups=groups, endless=asked.endless)
    return messages.MadeKey(_key(changed))


@operations.add("POST", "/keys/revoke", takes=messages.KeyNameSchema)
def revoke_key(asked: messages.KeyName) -> None:
    """Revoke an API key, and with it all its logins."""
    audit.about(key=asked.id)
    gate().keys.delete(asked.id)


def _told(ttl: int | None, *, endless: bool) -> int | str | None:
    return "never" if endless else ttl


def _key(key: ApiKey) -> messages.Key:
    fingerprint, damaged = "", key.damaged
    if damaged is None:
        try:
            fingerprint = PublicKey(key.public_key).fingerprint
        except ValueError as e:
            damaged = f"its public half is not usable: {e}"
    return messages.Key(key.id, key.groups, key.created, key.expires, fingerprint, damaged)


# --- Groups ----------------------------------------------------------------------------------------------------------


@operations.add("GET", "/groups", gives=messages.GroupsAnswerSchema)
def list_groups() -> messages.GroupsAnswer:
    """List the groups, and what each gives."""
    return messages.GroupsAnswer(tuple(_entry(group) for group in gate().groups.all()))


@operations.add("POST", "/groups", takes=messages.GroupEntrySchema, gives=messages.GroupEntrySchema)
def write_group(asked: messages.GroupEntry) -> messages.GroupEntry:
    """Make a group, or let it be this instead of what it was when it was read."""
    audit.about(group=asked.name)
    wanted = _group(asked)
    audit.about(**grants.told(wanted))
    return _entry(gate().groups.write(wanted, gen=asked.gen or 0))


@operations.add("POST", "/groups/delete", takes=messages.GroupNameSchema)
def delete_group(asked: messages.GroupName) -> None:
    """Delete a group: its members have nothing of it from now on."""
    audit.about(group=asked.name)
    gate().groups.delete(asked.name)


def _entry(group: Group) -> messages.GroupEntry:
    templates = None
    if group.templates is not None:
        templates = tuple(
            messages.TemplateGrant(template, grants.named(group.templates[template]))
            for template in sorted(group.templates)
        )
    domains = tuple(
        messages.DomainGrant(domain, grants.named(group.domains[domain])) for domain in sorted(group.domains)
    )
    return messages.GroupEntry(
        group.name, tuple(sorted(group.permissions)), templates, domains, group.gen, group.damaged
    )


def _group(asked: messages.GroupEntry) -> Group:
    templates = None
    if asked.templates is not None:
        templates = grants.by_name((names.template_id(row.id), row.permissions) for row in asked.templates)
    domains = grants.by_name((names.domain(row.name), row.permissions) for row in asked.domains)
    return Group(asked.name, frozenset(asked.permissions), templates, domains)


# --- What they come to -----------------------------------------------------------------------------------------------


@operations.add(
    "GET",
    "/access",
    gives=messages.ExplainedSchema,
    query=(
        Parameter("key", "The API key's id.", required=True),
        Parameter("ref", "The template's id, or its name if only one carries it.", required=True),
    ),
)
def explain_access(key: str, ref: str) -> messages.Explained:
    """Explain what an API key may do with a template, and which of its groups give that."""
    head = registry().find(asker(), ref)
    told = gate().explain(key, head)
    return messages.Explained(
        key=_key(told.key),
        ended=told.ended,
        authorization=told.authorization,
        template=head.id,
        name=head.name,
        domain=head.domain,
        permissions=tuple(messages.Given(name, groups) for name, groups in told.permissions.items()),
        actions=tuple(
            messages.GivenAction(action.value, tuple(messages.Giver(one.group, one.by) for one in givers))
            for action, givers in told.actions.items()
        ),
        missing=told.missing,
    )


operations.route()
