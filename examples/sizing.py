#!/usr/bin/env python3
"""What a registry takes: storage, requests, bytes, bandwidth and money, for so many nodes. Needs nothing but Python 3.9.

    python3 examples/sizing.py                     the tables of docs/howto/sizing.md, for 10, 100 and 1,000 nodes
    python3 examples/sizing.py --nodes 40 --gb 90 --pulls 8

The formulas are `Load` and `money`; the counts of requests are measured, and a test holds them to a real push and pull.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from typing import Any

PRICED = "May 2026"
"""List prices in US dollars, us-east-1, as published then; elsewhere up to a third higher. Look before you decide."""
PRICES = {  # what -> dollars, and the vendor's page
    "1,000 PUT, COPY, POST, LIST": (0.005, "https://aws.amazon.com/s3/pricing/"),
    "1,000 GET, HEAD": (0.0004, "https://aws.amazon.com/s3/pricing/"),
    "GB-month, S3 Standard, first 50 TB": (0.023, "https://aws.amazon.com/s3/pricing/"),
    "GB to the internet, first 10 TB a month": (0.09, "https://aws.amazon.com/s3/pricing/"),
    "GB to the internet, next 40 TB": (0.085, "https://aws.amazon.com/s3/pricing/"),
    "GB to the internet, next 100 TB": (0.07, "https://aws.amazon.com/s3/pricing/"),
    "GB to the internet, above 150 TB": (0.05, "https://aws.amazon.com/s3/pricing/"),
    "GB through a NAT gateway": (0.045, "https://aws.amazon.com/vpc/pricing/"),
    "hour of a NAT gateway": (0.045, "https://aws.amazon.com/vpc/pricing/"),
    "GB through an interface endpoint": (0.01, "https://aws.amazon.com/privatelink/pricing/"),
    "hour of an interface endpoint in a zone": (0.01, "https://aws.amazon.com/privatelink/pricing/"),
    "hour of a vCPU, Fargate ARM": (0.03238, "https://aws.amazon.com/fargate/pricing/"),
    "hour of a GB, Fargate ARM": (0.00356, "https://aws.amazon.com/fargate/pricing/"),
    "hour of a load balancer": (0.0225, "https://aws.amazon.com/elasticloadbalancing/pricing/"),
}
INTERNET = (
    (10_000, "first 10 TB a month"),
    (40_000, "next 40 TB"),
    (100_000, "next 100 TB"),
    (math.inf, "above 150 TB"),
)
HOURS, DAYS = 730, 365 / 12
"""In a month."""
ZONES = 2
RANGE_GB = 16 * 1024**2 / 1e9
"""The largest range that a pull asks for at once."""
SENT = 1.46
"""Bytes that a push sends, and a version's next pull takes, for each changed one (docs/design.md §3)."""
HELD = 1.53
"""Bytes that the store holds for each one that some version needs (docs/design.md §3)."""
OLD = 4
"""Ranges of a whole version after many pushes, beside those of one that was pushed afresh (docs/design.md §3)."""
PATHS = ("gateway endpoint", "interface endpoint", "NAT gateway", "internet")


@dataclass(frozen=True)
class Requests:
    """What one push or pull asks for. `writes`: PUT, POST, LIST; `reads`: GET, HEAD; both of S3, by whoever asks."""

    api: float
    writes: float
    reads: float

    def __add__(self, other: Requests) -> Requests:
        return Requests(self.api + other.api, self.writes + other.writes, self.reads + other.reads)

    def times(self, count: float) -> Requests:
        """Of so many."""
        return Requests(self.api * count, self.writes * count, self.reads * count)


def push(packs: float, maps: float) -> Requests:
    """At most, of a push that sends so many packs and maps: for each a call for links, a heartbeat and an upload."""
    sent = packs + maps
    return Requests(api=4 + sent, writes=14 + 2 * sent, reads=18 + 3 * sent + maps)


def pull(packs: float, maps: float, gb: float) -> Requests:
    """At most, of a pull of so many GB out of so many packs: a range for each map, and for each 16 MiB of each pack."""
    return Requests(api=2, writes=4, reads=8 + 2 * maps + packs + gb / RANGE_GB)


