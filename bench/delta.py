"""An update of the disk: what goes over the line for it, and how long it takes, up, down and back."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from bench import measure
from bench.corpus import MIB, say
from bench.lab import library_environment
from bench.measure import Side
from bench.table import Row

if TYPE_CHECKING:
    from pathlib import Path

    from bench.lab import Lab
    from bench.measure import Run


def push(lab: Lab) -> list[Row]:
    """Push of the update, beside hashing the whole disk on all cores and nothing else."""
    corpus, node = lab.corpus, lab.node()

    def changed() -> None:
        nonlocal node
        node.forget()
        lab.clear_store()
        node = lab.node().has(corpus.base)
        node.push("v1")
        node.has(corpus.updated)

    sides = [
        Side("hash the disk", lambda: None, lambda: hashing(corpus.updated)),
        Side("delta push", changed, lambda: node.push_told("v2")),
    ]
    runs = lab.alternate(sides)
    node.forget()
    lab.clear_store()
    told = measure.median(runs["delta push"]).answer
    facts = corpus.facts
    times = int(told["stored_raw"]) / facts.changed_bytes
    alive = int(told["stored_raw"]) / max(1, facts.changed_bytes - facts.zeroed * 4096)
    found, text = measure.ratio(runs["delta push"], runs["hash the disk"])
    return [
        Row(
            "delta push: bytes before compression",
            f"{int(told['stored_raw']) / MIB:.0f} MiB for {facts.changed_bytes / MIB:.0f} MiB of changed 4 KiB blocks, "
            f"{facts.zeroed * 4096 / MIB:.0f} MiB of them zeros now; {int(told['sent']) / MIB:.0f} MiB sent",
            f"{times:.2f} × ({alive:.2f} × of those that are not zeros)",
            "≤ 2.5 × the changed blocks",
            times <= 2.5,
        ),
        Row(
            "delta push: time, beside hashing the disk",
            f"{_seconds(runs['delta push'])} and {_seconds(runs['hash the disk'])}",
            text,
            "disk or hashing speed: ≤ 1.3 ×",
            found <= 1.3,
        ),
    ]


def pull(lab: Lab) -> list[Row]:
    """Pull of the update onto the version before, of that version back again, and of the update into nothing."""
    corpus, origin, node, empty = lab.corpus, lab.node(), lab.node(), lab.node()
    say("  setting up: both versions on the store, the older one on a node")
    origin.has(corpus.base).push("v1")
    origin.has(corpus.updated).push("v2")
    node.pull(origin.vm, "v1")

    def fresh() -> None:
        nonlocal empty
        empty.forget()
        empty = lab.node()

    sides = [
        Side("full pull", fresh, lambda: empty.pull(origin.vm, "v2")),
        Side("delta pull", empty.forget, lambda: node.pull(origin.vm, "v2")),
        Side("pull back", lambda: None, lambda: node.pull(origin.vm, "v1")),
    ]
    runs = lab.alternate(sides)
    measure.run(["cmp", corpus.base, node.disk])
    for one in (origin, node, empty):
        one.forget()
    lab.clear_store()
    delta, delta_text = measure.ratio(runs["delta pull"], runs["full pull"])
    back, back_text = measure.ratio(runs["pull back"], runs["delta pull"])
    return [
        Row(
            "delta pull, beside a full one",
            f"{_seconds(runs['delta pull'])} and {_seconds(runs['full pull'])}",
            delta_text,
            "never slower",
            delta <= 1,
        ),
        Row(
            "pull back to the older tag, beside forward",
            f"{_seconds(runs['pull back'])} and {_seconds(runs['delta pull'])}",
            back_text,
            "no more than forward: ≤ 1.1 ×",
            back <= 1.1,
        ),
    ]


def hashing(disk: Path) -> Run:
    """Hash every chunk of the disk's data on all cores."""
    return measure.run([sys.executable, "-m", "bench.driver", "hash", disk], library_environment())


def _seconds(runs: list[Run]) -> str:
    return f"{measure.middle(runs):.1f} s"
