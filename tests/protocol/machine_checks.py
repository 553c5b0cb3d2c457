"""What must hold: after each step, behind a sweep that nobody was in the way of, and at the end."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from protocol.machine import Machine
from protocol.machine_drawn import DAY, WELL
from protocol.machine_node import read_back
from protocol.machine_troubles import Died
from s3reg.errors import StoreUnavailable, SweepStopped
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE

if TYPE_CHECKING:
    from protocol.machine_drawn import How
    from protocol.machine_model import Row
    from s3reg.registry import Registry, Swept

READ_EACH_STEP = 2
"""Versions that are read whole after a step, each in its turn."""
SWEPT = (fmt.PACKS, fmt.MAPS, fmt.VERSIONS)


class Checked(Machine):
    """A machine that knows what must hold."""

    # --- Sweeps ------------------------------------------------------------------------------------------------------

    def sweep(self, how: How = WELL) -> Swept | None:
        """One sweep. If nobody was in its way, what is left is what is named."""
        self.clock.now += 1
        self.swept = True
        self.counts["sweep"] += 1
        jumps, outer = self.jumps, self.busy
        answer, error, hit, disturbed = self.call(lambda registry: registry.sweep(), how)
        self.settle()
        if isinstance(error, SweepStopped):
            assert error.detail["what"].startswith(fmt.MARKERS), error
            assert self.jumps > jumps, error
            self.counts["sweep: taken for dead"] += 1
            return None
        if error is not None:
            if not (hit and isinstance(error, (Died, StoreUnavailable))):
                raise error
            assert how.trouble is not None
            self.counts[f"sweep: broke off: {how.trouble.kind}"] += 1
            return self.sweep() if how.trouble.again else None
        assert answer is not None
        if not (disturbed or hit):
            self._check_swept(alone=not outer)
        return answer

    def _check_swept(self, *, alone: bool) -> None:
        assert not any(row.over(self.clock.now) for _, row in self.model.trash())
        live = [(sid, under) for sid, under in self.pushes.items() if not under.gone]
        assert not any(under.over(self.limits, self.clock.now) for _, under in live)
        must, may = self.model.needed(), set()
        for sid, under in live:
            session = fmt.read_session(self.store.get(fmt.session_key(sid)).data, sid)
            used = under.push.usable if under.push else {}
            must |= under.push.sent if under.push else set()
            must |= set().union(*(self.made[base.version][1].needs for base in used))
            may |= {fmt.version_key(session.template, sid)}
            may |= set().union(*(self.made[base.version][1].needs for base in session.bases))
        there = {key for key in self.keys() if key.startswith(SWEPT)}
        assert must <= there, f"lost: {must - there}"
        if alone:  # else the session of an outer push may be there that nobody knows of yet, and what it sends
            assert there <= must | may, f"left over: {there - must - may}"

    def keys(self) -> dict[str, int]:
        return {stat.key: stat.size for stat in self.store.list("")}

    # --- What must hold ----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """After each step."""
        self._check_heads()
        for replica in self.replicas:
            self._check_lists(replica.registry)
        keys = self.keys()
        missing = self.model.needed() - keys.keys()
        assert not missing, f"lost: {missing}"
        self._check_bytes()
        found = self.replicas[0].registry.fsck(record=False)
        assert found.clean, found.damage
        assert found.foreign == []
        assert {one.id for one in self.replicas[1].registry.sessions(EVERYONE)} == {
            sid for sid, under in self.pushes.items() if not under.gone
        }
        self.whole = True

    def _check_heads(self) -> None:
        """No head goes, and none is written without a generation more."""
        there = {stat.key: stat for stat in self.store.list(fmt.HEADS)}
        assert self.gens.keys() <= there.keys()
        for id_, head in self.heads().items():
            key = fmt.head_key(id_)
            gen, etag = self.gens.get(key, (0, ""))
            assert head.gen > gen or there[key].etag == etag
            self.gens[key] = (head.gen, there[key].etag)
            assert head.deleted == (not self.model[id_].shown)

    def _check_lists(self, registry: Registry) -> None:
        shown = {
            head.id: (head.name, [(entry.id, entry.tag, entry.description) for entry in head.versions])
            for head in registry.templates(EVERYONE)
        }
        assert shown == {
            id_: (self.model[id_].name, [(row.id, row.tag, row.description) for row in self.model[id_].shown])
            for id_ in self.model.there()
        }
        trash = [(one.head.id, one.entry.id, one.entry.tag, one.entry.until) for one in registry.trash(EVERYONE)]
        assert sorted(trash) == sorted((id_, row.id, row.tag, row.until) for id_, row in self.model.trash())

    def _check_bytes(self) -> None:
        rows = [*self.model.shown(), *self.model.trash()]
        for _ in range(min(READ_EACH_STEP, len(rows))):
            self.turn += 1
            self.check_row(*rows[self.turn % len(rows)])

    def check_row(self, id_: str, row: Row) -> None:
        """It comes back byte for byte: by a pull's plan, if it is listed."""
        registry = self.replicas[self.turn % 2].registry
        if row in self.model[id_].shown:
            plan = registry.plan(EVERYONE, id_, tag=row.tag)
            assert plan.entry.id == row.id
            version = plan.version
        else:
            version = fmt.read_version(self.store.get(fmt.version_key(id_, row.id)).data, id_, row.id)
        assert read_back(self.store, version) == row.vm.files()
        self.counts["versions read whole"] += 1

    # --- The end -----------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if self.whole:
                self._check_end()
        finally:
            shutil.rmtree(self.folder)

    def besides(self) -> set[str]:
        """Keys that may be left, besides what versions stand on."""
        return set()

    def _check_end(self) -> None:
        self.step()
        heads = {stat.key for stat in self.store.list(fmt.HEADS)}
        self.clock.now += 8 * DAY
        self.sweep()
        self.check()
        assert self.model.trash() == []
        left = {key for key in self.keys() if not key.startswith(fmt.HEADS)} - self.besides()
        assert left == {fmt.FORMAT_KEY, fmt.SWEPT_KEY} | self.model.needed()
        now = {stat.key for stat in self.store.list(fmt.HEADS)}
        assert heads <= now
        for row in self.model.shown():
            self.check_row(*row)
        read = self.replicas[0].registry.fsck(read_data=100)
        assert read.clean
        assert sum(one.count for one in read.orphans.values()) == 0
        self.counts["versions at the end"] += len(self.model.shown())
