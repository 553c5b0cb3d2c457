"""What is put through each fault: pushes, pulls, what changes a template, a sweep, a check; as a person types them.

job = OPERATIONS["revert"](site)     everything before it is there
outcome = job.run().outcome()        the command, as a person types it
job.check(outcome)                   it ended well or says what to do; nothing half is visible; the same again succeeds
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import machines
from refusals import PROGRESS, WHERE
from registry.material import Pusher
from s3reg.model.names import template_id
from s3reg.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from campaign.forks import Forked
    from campaign.wired_site import Site
    from machines import Machine
    from running import Outcome

FAILURES = {8, 9, 10, 11, 12, 18, 143}
"""Exit codes of what may come of a fault: damage, no promise kept, nobody answers, this machine, too many, busy, ended."""
DONE = {3, 18}
"""Exit codes of a second try at what the first one had done: what should go is not there, what should be made is."""


@dataclass
class Job:
    """One operation, ready to be run."""

    site: Site
    machine: Machine
    run: Callable[[], Forked]
    before: dict[str, dict[str, bytes]]
    """What the registry shows of the template until it happened: the bytes of each version, by tag."""
    after: dict[str, dict[str, bytes]]
    """What it shows once it has."""
    library: Path | None = None
    """Where a pull should bring the last of these."""
    said: list[str] = field(default_factory=list)
    """What a person read, for each failure."""

    def check(self, outcome: Outcome | None) -> None:
        """What must hold after a fault, whatever it was. None: the command was killed."""
        failed = outcome is None or outcome.code != 0
        if outcome is not None and failed:
            self.said.append(told(outcome))
        if failed:
            assert self.site.tags(self.machine) in (list(self.before), list(self.after)), "half done"
        self.check_library()
        self.site.mend()
        if failed:
            self.again()
        self.site.check_pulls(self.machine, self.after)
        if self.library is not None:
            assert machines.contents(self.library, self.machine) == self.wanted

    @property
    def wanted(self) -> dict[str, bytes]:
        return list(self.after.values())[-1]

    def again(self) -> None:
        """The same command a second time, with nothing in its way: it succeeds, or what it should do is done."""
        outcome = self.run().outcome()
        done = outcome.code in DONE and self.site.tags(self.machine) == list(self.after)
        assert outcome.code == 0 or done, (outcome.code, outcome.err)

    def check_library(self) -> None:
        """The node that pulls has the VM whole, or does not have it."""
        if self.library is not None and (self.library / "vm_lib" / self.machine.id).is_dir():
            assert machines.contents(self.library, self.machine) == self.wanted


def told(outcome: Outcome) -> str:
    """What a failed command says: what is wrong, what to do next, and for whoever runs the registry the request."""
    assert outcome.code in FAILURES, (outcome.code, outcome.err)
    lines = [line for line in outcome.err.splitlines() if not PROGRESS.fullmatch(line) and not aside(line)]
    assert 2 <= len(lines) <= 3, outcome.err
    assert re.fullmatch(r"s3reg: \S.*", lines[0]), outcome.err
    assert re.fullmatch(r" {7}\S.*", lines[1]), outcome.err
    assert all(WHERE.fullmatch(line) for line in lines[2:]), outcome.err
    for trace in ("Error(", "Errno", "object at 0x", "?,", "None", "inside s3reg", "X-Amz-", "signature="):
        assert trace not in outcome.err, outcome.err
    return f"[{outcome.code}] {lines[0]}\n     {lines[1]}"


def aside(line: str) -> bool:
    """Whether it is no part of the failure: how far a sweep came, and what the log says of a command on a store."""
    return line.startswith("until then: ") or re.match(r"\d{4}-\d\d-\d\dT", line) is not None


def pushed(site: Site, count: int, **more: object) -> tuple[Machine, dict[str, dict[str, bytes]]]:
    """A VM, so many versions of which are there; what they have, by tag."""
    machine = site.machine(**more)
    node, found = site.node(machine.library), {}
    for number in range(1, count + 1):
        if number > 1:
            machines.scatter(machine.disk(), 12, seed=number)
        node.push(machine, f"v{number}")
        found[f"v{number}"] = machines.contents(machine.library, machine)
    return machine, found


def only(versions: dict[str, dict[str, bytes]], *tags: str) -> dict[str, dict[str, bytes]]:
    return {tag: versions[tag] for tag in tags}


def push(site: Site, **more: object) -> Job:
    machine = site.machine(**more)
    run = lambda: site.on_node(machine.library, "push", machine.name, "-t", "v1")  # noqa: E731
    return Job(site, machine, run, {}, {"v1": machines.contents(machine.library, machine)})


def delta(site: Site, **more: object) -> Job:
    machine, there = pushed(site, 1, **more)
    machines.scatter(machine.disk(), 20, seed=9)
    after = {**there, "v2": machines.contents(machine.library, machine)}
    return Job(site, machine, lambda: site.on_node(machine.library, "push", machine.name, "-t", "v2"), there, after)


def pull(site: Site, **more: object) -> Job:
    machine, there = pushed(site, 1, **more)
    library = site.folder / f"pulled-{machine.name}"
    return Job(site, machine, lambda: site.on_node(library, "pull", machine.name), there, there, library)


def update(site: Site, **more: object) -> Job:
    """A pull over what the node had pulled before."""
    machine, there = pushed(site, 2, **more)
    library = site.folder / f"pulled-{machine.name}"
    site.node(library).pull(machine, "v1")
    return Over(site, machine, lambda: site.on_node(library, "pull", machine.name), there, there, library)


class Over(Job):
    """A pull into a library that has the version before."""

    def check_library(self) -> None:
        """The old VM, the new one, or none."""
        if self.library is not None and (self.library / "vm_lib" / self.machine.id).is_dir():
            assert machines.contents(self.library, self.machine) in self.after.values()


def revert(site: Site) -> Job:
    machine, there = pushed(site, 3)
    run = lambda: site.on_node(machine.library, "revert", machine.name, "-t", "v2", "-y")  # noqa: E731
    return Job(site, machine, run, there, only(there, "v1"))


def untag(site: Site) -> Job:
    machine, there = pushed(site, 3)
    run = lambda: site.on_node(machine.library, "untag", machine.name, "v2", "-y")  # noqa: E731
    return Job(site, machine, run, there, only(there, "v1", "v3"))


def retag(site: Site) -> Job:
    machine, there = pushed(site, 1)
    run = lambda: site.on_node(machine.library, "retag", machine.name, "v1", "gold")  # noqa: E731
    return Job(site, machine, run, there, {"gold": there["v1"]})


def restore(site: Site) -> Job:
    machine, there = pushed(site, 2)
    site.on_node(machine.library, "untag", machine.name, "v1", "-y").done()
    run = lambda: site.on_node(machine.library, "trash", "restore", machine.name, "v1")  # noqa: E731
    return Job(site, machine, run, only(there, "v2"), there)


def purge(site: Site) -> Job:
    machine, there = pushed(site, 2)
    site.on_node(machine.library, "untag", machine.name, "v1", "-y").done()
    run = lambda: site.on_node(machine.library, "trash", "purge", machine.name, "-y")  # noqa: E731
    return Job(site, machine, run, only(there, "v2"), only(there, "v2"))


def sweep(site: Site) -> Job:
    """Of a version that was purged, and of a push that was given up."""
    machine, there = kept(site)
    number = next(site.numbers)
    machines.scatter(machine.disk(), 12, seed=number)
    site.node(machine.library).push(machine, f"w{number}")
    given_up = Pusher(Registry(site.store), site.store)
    session = given_up.open(template_id(machine.id), "never", machine.name).session
    given_up.files(session, [f"word {number}"])
    for words in (
        ("sessions", "abort", session.id, "-y"),
        ("untag", machine.name, f"w{number}", "-y"),
        ("trash", "purge", machine.name, "-y"),
    ):
        site.on_node(machine.library, *words).done()
    return Job(site, machine, lambda: site.command("gc"), there, there)


def fsck(site: Site) -> Job:
    machine, there = kept(site)
    return Job(site, machine, lambda: site.command("fsck", "--read-data", "-t", machine.name), there, there)


def kept(site: Site) -> tuple[Machine, dict[str, dict[str, bytes]]]:
    """A VM with one version, the same each time."""
    if "machine" not in site.kept:
        site.kept["machine"] = pushed(site, 1)
    return site.kept["machine"]


OPERATIONS: dict[str, Callable[[Site], Job]] = {
    "push": push,
    "delta push": delta,
    "pull": pull,
    "update": update,
    "revert": revert,
    "untag": untag,
    "retag": retag,
    "restore": restore,
    "purge": purge,
    "sweep": sweep,
    "check": fsck,
}
