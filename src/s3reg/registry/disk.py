"""How full the store is, told so that those who subtract free from total learn what the templates hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3reg.store import Room

if TYPE_CHECKING:
    from collections.abc import Iterable

    from s3reg.model.identity import Identity
    from s3reg.model.template import Head
    from s3reg.registry.catalog import Catalog
    from s3reg.store import ObjectStore

BOUNDLESS = 1 << 50
"""Bytes said to be free in a bucket, which has no end: 1 PiB, beyond any alarm, and exact in every JSON reader."""


def room(store: ObjectStore, catalog: Catalog, asker: Identity) -> Room:
    """Of a directory, its disk's. Of a bucket, total minus free is the sum of the sizes of the templates in it.

    A disk tells of all templates: to an asker that may not list them all, a directory looks as a bucket does.
    """
    found = store.room() if asker.domains() is None else None
    if found is not None:
        return found
    return boundless(catalog.templates(asker))


def boundless(heads: Iterable[Head]) -> Room:
    """The room of a store that has no end, in which these templates are."""
    return Room(free=BOUNDLESS, total=BOUNDLESS + sum(head.size for head in heads))
