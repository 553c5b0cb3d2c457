"""Versions taken out of a template: a revert, an untag, a delete. One compare-and-swap of its head, nothing else is touched.

What goes is kept in the head's `removed`, with when and who; its bytes stay until the sweep finds that nobody names them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from s3reg.errors import Invalid, TemplateChanged, VersionChanged, VersionNotFound
from s3reg.model.identity import Action
from s3reg.registry.change import change
from s3reg.registry.values import Retired
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3reg.model.identity import Identity
    from s3reg.model.names import VersionId
    from s3reg.model.template import Entry, Head
    from s3reg.registry.catalog import Catalog
    from s3reg.registry.records import Records


@dataclass(frozen=True, slots=True)
class Once:
    """What keeps a removal from taking more than was meant."""

    operation: str
    """Done before: nothing more is done."""
    newest: str | None = None
    """The id of the newest version that the caller knows; None: whichever it is."""

    def check(self, head: Head) -> None:
        """Raise TemplateChanged if another one is the newest by now."""
        latest = head.latest()
        if self.newest is not None and (latest is None or latest.id != self.newest):
            raise TemplateChanged(template=head.name)


def revert(
    records: Records,
    catalog: Catalog,
    asker: Identity,
    ref: str,
    *,
    tag: str | None,
    number: int | None,
    once: Once,
) -> Retired:
    """The template without the version asked for, the newest by default, and all newer ones.

    Raises TemplateNotFound, NameAmbiguous, TagNotFound, VersionNotFound, SelectorsDisagree, TemplateChanged, Forbidden.
    """
    return _retire(records, catalog, asker, ref, once=once, first=lambda head: head.select(tag=tag, number=number))


def delete(records: Records, catalog: Catalog, asker: Identity, ref: str, *, once: Once) -> Retired:
    """The template without any version, and deleted. Raises TemplateNotFound, NameAmbiguous, TemplateChanged, Forbidden."""
    return _retire(records, catalog, asker, ref, once=once, first=lambda head: next(iter(head.versions), None))


def untag(
    records: Records,
    catalog: Catalog,
    asker: Identity,
    ref: str,
    *,
    tag: str | None,
    number: int | None,
    version: VersionId | None,
    once: Once,
) -> Retired:
    """The template without this one version; deleted with its last one.

    Found by tag or number, and then it has to be `version` where that is given; else by that id. Raises TemplateNotFound,
    NameAmbiguous, TagNotFound, VersionNotFound, SelectorsDisagree, VersionChanged, TemplateChanged, Forbidden, Invalid.
    """
    if tag is None and number is None and version is None:
        raise Invalid(reason="say which version: by its tag, its number or its id")
    gone: tuple[Entry, ...] = ()
    renumbered: tuple[Entry, ...] = ()

    def make(head: Head) -> Head:
        nonlocal gone, renumbered
        once.check(head)
        entry = _meant(head, tag, number, version)
        gone, renumbered = (entry,), head.versions[head.number(entry) + 1 :]
        left = head.untag(entry, when=int(records.clock()), by=asker.name, keeps=records.limits.trash_seconds)
        return replace(left, size=records.union_size(left))

    head = change(records, catalog, asker, ref, operation=once.operation, action=Action.DELETE_REVERT, make=make)
    return _retired(asker, head, gone, renumbered)


def _meant(head: Head, tag: str | None, number: int | None, version: VersionId | None) -> Entry:
    if tag is None and number is None and version is not None:
        entry = head.with_id(version)
        if entry is None:
            raise VersionNotFound(template=head.name, version=version)
        return entry
    entry = head.select(tag=tag, number=number)
    if version not in {None, entry.id}:
        raise VersionChanged(template=head.name, version=f"version {number}" if tag is None else f"tag {tag!r}")
    return entry


def _retire(
    records: Records,
    catalog: Catalog,
    asker: Identity,
    ref: str,
    *,
    once: Once,
    first: Callable[[Head], Entry | None],
) -> Retired:
    """`first` finds the oldest version that goes; None: the template has none, and goes itself."""
    gone: tuple[Entry, ...] = ()

    def make(head: Head) -> Head:
        nonlocal gone
        once.check(head)
        oldest = first(head)
        if oldest is None:
            return replace(head, size=0, deleted=True)
        left = head.revert(oldest, when=int(records.clock()), by=asker.name, keeps=records.limits.trash_seconds)
        gone = head.versions[len(left.versions) :]
        return replace(left, size=records.union_size(left))

    head = change(records, catalog, asker, ref, operation=once.operation, action=Action.DELETE_REVERT, make=make)
    return _retired(asker, head, gone)


def _retired(asker: Identity, head: Head, gone: tuple[Entry, ...], renumbered: tuple[Entry, ...] = ()) -> Retired:
    tags = [entry.tag for entry in gone]
    emit("versions-removed", template=head.id, tags=tags, left=len(head.versions), by=asker.name)
    # Of what went last, by this call or not: so a repeated one, which takes nothing out, tells it too.
    until = head.removed[-1].until if head.removed else None
    return Retired(head, gone, until, renumbered)
