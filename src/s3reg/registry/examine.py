"""One version looked at: its record, its maps, and the sizes and seek tables of the packs that they name."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from s3reg.errors import FormatUnknown, ObjectNotFound, RecordDamaged, S3regError
from s3reg.model import format as fmt
from s3reg.model import maps
from s3reg.model.template import PackUse, bytes_digest
from s3reg.registry import damage, proposals
from s3reg.registry.damage import MISSING, BadPack, Damage, What
from s3reg.registry.evidence import disagreements
from s3reg.registry.inventory import mark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from s3reg.model.maps import FileMap
    from s3reg.model.names import Domain
    from s3reg.model.packs import PackRef
    from s3reg.model.template import File, MapRef, Version
    from s3reg.registry.evidence import Evidence, Frames
    from s3reg.registry.inventory import Inventory
    from s3reg.registry.records import Records
    from s3reg.registry.walk import Named


@dataclass(slots=True)
class Seen:
    """A version that was looked at."""

    named: Named
    version: Version | None
    """None: its record cannot be read."""
    findings: list[Damage] = field(default_factory=list)


class Examiner:
    """Looks at one version after the other, and at nothing twice that was sound. Safe to share between threads."""

    def __init__(self, records: Records, evidence: Evidence, inventory: Inventory, bad: dict[str, BadPack]) -> None:
        self._records = records
        self._evidence = evidence
        self._inventory = inventory
        self._bad = bad
        """Packs that do not look as they should, by their keys: to be looked at again."""
        self._borne_out: set[int] = set()
        """Maps that were looked into, with what a version's record says of them."""
        self._late: dict[str, int | None] = {}
        """Sizes of packs that were not listed, or had another one; None: missing."""

    def version(self, named: Named) -> Seen:
        """What is wrong with the version; what is with its packs goes into `bad`."""
        head, entry = named
        seen = Seen(named, None)
        key = fmt.version_key(head.id, entry.id)
        told = functools.partial(_tell, named, seen.findings)
        try:
            found = self._records.read(key)
            if found is None:
                told(What.VERSION, key, MISSING)
                return seen
            seen.version = version = fmt.read_version(found.data, head.id, entry.id)
        except (RecordDamaged, FormatUnknown) as e:
            told(What.VERSION, key, e)
            return seen
        if version.domain != head.domain:
            told(What.VERSION, key, f"it lies in domain {version.domain!r}, its template in {head.domain!r}")
        if str(version.session) != version.id:
            told(What.VERSION, key, "its id is not that of its session")
        size = sum(file.size for file in version.layers())
        if size != entry.size:
            told(What.HEAD, fmt.head_key(head.id), f"it says {entry.size} bytes, its files have {size}")
        try:
            proposals.check_layout(version.files)
        except S3regError as e:
            told(What.VERSION, key, e)
        for file in version.files:
            if file.map is not None:
                self._mapped(version, file, file.map, told)
            elif file.inline is not None and bytes_digest(file.inline) != file.digest:
                told(What.VERSION, key, "its bytes are not those of its digest", file=file)
        return seen

    def _mapped(self, version: Version, file: File, ref: MapRef, told: Callable[..., None]) -> None:
        key = fmt.map_key(version.domain, ref.sid, ref.sha256)
        for use in file.packs:
            self._packed(fmt.pack_key(version.domain, use.pack.sid, use.pack.sha256), use.pack)
        said = mark(f"{key} {file.size} {file.digest} {file.packs}")
        if said in self._borne_out:
            return
        try:
            data = self._evidence.map_bytes(version.domain, ref)
        except RecordDamaged as e:
            told(What.MAP, key, e, file=file)
            return
        # Its bytes are those of its name: from here on, what does not fit is the version's record.
        record = fmt.version_key(version.template, version.id)
        try:
            file_map = maps.decode(data, size=file.size, digest=file.digest)
        except FormatUnknown as e:
            told(What.MAP, key, e, file=file)
            return
        except RecordDamaged as e:
            told(What.VERSION, record, f"it does not fit its map: {damage.reason(e)}", file=file)
            return
        if _packs(file.packs) != _packs(PackUse(pack, live) for pack, live in file_map.live_bytes().items()):
            told(What.VERSION, record, "it names other packs than its map does", file=file)
            return
        self._look_at_tables(version.domain, file_map)
        self._borne_out.add(said)

    def _packed(self, key: str, pack: PackRef) -> None:
        """See that a pack has its size. What was not listed, or not so, is looked at by itself."""
        if self._inventory.size(key) == pack.size or key in self._bad:
            return
        if key not in self._late:
            try:
                self._late[key] = self._records.store.stat(key).size
            except ObjectNotFound:
                self._late[key] = None
        size = self._late[key]
        if size is None:
            self._bad[key] = BadPack(MISSING)
        elif size != pack.size:
            self._bad[key] = BadPack(f"it has {size} bytes, not {pack.size}")

    def _look_at_tables(self, domain: Domain, file_map: FileMap) -> None:
        """Compare the map, which has the bytes of its name, with the seek tables of its packs."""
        frames: dict[PackRef, Frames] = {}
        keys = {pack: fmt.pack_key(domain, pack.sid, pack.sha256) for pack in file_map.packs}
        for pack, key in keys.items():
            if key not in self._bad:
                try:
                    frames[pack] = self._evidence.frames_of(domain, pack)
                except RecordDamaged as e:
                    self._bad.setdefault(key, BadPack(damage.reason(e)))
        for pack, _ in disagreements(file_map, frames):
            self._bad.setdefault(keys[pack], BadPack(damage.OTHER_FRAMES))


def _packs(uses: Iterable[PackUse]) -> list[tuple[PackRef, int, int]]:
    """With their sizes, by which two packs are not told apart."""
    return [(use.pack, use.pack.size, use.live) for use in uses]


def _tell(
    named: Named, findings: list[Damage], what: What, key: str, why: str | S3regError, *, file: File | None = None
) -> None:
    findings.append(
        Damage(
            what,
            key,
            why if isinstance(why, str) else damage.reason(why),
            template=named.head.id,
            name=named.head.name,
            version=named.entry.id,
            tag=named.entry.tag,
            trash=named.trash,
            file="" if file is None else file.name,
            lost=() if file is None else ((0, file.size),),
            newer=isinstance(why, FormatUnknown),
        )
    )
