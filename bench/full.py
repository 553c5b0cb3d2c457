"""A whole disk, up and down, beside `s5cmd cp` of the same raw file."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

from bench import measure, servers
from bench.corpus import GB, MIB, say
from bench.measure import Side
from bench.table import Row

if TYPE_CHECKING:
    from bench.lab import Lab
    from bench.measure import Run

MEMORY = 512 * MIB
RAW = "s3://raw/disk.img"


def push(lab: Lab) -> list[Row]:
    """Push of a VM that no registry has seen, with the proof and without."""
    disk, node = lab.corpus.base, lab.node()
    lab.minio.bucket("raw")

    def fresh() -> None:
        """Another VM in another library: nothing to build on."""
        nonlocal node
        node.forget()
        lab.clear_store()
        node = lab.node().has(disk)

    def proven() -> Run:
        return node.push("v1")

    def unproven() -> Run:
        return node.push("v1", "--no-proof")

    up = Side("s5cmd cp up", lambda: _forget_raw(lab), lambda: _s5cmd(lab, disk, RAW))
    sides = [up, Side("push", fresh, proven), Side("push without proof", fresh, unproven)]
    runs = lab.alternate(sides)
    node.forget()
    _forget_raw(lab)
    lab.clear_store()
    size = lab.corpus.facts.size
    return [
        Row("`s5cmd cp` up of the raw disk", _told(runs["s5cmd cp up"], size)),
        _row("push", runs["push"], runs["s5cmd cp up"], 0.50, size),
        _row("push without proof", runs["push without proof"], runs["s5cmd cp up"], 0.42, size),
        _memory("push", [*runs["push"], *runs["push without proof"]]),
    ]


def pull(lab: Lab) -> list[Row]:
    """Pull into an empty library: durable before it is shown, as usual, and with --no-sync."""
    disk, origin, node = lab.corpus.base, lab.node(), lab.node()
    lab.minio.bucket("raw-down")
    say("  setting up: the raw disk and a version of it on the store")
    raw = "s3://raw-down/disk.img"
    _s5cmd(lab, disk, raw)
    origin.has(disk).push("v1")
    target = lab.folder / "downloaded.img"
    synced: list[float] = []

    def fresh() -> None:
        nonlocal node
        node.forget()
        target.unlink(missing_ok=True)
        node = lab.node()

    def down() -> Run:
        run = _s5cmd(lab, raw, target)
        synced.append(run.seconds + _sync_seconds(target))
        return run

    sides = [
        Side("s5cmd cp down", fresh, down),
        Side("pull", fresh, lambda: node.pull(origin.vm, "v1")),
        Side("pull --no-sync", fresh, lambda: node.pull(origin.vm, "v1", "--no-sync")),
    ]
    runs = lab.alternate(sides)
    measure.run(["cmp", disk, node.disk])
    fresh()
    origin.forget()
    shutil.rmtree(lab.minio.folder / "data/raw-down/disk.img")
    lab.clear_store()
    size, theirs = lab.corpus.facts.size, runs["s5cmd cp down"]
    until_durable = sorted(synced)[len(synced) // 2]
    return [
        Row("`s5cmd cp` down of the raw disk", f"{_told(theirs, size)}; {until_durable:.1f} s with an fsync behind it"),
        _row("pull, durable", runs["pull"], theirs, 0.55, size),
        Row(
            "pull, durable, beside `s5cmd cp` and fsync",
            f"{measure.middle(runs['pull']):.1f} s and {until_durable:.1f} s",
            f"{measure.middle(runs['pull']) / until_durable:.2f} ×",
        ),
        _row("pull --no-sync", runs["pull --no-sync"], theirs, 0.55, size),
        _memory("pull", [*runs["pull"], *runs["pull --no-sync"]]),
    ]


def unchanged(lab: Lab) -> list[Row]:
    """A VM that did not change, pushed and pulled again."""
    node, other = lab.node().has(lab.corpus.base), lab.node()
    node.push("v0")
    other.pull(node.vm, "v0")
    tags = iter(range(1, 1000))
    sides = [
        Side("push again", lambda: None, lambda: node.push(f"v{next(tags)}")),
        Side("pull again", lambda: None, lambda: other.pull(node.vm, "v0")),
    ]
    runs = lab.alternate(sides, least=3)
    node.forget()
    other.forget()
    lab.clear_store()
    return [
        Row(f"{name}, unchanged", f"{measure.middle(took):.2f} s", "", "< 1 s", measure.middle(took) < 1)
        for name, took in runs.items()
    ]


def _s5cmd(lab: Lab, source: object, target: object) -> Run:
    return measure.run(lab.minio.s5cmd("cp", source, target), servers.environment())


def _forget_raw(lab: Lab) -> None:
    shutil.rmtree(lab.minio.folder / "data/raw/disk.img", ignore_errors=True)


def _sync_seconds(path: os.PathLike[str]) -> float:
    began = time.perf_counter()
    with open(path, "rb") as file:  # noqa: PTH123 - any path
        os.fsync(file.fileno())
    return time.perf_counter() - began


def _told(runs: list[Run], size: int) -> str:
    one = measure.median(runs)
    return (
        f"{measure.middle(runs):.1f} s, {size / GB / measure.middle(runs):.2f} raw GB/s, "
        f"user {one.user / size * GB:.1f} s and system {one.system / size * GB:.1f} s a raw GB, "
        f"{one.peak / MIB:.0f} MiB, cores {one.busy:.0%} busy"
    )


def _row(name: str, ours: list[Run], theirs: list[Run], goal: float, size: int) -> Row:
    found, text = measure.ratio(ours, theirs)
    return Row(name, _told(ours, size), text, f"≤ {goal:.2f} × s5cmd", found <= goal)


def _memory(name: str, runs: list[Run]) -> Row:
    most = max(one.peak for one in runs)
    return Row(f"{name}: memory, at most", f"{most / MIB:.0f} MiB", "", f"≤ {MEMORY // MIB} MiB", most <= MEMORY)
