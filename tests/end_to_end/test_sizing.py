"""examples/sizing.py counts what a push and a pull really ask for, and docs/howto/sizing.md is what it prints."""

import contextlib
import random
import re
from pathlib import Path

import pytest

import examples
import machines
import running
import wired
from http_wires import Wire
from machines import KIB, MIB
from s3reg.api import create_app
from s3reg.settings import Settings
from s3reg.store.s3 import S3Store

HOME = Path(__file__).parents[2]


sizing = examples.module("sizing")


@pytest.fixture
def place(minio, bucket, in_memory):
    """`wired.Wired`, and a third wire: between the registry and the store."""
    with contextlib.ExitStack() as stack:
        registry, nodes = (stack.enter_context(Wire(minio.endpoint)) for _ in range(2))
        name = bucket(minio)
        store = S3Store(name, endpoint=registry.endpoint, signing_endpoint=nodes.endpoint, region=minio.region)
        served = stack.enter_context(
            contextlib.closing(wired._Served(create_app(Settings(store=f"s3://{name}"), store)))
        )
        api = stack.enter_context(Wire(served.endpoint))
        yield wired.Wired(api, nodes, store, in_memory, stack), registry


def asked(place, registry):
    """What went by since the last look, as `Requests`, and how many packs and maps were sent. Deletes cost nothing."""
    requests = [*place.store.passed, *registry.passed]
    writes = [one for one in requests if one.method in {"PUT", "POST"} or "list-type=" in one.target]
    reads = [one for one in requests if one.method in {"GET", "HEAD"} and one not in writes]
    sent = {kind: len(place.store.of("PUT", kind)) for kind in ("packs", "maps")}
    found = sizing.Requests(len(place.api.passed), len(writes), len(reads))
    for wire in (place.api, place.store, registry):
        wire.passed.clear()
    return found, sent


def fits(found, formula):
    """Whether the formula is an upper bound, and not twice what is true."""
    for name in ("api", "writes", "reads"):
        assert getattr(found, name) <= getattr(formula, name) <= 2 * getattr(found, name) + 4, (name, found, formula)


def test_a_push_and_a_pull_ask_for_as_much_as_the_formulas_say(place):
    place, registry = place
    node, other = (place.node(stall=running.SECONDS) for _ in range(2))
    machine = machines.make(node.library.root, sizes=(), state_size=0)
    chance = random.Random(1)
    for number, size in enumerate((40 * MIB, 9 * MIB)):
        machine.drives.append(f"{number:032x}.img")
        machine.disk(number).write_bytes(chance.randbytes(size))
    machine.write_config()
    node.push(machine, "v1")
    found, sent = asked(place, registry)
    assert (sent["packs"] > 2, sent["maps"]) == (True, 2)
    fits(found, sizing.push(**sent))
    other.pull(machine, "v1")
    fits(asked(place, registry)[0], sizing.pull(sent["packs"], 2, 49 * MIB / 1e9))
    with machine.disk(0).open("r+b") as file:
        file.seek(20 * MIB)
        file.write(chance.randbytes(300 * KIB))
    node.push(machine, "v2")
    found, sent = asked(place, registry)
    assert sent == {"packs": 1, "maps": 1}
    fits(found, sizing.push(**sent))
    other.pull(machine, "v2")
    fits(asked(place, registry)[0], sizing.pull(1, 1, 512 * KIB / 1e9))


@pytest.mark.parametrize("words", [[], ["--prices"]], ids=["sizes", "prices"])
def test_the_page_has_the_tables_that_the_program_prints(words, capsys):
    assert sizing.main(words) == 0
    printed = re.search(r"(?:\|.*\|\n)+", capsys.readouterr().out)[0]
    assert printed in (HOME / "docs/howto/sizing.md").read_text(), printed


def test_the_ways_of_the_bytes_cost_what_is_asked_for_them():
    load = sizing.Load(500, pulls=0, whole=2)  # 500 nodes that take 60 GB a day
    cost = sizing.money(load)
    assert load.down == 30_000
    assert cost["gateway endpoint"] == 0
    assert 41_000 < cost["NAT gateway"] < 41_500
    assert 9_100 < cost["interface endpoint"] < 9_250
    assert 49_000 < cost["internet"] < 50_000
    assert round(load.mean, 1) == 2.8


def test_more_of_anything_never_costs_less():
    least = sizing.Load(10)
    for name in ("nodes", "gb", "packed", "changed", "templates", "pushes", "kept", "trash", "pulls", "whole"):
        more = sizing.Load(**{"nodes": 10, name: getattr(least, name) * 3})
        before, after = sizing.money(least), sizing.money(more)
        assert all(after[what] >= before[what] for what in before), name
        assert after != before or name == "packed", name
