"""The campaign's operations: what is prepared for each, what somebody does, and what may come of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from campaign import port_upkeep as upkeep
from campaign.port_rivals import RIVALS, SWEEP, TOUCH
from campaign.port_world import BAKER, MAIN, NEW, OTHER, RUNNER, Hand
from s3reg import wire
from s3reg.client import clones
from s3reg.errors import TagNotFound, TrashEmpty
from s3reg.wire import trash as messages

if TYPE_CHECKING:
    from s3reg.store import ObjectStore

Act = Callable[[Hand], Any]
CLONE = "clone"


@dataclass(frozen=True)
class Operation:
    """One of them."""

    name: str
    act: Act
    prepare: Act = lambda _: None
    positions: int = 1
    """Calls of the store that it makes at the least."""
    done: frozenset[str] = frozenset()
    """Codes of what somebody is told who does it anew after it was done."""
    nameless: bool = False
    """No id tells one from another: done again, it is always done anew."""
    once: bool = False
    """Done again, it does more."""
    pushed: tuple[str, str] | None = None
    """The VM and the tag that its push makes."""
    library: str | None = None
    """Whose VMs change."""
    left: Callable[[ObjectStore], Any] = lambda _: None
    """What must be, besides what people see, as it is without faults once it is done."""
    tells: bool = False
    """What it gives is what it is for."""
    rivals: tuple[str, ...] = tuple(RIVALS)
    """Who may act meanwhile without changing what it comes to."""
    refusals: frozenset[str] = frozenset()
    """Codes of its own, of what says that it is to be repeated."""
    misled: frozenset[str] = frozenset()
    """Codes of what may come of it where it was lied to; what it leaves behind is another matter then."""


# --- Transfers --------------------------------------------------------------------------------------------------------


def delta(hand: Hand) -> Any:
    return hand.push(MAIN, "v3")


def forced(hand: Hand) -> Any:
    return hand.push(MAIN, "v2", force=True)


def fetched_first(hand: Hand) -> Any:
    hand.pull(MAIN, "v2", fetch_only=True)
    return hand.pull(MAIN, "v2")


def cloned(hand: Hand) -> None:
    made = clones.clone(hand.library(BAKER), MAIN, CLONE)
    hand.machines[CLONE] = type(hand.machines[MAIN])(hand.library(BAKER).root, CLONE, made.id)


# --- Changes of a template --------------------------------------------------------------------------------------------


def reverted(hand: Hand) -> Any:
    def look() -> Any:
        found = hand.template(MAIN)
        return wire.Revert(hand.operation, found.id, tag=tagged(found, "v2").tag, newest=found.versions[-1].id)

    return hand.ask(wire.RevertedSchema, "/revert", hand.once(look))


def deleted(hand: Hand) -> Any:
    def look() -> Any:
        found = hand.template(MAIN)
        return wire.Revert(hand.operation, found.id, everything=True, newest=found.versions[-1].id)

    return hand.ask(wire.RevertedSchema, "/revert", hand.once(look))


def untagged(hand: Hand) -> Any:
    def look() -> Any:
        found = tagged(hand.template(MAIN), "v1")
        return messages.Untag(hand.operation, hand.machines[MAIN].id, tag=found.tag, version=found.id)

    return hand.ask(wire.RevertedSchema, "/untag", hand.once(look))


def retagged(hand: Hand) -> Any:
    def look() -> Any:
        found = tagged(hand.template(MAIN), "v1")
        return messages.Retag(hand.operation, hand.machines[MAIN].id, found.tag, "first")

    return hand.ask(messages.RetaggedSchema, "/retag", hand.once(look))


def tagged(found: wire.TemplateEntry, tag: str) -> wire.VersionEntry:
    """The version of this tag, as a command looks for it."""
    for one in found.versions:
        if one.tag == tag:
            return one
    raise TagNotFound(template=found.name, tag=tag)


def restored(hand: Hand) -> Any:
    def look() -> Any:
        versions = tuple(one.version for one in hand.trash(OTHER))
        if not versions:
            raise TrashEmpty(template=OTHER)
        return messages.Restore(hand.operation, hand.machines[OTHER].id, versions)

    return hand.ask(messages.RestoredSchema, "/trash/restore", hand.once(look))


def purged(hand: Hand) -> Any:
    def look() -> Any:
        versions = tuple(one.version for one in hand.trash(OTHER))
        return messages.Purge(hand.operation, hand.machines[OTHER].id, versions) if versions else None

    wanted = hand.once(look)
    return wanted and hand.ask(messages.PurgedSchema, "/trash/purge", wanted)


OPERATIONS = {
    one.name: one
    for one in (
        Operation("first push", lambda hand: hand.push(NEW, "n1"), positions=30, pushed=(NEW, "n1")),
        Operation("push", delta, positions=45, pushed=(MAIN, "v3")),
        Operation("resumed push", delta, upkeep.half_pushed, positions=40, pushed=(MAIN, "v3")),
        Operation(
            "forced push", lambda hand: hand.push(MAIN, "v2", force=True), positions=45, once=True, pushed=(MAIN, "v2")
        ),
        Operation("push of a clone", lambda hand: hand.push(CLONE, "c1"), cloned, positions=20, pushed=(CLONE, "c1")),
        Operation("pull", lambda hand: hand.pull(OTHER, "o2"), positions=10, library=RUNNER),
        Operation("pull over another version", lambda hand: hand.pull(MAIN, "v2"), positions=10, library=RUNNER),
        Operation("pull that was fetched first", fetched_first, positions=12, library=RUNNER),
        Operation("revert", reverted, positions=5, done=frozenset({"tag-not-found"})),
        Operation("delete", deleted, positions=5, done=frozenset({"template-not-found"})),
        Operation("untag", untagged, positions=5, done=frozenset({"tag-not-found"})),
        Operation("retag", retagged, positions=5, done=frozenset({"tag-not-found"})),
        Operation("restore", restored, positions=5, done=frozenset({"trash-empty"})),
        Operation("purge", purged, positions=3),
        Operation("abort", upkeep.aborted, upkeep.half_pushed, positions=5, left=upkeep.open_sessions),
        Operation("sweep", upkeep.swept, upkeep.littered, positions=60, left=upkeep.keys_left, rivals=(SWEEP, TOUCH)),
        Operation("dry run of a sweep", upkeep.foretold, upkeep.littered, positions=30, tells=True, rivals=(TOUCH,)),
        Operation("check", upkeep.checked, upkeep.spoilt, positions=20, left=upkeep.marks_left, tells=True),
        Operation(
            "repair",
            upkeep.repaired,
            upkeep.spoilt,
            positions=50,
            misled=frozenset({"library-lacks", "file-changed"}),
        ),
        Operation(
            "adoption",
            upkeep.adopted,
            upkeep.copied_elsewhere,
            positions=20,
            left=upkeep.place_left,
            done=frozenset({"not-a-copy"}),
            nameless=True,
            refusals=frozenset({"adoption-disturbed"}),
            misled=frozenset({"copy-damaged"}),
        ),
        Operation("accounts", upkeep.used, positions=5, tells=True),
    )
}
