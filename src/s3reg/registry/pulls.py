"""When versions were last pulled: a note for each, whose time is all that it says."""

from __future__ import annotations

from logging import WARNING
from typing import TYPE_CHECKING

from s3reg.errors import NameInvalid
from s3reg.model import format as fmt
from s3reg.registry.values import Uses
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from s3reg.model.identity import Identity
    from s3reg.model.names import TemplateId, VersionId
    from s3reg.model.template import Head
    from s3reg.registry.catalog import Catalog
    from s3reg.registry.records import Records


def last_pulls(records: Records, heads: Iterable[Head], template: TemplateId | None = None) -> dict[VersionId, int]:
    """In seconds since 1970, by the store's clock, of these heads' versions; those that were never pulled are missing.

    `template`: they are all of this one. What is noted of other versions, gone ones too, is left out: whose they were, or
    are, is not known here.
    """
    wanted = {(head.id, entry.id) for head in heads for entry in head.versions}
    pulls: dict[VersionId, int] = {}
    for stat in records.store.list(fmt.pulls_prefix(template)):
        try:
            pulled = fmt.version_of_pull_key(stat.key)
        except NameInvalid:
            emit("foreign-key", level=WARNING, key=stat.key)
        else:
            if pulled in wanted:
                pulls[pulled[1]] = int(stat.modified)
    return pulls


def uses(records: Records, catalog: Catalog, asker: Identity, ref: str | None) -> Uses:
    """When the versions of all templates that the asker may list, or of one, were last of use.

    Raises TemplateNotFound, NameAmbiguous, RecordDamaged.
    """
    heads = catalog.templates(asker) if ref is None else [catalog.find(asker, ref)]
    pulled = last_pulls(records, heads, None if ref is None else heads[0].id)
    return Uses(tuple(heads), pulled, int(records.clock()))
