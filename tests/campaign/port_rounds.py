"""One round: an operation meets faults; then it is done again, and a sweep follows; whatever must hold is looked at."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import shutil
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import secrets_seen
from campaign.port_faults import Fault, Killed, Script
from campaign.port_rivals import GIVES_UP, RIVALS, SWEEP
from campaign.port_site import PATIENT, Site
from campaign.port_world import BAKER, DAY, STORE, Hand, aged, copied
from registry.material import heads, needed_by
from s3reg.errors import S3regError
from s3reg.model import format as fmt
from s3reg.registry import Limits, Registry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from campaign.port_operations import Operation
    from faults import Call
    from machines import Machine
    from s3reg.client.library import Library
    from s3reg.model.names import TemplateId, VersionId
    from s3reg.model.template import Entry, Head
    from s3reg.store import ObjectStore

State = dict[str, Any]
ENDED = {"session-expired", "session-not-found", "commit-invalid"}
"""After these a push begins anew, and sends all of it again."""
UNAVAILABLE = {"store-unavailable", "put-unsettled", "registry-unreachable"}
UNREADABLE = {
    "record-damaged",
    "store-format-damaged",
    "commit-invalid",
    "sweep-stopped",
    "chunk-damaged",
    "copy-damaged",
}
RIVALRY = {"session-expired", "session-not-found", "template-changed", "too-busy", "sweep-stopped"}
ALLOWED = {
    Fault.FAILS: UNAVAILABLE,
    Fault.DENIED: {"store-denied", "link-refused"} | UNAVAILABLE,
    Fault.THROTTLED: UNAVAILABLE,
    Fault.LIMITED: UNAVAILABLE,
    Fault.LOST: UNAVAILABLE,
    Fault.SLOW: RIVALRY,
    Fault.LATE: RIVALRY,
    Fault.CUT: UNREADABLE | UNAVAILABLE,
    Fault.CORRUPT: UNREADABLE | UNAVAILABLE,
    Fault.DIES: {"killed"},
    Fault.DIES_BEHIND: {"killed"},
    Fault.AWAY: UNAVAILABLE,
}
"""The codes with which an operation may end that met a fault; each may also end well."""


@dataclass(frozen=True)
class Strike:
    """What happens to a round: faults by position, how often a node tries, who else acts, who tries again."""

    faults: Mapping[int, Fault]
    tries: int = PATIENT
    rival: str = SWEEP
    anew: bool = False
    """Each further try is another command, which does not know of the one before."""
    then: Mapping[int, Fault] = field(default_factory=dict)
    """What happens to the second try; then there is a third."""

    seed: int = 0
    """Of the bits that flip."""

    @property
    def allowed(self) -> set[str]:
        """Codes of how a try may end."""
        met = {*self.faults.values(), *self.then.values()}
        return {"done"}.union(*(ALLOWED[fault] for fault in met))

    @property
    def lies(self) -> bool:
        """Whether somebody was told what is not so."""
        return not {Fault.CUT, Fault.CORRUPT}.isdisjoint({*self.faults.values(), *self.then.values()})


@dataclass
class Told:
    """What became of a round."""

    ends: list[str]
    """`done`, `killed`, or an error's code, of each try."""
    struck: list[tuple[Call, Fault]]


class Ground:
    """An operation, prepared: rounds are played on copies."""

    def __init__(self, folder: Path, world: Path, found: dict[str, Machine], operation: Operation) -> None:
        self.operation = operation
        self._folder = folder
        self._ready = folder / "ready"
        copied(world, self._ready)
        hand = Hand(Site(self._ready / STORE), moved(found, self._ready))
        operation.prepare(hand)
        self._machines, self._told = hand.machines, hand.told
        self._numbers = itertools.count()
        self.before = seen(hand.site.store)
        self.damage = damage(hand.site.store, read=True)
        with self.round() as clean:
            self.shown_before = clean.shown()
            end = clean.act({}, Strike({}))
            assert end == "done", f"without faults it ended with {end}"
            store = clean.hand.site.store
            self.calls = list(clean.hand.site.script.calls)
            self.after, self.left, self.answer = seen(store), operation.left(store), clean.answer
            self.shown_after = clean.shown()
            clean.sweep()
            self.swept = seen(store)

    @contextlib.contextmanager
    def round(self) -> Iterator[_Round]:
        """A fresh copy."""
        folder = self._folder / str(next(self._numbers))
        copied(self._ready, folder)
        try:
            yield _Round(self, Hand(Site(folder / STORE), moved(self._machines, folder), told=dict(self._told)))
        finally:
            shutil.rmtree(folder)

    def play(self, strike: Strike) -> Told:
        """One round. What fails in it, fails with the strike's name."""
        with self.round() as one:
            try:
                return one.play(strike)
            except Exception as e:
                met = {at: (fault.value, self.calls[at - 1 : at]) for at, fault in strike.faults.items()}
                raise AssertionError(f"{self.operation.name}: {strike}, {met}") from e


