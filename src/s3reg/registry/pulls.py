"""When versions were last pulled: a note for each, whose time is all that it says."""

from __future__ import annotations

from logging import WARNING
from typing import TYPE_CHECKING

from s3reg.errors import NameInvalid
from s3reg.model import format as fmt
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from s3reg.model.names import TemplateId, VersionId
    from s3reg.registry.records import Records


def last_pulls(records: Records, template: TemplateId | None = None) -> dict[VersionId, int]:
    """In seconds since 1970, by the store's clock, of one template's versions or of all; never pulled ones are missing."""
    pulls: dict[VersionId, int] = {}
    for stat in records.store.list(fmt.pulls_prefix(template)):
        try:
            _, version = fmt.version_of_pull_key(stat.key)
        except NameInvalid:
            emit("foreign-key", level=WARNING, key=stat.key)
        else:
            pulls[version] = int(stat.modified)
    return pulls
