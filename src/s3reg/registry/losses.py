"""What a check found, looked at again: heads are read anew, and only what they name still is told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from s3reg.errors import FormatUnknown, RecordDamaged
from s3reg.model import format as fmt
from s3reg.model import maps
from s3reg.model.chunks import DIGEST_BYTES, chunk_length
from s3reg.registry import walk
from s3reg.registry.damage import BadPack, Damage, What

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from s3reg.model.maps import FileMap
    from s3reg.model.names import Digest, SessionId, TemplateId
    from s3reg.model.template import Head, Version
    from s3reg.registry.evidence import Evidence
    from s3reg.registry.records import Records
    from s3reg.registry.walk import Named


@dataclass(slots=True)
class Losses:
    """What bad packs cost."""

    damage: list[Damage] = field(default_factory=list)
    needed: set[tuple[SessionId, Digest]] = field(default_factory=set)
    """The bad packs that some version needs."""


def confirmed(records: Records, findings: Iterable[Damage]) -> Iterator[Damage]:
    """The findings about versions that heads name still, under the tags that these have now; and those about heads."""
    heads: dict[TemplateId, Head | None] = {}
    for one in findings:
        if one.version is None or one.template is None:
            yield one
            continue
        if one.template not in heads:
            heads[one.template] = _head(records, one.template)
        head = heads[one.template]
        if head is None:
            yield one
        else:
            yield from (_as_now(one, now) for now in walk.of(head) if now.entry.id == one.version)


def of_packs(records: Records, evidence: Evidence, bad: dict[str, BadPack]) -> Losses:
    """What of which file lies in these packs, by their keys."""
    lost = Losses()
    if bad:

        def look(named: Named) -> list[Damage]:
            found = walk.version(records, named)
            return [] if found is None else list(_of_version(named, found, evidence, bad))

        for rows in walk.side_by_side(look, walk.versions(records)):
            lost.damage += rows
        lost.needed = {fmt.pack_of_key(one.key) for one in lost.damage}
    return lost


def _as_now(one: Damage, now: Named) -> Damage:
    return replace(one, name=now.head.name, tag=now.entry.tag, trash=now.trash)


def _head(records: Records, template: TemplateId) -> Head | None:
    try:
        return records.head(template)
    except (RecordDamaged, FormatUnknown):
        return None


def _of_version(named: Named, version: Version, evidence: Evidence, bad: dict[str, BadPack]) -> Iterator[Damage]:
    for file in version.files:
        keys = {use.pack: fmt.pack_key(version.domain, use.pack.sid, use.pack.sha256) for use in file.packs}
        hurt = {pack: key for pack, key in keys.items() if key in bad}
        if not hurt or file.map is None:
            continue
        try:
            data = evidence.map_bytes(version.domain, file.map)
            file_map = maps.decode(data, size=file.size, digest=file.digest)
        except (RecordDamaged, FormatUnknown):
            continue  # all of the file is told as lost already
        for pack, key in hurt.items():
            index = file_map.packs.index(pack) if pack in file_map.packs else -1
            yield Damage(
                What.PACK,
                key,
                bad[key].reason,
                template=named.head.id,
                name=named.head.name,
                version=named.entry.id,
                tag=named.entry.tag,
                trash=named.trash,
                file=file.name,
                lost=tuple(_ranges(file_map, index, bad[key])),
            )


def _ranges(file_map: FileMap, pack: int, bad: BadPack) -> Iterator[tuple[int, int]]:
    """Bytes of the file that lie in this pack of its map and cannot be had, neighbours together."""
    first = length = 0
    for position, index, run in file_map.data_runs():
        if run.pack != pack:
            continue
        offset = run.offset
        for at in range(run.chunks):
            digest = file_map.digests[(index + at) * DIGEST_BYTES : (index + at + 1) * DIGEST_BYTES]
            if bad.frames is None or (offset, digest) in bad.frames:
                start = (position + at) << file_map.chunk_log2
                if length and first + length != start:
                    yield first, length
                    length = 0
                first = start if not length else first
                length += chunk_length(position + at, file_map.size, file_map.chunk_log2)
            offset += file_map.lengths[index + at]
    if length:
        yield first, length