class _Round:
    """A copy of what was prepared."""

    def __init__(self, ground: Ground, hand: Hand) -> None:
        self._ground = ground
        self.hand = hand
        self.answer: Any = None
        self._taken: set[str] = set()
        """Packs that the store has said that it has, in this round's push."""

    def play(self, strike: Strike) -> Told:
        operation, struck, ends = self._ground.operation, [], []
        may_end = strike.allowed | operation.refusals | (operation.misled if strike.lies else set())
        for faults in filter(None, (strike.faults, strike.then)):
            end = self._next(faults, strike)
            struck += self.hand.site.script.struck
            assert end in may_end | self._done_before(ends, strike), f"it ended with {end}"
            ends.append(end)
            self._check_visible(strike)
            if operation.once and end == "done":
                break
        if not (operation.once and "done" in ends):
            end = self._next({}, strike)
            assert end in {"done"} | self._done_before(ends, strike), f"the last try ended with {end}"
            ends.append(end)
            if operation.tells and end == "done":
                assert self.answer == self._ground.answer, f"it gave {self.answer}, not {self._ground.answer}"
        self._check_end(strike)
        self._check_pull()
        return Told(ends, struck)

    def _done_before(self, ends: list[str], strike: Strike) -> frozenset[str]:
        """What somebody is told who asks for it anew."""
        operation = self._ground.operation
        return operation.done if ends and (strike.anew or operation.nameless) else frozenset()

    def _next(self, faults: Mapping[int, Fault], strike: Strike) -> str:
        """One more try."""
        if strike.anew:
            self.hand.operation = secrets.token_hex(16)
        end = self.act(faults, strike)
        site = self.hand.site
        again = self._taken & set(packs(site.asked))
        assert not again, f"sent twice: {again}"
        self._taken |= set(packs(site.taken))
        if end in ENDED or strike.rival == GIVES_UP or end == "done":
            self._taken.clear()
        return end

    def act(self, faults: Mapping[int, Fault], strike: Strike) -> str:
        """Do it, while this happens."""
        store = self.hand.site.store

        def rival() -> None:
            with contextlib.suppress(S3regError):
                RIVALS[strike.rival](store)

        self.hand.site = Site(self.hand.site.folder, Script(faults, rival, seed=strike.seed))
        self.hand.tries = strike.tries if faults else PATIENT
        return self._tried()

    def _tried(self) -> str:
        refused: S3regError | None = None
        try:
            self.answer = self._ground.operation.act(self.hand)
        except Killed:
            return "killed"
        except S3regError as e:
            refused = e
        if refused is None:
            return "done"
        secrets_seen.watch(f"{refused} {refused.next_step} {refused.detail}")
        assert str(refused)
        assert refused.next_step
        return refused.code

    def shown(self) -> dict[str, dict[str, bytes]]:
        """Every byte of the VMs that a node's library shows, where the operation is about that."""
        name = self._ground.operation.library
        if name is None:
            return {}
        library = self.hand.library(name)
        return {vm.id: contents(library, vm.id) for vm in library.vms()}

    def _check_visible(self, strike: Strike) -> None:
        """All of it is as it was, or as it will be; and whole."""
        ground, store = self._ground, self.hand.site.store
        states = [self._of(state, strike) for state in (ground.before, ground.after)]
        assert self._of(seen(store), strike) in states, "neither the old state nor the new one"
        self._check_sound(store)
        assert self.shown() in (ground.shown_before, ground.shown_after), "neither the old VM nor the new one"

    def _check_end(self, strike: Strike) -> None:
        """It is as if nothing had happened; and a sweep takes what nobody needs, and no more."""
        ground, store = self._ground, self.hand.site.store
        assert self._of(seen(store), strike) == self._of(ground.after, strike), "not what it comes to without faults"
        assert self.shown() == ground.shown_after
        left = ground.operation.left(store)
        if not (strike.lies and ground.operation.misled):
            assert left == ground.left, f"left over: {left}, not {ground.left}"
        self.sweep()
        assert self._of(seen(store), strike) == self._of(ground.swept, strike), "a sweep took something"
        self._check_sound(store, read=True)
        check_tidy(store)

    def _check_pull(self) -> None:
        """What was pushed comes back byte for byte into a library that has nothing."""
        if self._ground.operation.pushed is not None:
            self.hand.site = Site(self.hand.site.folder)
            machine, tag = self._ground.operation.pushed
            self.hand.pull(machine, tag, library="fresh")
            vm = self.hand.machines[machine].id
            assert contents(self.hand.library("fresh"), vm) == contents(self.hand.library(BAKER), vm)

    def sweep(self) -> None:
        """Sweep, days later."""
        for part in ("gc.d", "check.d"):
            aged(self.hand.site.folder / part, 2 * DAY)
        Registry(self.hand.site.store, limits=Limits(idle_seconds=-1)).sweep()

    def _of(self, state: State, strike: Strike) -> State:
        """The state as far as it has to be the same: whoever is told that all is damaged replaces what is not."""
        if not (strike.lies and self._ground.operation.misled):
            return state
        return {template: (name, deleted, versions) for template, (name, deleted, versions, _) in state.items()}

    def _check_sound(self, store: ObjectStore, *, read: bool = False) -> None:
        found = {what: why for what, why in damage(store, read=read).items() if what not in self._ground.damage}
        assert not found, f"damaged: {found}"


