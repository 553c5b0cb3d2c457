"""One change of a template that is there, by whoever may make it: a single compare-and-swap of its head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3reg.errors import TemplateNotFound
from s3reg.model import names
from s3reg.registry import setup
from s3reg.registry.lineage import lineage_domain
from s3reg.registry.sight import check, head_of, may_list, sees

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3reg.model.identity import Action, Identity
    from s3reg.model.names import TemplateId
    from s3reg.model.template import Head
    from s3reg.registry.catalog import Catalog
    from s3reg.registry.records import Records


def change(
    records: Records,
    catalog: Catalog,
    asker: Identity,
    ref: str,
    *,
    operation: str,
    action: Action,
    make: Callable[[Head], Head],
) -> Head:
    """The template's head as `make` leaves it, or as it is if `operation` was done before, though it be deleted since.

    `make` is called anew for each attempt. Raises TemplateNotFound, NameAmbiguous, Forbidden, TooBusy.
    """
    setup.prepare(records, write=True)
    if names.is_template_id(ref):
        known = head_of(records, asker, names.template_id(ref))
        if known is not None and operation in known.operations:
            return known
        if known is not None and known.deleted:
            # Not the template that is *named* so: a delete that is repeated would take that one too.
            raise TemplateNotFound(template=ref)

    def checked(head: Head | None) -> Head:
        if head is None or not may_list(asker, head):
            raise TemplateNotFound(template=ref)
        check(asker, action, head.id, head.domain)
        return make(head)

    head = records.change_head(catalog.find(asker, ref).id, operation, checked)
    assert head is not None, "checked gives a head or raises"
    return head


def change_trash(
    records: Records,
    asker: Identity,
    template: TemplateId,
    *,
    operation: str,
    action: Action,
    make: Callable[[Head], Head | None],
) -> Head:
    """As `change`, of a template that may be deleted, as long as its trash holds something; None leaves it as it is."""
    setup.prepare(records, write=True)

    def checked(head: Head | None) -> Head | None:
        if head is None or lineage_domain(head) is None or not sees(asker, head):
            raise TemplateNotFound(template=template)
        check(asker, action, head.id, head.domain)
        return make(head)

    # Looked at first: of what the asker may not know of, the damage, too, would show, and what was done with it before.
    head = head_of(records, asker, template)
    if head is not None:
        head = records.change_head(template, operation, checked)
    if head is None:
        raise TemplateNotFound(template=template)
    return head
