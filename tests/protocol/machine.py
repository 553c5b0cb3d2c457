"""The real registry beside a plain model: what every rule of the machine stands on.

Two replicas serve one store. A verb may meet trouble at any of its store calls, and others may do what they like between
two of them. What a head's operations tell is how the machine knows which of the calls that broke off, or ran beside others,
were done, and in which order; the rest it says beforehand.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from hypothesis.stateful import RuleBasedStateMachine

from faults import Before, Wrapped
from protocol.machine_drawn import WELL
from protocol.machine_model import Model
from protocol.machine_troubles import KINDS, Clock, Dated, Died
from s3reg.errors import S3regError, StoreUnavailable, TooBusy
from s3reg.model import format as fmt
from s3reg.model.template import SessionState
from s3reg.registry import Limits, Registry

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Sequence

    from protocol.machine_drawn import How
    from protocol.machine_model import Row, Template
    from protocol.machine_node import Push
    from s3reg.model.template import Head
    from s3reg.store import ObjectStore

T = TypeVar("T")
Errors = AbstractSet[type[S3regError]]


class Replica:
    """A registry over a line on which a test may put what it likes."""

    def __init__(self, store: ObjectStore, limits: Limits, clock: Clock, kind: type[Registry] = Registry) -> None:
        self.line = Wrapped(store)
        self.registry = kind(self.line, limits=limits, clock=clock)


@dataclass
class Under:
    """A push under way, or what was one."""

    push: Push | None
    """None: whoever opened it never heard of it."""
    opened: float
    beat: float
    expired: bool = False
    committed: bool = False
    gone: bool = False

    def over(self, limits: Limits, now: float) -> bool:
        """Whether a sweep may give it up."""
        return self.expired or now - self.beat > limits.idle_seconds or now - self.opened > limits.age_seconds


@dataclass
class Deed:
    """A verb that changes heads, once: how it is called, why it would be refused now, what it makes of a template."""

    what: str
    id: str
    """That heads note."""
    call: Callable[[Registry], Any]
    refused: Callable[[], Errors]
    apply: Callable[[str, Template], None]
    idle: Callable[[], bool] = lambda: False
    """Whether there is nothing to do for it now, so that nothing is noted."""
    done: bool = False


class Outcome(NamedTuple, Generic[T]):
    """What a call came to."""

    answer: T | None
    error: BaseException | None
    hit: bool
    """Its trouble came."""
    disturbed: bool
    """Others did something meanwhile."""


class Machine(RuleBasedStateMachine):
    """Registries, the model, and how both come to the same."""

    def __init__(self, folder: Path, counts: Counter[str]) -> None:
        super().__init__()
        self.counts = counts
        self.folder = Path(tempfile.mkdtemp(dir=folder))
        self.clock = Clock()
        self.store = Dated(self.folder / "store", self.clock)
        self.pushes: dict[str, Under] = {}
        self.deeds: dict[str, Deed] = {}
        self.made: dict[str, tuple[str, Row]] = {}
        """Every version that ever was visible, with its template."""
        self.noted: dict[str, tuple[str, ...]] = {}
        """Of each head, the operations that the model knows of."""
        self.gens: dict[str, tuple[int, str]] = {}
        self.busy = 0
        """How many verbs are on their way; those that run inside others are for the other replica."""
        self.swept = self.opening = self.whole = False
        """In this step, a sweep ran; an opening broke off. Behind the last one, all was as it must be."""
        self.aborting: set[str] = set()
        """Pushes that their nodes give up."""
        self.began = self.clock.now
        self.jumps = 0
        self.expecting: list[tuple[Callable[[], Errors], set[type[S3regError]]]] = []
        """Of each verb on its way, why it would be refused, and why it would have been at any moment so far."""
        self.turn = 0

    def start(self, keeps: tuple[int, int]) -> None:
        self.keeps = keeps
        self.limits = Limits()
        self.model = Model()
        self.replicas = [self.replica(number) for number in range(2)]
        self.replicas[0].registry.prepare()
        self.whole = True

    def replica(self, number: int) -> Replica:
        """Both are of one registry; but somebody has told them to keep what is removed for different times."""
        return Replica(self.store, Limits(trash_seconds=self.keeps[number]), self.clock)

    # --- Calls -------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """A rule begins."""
        self.counts["steps"] += 1
        self.swept = self.opening = self.whole = False
        self.aborting = set()
        self.began = self.clock.now

    def call(self, act: Callable[[Registry], T], how: How) -> Outcome[T]:
        """Call a verb of a replica."""
        at = min(self.busy, 1)
        replica, store = self.replicas[at], self.store
        befores = []
        for n, actions in how.meanwhile:
            store = Before(store, None, functools.partial(self.meanwhile, actions), n=n)
            befores.append(store)
        if how.trouble:
            store = KINDS[how.trouble.kind](store, how.trouble.n)
        replica.line.store = store
        self.busy += 1
        answer, error = None, None
        try:
            answer = act(replica.registry)
        except (S3regError, Died) as e:
            error = e
        finally:
            self.busy -= 1
            replica.line.store = self.store
        if isinstance(error, Died):
            self.replicas[at] = self.replica(at)
        hit = how.trouble is not None and store.happened
        if how.trouble is not None and hit:
            self.counts[f"trouble: {how.trouble.kind}"] += 1
        return Outcome(answer, error, hit, any(one.happened for one in befores))

    def jump(self, seconds: int) -> None:
        """So much later."""
        self.clock.now += seconds
        self.jumps += 1

    def meanwhile(self, actions: Sequence[tuple[Any, ...]]) -> None:
        """What others do, all of it between two calls of a verb."""
        self.settle()
        for name, *arguments in actions:
            self.counts[f"meanwhile: {name}"] += 1
            getattr(self, name)(*arguments)
            for refused, expected in self.expecting:
                expected.update(refused())

    def attempt(
        self,
        what: str,
        act: Callable[[Registry], T],
        refused: Callable[[], Errors],
        how: How = WELL,
        *,
        perhaps: Errors = frozenset(),
    ) -> T | None:
        """Call a verb; where trouble broke it off, perhaps again. None: it was refused, as it should be, or given up.

        `perhaps`: why else it may be refused where others are at work.
        """
        self.clock.now += 1
        self.counts[what] += 1
        before = refused()
        self.expecting.append((refused, set(before)))
        answer, error, hit, disturbed = self.call(act, how)
        _, expected = self.expecting.pop()
        self.settle()
        if error is None:
            assert disturbed or not before, f"{what} should have been refused: {before}"
            return answer
        if hit and isinstance(error, (Died, StoreUnavailable, TooBusy)):
            assert how.trouble is not None
            self.counts[f"{what}: {'again' if how.trouble.again else 'left'}"] += 1
            return self.attempt(what, act, refused) if how.trouble.again else None
        if type(error) not in (expected | perhaps if disturbed else before):
            raise error
        self.counts[f"{what}: {type(error).__name__}"] += 1
        return None

    def do(self, deed: Deed, how: How = WELL) -> Any:
        """The same for one that heads note."""
        self.deeds[deed.id] = deed
        idle = deed.idle()
        answer = self.attempt(deed.what, deed.call, deed.refused, how)
        if answer is not None and not how.meanwhile:
            assert deed.done or idle, f"nothing tells of {deed.what}"
        return answer

    # --- What was done -----------------------------------------------------------------------------------------------

    def heads(self) -> dict[str, Head]:
        found = {}
        for stat in self.store.list(fmt.HEADS):
            template = fmt.template_of_head_key(stat.key)
            found[template] = fmt.read_head(self.store.get(stat.key).data, template)
        return found

    def settle(self) -> None:
        """Bring the model to where the store is, as far as somebody was at work."""
        self._settle_sessions()
        for id_, head in self.heads().items():
            known = self.noted.get(id_, ())
            at = head.operations.index(known[-1]) + 1 if known else 0
            for operation in head.operations[at:]:
                if operation in self.deeds:
                    self.deeds[operation].done = True
                    self.deeds[operation].apply(id_, self.model[id_])
                else:
                    self._strange(operation, id_, head)
            self.noted[id_] = head.operations
            self._settle_trash(self.model[id_], head)

    def _strange(self, operation: str, id_: str, head: Head) -> None:
        """An operation of a head that nobody was seen to begin: a sweep's."""
        assert self.swept, f"nobody did {operation} to {id_}"

    def _settle_trash(self, template: Template, head: Head) -> None:
        """What a sweep let go; and when what was removed in this step was removed."""
        there = {entry.id: entry for entry in head.removed}
        for row in list(template.trash):
            entry = there.get(row.id)
            if entry is None:
                assert self.swept, f"{row.tag} is gone from the trash of {head.id}"
                assert row.over(self.clock.now), f"{row.tag} of {head.id} went too early"
                template.let_go([row])
            elif row.until is None:
                assert entry.removed is not None
                assert entry.until is not None
                assert self.began <= entry.removed <= self.clock.now
                assert entry.until - entry.removed in self.keeps
                template.keeps(row, entry.until)

    def _settle_sessions(self) -> None:
        now = self.clock.now
        there = {}
        for stat in self.store.list(fmt.SESSIONS):
            sid = fmt.session_of_key(stat.key)
            there[sid] = (fmt.read_session(self.store.get(stat.key).data, sid), stat)
        for sid in there.keys() - self.pushes.keys():
            assert self.opening, f"nobody opened {sid}"
            session, stat = there[sid]
            opened = session.opened or int(stat.modified)
            assert self.began <= opened <= now
            self.pushes[sid] = Under(None, opened, now)
        for sid, under in self.pushes.items():
            if sid not in there:
                given_up = self.swept and under.over(self.limits, now)
                assert under.gone or under.committed or given_up or self._names(sid), (
                    f"push {sid} was given up too early"
                )
                under.gone = True
                continue
            assert not under.gone
            session, stat = there[sid]
            assert session.opened in {None, under.opened}
            if session.state is SessionState.EXPIRED and not under.expired:
                assert sid in self.aborting or (self.swept and under.over(self.limits, now))
                under.expired = True
            under.beat = stat.modified

    def _names(self, sid: str) -> bool:
        """Whether a head tells that the push was committed, though its version be gone by now."""
        return any(sid in head.operations for head in self.heads().values())
