"""The machine whole: pushes, removals, and besides them sweeps, checks of the store, and time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from protocol.machine import Under
from protocol.machine_drawn import DAY, HOUR, IDS, JUMP, TAG, VM, WELL, WHICH, how, pick
from protocol.machine_node import read_back
from protocol.machine_pushes import Pushes
from protocol.machine_removals import Removals
from registry.turns import ByChance, Turns
from s3reg.errors import (
    NameTaken,
    NewTagTaken,
    NotInTrash,
    RestoreTagTaken,
    S3regError,
    SessionExpired,
    SessionNotFound,
    TagNotFound,
    TagTaken,
    TemplateNotFound,
)
from s3reg.model.identity import EVERYONE
from s3reg.registry import Limits, Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.machine import Deed
    from protocol.machine_drawn import How
    from protocol.machine_node import Push, Vm
    from s3reg.store import ObjectStore

HOW = how(60)
PLAYER = st.one_of(
    st.tuples(st.sampled_from(["reverting", "untagging", "deleting", "purging", "restoring"]), WHICH),
    st.tuples(st.just("retagging"), WHICH, TAG),
    st.tuples(st.sampled_from(["purging_all", "sweep"])),
    st.tuples(st.just("commit"), WHICH),
    st.tuples(st.just("push"), WHICH, TAG, VM, st.booleans(), WHICH),
)
"""Who takes turns with others at every store call."""
CALLS_EACH = 30
IN_THE_WAY = {
    *(TagTaken, NameTaken, NewTagTaken, RestoreTagTaken, NotInTrash),
    *(TagNotFound, TemplateNotFound, SessionExpired, SessionNotFound),
}
"""What players may be told because of each other."""


class RegistryBesideModel(Pushes, Removals):
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
            lambda registry: read_back(registry.store, registry.plan(EVERYONE, id_, tag=row.tag).version),
            how._replace(trouble=None),
        )
        self.settle()
        if error is None:
            assert found == row.vm.files()
        elif row not in self.model[id_].shown:
            self.counts["read: gone"] += 1
        else:
            raise error

    @rule(seed=st.integers(0, 1000), players=st.lists(PLAYER, min_size=2, max_size=4))
    def take_turns(self, *, seed: int, players: list[tuple[Any, ...]]) -> None:
        """Several at once, one store call each in turn: heads tell who was first."""
        self.step()
        self.counts["game"] += 1
        self.clock.now += 1
        actors = [self._player(*player) for player in players]
        actors = [actor for actor in actors if actor is not None]
        if actors:
            Turns(ByChance(seed, actors=len(actors), steps=CALLS_EACH * len(actors))).run(self.store, actors)
        self.settle()

    def _player(self, name: str, *arguments: Any) -> Callable[[ObjectStore], object] | None:
        self.counts[f"game: {name}"] += 1
        match name:
            case "sweep":
                self.swept = True
                return lambda store: self._registry_over(store).sweep()
            case "push":
                self.opening = True
                push = self._new(pick(IDS, arguments[0]), *arguments[1:3], force=arguments[3], base=arguments[4])
                return lambda store: self._plays_push(push, self._registry_over(store))
            case "commit":
                sent = [under for under in self.left() if under.push.files is not None]
                deed = self.committing(pick(sent[::-1], *arguments)) if sent else None
            case _:
                deed = getattr(self, name)(*arguments)
        if deed is None:
            return None
        self.deeds[deed.id] = deed
        return lambda store: self._plays(deed, self._registry_over(store))

    def _registry_over(self, store: ObjectStore) -> Registry:
        return Registry(store, limits=Limits(trash_seconds=self.keeps[0]), clock=self.clock)

    def _plays(self, deed: Deed, registry: Registry) -> None:
        try:
            deed.call(registry)
        except S3regError as e:
            if type(e) not in IN_THE_WAY:
                raise
            self.counts[f"game: {deed.what}: {type(e).__name__}"] += 1

    def _plays_push(self, push: Push, registry: Registry) -> None:
        try:
            push.open(registry, self.store)
            self.pushes[push.sid] = under = Under(push, self.clock.now, self.clock.now)
            self.deeds[push.sid] = deed = self.committing(under)
            push.upload(registry, self.store)
        except S3regError as e:
            if type(e) not in IN_THE_WAY:
                raise
        else:
            self._plays(deed, registry)

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
