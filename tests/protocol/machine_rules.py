"""The machine whole: pushes, removals, and besides them sweeps, checks of the store, and time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from protocol.machine_drawn import DAY, HOUR, JUMP, VM, WELL, WHICH, how, pick
from protocol.machine_node import read_back
from protocol.machine_turns import Turns
from s3reg.model.identity import EVERYONE

if TYPE_CHECKING:
    from protocol.machine_drawn import How
    from protocol.machine_node import Vm
    from s3reg.registry import Registry

HOW = how(60)


class RegistryBesideModel(Turns):
    """Everything that may happen to a store."""

    @initialize(keeps=st.tuples(st.sampled_from([HOUR, 7 * DAY]), st.sampled_from([0, HOUR])), vm=VM)
    def begin(self, keeps: tuple[int, int], vm: Vm) -> None:
        self.start(keeps)
        self.step()
        for number, tag in enumerate(("v1", "v2", "v1")):
            self.push(number // 2, tag, vm, force=False, base=1)

    @invariant()
    def all_is_as_it_must_be(self) -> None:
        self.check()

    @rule(seconds=JUMP)
    def time_passes(self, seconds: int) -> None:
        self.step()
        self.counts["time passes"] += 1
        self.jump(seconds)

    @rule(how=HOW)
    def sweep_the_store(self, how: How) -> None:
        self.step()
        self.sweep(how)

    @precondition(lambda self: self.model.shown())
    @rule(which=WHICH, how=how(12))
    def read_a_version(self, *, which: int, how: How) -> None:
        """Whoever has a plan reads the version to its end, whatever others do, unless they let it go for good."""
        self.step()
        self.counts["read"] += 1
        id_, row = pick(self.model.shown(), which)
        found, error, _, _ = self.call(
            lambda registry: _planned_and_read(registry, id_, row.tag),
            how._replace(trouble=None),
        )
        self.settle()
        if error is None:
            # Forced over before the plan was made, the tag is another version's.
            version, files = found
            rows = {one.id: one for one in (row, *self.model[id_].shown, *self.model[id_].trash)}
            if version in rows:
                assert files == rows[version].vm.files()
            else:
                self.counts["read: gone"] += 1
        elif row not in self.model[id_].shown:
            self.counts["read: gone"] += 1
        else:
            raise error

    @rule(others=st.booleans(), how=HOW)
    def check_the_store(self, *, others: bool, how: How) -> None:
        """A check sees no damage though others are at work. A dry run writes nothing, and tells what a sweep will do."""
        self.step()
        if others:
            self._check_meanwhile(how)
        else:
            self._sweep_dry_and_wet()

    def _check_meanwhile(self, how: How) -> None:
        self.counts["check"] += 1
        found, error, _, _ = self.call(lambda registry: registry.fsck(record=False), how._replace(trouble=None))
        self.settle()
        assert error is None, error
        assert found is not None
        assert found.clean, found.damage

    def _sweep_dry_and_wet(self) -> None:
        self.counts["dry run"] += 1
        before = {stat.key: stat.etag for stat in self.store.list("")}
        dry = self.replicas[0].registry.sweep(dry_run=True)
        assert {stat.key: stat.etag for stat in self.store.list("")} == before
        wet = self.sweep(WELL)
        assert wet is not None
        for name in (
            "removed",
            "freed",
            "given_up",
            "purged",
            "sessions",
            "live",
            "trash",
            "held_objects",
            "templates",
        ):
            assert getattr(dry, name) == getattr(wet, name), name


def _planned_and_read(registry: Registry, template: str, tag: str) -> tuple[str, object]:
    """The version that a pull of the tag is of, and its files."""
    version = registry.plan(EVERYONE, template, tag=tag).version
    return version.id, read_back(registry.store, version)
