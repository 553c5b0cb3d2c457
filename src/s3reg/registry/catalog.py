"""Which templates there are: listing, finding, describing."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

from s3reg.errors import NameAmbiguous, NameTaken, RecordDamaged, TemplateNotFound
from s3reg.model import names
from s3reg.model.identity import Action
from s3reg.model.template import Base
from s3reg.registry.heads import Heads
from s3reg.registry.pulls import last_pulls
from s3reg.registry.sight import check, head_of, sees
from s3reg.registry.values import Described

if TYPE_CHECKING:
    from s3reg.model.identity import Identity
    from s3reg.model.names import TemplateId
    from s3reg.model.template import Entry, Head, Version
    from s3reg.registry.records import Records

LONGEST_SHOWN = 80


class Catalog:
    """What askers may see of a store's templates. Safe between threads."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._heads = Heads(records)

    def heads(self) -> tuple[Head, ...]:
        """Every head as far as it can be read, deleted ones too, by name, then id; what is damaged is logged."""
        return self._heads.all()

    def templates(self, asker: Identity) -> list[Head]:
        """All that the asker may list, by name, then id."""
        there = [head for head in self.heads() if not head.deleted]
        return there if asker.domains() is None else [head for head in there if sees(asker, head)]

    def find(self, asker: Identity, ref: str) -> Head:
        """The template of this id, else the one of this name. Raises TemplateNotFound, NameAmbiguous, RecordDamaged.

        An id is looked up by itself, so that a listing full of others' damage is not in the way.
        """
        if names.is_template_id(ref):
            head = head_of(self._records, asker, names.template_id(ref))
            if head is not None and not head.deleted:
                return head
        # Compared, not parsed: what could be no name is simply not found.
        name = unicodedata.normalize("NFC", ref)
        found = [head for head in self.templates(asker) if head.name == name]
        if not found:
            raise TemplateNotFound(template=ref[:LONGEST_SHOWN])
        if len(found) > 1:
            raise NameAmbiguous(name=name, ids=", ".join(head.id for head in found))
        if found[0].damaged:
            raise RecordDamaged(what=f"the head of template {found[0].id}", reason=found[0].damaged)
        return found[0]

    def describe(self, asker: Identity, ref: str) -> Described:
        """A template, its versions, and when each was last pulled; of a damaged one, what can be read."""
        try:
            head = self.find(asker, ref)
        except RecordDamaged:
            wanted = names.template_id(ref) if names.is_template_id(ref) else ref
            damaged = [head for head in self.templates(asker) if head.damaged and wanted in {head.id, head.name}]
            if not damaged:
                raise
            head = damaged[0]
        versions = self._records.versions([Base(head.id, entry.id) for entry in head.versions], withheld=True)
        return Described(head, tuple(versions), last_pulls(self._records, [head], head.id))

    def version(self, asker: Identity, ref: str, *, tag: str | None, number: int | None) -> tuple[Head, Entry, Version]:
        """One version, the newest by default. Raises TagNotFound, VersionNotFound."""
        head = self.find(asker, ref)
        entry = head.select(tag=tag, number=number)
        return head, entry, self._records.version(head.id, entry.id)

    def config(self, asker: Identity, ref: str, *, tag: str | None, number: int | None) -> Any:
        """The config of a version, as JSON values. Raises Forbidden, TagNotFound, VersionNotFound."""
        head, _, version = self.version(asker, ref, tag=tag, number=number)
        check(asker, Action.READ_CONFIG, head.id, head.domain)
        return version.config

    def check_name(self, asker: Identity, name: str, template: TemplateId) -> None:
        """Raise NameTaken if another template that the asker may list carries this name.

        Best effort: no compare-and-swap spans two heads. Two templates with one name are a nuisance, no damage.
        """
        others = [head.id for head in self.templates(asker) if head.name == name and head.id != template]
        if others:
            raise NameTaken(name=name, ids=", ".join(others))