@dataclass(frozen=True)
class Load:
    """How a registry is used. GB are 10⁹ bytes."""

    nodes: int
    gb: float = 60
    """Of data that a version's disks hold."""
    packed: float = 0.5
    """Of these, what is left after compression."""
    changed: float = 0.12
    """Of a version's chunks, those that the one before it has not."""
    templates: int = 5
    pushes: float = 1
    """A day, of each template."""
    kept: int = 10
    """Versions of each template."""
    trash: float = 7
    """Days."""
    pulls: float = 4
    """A day, of each node: of a version where it has an older one."""
    whole: float = 0.2
    """A day, of each node: of a template that it has nothing of."""
    pack_mib: float = 32
    layers: int = 3
    """Files of a version that have a map: disks' layers and memory."""

    @property
    def full(self) -> float:
        """GB of a whole version over the line."""
        return self.gb * self.packed

    @property
    def delta(self) -> float:
        """GB of a version's difference over the line."""
        return self.full * self.changed * SENT

    def packs(self, gb: float) -> float:
        """Objects that so many GB are."""
        return math.ceil(gb * 1e9 / (self.pack_mib * 1024**2))

    @property
    def down(self) -> float:
        """GB a day that nodes take from the store."""
        return self.nodes * (self.pulls * self.delta + self.whole * self.full)

    @property
    def up(self) -> float:
        """GB a day that nodes send."""
        return self.templates * self.pushes * self.delta

    @property
    def stored(self) -> float:
        """GB on the store: of each template what is kept, and what the trash holds."""
        versions = self.kept + self.trash * self.pushes
        return self.templates * self.full * (1 + (versions - 1) * self.changed) * HELD

    @property
    def requests(self) -> Requests:
        """A day's."""
        pushed = push(self.packs(self.delta), self.layers).times(self.templates * self.pushes)
        pulled = pull(self.packs(self.delta), self.layers, self.delta).times(self.nodes * self.pulls)
        new = pull(self.packs(self.full) * OLD, self.layers, self.full * OLD).times(self.nodes * self.whole)
        sweep = Requests(api=0, writes=20 + 2 * self.packs(self.stored) / 1000, reads=20 + 20 * self.templates)
        return pushed + pulled + new + sweep

    @property
    def mean(self) -> float:
        """Gbit/s that nodes take, over the day."""
        return self.down * 8 / 86_400

    def within(self, hours: float) -> float:
        """Gbit/s if every node takes one new version within so many hours."""
        return self.nodes * self.delta * 8 / (hours * 3600)

    @property
    def replicas(self) -> int:
        """Two survive the loss of a zone; more where all nodes pull within a minute, at 100 calls a second for each."""
        return max(2, math.ceil(self.nodes * 2 / 60 / 100) + 1)


def price(what: str) -> float:
    """Dollars."""
    return PRICES[what][0]


def internet(gb: float) -> float:
    """Dollars for so many GB a month, tier by tier."""
    cost, left = 0.0, gb
    for most, tier in INTERNET:
        part = min(left, most)
        cost, left = cost + part * price(f"GB to the internet, {tier}"), left - part
    return cost


def money(load: Load) -> dict[str, float]:
    """Dollars a month, by what for. The ways of the bytes are alternatives."""
    asked, down, both = load.requests, load.down * DAYS, (load.down + load.up) * DAYS
    endpoint, nat = "hour of an interface endpoint in a zone", "hour of a NAT gateway"
    replica = price("hour of a vCPU, Fargate ARM") + 2 * price("hour of a GB, Fargate ARM")
    return {
        "storage": load.stored * price("GB-month, S3 Standard, first 50 TB"),
        "requests": (
            asked.writes / 1000 * price("1,000 PUT, COPY, POST, LIST") + asked.reads / 1000 * price("1,000 GET, HEAD")
        )
        * DAYS,
        "replicas and load balancer": HOURS * (load.replicas * replica + price("hour of a load balancer")),
        "gateway endpoint": 0,
        "interface endpoint": HOURS * ZONES * price(endpoint) + both * price("GB through an interface endpoint"),
        "NAT gateway": HOURS * ZONES * price(nat) + both * price("GB through a NAT gateway"),
        "internet": internet(down),
    }