# --- What there is ----------------------------------------------------------------------------------------------------


def moved(found: dict[str, Machine], folder: Path) -> dict[str, Machine]:
    return {name: replace(one, library=folder / BAKER) for name, one in found.items()}


def packs(keys: list[str]) -> list[str]:
    """Of these, the names of packs: their session may be another one by now."""
    return [key.rpartition("/")[2] for key in keys if key.startswith(fmt.PACKS)]


def contents(library: Library, vm: str) -> dict[str, bytes]:
    return {str(file.path.relative_to(library.root)): file.path.read_bytes() for file in library.find(vm).files}


def seen(store: ObjectStore) -> State:
    """What people see: templates, versions and the trash, by tag and the digests of files."""

    def rows(head: Head, entries: Iterable[Entry]) -> list[tuple[str, dict[str, str]]]:
        return [(one.tag, digests(store, head.id, one.id)) for one in entries]

    return {
        head.id: (head.name, head.deleted, rows(head, head.versions), rows(head, head.removed))
        for head in heads(store)
        if head.versions or head.removed
    }


def digests(store: ObjectStore, template: TemplateId, vid: VersionId) -> dict[str, str]:
    """The digest of each file of a version, by name."""
    found = fmt.read_version(store.get(fmt.version_key(template, vid)).data, template, vid)
    return {file.name: file.digest for file in found.files}


def damage(store: ObjectStore, *, read: bool = False) -> dict[tuple[str, str], str]:
    """What a check of the store finds: what is bad, where, and why."""
    found = Registry(store).fsck(read_data=100 if read else 0, record=False)
    return {(one.what.value, one.key): one.reason for one in found.damage}


def check_tidy(store: ObjectStore) -> None:
    """Nothing of ours is left that nobody names."""
    there = {stat.key for prefix in (fmt.PACKS, fmt.MAPS, fmt.VERSIONS) for stat in store.list(prefix)}
    named = [(head.id, entry.id) for head in heads(store) for entry in (*head.versions, *head.removed)]
    needed = set().union(*(needed_by(store, *row) for row in named))
    over = {key for key in there - needed if fmt.is_swept_key(key)}
    over |= {stat.key for prefix in (fmt.SESSIONS, fmt.MARKERS, fmt.CHECK) for stat in store.list(prefix)}
    assert not over, f"nobody needs {over}"
