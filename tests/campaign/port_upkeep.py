"""The campaign's operations of whoever looks after a store: what each finds there, and what it does."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campaign.port_faults import LINK_PUT, Fault, Killed, Script
from campaign.port_site import Site
from campaign.port_world import DAY, MAIN, NEW, OTHER, RUNNER, Hand, aged
from registry.material import change_head, put_marker, read_head, sessions
from s3reg import wire
from s3reg.client import repair
from s3reg.client.progress import Silent
from s3reg.model import format as fmt
from s3reg.model import format_access
from s3reg.model.access import ApiKey
from s3reg.model.identity import EVERYONE
from s3reg.model.template import SessionState
from s3reg.registry import Limits, Registry
from s3reg.store import Match, paths
from s3reg.wire import sessions as session_messages
from s3reg.wire import usage as usage_messages

if TYPE_CHECKING:
    from faults import Call
    from s3reg.store import ObjectStore

LIMITS = Limits(idle_seconds=DAY)
NOBODY, NOBODYS = "0" * 8 + "-0000-4000-8000-" + "0" * 12, "c" * 32
"""A template and a version that were never there."""
LONG_AGO = 1_500_000_000
ELSEWHERE = "s3://the-original"


# --- What is prepared -------------------------------------------------------------------------------------------------


class DiesSending(Script):
    """Everything ends with the upload behind the first pack."""

    def next(self, call: Call) -> Fault | None:
        packs = sum(one.is_on(LINK_PUT, fmt.PACKS) for one in self.calls)
        if packs and call.is_on(LINK_PUT, ""):
            self.strikes = {len(self.calls) + 1: Fault.DIES}
        return super().next(call)


def died_sending(hand: Hand, machine: str, tag: str) -> None:
    """A push that dies once the store has a pack."""
    hand.site = Site(hand.site.folder, DiesSending())
    with contextlib.suppress(Killed):
        hand.push(machine, tag)
    assert [key for key in hand.site.taken if key.startswith(fmt.PACKS)], "no pack was sent"
    assert hand.site.script.struck, "it lives"
    hand.site = Site(hand.site.folder)


def half_pushed(hand: Hand) -> None:
    """A push of MAIN that was killed with a pack on the store."""
    died_sending(hand, MAIN, "v3")


def littered(hand: Hand) -> None:
    """One of everything that a sweep may clear away, and a push under way, which it must leave alone."""
    died_sending(hand, NEW, "n1")
    given_up = sessions(hand.site.store)
    Registry(hand.site.store).abort(EVERYONE, given_up[0].id)
    half_pushed(hand)
    store, folder = hand.site.store, hand.site.folder
    aged(folder / "sessions.d", 2 * DAY)
    died_sending(hand, OTHER, "o4")
    other = hand.machines[OTHER].id
    ended = [replace(one, removed=LONG_AGO, until=LONG_AGO) for one in read_head(store, other).removed]
    change_head(store, other, removed=tuple(ended))
    store.put(fmt.pull_key(NOBODY, NOBODYS), b"")
    store.put(fmt.damaged_key(NOBODYS, "d" * 64), b"")
    store.put(fmt.scratch_key("e" * 32), b"")
    store.put(format_access.spent_key(LONG_AGO, "f" * 24), b"")
    put_marker(store, "a" * 32, [])
    aged(folder / "gc.d", 2 * DAY)
    aged(folder / "check.d", 2 * DAY)
    store.put("events/2017/01/01/000000-" + "1" * 32 + ".json", b"{}")
    store.put("packs/main/foreign", b"somebody's")
    key = ApiKey("jo", "2" * 32, b"public", ("dev",), LONG_AGO, LONG_AGO + 1)
    store.put(format_access.api_key_key("jo"), format_access.write_api_key(key))


def spoilt(hand: Hand) -> None:
    """The runner has v2, one of whose packs went bad on the store."""
    hand.pull(MAIN, "v2")
    head = read_head(hand.site.store, hand.machines[MAIN].id)
    newest = head.versions[-1]
    version = fmt.read_version(hand.site.store.get(fmt.version_key(head.id, newest.id)).data, head.id, newest.id)
    own = sorted({use.pack.sha256 for file in version.files for use in file.packs if use.pack.sid == newest.id})
    path = Path(hand.site.folder) / paths.of_key(fmt.pack_key(version.domain, newest.id, own[0]))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def copied_elsewhere(hand: Hand) -> None:
    """The store is a copy of another one, made while a push and a sweep were under way there."""
    half_pushed(hand)
    store = hand.site.store
    put_marker(store, "a" * 32, [])
    found = store.get(fmt.FORMAT_KEY)
    there = replace(fmt.read_format(found.data), made_as=ELSEWHERE)
    store.put(fmt.FORMAT_KEY, fmt.write_format(there, found.data), only_if=Match(found.stat.etag))


# --- What is done -----------------------------------------------------------------------------------------------------


def aborted(hand: Hand) -> Any:
    with hand.site.line(tries=hand.tries) as line:
        there = line.ask(session_messages.SessionsAnswerSchema, "GET", f"{wire.PREFIX}/sessions").sessions
        for one in there:
            line.call("POST", f"{wire.PREFIX}/sessions/abort", wire.write(session_messages.SessionName(one.session)))


def swept(hand: Hand) -> Any:
    return Registry(hand.site.port, limits=LIMITS).sweep()


def foretold(hand: Hand) -> Any:
    return asdict(Registry(hand.site.port, limits=LIMITS).sweep(dry_run=True))


def checked(hand: Hand) -> Any:
    found = Registry(hand.site.port).fsck(read_data=100)
    return found.damage, found.versions, found.packs, found.bytes, found.recorded


def used(hand: Hand) -> Any:
    with hand.site.line(tries=hand.tries) as line:
        return line.ask(usage_messages.UsageAnswerSchema, "GET", f"{wire.PREFIX}/usage")


def adopted(hand: Hand) -> Any:
    Registry(hand.site.port).adopt()


def repaired(hand: Hand) -> Any:
    """As `s3reg fsck --read-data --repair-from` does it."""
    found = Registry(hand.site.port).fsck(read_data=100, seed=secrets.randbits(32)).damage
    hurt = dict.fromkeys(
        repair.Hurt(one.template, one.version, one.tag)
        for one in found
        if one.template is not None and one.version is not None and one.tag and not one.trash
    )
    avoid = frozenset(str(one.version) for one in found if one.version is not None)
    with hand.site.line(tries=hand.tries) as line:
        for outcome in repair.repair(line, hand.library(RUNNER), hurt, avoid, Silent()):
            if outcome.problem is not None:
                raise outcome.problem


# --- What is left -----------------------------------------------------------------------------------------------------


def keys_left(store: ObjectStore) -> Any:
    """All that there is, but for what a sweep that died leaves for a while, and what is written of events and of sweeps."""
    passing = (fmt.MARKERS, fmt.CHECK, fmt.EVENTS, fmt.SWEPT_KEY)
    there = {stat.key for stat in store.list("") if not stat.key.startswith(passing)}
    old = {stat.key for stat in store.list(f"{fmt.EVENTS}2017/")}
    return there | old, ended_keys(store)


def ended_keys(store: ObjectStore) -> list[bool]:
    """Of each API key, whether it is without its public half."""
    return [
        not format_access.read_api_key(store.get(stat.key).data, stat.key).public_key
        for stat in store.list(format_access.KEYS)
    ]


def open_sessions(store: ObjectStore) -> Any:
    return [one.template for one in sessions(store) if one.state is SessionState.OPEN]


def marks_left(store: ObjectStore) -> Any:
    return [stat.key for stat in store.list(fmt.DAMAGED)]


def place_left(store: ObjectStore) -> Any:
    made_as = fmt.read_format(store.get(fmt.FORMAT_KEY).data).made_as
    return made_as, open_sessions(store), [stat.key for stat in store.list(fmt.MARKERS)]
