"""Templates whose heads were removed from outside: their versions must not be taken for what nobody needs.

A push that ends leaves a head: its own, or the one that a sweep fences it off with, and its session goes after that. So a
version without a head and without its session is one whose head is lost, or was not copied with it. A new head would hide
that: no push makes it, and no sweep, unless a person says that the old one is gone for good.
"""

from __future__ import annotations

import secrets
from logging import WARNING
from typing import TYPE_CHECKING

from s3reg.errors import HeadThere, NothingLost
from s3reg.model import format as fmt
from s3reg.model.names import MAIN_DOMAIN, SessionId
from s3reg.model.template import Head
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from s3reg.model.names import Domain, TemplateId
    from s3reg.registry.records import Records

FENCE = "removed"
"""The name of a head that was never a template's: nobody sees it."""


def fence(template: TemplateId, domain: Domain) -> Head:
    """A head that stands for no template: a commit that has read none fails."""
    return Head(template, FENCE, domain, deleted=True)


def is_lost(records: Records, template: TemplateId) -> bool:
    """Whether the template has versions on the store, and has lost its head. Raises RecordDamaged, FormatUnknown."""
    if records.head(template) is not None:
        return False
    prefix = f"{fmt.VERSIONS}{template}/"
    keys = [stat.key for stat in records.store.list(prefix) if fmt.is_swept_key(stat.key)]
    sids = (SessionId(key.removeprefix(prefix).removesuffix(".json")) for key in keys)
    # A session goes once a head is there: so that is looked for again, behind the sessions.
    return any(records.read(fmt.session_key(sid)) is None for sid in sids) and records.head(template) is None


def check_lost(records: Records, template: TemplateId) -> None:
    """Raise HeadThere for a template that has its head, NothingLost where nothing has lost one."""
    if records.head(template) is not None:
        raise HeadThere(template=template)
    if not is_lost(records, template):
        raise NothingLost(template=template)


def give_up(records: Records, template: TemplateId) -> None:
    """Let the template's versions be what nobody needs. Raises HeadThere if its head was put back."""

    def make(head: Head | None) -> Head:
        if head is not None:
            raise HeadThere(template=template)
        return fence(template, MAIN_DOMAIN)

    records.change_head(template, secrets.token_hex(16), make)
    emit("lost-head-given-up", level=WARNING, template=template)
