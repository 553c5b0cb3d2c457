"""Listing, finding, describing: what can be read is shown, what cannot is skipped and told to the log."""

import logging

import pytest

from faults import Counting
from registry.askers import guest
from registry.material import BASE, OTHER, Pusher, change_head, read_head
from s3reg.errors import (
    FormatUnknown,
    NameAmbiguous,
    RecordDamaged,
    TagNotFound,
    TemplateNotFound,
    VersionNotFound,
)
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE
from s3reg.registry import Registry

NOBODY = guest("nobody")


def events(caplog):
    """What is told of beyond the usual course of things."""
    return [record.event for record in caplog.records if record.levelno >= logging.WARNING]


def test_an_empty_store_lists_nothing(registry):
    assert registry.templates(EVERYONE) == []


def test_templates_are_listed_by_name(node, registry):
    node.push(BASE, name="b")
    node.push(OTHER, name="a")

    assert [head.name for head in registry.templates(EVERYONE)] == ["a", "b"]


def test_a_deleted_template_is_neither_listed_nor_found(node, store, registry):
    node.push(BASE, name="a")
    change_head(store, deleted=True)

    assert registry.templates(EVERYONE) == []
    for ref in ("a", BASE):
        with pytest.raises(TemplateNotFound):
            registry.find(EVERYONE, ref)


def test_what_may_not_be_listed_is_not_there(node, registry):
    node.push(BASE, name="a")

    assert registry.templates(NOBODY) == []
    for ref in ("a", BASE):
        with pytest.raises(TemplateNotFound):
            registry.find(NOBODY, ref)


@pytest.mark.parametrize("data", [b"", b"not json", b"[]", b"{}", b'{"v": 2}', b'{"v": 1, "id": "x"}'])
def test_s20_a_damaged_head_hides_no_other_and_is_told_once(node, store, registry, caplog, data):
    node.push(OTHER, name="fine")
    store.put(fmt.head_key(BASE), data)

    for _ in range(3):
        assert [head.name for head in registry.templates(EVERYONE)] == ["fine"]
    assert events(caplog) == ["head-unreadable"]


def test_s20_a_head_under_the_key_of_another_is_damage(node, store, registry, caplog):
    node.push(OTHER, name="fine")
    store.put(fmt.head_key(BASE), store.get(fmt.head_key(OTHER)).data)

    assert [head.id for head in registry.templates(EVERYONE)] == [OTHER]


def test_a_damaged_head_asked_for_by_id_is_damage_and_not_absence(store, registry):
    store.put(fmt.head_key(BASE), b"not json")
    with pytest.raises(RecordDamaged):
        registry.find(EVERYONE, BASE)
    store.put(fmt.head_key(BASE), b'{"v": 2}')
    with pytest.raises(FormatUnknown):
        registry.find(EVERYONE, BASE)


@pytest.mark.parametrize(
    "key", [".DS_Store", "A.json", "x.json", f"{BASE}", f"{BASE}.json.bak", f"{BASE.replace('-', '')}.json", "a/b.json"]
)
def test_s21_foreign_keys_among_the_heads_are_told_and_passed_over(node, store, registry, caplog, key):
    node.push(OTHER, name="fine")
    store.put(f"{fmt.HEADS}{key}", b"x")

    for _ in range(3):
        assert [head.name for head in registry.templates(EVERYONE)] == ["fine"]
    assert events(caplog) == ["foreign-key"]


# --- Finding ---------------------------------------------------------------------------------------------------------


def test_a_template_is_found_by_id_in_any_spelling_and_by_name(node, registry):
    node.push(BASE, name="séquoia")

    for ref in (BASE, BASE.upper(), BASE.replace("-", ""), "séquoia", "se\u0301quoia"):
        assert registry.find(EVERYONE, ref).id == BASE


def test_a_template_whose_name_spells_a_uuid_is_found_by_it(node, registry):
    node.push(BASE, name=OTHER)

    assert registry.find(EVERYONE, OTHER).id == BASE


