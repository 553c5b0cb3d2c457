"""`s3reg fsck --repair-from`: what a node still has takes the place of what the store lost, byte for byte."""

import contextlib
import random
import shutil

import pytest

import machines
import sites
from s3reg.cli.main import run
from s3reg.client import Access, Library, Node, PullOptions, PushOptions
from s3reg.client.connection import Connection
from s3reg.client.progress import Silent
from s3reg.client.repair import Hurt, repair
from s3reg.errors import LibraryLacks, VersionChanged
from s3reg.model import format as fmt
from s3reg.registry import Registry
from s3reg.store.files import FilesStore


@pytest.fixture
def place(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def store(place):
    return FilesStore(place)


@pytest.fixture
def baked(tmp_path, place):
    """A VM pushed as v1, and, changed, as v2; its library holds the latter, and the layers of both."""
    machine = machines.make(tmp_path / "baker")
    with sites.address(place) as url, Node(tmp_path / "baker", Access(url)) as node:
        node.push(machine.name, PushOptions("v1"))
        machines.scatter(machine.disk(), 40)
        node.push(machine.name, PushOptions("v2", description="of tonight"))
    return machine


@pytest.fixture
def fsck(place, capsys):
    def check(*more):
        capsys.readouterr()
        code = run(["-j", "fsck", str(place), *map(str, more)])
        import json

        return code, json.loads(capsys.readouterr().out.splitlines()[-1])["body"]

    return check


def hurt_pack(store, number=-1):
    key = sorted(store.list(fmt.PACKS), key=lambda stat: stat.modified)[number].key
    data = bytearray(store.get(key).data)
    data[len(data) // 2] ^= 1
    store.put(key, bytes(data))
    return key


def lose_map(store):
    key = max(store.list(fmt.MAPS), key=lambda stat: stat.modified).key
    store.delete([key])


def lose_version(store):
    key = max(store.list(fmt.VERSIONS), key=lambda stat: stat.modified).key
    store.delete([key])


def pulled(place, tmp_path, machine, tag):
    with sites.address(place) as url, Node(tmp_path / f"runner-{random.random()}", Access(url)) as node:
        node.pull(machine.id, PullOptions(tag=tag))
        return machines.contents(node.library.root, machine)


@pytest.mark.parametrize("harm", [hurt_pack, lose_map, lose_version])
def test_what_a_library_still_has_is_put_back_byte_for_byte(place, store, tmp_path, baked, fsck, harm):
    wanted = machines.contents(tmp_path / "baker", baked)
    harm(store)
    code, told = fsck("--read-data")
    assert code == 8
    assert {row["tag"] for row in told["damage"]} == {"v2"}
    code, told = fsck("--read-data", "--repair-from", tmp_path / "baker")
    assert [row["problem"] for row in told["repairs"]] == [None]
    assert (code, told["damage"]) == (0, [])
    assert pulled(place, tmp_path, baked, "v2") == wanted
    (head,) = Registry(store)._catalog.heads()
    assert [(entry.tag, entry.description) for entry in head.versions] == [("v1", ""), ("v2", "of tonight")]
    assert [entry.tag for entry in head.removed] == ["v2"]
    code, told = fsck("--read-data")
    assert code == 0
    assert all(row["trash"] for row in told["damage"])
