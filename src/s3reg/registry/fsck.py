"""The check of a whole store: what heads name is there, and is what its records say.

    inventory   what lies there, by LIST
    walk        head → version → maps → the seek tables of packs
    scrub       each pack's size and checksum as the store keeps them; with `read_data` its bytes
    losses      what of which file cannot be had, as far as heads still name it

Nothing is changed but `damaged/`. Pushes, removals and sweeps may run meanwhile: what was put after the listing is looked
for by itself; what is found missing or bad is told only if a head that is read *after that* still names its version.
A sweep removes nothing that a head names, and what left a head for good never comes back.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from s3reg.errors import (
    FormatUnknown,
    NameInvalid,
    ObjectNotFound,
    RecordDamaged,
    S3regError,
    StoreCopied,
    StoreDenied,
    StoreReadOnly,
)
from s3reg.model import format as fmt
from s3reg.model import maps
from s3reg.model.bounded import LARGEST_SIZE
from s3reg.model.template import PackUse, bytes_digest, union_bytes
from s3reg.registry import damage, losses, setup, walk
from s3reg.registry.damage import BadPack, Checked, Damage, What
from s3reg.registry.evidence import disagreements
from s3reg.registry.inventory import Inventory, foreign, mark
from s3reg.registry.scrub import MISSING, Scrub
from s3reg.registry.walk import Named, Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from s3reg.model.maps import FileMap
    from s3reg.model.names import Digest, Domain, SessionId, TemplateId
    from s3reg.model.packs import PackRef
    from s3reg.model.template import File, MapRef, Session, Version
    from s3reg.registry.evidence import Evidence, Frames
    from s3reg.registry.records import Records


def fsck(
    records: Records,
    evidence: Evidence,
    *,
    read_data: float = 0,
    seed: int = 0,
    only: Collection[str] = (),
    record: bool = True,
    told: Callable[[Checked], None] = lambda _: None,
) -> Checked:
    """Check the store, or the templates of the ids and names `only`; then orphans are not counted.

    `read_data`: percent of the packs that are read, chosen by `seed`. `record`: note which packs are bad, so that no push
    builds on them. `told` is called again and again with what was found so far. Raises TemplateNotFound, FormatUnknown, and
    RecordDamaged for a store that lost its format.json.
    """
    setup.prepare(records, write=False)
    done = Checked(seed=seed)
    check = _Check(records, evidence, walk.Wanted(only), done, told)
    check.run()
    scrub = Scrub(records, evidence, check.inventory, done, bad=check.bad, told=told)
    done.step = "checksums"
    scrub.look()
    if read_data:
        done.step = "reading"
        scrub.read(read_data)
    done.step = "looking again"
    told(done)
    done.damage += losses.confirmed(records, check.findings)
    lost = losses.of_packs(records, evidence, check.bad)
    done.damage += [one for one in lost.damage if check.wanted.takes(one.template, one.name)]
    done.damage.sort(key=lambda one: (one.name, one.template or "", one.trash, one.tag, one.file, one.key))
    _note(records, done, scrub, lost.needed, record=record)
    done.orphans = {} if only else check.inventory.orphans()
    done.step = "done"
    told(done)
    return done


def _note(records: Records, done: Checked, scrub: Scrub, bad: set[tuple[SessionId, Digest]], *, record: bool) -> None:
    """Bring what is noted of bad packs up to date, where that may be written."""
    fresh = sorted(bad - scrub.recorded)
    try:
        if not record:
            done.unrecorded = len(fresh)
            return
        if fresh or scrub.sound_again:
            setup.prepare(records, write=True)
        for sid, sha256 in fresh:
            damage.note(records, sid, sha256)
        for sid, sha256 in sorted(scrub.sound_again):
            damage.forget(records, sid, sha256)
            done.forgotten += 1
    except (StoreCopied, StoreReadOnly, StoreDenied):
        done.unrecorded = len(fresh)
    done.recorded = len(scrub.recorded) + len(fresh) - done.unrecorded - done.forgotten


@dataclass(slots=True)
class _Seen:
    """A version that was looked at."""

    named: Named
    version: Version | None
    findings: list[Damage] = field(default_factory=list)


class _Check:
    """The walk from heads to the seek tables of packs."""

    def __init__(
        self, records: Records, evidence: Evidence, wanted: walk.Wanted, done: Checked, told: Callable[[Checked], None]
    ) -> None:
        self.wanted = wanted
        self.inventory = Inventory()
        self.findings: list[Damage] = []
        """To be looked at again."""
        self.bad: dict[str, BadPack] = {}
        self._records = records
        self._evidence = evidence
        self._done = done
        self._told = told
        self._sessions: set[SessionId] = set()
        self._headless: set[TemplateId] = set()
        self._borne_out: set[int] = set()
        """Maps that were looked into, with what a version's record says of them."""
        self._late: dict[str, int | None] = {}
        """Sizes of packs that were not listed, or had another one; None: missing."""

    def run(self) -> None:
        """Look at everything once."""
        self._step("listing")
        self.inventory.take(self._records, self._done)
        # Sessions before heads: what a push commits meanwhile is its session's, or a head names it.
        if not self.wanted.refs:
            self._step("sessions")
            self._read_sessions()
            self._read_markers()
        self._headless = self.inventory.templates
        self._step("versions")
        seen = walk.side_by_side(self._version, self._versions())
        for _, rows in itertools.groupby(seen, lambda one: one.named.head.id):
            self._count(list(rows))
            self._told(self._done)
        self.wanted.check_met()
        if not self.wanted.refs:
            for template in sorted(self._headless):
                self._without_head(template)

    def _step(self, what: str) -> None:
        self._done.step = what
        self._told(self._done)

    # --- Sessions and markers ---

    def _read_sessions(self) -> None:
        for stat in self._records.store.list(fmt.SESSIONS):
            try:
                sid = fmt.session_of_key(stat.key)
            except NameInvalid:
                foreign(self._done, stat.key)
                continue
            self._sessions.add(sid)
            try:
                found = self._records.session(sid)
            except (RecordDamaged, FormatUnknown) as e:
                self.findings.append(Damage(What.SESSION, stat.key, _reason(e)))
                continue
            if found is not None:
                self._hold(found[0])

    def _hold(self, session: Session) -> None:
        """What a push under way sent, or may build on, is nobody's orphan."""
        self.inventory.name(fmt.version_key(session.template, session.version))
        for prefix in (fmt.packs_prefix, fmt.maps_prefix):
            for stat in self._records.store.list(prefix(session.domain, session.id)):
                self.inventory.name(stat.key)
        for base in session.bases:
            self.inventory.name(fmt.version_key(base.template, base.version))
            with contextlib.suppress(RecordDamaged, FormatUnknown):
                found = self._records.read(fmt.version_key(base.template, base.version))
                if found is not None:
                    self._name_needs(fmt.read_version(found.data, base.template, base.version))

    def _read_markers(self) -> None:
        for stat in self._records.store.list(fmt.MARKERS):
            if not fmt.is_marker_key(stat.key):
                foreign(self._done, stat.key)
                continue
            try:
                found = self._records.read(stat.key)
                if found is not None:
                    fmt.read_marker(found.data)
            except (RecordDamaged, FormatUnknown) as e:
                self.findings.append(Damage(What.MARKER, stat.key, _reason(e)))

    # --- Heads ---

    def _versions(self) -> Iterator[Named]:
        for key, head in walk.heads(self._records):
            if head is None:
                foreign(self._done, key)
                continue
            template = fmt.template_of_head_key(key)
            self._headless.discard(template)
            if not self.wanted.takes(template, head.name):
                continue
            if isinstance(head, Unreadable):
                self.findings.append(Damage(What.HEAD, key, head.reason, template=template, name=head.name))
                continue
            self._done.templates += not head.deleted
            yield from walk.of(head)

    def _without_head(self, template: TemplateId) -> None:
        """A template's versions that no head names: those of a first push are its session's, until a head names them."""
        prefix = f"{fmt.VERSIONS}{template}/"
        left = [
            key
            for key in (stat.key for stat in self._records.store.list(prefix))
            if fmt.is_swept_key(key) and key.removeprefix(prefix).removesuffix(".json") not in self._sessions
        ]
        if left:
            reason = f"{MISSING}, and {len(left)} versions of the template are there"
            self.findings.append(Damage(What.HEAD, fmt.head_key(template), reason, template=template))

    def _count(self, seen: list[_Seen]) -> None:
        """All versions of one head."""
        head = seen[0].named.head
        self._done.versions += len(seen)
        for one in seen:
            self.findings += one.findings
            self.inventory.name(fmt.version_key(head.id, one.named.entry.id))
            if one.version is not None:
                self._name_needs(one.version)
        now = [one.version for one in seen if not one.named.trash]
        if head.deleted or None in now:
            return
        size = min(union_bytes(one for one in now if one is not None), LARGEST_SIZE)
        if head.size != size:
            # Read in one piece, of records that never change: no need to look again.
            self._done.damage.append(
                Damage(
                    What.HEAD,
                    fmt.head_key(head.id),
                    f"it says {head.size} bytes, its versions have {size}",
                    template=head.id,
                    name=head.name,
                )
            )

    def _name_needs(self, version: Version) -> None:
        for file in version.files:
            if file.map is not None:
                self.inventory.name(fmt.map_key(version.domain, file.map.sid, file.map.sha256))
            for use in file.packs:
                if self.inventory.name(fmt.pack_key(version.domain, use.pack.sid, use.pack.sha256)):
                    self._done.packs += 1
                    self._done.bytes += use.pack.size

    # --- A version ---

    def _version(self, named: Named) -> _Seen:
        head, entry = named
        seen = _Seen(named, None)
        key = fmt.version_key(head.id, entry.id)
        told = functools.partial(_damage, named, seen.findings)
        try:
            found = self._records.read(key)
            if found is None:
                told(What.VERSION, key, MISSING)
                return seen
            seen.version = version = fmt.read_version(found.data, head.id, entry.id)
        except (RecordDamaged, FormatUnknown) as e:
            told(What.VERSION, key, _reason(e))
            return seen
        if version.domain != head.domain:
            told(What.VERSION, key, f"it lies in domain {version.domain!r}, its template in {head.domain!r}")
        if str(version.session) != version.id:
            told(What.VERSION, key, "its id is not that of its session")
        size = sum(file.size for file in version.layers())
        if size != entry.size:
            told(What.HEAD, fmt.head_key(head.id), f"it says {entry.size} bytes, its files have {size}")
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
            file_map = maps.decode(self._evidence.map_bytes(version.domain, ref), size=file.size, digest=file.digest)
        except (RecordDamaged, FormatUnknown) as e:
            told(What.MAP, key, _reason(e), file=file)
            return
        if tuple(PackUse(pack, live) for pack, live in file_map.live_bytes().items()) != file.packs:
            told(What.MAP, key, "it names other packs than its version's record does", file=file)
            return
        self._look_at_tables(version.domain, file_map)
        self._borne_out.add(said)

    def _packed(self, key: str, pack: PackRef) -> None:
        """See that a pack has its size. What was not listed, or not so, is looked at by itself."""
        if self.inventory.size(key) == pack.size or key in self.bad:
            return
        if key not in self._late:
            try:
                self._late[key] = self._records.store.stat(key).size
            except ObjectNotFound:
                self._late[key] = None
        size = self._late[key]
        if size is None:
            self.bad[key] = BadPack(MISSING)
        elif size != pack.size:
            self.bad[key] = BadPack(f"it has {size} bytes, not {pack.size}")

    def _look_at_tables(self, domain: Domain, file_map: FileMap) -> None:
        """Compare the map, which has the bytes of its name, with the seek tables of its packs."""
        frames: dict[PackRef, Frames] = {}
        keys = {pack: fmt.pack_key(domain, pack.sid, pack.sha256) for pack in file_map.packs}
        for pack, key in keys.items():
            if key not in self.bad:
                try:
                    frames[pack] = self._evidence.frames_of(domain, pack)
                except RecordDamaged as e:
                    self.bad.setdefault(key, BadPack(_reason(e)))
        for pack, _ in disagreements(file_map, frames):
            self.bad.setdefault(keys[pack], BadPack("its seek table does not have the frames that a map names"))


def _damage(
    named: Named, findings: list[Damage], what: What, key: str, reason: str, *, file: File | None = None
) -> None:
    findings.append(
        Damage(
            what,
            key,
            reason,
            template=named.head.id,
            name=named.head.name,
            version=named.entry.id,
            tag=named.entry.tag,
            trash=named.trash,
            file="" if file is None else file.name,
            lost=() if file is None else ((0, file.size),),
        )
    )


def _reason(e: S3regError) -> str:
    return str(e.detail.get("reason", e))
