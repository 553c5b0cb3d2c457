"""The plan of a pull: where every byte of a version lies. The bytes themselves never pass through here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3reg.errors import ObjectNotFound, TemplateNotFound, VersionNotFound
from s3reg.model import format as fmt
from s3reg.model.identity import Action
from s3reg.registry import setup
from s3reg.registry.sight import check, head_of
from s3reg.registry.values import Plan

if TYPE_CHECKING:
    from s3reg.model.identity import Identity
    from s3reg.model.names import TemplateId, VersionId
    from s3reg.model.packs import PackRef
    from s3reg.model.template import Version
    from s3reg.registry.catalog import Catalog
    from s3reg.registry.records import Records

PULL_NOTE_SECONDS = 60
"""At most so often is a pull of one version written down."""


def plan(records: Records, catalog: Catalog, asker: Identity, ref: str, *, tag: str | None, number: int | None) -> Plan:
    """What a node needs to pull a version. Raises Forbidden, TemplateNotFound, TagNotFound, VersionNotFound."""
    head = catalog.find(asker, ref)
    check(asker, Action.PULL, head.id, head.domain)
    entry = head.select(tag=tag, number=number)
    version = records.version(head.id, entry.id)
    now = int(records.clock())
    seconds = records.limits.link_seconds
    maps = list(dict.fromkeys(file.map for file in version.files if file.map is not None))
    live = live_packs(version)
    keys = [fmt.map_key(version.domain, ref.sid, ref.sha256) for ref in maps]
    keys += [fmt.pack_key(version.domain, pack.sid, pack.sha256) for pack in live]
    links = records.store.sign_gets(keys, seconds=seconds)
    return Plan(
        head=head,
        entry=entry,
        version=version,
        map_links=dict(zip(maps, links, strict=False)),
        links=links,
        packs=list(zip(live, live.values(), links[len(maps) :], strict=True)),
        expires=min((link.expires for link in links), default=now + seconds),
        now=now,
    )


def live_packs(version: Version) -> dict[PackRef, int]:
    """Each pack that a version needs, once, with the bytes of it that are used.

    Two files that use the same frames count them twice, but a pack never for more than it has.
    """
    live: dict[PackRef, int] = {}
    for file in version.files:
        for use in file.packs:
            live[use.pack] = min(live.get(use.pack, 0) + use.live, use.pack.size)
    return live


def pulled(records: Records, asker: Identity, template: TemplateId, vid: VersionId) -> None:
    """Note that the version was pulled, at most once a minute. Raises Forbidden, TemplateNotFound, VersionNotFound."""
    head = head_of(records, asker, template)
    if head is None or head.deleted:
        raise TemplateNotFound(template=template)
    check(asker, Action.PULL, head.id, head.domain)
    if head.with_id(vid) is None:
        raise VersionNotFound(template=head.name, version=vid)
    if setup.status(records).copied:
        return  # a copy may be pulled from; it is not written
    key = fmt.pull_key(template, vid)
    try:
        if abs(records.clock() - records.store.stat(key).modified) < PULL_NOTE_SECONDS:
            return
    except ObjectNotFound:
        pass
    records.store.put(key, b"")
