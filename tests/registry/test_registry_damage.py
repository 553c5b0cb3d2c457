"""A head that cannot be read whole: shown as far as it can be, never acted on, and in nobody's way."""

import json

import pytest

from registry.material import BASE, OTHER, Pusher
from s3reg.errors import NameTaken, RecordDamaged
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE
from s3reg.registry import Registry

OPERATION = "1" * 32


@pytest.fixture
def damaged(node, store):
    """BASE has a version a and a version b, whose entry lost its size; OTHER is sound."""
    for tag in ("a", "b"):
        node.push(BASE, tag)
    node.push(OTHER, name="fine")
    key = fmt.head_key(BASE)
    raw = json.loads(store.get(key).data)
    del raw["versions"][1]["size"]
    store.put(key, json.dumps(raw).encode())
    return store.get(key).data


@pytest.mark.usefixtures("damaged")
def test_s20_a_damaged_head_is_listed_and_described_as_far_as_it_can_be_read(store, caplog):
    registry = Registry(store)
    heads = registry.templates(EVERYONE)
    assert [(head.name, [entry.tag for entry in head.versions]) for head in heads] == [
        ("fine", ["v1"]),
        ("sequoia", ["a"]),
    ]
    assert [record.event for record in caplog.records if hasattr(record, "event")].count("head-unreadable") == 1
    for ref in (BASE, BASE.upper(), "sequoia"):
        told = registry.describe(EVERYONE, ref)
        assert [entry.tag for entry in told.head.versions] == ["a"]
        assert [version is not None for version in told.versions] == [True]


def test_s20_nothing_is_done_on_the_word_of_a_damaged_head(damaged, store):
    registry = Registry(store)
    for ref in (BASE, "sequoia"):
        for act in (
            lambda ref: registry.plan(EVERYONE, ref),
            lambda ref: registry.plan(EVERYONE, ref, tag="a"),
            lambda ref: registry.config(EVERYONE, ref, tag="a"),
            lambda ref: registry.revert(EVERYONE, ref, operation=OPERATION),
            lambda ref: registry.delete(EVERYONE, ref, operation=OPERATION),
            lambda ref: registry.set_arch(EVERYONE, ref, arch="arm64", operation=OPERATION),
            lambda ref: registry.rename(EVERYONE, ref, name="x", operation=OPERATION),
        ):
            with pytest.raises(RecordDamaged):
                act(ref)
    with pytest.raises(RecordDamaged):
        Pusher(registry, store).push(BASE, "c")
    assert store.get(fmt.head_key(BASE)).data == damaged


@pytest.mark.usefixtures("damaged")
def test_s20_the_name_of_a_damaged_template_is_not_free(store):
    with pytest.raises(NameTaken):
        Registry(store).rename(EVERYONE, OTHER, name="sequoia", operation=OPERATION)


@pytest.mark.parametrize("data", [b"", b"{", b"null", b'{"v":1}', b'{"v":99}', b"\xff"])
def test_s20_of_a_head_that_does_not_tell_its_name_only_the_log_tells(node, store, data, caplog):
    node.push(OTHER, name="fine")
    store.put(fmt.head_key(BASE), data)
    registry = Registry(store)
    for _ in range(2):
        assert [head.name for head in registry.templates(EVERYONE)] == ["fine"]
    assert [record.event for record in caplog.records if hasattr(record, "event")].count("head-unreadable") == 1
    assert registry.describe(EVERYONE, OTHER).head.name == "fine"
