"""The check of a store: whatever of what heads name is hurt, is named, and nothing else."""

import json
from dataclasses import replace

import pytest

from registry.material import BASE, CHUNK, OTHER, Pusher, change_head, change_session, purge, put_marker, read_head, swept
from s3reg.model import format as fmt
from s3reg.registry import Registry
from s3reg.registry.damage import What

TEMPLATE_NAME = "sequoia"


def told(done):
    return [(one.what.value, one.name, one.tag, one.file) for one in done.damage]


def only(store, prefix):
    (stat,) = store.list(prefix)
    return stat.key


def flip(store, key, at=-1):
    data = bytearray(store.get(key).data)
    data[at] ^= 1
    store.put(key, bytes(data))


def rewrite(store, key, change):
    raw = json.loads(store.get(key).data)
    change(raw)
    store.put(key, json.dumps(raw).encode())


@pytest.fixture
def fsck(store):
    """A check by a process of its own."""

    def check(**more):
        return Registry(store).fsck(**more)

    return check


@pytest.fixture
def pushed(node):
    return node.push(BASE, "v1", words=("a", "b", "c"))


@pytest.mark.usefixtures("pushed")
def test_a_sound_store_is_clean_and_counted(node, fsck, store):
    node.push(BASE, "v2", words=("d",))
    node.push(OTHER, "v1", name="other", words=("e",))
    packs = list(store.list(fmt.PACKS))
    for read_data in (0, 100):
        done = fsck(read_data=read_data)
        assert done.clean
        assert (done.templates, done.versions, done.packs) == (2, 3, 3)
        assert done.bytes == sum(stat.size for stat in packs)
        assert done.unsummed == 3
        assert done.read.count == (3 if read_data else 0)
        assert {sort: tally.count for sort, tally in done.orphans.items()} == {"versions": 0, "maps": 0, "packs": 0}
        assert (done.foreign, done.recorded) == ([], 0)
    assert list(store.list(fmt.DAMAGED)) == []
