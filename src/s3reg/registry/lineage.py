"""Whose a template's id is, and in which domain a push goes: decided by its head, and by what the asker may know of that.

An id belongs to the domain of its head as long as that has versions, removed ones too. To whoever may not list it, it looks
free: what would be refused if it were is refused with the same words. Only who could make a template learns that it cannot
be made under this id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3reg.errors import (
    DomainMismatch,
    DomainRefused,
    DomainUnclear,
    FormatUnknown,
    HeadLost,
    RecordDamaged,
    TemplateIdTaken,
)
from s3reg.model.identity import Action
from s3reg.model.names import MAIN_DOMAIN
from s3reg.registry import lost
from s3reg.registry.sight import check, head_of, sees

if TYPE_CHECKING:
    from s3reg.model.identity import Identity
    from s3reg.model.names import Domain, TemplateId
    from s3reg.model.template import Head
    from s3reg.registry.records import Records


@dataclass(frozen=True, slots=True)
class Place:
    """What is under a template's id, for one asker."""

    head: Head | None
    """As far as the asker may know of it."""
    hidden: bool = False
    """There is something that it may not know of."""


def place_of(asker: Identity, head: Head | None) -> Place:
    """What a head is for the asker."""
    if lineage_domain(head) is None or (head is not None and sees(asker, head)):
        return Place(head)
    return Place(None, hidden=True)


def read(records: Records, asker: Identity, template: TemplateId) -> Place:
    """What is under the id now. Raises RecordDamaged, FormatUnknown, to who may; HeadLost to who has no limits."""
    try:
        head = records.head(template)
        is_lost = head is None and lost.is_lost(records, template)
    except (RecordDamaged, FormatUnknown):
        head = head_of(records, asker, template)
        return Place(head, hidden=head is None)
    if is_lost and asker.rights is None:
        raise HeadLost(templates=template)
    return Place(None, hidden=True) if is_lost else place_of(asker, head)


def domain_of(asker: Identity, template: TemplateId, head: Head | None, wanted: Domain | None) -> Domain:
    """The domain that a push goes to: the template's own, or, where it makes the template, the one chosen.

    Raises Forbidden, DomainMismatch; DomainRefused, DomainUnclear where the template is made.
    """
    bound = lineage_domain(head)
    if bound is None:
        return _chosen(asker, template, wanted)
    check(asker, Action.PUSH, template, bound)
    if wanted not in {None, bound}:
        raise DomainMismatch(template=template, domain=bound, asked=wanted)
    return bound


def check_push(asker: Identity, template: TemplateId, place: Place, domain: Domain) -> None:
    """Raise unless the asker may push to what is under the id, or make it, in this domain.

    Raises as `domain_of`; TemplateIdTaken.
    """
    domain_of(asker, template, place.head, domain)
    if place.hidden:
        raise TemplateIdTaken(template=template)


def is_new(head: Head | None) -> bool:
    """Whether a push would make this template appear."""
    return head is None or head.deleted


def lineage_domain(head: Head | None) -> Domain | None:
    """The domain that a template's versions share; None where there is none that could be shared with.

    A deleted head with nothing in it stands for no template: a sweep leaves one behind to fence off a late commit.
    """
    if head is None or (head.deleted and not head.versions and not head.removed):
        return None
    return head.domain


def _chosen(asker: Identity, template: TemplateId, wanted: Domain | None) -> Domain:
    """A new template's domain. One that its maker could not list is no choice: it would be gone for it at once."""
    may_push = asker.domains()
    if may_push is None:
        return wanted or MAIN_DOMAIN
    open_to = sorted(domain for domain in may_push if asker.may(Action.LIST, template, domain))
    if wanted is not None and wanted not in open_to:
        raise DomainRefused(asker=asker.name, domain=wanted, domains=", ".join(open_to) or "none")
    if wanted is not None or len(open_to) == 1:
        return wanted or open_to[0]
    if MAIN_DOMAIN in open_to:
        return MAIN_DOMAIN
    if open_to:
        raise DomainUnclear(template=template, domains=", ".join(open_to))
    raise DomainRefused(asker=asker.name, domain=MAIN_DOMAIN, domains="none")
