"""One round: an operation meets faults; then it is done again, and a sweep follows; whatever must hold is looked at."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import secrets_seen
from campaign.port_faults import Fault, Killed, Script
from campaign.port_site import PATIENT, Site
from campaign.port_world import BAKER, STORE, Hand, aged, copied
from registry.material import heads, needed_by
from s3reg.errors import S3regError
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE
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
DAY = 24 * 3600
UNAVAILABLE = {"store-unavailable", "put-unsettled", "registry-unreachable"}
UNREADABLE = {"record-damaged", "commit-invalid", "sweep-stopped", "chunk-damaged", "copy-damaged"}
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


def touch(store: ObjectStore) -> None:
    """A generation more for every template."""
    for head in heads(store):
        if not head.deleted:
            arch = "amd64" if head.arch == "arm64" else "arm64"
            Registry(store).set_arch(EVERYONE, head.id, arch=arch, operation=secrets.token_hex(16))


RIVALS = {
    "a sweep": lambda store: Registry(store).sweep(),
    "a sweep that gives pushes up": lambda store: Registry(store, limits=Limits(idle_seconds=-1)).sweep(),
    "a change of each template": touch,
}


@dataclass(frozen=True)
class Strike:
    """What happens to a round: faults by position, how often a node tries, who else acts, who tries again."""

    faults: Mapping[int, Fault]
    tries: int = PATIENT
    rival: str = "a sweep"
    anew: bool = False
    """The second try is another command, which does not know of the first."""


@dataclass
class Told:
    """What became of a round: `done`, `killed`, or an error's code, of each try."""

    first: str
    second: str
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
        hand.site.finish()
        self._machines, self._told = hand.machines, hand.told
        self._numbers = itertools.count()
        self.before = seen(hand.site.store)
        self.damage = damage(hand.site.store)
        with self.round() as clean:
            self.shown_before = clean.shown()
            clean.act(Strike({}))
            self.calls = list(clean.hand.site.script.calls)
            self.after = seen(clean.hand.site.store)
            self.shown_after = clean.shown()

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

    def play(self, strike: Strike) -> Told:
        ground, first = self._ground, self.act(strike)
        site = self.hand.site
        struck = site.script.struck
        allowed = set().union(*(ALLOWED[fault] for fault in strike.faults.values())) | {"done"}
        assert first in allowed, f"it ended with {first}"
        self.check_visible()
        if first == "done" and ground.operation.once:
            second = ""
        else:
            second = self.again(strike)
            self._check_sent(site, first, strike)
        self.check_end()
        return Told(first, second, struck)

    def act(self, strike: Strike) -> str:
        """Do it, while this happens."""
        store = self.hand.site.store
        script = Script(strike.faults, lambda: RIVALS[strike.rival](store), seed=sum(strike.faults))
        self.hand.site = Site(self.hand.site.folder, script)
        self.hand.tries = strike.tries
        return self._tried()

    def again(self, strike: Strike) -> str:
        """Do it once more, and nothing happens."""
        self.hand.site, self.hand.tries = Site(self.hand.site.folder), PATIENT
        if strike.anew:
            self.hand.operation = secrets.token_hex(16)
        second = self._tried()
        done = self._ground.operation.done if strike.anew else frozenset()
        assert second in {"done", *done}, f"the second try ended with {second}"
        return second

    def _tried(self) -> str:
        refused: S3regError | None = None
        try:
            self._ground.operation.act(self.hand)
        except Killed:
            return "killed"
        except S3regError as e:
            refused = e
        finally:
            self.hand.site.finish()
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

    def check_visible(self) -> None:
        """All of it is as it was, or as it will be; and whole."""
        ground, store = self._ground, self.hand.site.store
        assert seen(store) in (ground.before, ground.after), "neither the old state nor the new one"
        found = damage(store)
        assert found <= ground.damage, f"damaged: {found}"
        assert self.shown() in (ground.shown_before, ground.shown_after), "neither the old VM nor the new one"

    def check_end(self) -> None:
        """It is as if nothing had happened; and a sweep takes what nobody needs, and no more."""
        ground, store = self._ground, self.hand.site.store
        assert seen(store) == ground.after, "not what it comes to without faults"
        assert self.shown() == ground.shown_after
        folder = self.hand.site.folder
        for part in ("gc.d", "check.d"):
            aged(folder / part, 2 * DAY)
        Registry(store, limits=Limits(idle_seconds=-1)).sweep()
        assert seen(store) == ground.after, "a sweep took something"
        found = damage(store, read=True)
        assert found <= ground.damage, f"damaged: {found}"
        check_tidy(store)

    def _check_sent(self, first: Site, ended: str, strike: Strike) -> None:
        """What the store has said that it has is not sent again."""
        if ended not in ENDED and strike.rival != "a sweep that gives pushes up":
            again = set(packs(first.taken)) & set(packs(self.hand.site.asked))
            assert not again, f"sent twice: {again}"


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


def damage(store: ObjectStore, *, read: bool = False) -> set[tuple[str, str, str]]:
    """What a check of the store finds: what is bad, where, and why."""
    found = Registry(store).fsck(read_data=100 if read else 0, record=False)
    return {(one.what.value, one.key, one.reason) for one in found.damage}


def check_tidy(store: ObjectStore) -> None:
    """Nothing is left that nobody names."""
    there = {stat.key for prefix in (fmt.PACKS, fmt.MAPS, fmt.VERSIONS) for stat in store.list(prefix)}
    named = [(head.id, entry.id) for head in heads(store) for entry in (*head.versions, *head.removed)]
    assert there == set().union(*(needed_by(store, *row) for row in named))
    assert [stat.key for prefix in (fmt.SESSIONS, fmt.MARKERS, fmt.CHECK) for stat in store.list(prefix)] == []