def test_an_id_goes_before_a_name_that_spells_it(node, registry):
    node.push(OTHER, name="other")
    node.push(BASE, name=OTHER)

    assert registry.find(EVERYONE, OTHER).id == OTHER


def test_t6_an_ambiguous_name_names_the_ids(node, registry):
    node.push(BASE, name="a")
    node.push(OTHER, name="a", same_name=True)

    with pytest.raises(NameAmbiguous) as caught:
        registry.find(EVERYONE, "a")
    assert BASE in str(caught.value)
    assert OTHER in str(caught.value)


@pytest.mark.parametrize("ref", ["", "nope", "../x", "a\0b", "x" * 10_000, "\ud800", OTHER])
def test_what_names_no_template_is_not_found(node, registry, ref):
    node.push(BASE, name="a")

    with pytest.raises(TemplateNotFound):
        registry.find(EVERYONE, ref)


def test_a_version_is_chosen_by_tag_or_number_and_is_the_newest_otherwise(node, registry):
    node.push(BASE, "v1", words="a")
    node.push(BASE, "v2", words="b")

    assert registry.version(EVERYONE, BASE)[1].tag == "v2"
    assert registry.version(EVERYONE, BASE, tag="v1")[1].tag == "v1"
    assert registry.version(EVERYONE, BASE, number=0)[1].tag == "v1"
    with pytest.raises(TagNotFound):
        registry.version(EVERYONE, BASE, tag="v3")
    with pytest.raises(VersionNotFound):
        registry.version(EVERYONE, BASE, number=2)


def test_a_version_whose_record_is_missing_is_damage(node, store):
    done = node.push(BASE, "v1")
    store.delete([fmt.version_key(BASE, done.entry.id)])

    with pytest.raises(RecordDamaged):
        Registry(store).version(EVERYONE, BASE)


# --- Describing ------------------------------------------------------------------------------------------------------


def test_a_description_has_each_version_with_its_files_and_its_last_pull(node, store, registry):
    one = node.push(BASE, "v1", words="a", description="first")
    two = node.push(BASE, "v2", words="b")
    registry.pulled(EVERYONE, BASE, two.entry.id)
    store.put(f"pulls/{BASE}/.DS_Store", b"")

    found = registry.describe(EVERYONE, "sequoia")

    assert [version.id for version in found.versions] == [one.entry.id, two.entry.id]
    assert [file.name for file in found.versions[0].files] == ["disk", "config.yaml"]
    assert found.head.versions[0].description == "first"
    pull = store.stat(fmt.pull_key(BASE, two.entry.id))
    assert found.last_pulls == {two.entry.id: int(pull.modified)}


@pytest.mark.parametrize("data", [None, b"{}", b'{"v": 9}', b"junk"])
def test_s20_a_version_that_cannot_be_read_is_left_open_and_the_rest_described(node, store, caplog, data):
    one = node.push(BASE, "v1", words="a")
    node.push(BASE, "v2", words="b")
    key = fmt.version_key(BASE, one.entry.id)
    store.delete([key]) if data is None else store.put(key, data)

    first, second = Registry(store).describe(EVERYONE, BASE).versions

    assert first is None
    assert second is not None
    assert events(caplog) == ["version-unreadable"]


def test_versions_are_read_once(node, store):
    node.push(BASE, "v1")
    counted = Counting(store)
    registry = Registry(counted)

    registry.describe(EVERYONE, BASE)
    registry.describe(EVERYONE, BASE)

    assert counted.count("get", fmt.VERSIONS) == 1


def test_a_template_without_versions_is_described(node, store, registry):
    done = node.push(BASE, "v1")
    change_head(store, versions=(), removed=(done.entry.gone(when=1, by="x", keeps=0),))

    assert registry.describe(EVERYONE, BASE).versions == ()
    assert read_head(store).latest() is None
    assert Pusher(registry, store).push(BASE, "v2").entry.seq == 1
