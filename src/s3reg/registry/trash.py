"""What was removed and is kept for a while: listed, restored, or let go before its time.

It lies in the `removed` of its template's head, so that a template which is deleted still has it. What that is hidden from
finds neither.
"""

from __future__ import annotations

import contextlib
import unicodedata
from dataclasses import replace
from typing import TYPE_CHECKING

from s3reg.errors import Invalid, RecordDamaged, TemplateNotFound
from s3reg.model import names
from s3reg.model.identity import Action
from s3reg.registry.catalog import LONGEST_SHOWN
from s3reg.registry.change import change_trash
from s3reg.registry.lineage import lineage_domain
from s3reg.registry.sight import check, head_of, sees
from s3reg.registry.values import Restored, Trashed
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Collection

    from s3reg.model.identity import Identity
    from s3reg.model.names import TemplateId, VersionId
    from s3reg.model.template import Head
    from s3reg.registry.catalog import Catalog
    from s3reg.registry.records import Records


def listed(records: Records, catalog: Catalog, asker: Identity, ref: str | None) -> list[Trashed]:
    """What can be restored, by template, in the order in which it went; of all templates, or those of an id or name.

    Of all, those are left out of which the asker may remove nothing. Raises TemplateNotFound, Forbidden, RecordDamaged.
    """
    heads = _permitted(asker, catalog.heads()) if ref is None else _named(records, catalog, asker, ref)
    return [Trashed(head, entry) for head in heads for entry in head.removed]


def restore(
    records: Records,
    catalog: Catalog,
    asker: Identity,
    template: TemplateId,
    *,
    versions: Collection[VersionId],
    as_tag: str | None,
    same_name: bool,
    operation: str,
) -> Restored:
    """The template with these versions of its trash, all or none of them.

    Raises TemplateNotFound, NotInTrash, RestoreTagTaken, Forbidden; NameTaken where it was deleted.
    """
    versions = frozenset(versions)
    if not versions or (as_tag is not None and len(versions) > 1):
        raise Invalid(reason="name the versions to restore; a tag can be given to one at a time")

    def make(head: Head) -> Head:
        back = head.restore(versions, as_tag=as_tag)
        if head.deleted and not same_name:
            catalog.check_name(asker, head.name, head.id)
        return replace(back, size=records.union_size(back))

    head = change_trash(records, asker, template, operation=operation, action=Action.PUSH, make=make)
    restored = tuple(entry for entry in head.versions if entry.id in versions)
    emit("versions-restored", template=head.id, tags=[entry.tag for entry in restored], by=asker.name)
    return Restored(head, restored)


def purge(
    records: Records,
    catalog: Catalog,
    asker: Identity,
    template: TemplateId | None,
    *,
    versions: Collection[VersionId] | None,
    operation: str,
) -> list[Trashed]:
    """Let go what lies in the trash: of one template or of all, these versions or all. What went.

    What is not there any more is gone, as was asked for. Raises TemplateNotFound, Forbidden.
    """
    if template is not None:
        return _purged(records, asker, template, versions, operation)
    if versions is not None:
        raise Invalid(reason="say of which template these versions are")
    gone = []
    for head in _permitted(asker, catalog.heads()):
        with contextlib.suppress(TemplateNotFound):  # purged by somebody else a moment ago
            gone += _purged(records, asker, head.id, None, operation)
    return gone


def _purged(
    records: Records, asker: Identity, template: TemplateId, versions: Collection[VersionId] | None, operation: str
) -> list[Trashed]:
    gone: list[Trashed] = []
    named = None if versions is None else frozenset(versions)

    def make(head: Head) -> Head | None:
        nonlocal gone
        going = [entry for entry in head.removed if named is None or entry.id in named]
        gone = [Trashed(head, entry) for entry in going]
        return head.purge({entry.id for entry in going}) if going else None

    change_trash(records, asker, template, operation=operation, action=Action.DELETE_REVERT, make=make)
    if gone:
        emit("versions-purged", template=template, tags=[one.entry.tag for one in gone], by=asker.name)
    return gone


def _permitted(asker: Identity, heads: Collection[Head]) -> list[Head]:
    """Those that have a trash which the asker may look into."""
    return [
        head
        for head in heads
        if head.removed and sees(asker, head) and asker.may(Action.DELETE_REVERT, head.id, head.domain)
    ]


def _named(records: Records, catalog: Catalog, asker: Identity, ref: str) -> list[Head]:
    """The templates of this id, else of this name, deleted ones too. Raises TemplateNotFound, Forbidden, RecordDamaged."""
    found = []
    if names.is_template_id(ref):
        head = head_of(records, asker, names.template_id(ref))
        found = [head] if head is not None and lineage_domain(head) is not None else []
    if not found:
        name = unicodedata.normalize("NFC", ref)
        same = [head for head in catalog.heads() if head.name == name and sees(asker, head)]
        found = [head for head in same if lineage_domain(head) is not None]
    for head in found:
        if head.damaged:
            raise RecordDamaged(what=f"the head of template {head.id}", reason=head.damaged)
    if not found:
        raise TemplateNotFound(template=ref[:LONGEST_SHOWN])
    permitted = [head for head in found if asker.may(Action.DELETE_REVERT, head.id, head.domain)]
    if not permitted:
        check(asker, Action.DELETE_REVERT, found[0].id, found[0].domain)
    return permitted
