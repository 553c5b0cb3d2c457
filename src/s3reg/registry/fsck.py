"""The check of a whole store: what heads name is there, and is what its records say.

    inventory   what lies there, by LIST
    apart       sessions, markers, keys and groups, each by itself
    walk        heads, and the versions that they name
    examine     a version → its maps → the seek tables of its packs
    scrub       each pack's checksum as the store keeps it; with `read_data`, and where one looks bad, its bytes
    losses      what of which file cannot be had, as far as heads still name it

Nothing is changed but `damaged/`. Pushes, removals and sweeps may run meanwhile: what was put after the listing is looked
for by itself. What the store tells of and does not give is damaged. Whatever is found is looked at a second time before it
is told, since a line may garble what it carries; and told only if a head that is read *after that* still names its version.
A sweep removes nothing that a head names, and what left a head for good never comes back.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

from s3reg.errors import FormatUnknown, RecordDamaged, StoreCopied, StoreDenied, StoreReadOnly
from s3reg.model import format as fmt
from s3reg.model.bounded import LARGEST_SIZE
from s3reg.model.template import union_bytes
from s3reg.registry import apart, damage, losses, lost, setup, walk
from s3reg.registry.damage import MISSING, BadPack, Checked, Damage, What
from s3reg.registry.evidence import Evidence
from s3reg.registry.examine import Examiner
from s3reg.registry.inventory import Inventory, foreign
from s3reg.registry.records import Records
from s3reg.registry.scrub import Scrub
from s3reg.registry.walk import Unreadable
from s3reg.registry.withheld import Withholding

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from s3reg.model.names import Digest, SessionId, TemplateId
    from s3reg.model.template import Head, Session, Version
    from s3reg.registry.examine import Seen
    from s3reg.registry.walk import Named


def fsck(
    records: Records,
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
    as_it_is = records
    records = Records(Withholding(records.store), records.limits, records.clock)
    evidence = Evidence(records)
    done = Checked(seed=seed)
    noted = damage.found_bad(records)
    check = _Check(records, evidence, walk.Wanted(only), noted, done, told=told)
    check.run()
    scrub = Scrub(records, evidence, check.inventory, noted, done, bad=check.bad, told=told)
    done.step = "checksums"
    scrub.look()
    if read_data:
        done.step = "reading"
        scrub.read(read_data)
    done.step = "looking again"
    told(done)
    done.damage += check.again()
    scrub.confirm()
    hurt = losses.of_packs(records, evidence, check.bad)
    done.damage += [one for one in hurt.damage if check.wanted.takes(one.template, one.name)]
    done.damage.sort(key=lambda one: (one.name, one.template or "", one.trash, one.tag, one.file, one.key))
    maps = check.noted_maps - {fmt.map_of_key(one.key) for one in done.damage if one.what is What.MAP}
    # Of what is written, a store that does not answer is no damage.
    _note(as_it_is, done, noted, hurt.needed, scrub.sound_again | maps, record=record)
    done.orphans = {} if only else check.inventory.orphans()
    done.step = "done"
    told(done)
    return done


def _note(
    records: Records,
    done: Checked,
    noted: set[tuple[SessionId, Digest]],
    packs: set[tuple[SessionId, Digest]],
    sound: set[tuple[SessionId, Digest]],
    *,
    record: bool,
) -> None:
    """Bring what is `noted` of bad packs and maps up to date, where that may be written."""
    maps = {fmt.map_of_key(one.key) for one in done.damage if one.what is What.MAP and not one.newer}
    fresh = sorted((packs | maps) - noted)
    try:
        if not record:
            done.unrecorded = len(fresh)
            return
        if fresh or sound:
            setup.prepare(records, write=True)
        for sid, sha256 in fresh:
            damage.note(records, sid, sha256)
        for sid, sha256 in sorted(sound):
            damage.forget(records, sid, sha256)
            done.forgotten += 1
    except (StoreCopied, StoreReadOnly, StoreDenied):
        done.unrecorded = len(fresh)
    done.recorded = len(noted) + len(fresh) - done.unrecorded - done.forgotten


class _Check:
    """The walk from heads to the seek tables of packs."""

    def __init__(
        self,
        records: Records,
        evidence: Evidence,
        wanted: walk.Wanted,
        noted: set[tuple[SessionId, Digest]],
        done: Checked,
        *,
        told: Callable[[Checked], None],
    ) -> None:
        self.wanted = wanted
        self.inventory = Inventory()
        self.bad: dict[str, BadPack] = {}
        self._records = records
        self._evidence = evidence
        self._done = done
        self._told = told
        self._findings: list[Damage] = []
        """What stands by itself, and looked bad."""
        self._hurt: set[TemplateId] = set()
        """Those with something that looked bad."""
        self._sessions: set[SessionId] = set()
        self._headless: set[TemplateId] = set()
        self._noted = noted
        self.noted_maps: set[tuple[SessionId, Digest]] = set()
        """Those that were noted as bad before, and were read by this check."""

    def run(self) -> None:
        """Look at everything once."""
        self._step("listing")
        self.inventory.take(self._records, self._done)
        # Sessions before heads: what a push commits meanwhile is its session's, or a head names it.
        if not self.wanted.refs:
            self._step("sessions")
            self._read_sessions()
            self._findings += apart.markers(self._records, self._done)
            self._findings += apart.credentials(self._records, self._done)
        self._headless = self.inventory.templates
        self._step("versions")
        examiner = Examiner(self._records, self._evidence, self.inventory, self.bad)
        seen = walk.side_by_side(examiner.version, self._versions())
        for _, rows in itertools.groupby(seen, lambda one: one.named.head.id):
            self._count(list(rows))
            self._told(self._done)
        self.wanted.check_met()
        if not self.wanted.refs:
            self._findings += [one for one in map(self._without_head, sorted(self._headless)) if one is not None]

    def again(self) -> Iterator[Damage]:
        """What is bad still, when it is looked at anew."""
        for one in self._findings:
            if one.template is None:
                found = apart.look(self._records, one.what, one.key)
            else:
                found = self._head_again(one, one.template)
            if found is not None:
                yield found
        examiner = Examiner(self._records, self._evidence, self.inventory, self.bad)
        for findings in walk.side_by_side(lambda template: self._again(examiner, template), sorted(self._hurt)):
            yield from losses.confirmed(self._records, findings)

    def _step(self, what: str) -> None:
        self._done.step = what
        self._told(self._done)

    # --- Sessions ---

    def _read_sessions(self) -> None:
        for key in apart.session_keys(self._records, self._done):
            sid = fmt.session_of_key(key)
            self._sessions.add(sid)
            try:
                found = self._records.session(sid)
            except (RecordDamaged, FormatUnknown) as e:
                self._findings.append(Damage(What.SESSION, key, damage.reason(e)))
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
                self._findings.append(_of_unreadable(template, head))
                continue
            self._done.templates += not head.deleted
            yield from walk.of(head)

    def _head_again(self, before: Damage, template: TemplateId) -> Damage | None:
        """A head that could not be read, or was missing."""
        _, head = walk.head(self._records, before.key)
        if not isinstance(head, Unreadable):
            return None
        if head.reason != MISSING:
            return _of_unreadable(template, head)
        with contextlib.suppress(RecordDamaged, FormatUnknown):
            # Of several first pushes, one may have begun since sessions were read.
            return before if lost.is_lost(self._records, template) else None
        return before

    def _without_head(self, template: TemplateId) -> Damage | None:
        """A template's versions that no head names: those of a first push are its session's, until a head names them."""
        prefix = f"{fmt.VERSIONS}{template}/"
        left = [
            key
            for key in (stat.key for stat in self._records.store.list(prefix))
            if fmt.is_swept_key(key) and key.removeprefix(prefix).removesuffix(".json") not in self._sessions
        ]
        if not left:
            return None
        reason = f"{MISSING}, and the template has {len(left)} version{'' if len(left) == 1 else 's'}"
        return Damage(What.HEAD, fmt.head_key(template), reason, template=template)

    def _count(self, seen: list[Seen]) -> None:
        """All versions of one head."""
        head = seen[0].named.head
        self._done.versions += len(seen)
        for one in seen:
            self.inventory.name(fmt.version_key(head.id, one.named.entry.id))
            if one.version is not None:
                self._name_needs(one.version)
                refs = {(file.map.sid, file.map.sha256) for file in one.version.files if file.map is not None}
                self.noted_maps |= refs & self._noted
        if any(_of_head(seen)):
            self._hurt.add(head.id)

    def _again(self, examiner: Examiner, template: TemplateId) -> list[Damage]:
        _, head = walk.head(self._records, fmt.head_key(template))
        if isinstance(head, Unreadable):
            return [_of_unreadable(template, head)]
        return [] if head is None else list(_of_head([examiner.version(named) for named in walk.of(head)]))

    def _name_needs(self, version: Version) -> None:
        for file in version.files:
            if file.map is not None:
                self.inventory.name(fmt.map_key(version.domain, file.map.sid, file.map.sha256))
            for use in file.packs:
                if self.inventory.name(fmt.pack_key(version.domain, use.pack.sid, use.pack.sha256)):
                    self._done.packs += 1
                    self._done.bytes += use.pack.size


def _of_head(seen: list[Seen]) -> Iterator[Damage]:
    """What is wrong with the versions of one head, and with what it says of them."""
    for one in seen:
        yield from one.findings
    if not seen:
        return
    head = seen[0].named.head
    tags: dict[str, str] = {}
    for named in walk.of(head):
        if named.entry.id in tags:
            yield _of(
                head, What.HEAD, f"it names one version twice, as {tags[named.entry.id]!r} and {named.entry.tag!r}"
            )
        tags[named.entry.id] = named.entry.tag
    now = [one.version for one in seen if not one.named.trash]
    if None in now:
        return
    size = min(union_bytes(one for one in now if one is not None), LARGEST_SIZE)
    if head.size != size:
        yield _of(head, What.SIZE, f"its head says {head.size} bytes, its versions have {size}")


def _of(head: Head, what: What, reason: str) -> Damage:
    return Damage(what, fmt.head_key(head.id), reason, template=head.id, name=head.name)


def _of_unreadable(template: TemplateId, head: Unreadable) -> Damage:
    key = fmt.head_key(template)
    return Damage(What.HEAD, key, head.reason, template=template, name=head.name, newer=head.newer)
