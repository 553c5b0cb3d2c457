"""`access`: what a key may do with a template and why, and who one is oneself."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from s3reg.cli import candidates, keys, output, permissions
from s3reg.cli.node import TRIES_TO_ASK, connected
from s3reg.cli.options import OpenGroup
from s3reg.cli.output import Answer, Columns
from s3reg.client.administration import Administration
from s3reg.model import names
from s3reg.model.identity import Action
from s3reg.wire.access import Explained, Giver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3reg.cli.options import Asked

CALLS: dict[str, tuple[str, ...]] = {
    Action.LIST.value: ("list_vms",),
    Action.READ_CONFIG.value: ("pull_vm",),
    Action.PULL.value: ("pull_vm", "download_vm"),
    Action.PUSH.value: ("head_push_vm", "push_vm"),
    Action.DELETE_REVERT.value: ("revert", "delete_vm"),
    Action.SET_ARCH.value: ("push_vm",),
}
"""What may be done with a template, and what has to be called for it. What nothing of ours calls is left out."""
SOME_GROUP = "GROUP"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a key may do something with a template."""

    action: str
    allowed: bool
    by: tuple[str, ...]
    """Groups that have a part in it."""
    calls: tuple[str, ...]
    """What it may not call, and would have to."""
    actions: tuple[str, ...]
    """What it may not do with this template, and would have to."""

    @property
    def why(self) -> str:
        """The reason, in a few words."""
        if self.allowed:
            return f"by {', '.join(self.by)}"
        actions = f"{', '.join(self.actions)} of this template" if self.actions else ""
        missing = ", nor ".join(filter(None, (", ".join(self.calls), actions)))
        return f"no group gives {missing}" if missing else "the key has ended"


@click.group(cls=OpenGroup)
def access() -> None:
    """What somebody may do, and why."""


@access.command()
@click.argument("key_id", metavar="KEY", shell_complete=candidates.keys)
@click.argument("ref", metavar="TEMPLATE", shell_complete=candidates.templates)
@click.pass_obj
def explain(asked: Asked, key_id: str, ref: str) -> None:
    """Explain what an API key may do with a template: by which group, or what would have to be typed so that it may."""
    with connected(asked, tries=TRIES_TO_ASK) as connection:
        told = Administration(connection).explain(names.key_id(key_id), ref)
    verdicts = judged(told)
    group = _best(told, verdicts)
    ways = {one.action: list(_way(told, one, ref, group)) for one in verdicts if not one.allowed}
    facts = [
        ("key", f"{told.key.id}, {keys.ends(told.key)}"),
        ("groups", ", ".join(f"{one} (there is none)" if one in told.missing else one for one in told.key.groups)),
        ("template", f"{told.name}, {told.template}"),
        ("domain", told.domain),
    ]
    if not told.authorization:
        facts.append(("authorization", "off: any credential may do everything; if it were on:"))
    table = Columns(
        ("to", "may it?", "why"), [(one.action, "yes" if one.allowed else "no", one.why) for one in verdicts]
    )
    lines = [
        f"\nso that it may {action}, and with it all in {group}:\n  " + "\n  ".join(typed)
        for action, typed in ways.items()
        if typed
    ]
    answer = Answer(_body(told, verdicts, ways), "", (Columns(("", ""), facts), table, *lines))
    output.give(answer, machine_readable=asked.machine_readable)


@access.command()
@click.pass_obj
def whoami(asked: Asked) -> None:
    """Show who the registry takes you for, and what you may call."""
    with connected(asked, tries=TRIES_TO_ASK) as connection:
        who = Administration(connection).who_am_i()
    facts = [("name", who.name), ("groups", ", ".join(who.groups))]
    if not who.access_control:
        facts.append(("access control", "off: whoever reaches the registry may do everything"))
    elif not who.authorization:
        facts.append(("authorization", "off: any credential may do everything"))
    if who.permissions is not None:
        facts.append(("permissions", permissions.in_short(who.permissions)))
    elif who.authorization:
        facts.append(("permissions", "everything"))
    body = {
        "name": who.name,
        "groups": list(who.groups),
        "access_control": who.access_control,
        "authorization": who.authorization,
        "permissions": None if who.permissions is None else permissions.in_order(who.permissions),
    }
    output.give(Answer(body, "", Columns(("", ""), facts)), machine_readable=asked.machine_readable)


def judged(told: Explained) -> list[Verdict]:
    """Whether the key may do each thing with the template, if groups decide."""
    callers = {one.permission: one.groups for one in told.permissions}
    givers = {one.action: tuple(giver.group for giver in one.by) for one in told.actions}
    found = []
    for action, calls in CALLS.items():
        # What one may not list does not exist, and nothing can be done with it.
        wanted = dict.fromkeys((Action.LIST.value, action))
        lacking_calls = tuple(call for call in calls if call not in callers)
        lacking = tuple(one for one in wanted if not givers.get(one))
        by = [*(group for call in calls for group in callers.get(call, ())), *givers.get(action, ())]
        allowed = not (told.ended or lacking_calls or lacking)
        found.append(Verdict(action, allowed, tuple(sorted(set(by))), lacking_calls, lacking))
    return found


def _best(told: Explained, verdicts: list[Verdict]) -> str:
    """The key's group that has most of what is wanted already."""
    known = [group for group in told.key.groups if group not in told.missing]
    shares = {group: sum(group in one.by for one in verdicts) for group in known}
    return max(known, key=lambda group: shares[group], default=next(iter(told.missing), SOME_GROUP))


def _way(told: Explained, verdict: Verdict, ref: str, group: str) -> Iterator[str]:
    """What to type so that the key may do it, by this group."""
    key_id, name = shlex.quote(told.key.id), shlex.quote(group)
    if told.ended:
        yield f"s3reg keys change {key_id} --ttl 90d"
    if not told.key.groups:
        yield f"s3reg keys change {key_id} --group {name}"
    if group in told.missing:
        yield f"s3reg groups create {name} --no-templates"
    if verdict.calls:
        yield f"s3reg groups grant {name} {' '.join(verdict.calls)}"
    if verdict.actions and any(giver == Giver(group, "domain") for one in told.actions for giver in one.by):
        # Whoever gave this group a domain will not want each of its templates by name.
        yield f"s3reg groups domains {name} --add {told.domain}={','.join(verdict.actions)}"
    elif verdict.actions:
        yield f"s3reg groups templates {name} --add {shlex.quote(ref)}={','.join(verdict.actions)}"


def _body(told: Explained, verdicts: list[Verdict], ways: dict[str, list[str]]) -> dict[str, Any]:
    return {
        "key": told.key.id,
        "groups": list(told.key.groups),
        "missing_groups": list(told.missing),
        "ended": told.ended,
        "authorization": told.authorization,
        "uuid": told.template,
        "name": told.name,
        "domain": told.domain,
        "actions": [
            {
                "action": one.action,
                "allowed": one.allowed,
                "groups": list(one.by),
                "missing_permissions": list(one.calls),
                "missing_actions": list(one.actions),
                "commands": ways.get(one.action, []),
            }
            for one in verdicts
        ],
    }


COMMANDS = (access,)
