"""The machine's games: pushes, removals and sweeps that take turns at every store call. Heads tell who was first.

Chance decides who goes on, and only where it matters: at the calls by which players learn of each other, or tell.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from protocol.machine import Under
from protocol.machine_drawn import HOUR, IDS, TAG, VM, WHICH, pick
from protocol.machine_node import Push
from protocol.machine_pushes import Pushes
from protocol.machine_removals import Removals
from registry import turns
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
from s3reg.model import format as fmt
from s3reg.model.names import TemplateId
from s3reg.model.template import Base
from s3reg.registry import Limits, Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from faults import Call
    from protocol.machine import Deed
    from protocol.machine_node import Vm
    from s3reg.store import ObjectStore

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
TELLING = [
    *(("list", prefix) for prefix in (fmt.SESSIONS, fmt.HEADS, fmt.MARKERS, fmt.PACKS)),
    *(("put", prefix) for prefix in (fmt.SESSIONS, fmt.HEADS, fmt.MARKERS, fmt.VERSIONS)),
    *(("get", fmt.HEADS), ("stat", fmt.MARKERS), ("delete", "")),
]


class AtWhatTells:
    """Whoever goes, goes on to one of these calls; then anybody may. In some games they rather go on than not."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._stays = self._random.choice([0, 0.5, 0.8, 0.9])
        self._goes = -1

    def __call__(self, waiting: Mapping[int, Call | None]) -> int:
        about_to = waiting.get(self._goes)
        if about_to is None or (any(about_to.is_on(*one) for one in TELLING) and self._random.random() >= self._stays):
            self._goes = self._random.choice(sorted(waiting))
        return self._goes


class Turns(Pushes, Removals):
    """Who plays, and by which order."""

    @rule(seed=st.integers(0, 1000), players=st.lists(PLAYER, min_size=2, max_size=4))
    def take_turns(self, *, seed: int, players: list[tuple[Any, ...]]) -> None:
        """Several at once, one store call each in turn: heads tell who was first."""
        self.step()
        self.counts["game"] += 1
        self.clock.now += 1
        actors = [self._player(*player) for player in players]
        actors = [actor for actor in actors if actor is not None]
        if actors:
            order = turns.ByChance(seed, actors=len(actors), steps=CALLS_EACH * len(actors))
            turns.Turns(order if seed % 2 else AtWhatTells(seed)).run(self.store, actors)
        self.settle()

    def _player(self, name: str, *arguments: Any) -> Callable[[ObjectStore], object] | None:
        self.counts[f"game: {name}"] += 1
        match name:
            case "sweep":
                return self._sweeper()
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

    def _sweeper(self) -> Callable[[ObjectStore], object]:
        self.swept = True
        return lambda store: self._registry_over(store).sweep()

    # --- A push leans on what goes -----------------------------------------------------------------------------------

    @precondition(lambda self: self.model.shown())
    @rule(
        which=WHICH,
        vm=VM,
        seeds=st.lists(st.integers(0, 10_000), min_size=1, max_size=3),
        late=st.booleans(),
        more=st.integers(0, 7),
    )
    def lean_on_what_goes(self, *, which: int, vm: Vm, seeds: list[int], late: bool, more: int) -> None:
        """A push to another template builds on a version, another one perhaps on that, and what they build on goes.

        Meanwhile one sweep or two; sometimes they may give up a push that is on its way.
        """
        self.step()
        for number, seed in enumerate(seeds):
            if not self.model.shown():
                break
            self.counts["game: leaning"] += 1
            self.clock.now += 1
            id_, row = pick(self.model.shown(), which + number)
            first, second = (pick([one for one in IDS if one != id_], which + at) for at in range(2))
            ground = Base(TemplateId(id_), row.id)
            actors = [self._leaning(first, ground, vm), self._goes(id_), self._sweeper()]
            if more & 1:
                actors.append(self._sweeper())
            if more & 2:
                actors += [self._leaning(second, None, vm, on=first), self._goes(first)]
            if late and (under := self._old_push(first, ground, vm)):
                actors[0] = lambda store, under=under: self._plays(self.committing(under), self._registry_over(store))
            turns.Turns(AtWhatTells(seed)).run(self.store, actors)
            self.settle()

    def _leaning(
        self, template: TemplateId, ground: Base | None, vm: Vm, on: TemplateId | None = None
    ) -> Callable[[ObjectStore], object]:
        """A push that builds on `ground`, or on what is the newest version of `on` by then."""

        def plays(store: ObjectStore) -> None:
            head = self.heads().get(on) if on is not None else None
            latest = head.latest() if head is not None else None
            base = ground or (Base(head.id, latest.id) if latest else None)
            bases = (base,) if base else ()
            self._plays_push(
                self._like(base, Push(template, f"vm {template[-1]}", f"t{self.clock.now}", vm, bases=bases)),
                self._registry_over(store),
            )

        self.opening = True
        return plays

    def _like(self, base: Base | None, push: Push) -> Push:
        """What it pushes is what its base has, so that it needs all of that."""
        if base is not None and base.version in self.made:
            push.vm = self.made[base.version][1].vm
        return push

    def _goes(self, id_: str) -> Callable[[ObjectStore], object]:
        """A template goes, for good."""
        deeds = [self._deleting(id_), self._purging(id_)]
        self.deeds |= {deed.id: deed for deed in deeds}

        def plays(store: ObjectStore) -> None:
            for deed in deeds:
                self._plays(deed, self._registry_over(store))

        return plays

    def _old_push(self, template: TemplateId, ground: Base, vm: Vm) -> Under | None:
        """One that has sent all it has, so long ago that a sweep may give it up."""
        under = self.open(
            self._like(ground, Push(template, f"vm {template[-1]}", f"t{self.clock.now}", vm, bases=(ground,)))
        )
        if under is not None:
            self.upload(under)
            self.jump(25 * HOUR)
            self.deeds[under.push.sid] = self.committing(under)
        return under
