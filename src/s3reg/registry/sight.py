"""What exists for an asker: a template that it may not list is none, in every verb, with its damage and all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3reg.errors import Forbidden, FormatUnknown, RecordDamaged
from s3reg.model.identity import Action

if TYPE_CHECKING:
    from s3reg.model.identity import Identity
    from s3reg.model.names import Domain, TemplateId
    from s3reg.model.template import Head
    from s3reg.registry.records import Records


def sees(asker: Identity, head: Head) -> bool:
    """Whether the asker may know of this head, deleted or not."""
    # A damaged head may not tell its domain: it shows to those only who need no domain to see it.
    return asker.may(Action.LIST, head.id, head.domain or None)


def may_list(asker: Identity, head: Head) -> bool:
    """Whether this template exists for the asker."""
    return not head.deleted and sees(asker, head)


def check(asker: Identity, action: Action, template: TemplateId, domain: Domain | None) -> None:
    """Raise Forbidden unless the asker may do this with a template that it may list."""
    if not asker.may(action, template, domain):
        raise Forbidden(
            reason=f"{asker.name} lacks permission {action.value} on template {template}", permission=action.value
        )


def head_of(records: Records, asker: Identity, template: TemplateId) -> Head | None:
    """The template's head as it is now, though it be deleted; None if there is none, or none for the asker.

    Raises RecordDamaged, FormatUnknown.
    """
    try:
        head = records.head(template)
    except (RecordDamaged, FormatUnknown):
        if asker.may(Action.LIST, template, records.domain_of_damaged(template)):
            raise
        return None
    return head if head is not None and sees(asker, head) else None