def table(loads: list[Load]) -> str:
    """Markdown: a column for each."""
    rows = [("", *(f"{load.nodes:,} nodes" for load in loads)), ("---", *("---:" for _ in loads))]
    costs = [money(load) for load in loads]

    def row(what: str, *cells: str) -> None:
        rows.append((what, *cells))

    row(
        "a whole version; its difference from the one before",
        *(f"{load.full:,.0f}; {load.delta:,.1f} GB" for load in loads),
    )
    row("the store holds", *(size(load.stored) for load in loads))
    row("nodes take a day", *(size(load.down) for load in loads))
    row("nodes send a day", *(size(load.up) for load in loads))
    row("the same as a line, over the day", *(speed(load.mean) for load in loads))
    row("every node takes a new version within an hour", *(speed(load.within(1)) for load in loads))
    row("calls of the registry a day", *(f"{load.requests.api:,.0f}" for load in loads))
    row("S3: PUT, POST, LIST a day", *(f"{load.requests.writes:,.0f}" for load in loads))
    row("S3: GET, HEAD a day", *(f"{load.requests.reads:,.0f}" for load in loads))
    row("replicas", *(str(load.replicas) for load in loads))
    for what in ("storage", "requests", "replicas and load balancer"):
        row(f"{what}, a month", *(f"${cost[what]:,.0f}" for cost in costs))
    for path in PATHS:
        row(f"bytes by {path}, a month", *(f"${cost[path]:,.0f}" for cost in costs))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows) + "\n"


def prices() -> str:
    """Markdown: what is paid for, and where the vendor says so."""
    rows = [("$ each", "what", "source"), ("---:", "---", "---")]
    rows += [(f"{dollars:g}", what, page) for what, (dollars, page) in PRICES.items()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows) + "\n"


def size(gb: float) -> str:
    """In the unit that fits."""
    return f"{gb / 1000:,.1f} TB" if gb >= 1000 else f"{gb:,.0f} GB"  # noqa: PLR2004 - the next unit


def speed(gbit: float) -> str:
    """In the unit that fits."""
    return f"{gbit:,.1f} Gbit/s" if gbit >= 1 else f"{gbit * 1000:,.0f} Mbit/s"


def arguments(words: list[str] | None) -> tuple[dict[str, Any], list[str]]:
    """What was asked for, and the names that are fields of `Load`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nodes", type=int, nargs="+", default=[10, 100, 1000], help="default: 10 100 1000")
    meanings = {
        "gb": "data on a version's disks, GB",
        "packed": "of it, what compression leaves",
        "changed": "of a version, what the one before it has not",
        "templates": "how many",
        "pushes": "a day, of each template",
        "kept": "versions of each template",
        "trash": "days that removed versions stay",
        "pulls": "a day, of each node, that has an older version",
        "whole": "a day, of each node, that has nothing of the template",
        "pack_mib": "MiB of a pack: 8 to 32, as the line gives",
        "layers": "files of a version with a map",
    }
    for name, meaning in meanings.items():
        default = getattr(Load, name)
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=type(default), default=default, help=f"{meaning} ({default})"
        )
    parser.add_argument("--prices", action="store_true", help="the prices it reckons with, and their sources")
    return vars(parser.parse_args(words)), list(meanings)


def main(words: list[str] | None = None) -> int:
    """Print the table of what is asked for."""
    options, fields = arguments(words)
    if options["prices"]:
        print(prices(), end="")
        return 0
    print(table([Load(nodes, **{name: options[name] for name in fields}) for nodes in options["nodes"]]), end="")
    print(f"\nlist prices of {PRICED}, us-east-1, in dollars; of the ways of the bytes only yours counts")
    return 0


if __name__ == "__main__":
    sys.exit(main())
