"""The plan of a pull, and the note that one was finished."""

from dataclasses import replace

import pytest

from faults import Counting
from registry.askers import guest
from registry.material import BASE, CHUNK, Pusher, change_head, chunk, config, file_map, mapped, put_pack
from s3reg.errors import Forbidden, TagNotFound, TemplateNotFound, VersionNotFound
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE
from s3reg.registry import Limits, Registry

LISTER = guest("lister", main="list")


def test_a_plan_has_a_link_for_every_map_and_pack(node, registry):
    node.push(BASE, "v1", words="ab")

    plan = registry.plan(EVERYONE, "sequoia", tag="v1")

    (file,) = [file for file in plan.version.files if file.map]
    assert plan.map_links.keys() == {file.map}
    ((pack, live, link),) = plan.packs
    assert link.url.startswith(f"/objects/packs/main/{pack.sid}/{pack.sha256}?")
    assert 0 < live < pack.size
    assert plan.entry.tag == "v1"


def test_a_pack_that_two_files_use_is_planned_once(node, store, registry):
    session = node.open().session
    a, b = put_pack(store, session, [chunk("a"), chunk("b")])
    files = (
        mapped(store, session, "one", file_map([a])),
        mapped(store, session, "two", file_map([b], size=CHUNK)),
        config(),
    )
    node.commit(session, files)

    ((pack, live, _),) = registry.plan(EVERYONE, BASE).packs

    assert pack == a.pack
    assert live == a.length + b.length


def test_files_that_share_frames_count_no_more_than_the_pack_has(node, store, registry):
    session = node.open().session
    (a,) = put_pack(store, session, [chunk("a")])
    node.commit(session, (*(mapped(store, session, f"f{i}", file_map([a] + [None] * i)) for i in range(5)), config()))

    ((pack, live, _),) = registry.plan(EVERYONE, BASE).packs

    assert live == pack.size


def test_a_plan_says_when_its_links_end_by_which_clock(node, store):
    node.push(BASE)
    registry = Registry(store, limits=Limits(link_seconds=100))

    plan = registry.plan(EVERYONE, BASE)

    assert [*plan.map_links.values(), *(link for _, _, link in plan.packs)] == list(plan.links)
    assert plan.expires == min(link.expires for link in plan.links)
    assert 0 <= plan.expires - plan.now <= 101


def test_a_version_without_packs_has_a_plan(node, registry):
    session = node.open().session
    node.commit(session, (config(),))

    plan = registry.plan(EVERYONE, BASE)

    assert (plan.packs, plan.map_links) == ([], {})
    assert plan.expires == plan.now + 3600


def test_what_cannot_be_pulled_is_told_apart(node, store, registry):
    done = node.push(BASE, "v1")
    with pytest.raises(TagNotFound):
        registry.plan(EVERYONE, BASE, tag="v2")
    with pytest.raises(TemplateNotFound):
        registry.plan(EVERYONE, "nope")
    with pytest.raises(Forbidden):
        registry.plan(LISTER, BASE)
    change_head(store, versions=(), removed=(done.entry.gone(when=1, by="x", keeps=0),))
    with pytest.raises(VersionNotFound):
        registry.plan(EVERYONE, BASE)


def test_a_pull_is_noted_at_most_once_a_minute(node, store):
    done = node.push(BASE, "v1")
    counted = Counting(store)
    now = [0.0]
    registry = Registry(counted, clock=lambda: now[0])

    registry.pulled(EVERYONE, BASE, done.entry.id)
    now[0] = store.stat(fmt.pull_key(BASE, done.entry.id)).modified
    registry.pulled(EVERYONE, BASE, done.entry.id)
    assert counted.count("put", fmt.PULLS) == 1

    now[0] += 61
    registry.pulled(EVERYONE, BASE, done.entry.id)
    assert counted.count("put", fmt.PULLS) == 2


def test_only_pulls_of_versions_that_are_there_are_noted(node, store, registry):
    node.push(BASE, "v1")

    with pytest.raises(VersionNotFound):
        registry.pulled(EVERYONE, BASE, "0" * 32)
    with pytest.raises(Forbidden):
        registry.pulled(LISTER, BASE, "0" * 32)
    with pytest.raises(TemplateNotFound):
        registry.pulled(EVERYONE, "00000000-0000-4000-8000-00000000000f", "0" * 32)
    assert list(store.list(fmt.PULLS)) == []


def test_a_copied_store_serves_pulls_and_notes_none(node, store, registry):
    done = node.push(BASE, "v1")
    kept = fmt.read_format(store.get(fmt.FORMAT_KEY).data)
    store.put(fmt.FORMAT_KEY, fmt.write_format(replace(kept, made_as="elsewhere")))

    assert Pusher(registry, store).registry.plan(EVERYONE, BASE).packs
    registry.pulled(EVERYONE, BASE, done.entry.id)
    assert list(store.list(fmt.PULLS)) == []


def test_who_may_only_list_gets_no_config(node, registry):
    """A config may hold the password of a display."""
    node.push(BASE, "v1")

    assert registry.config(EVERYONE, "sequoia", tag="v1")["name"]
    with pytest.raises(Forbidden):
        registry.config(LISTER, "sequoia", tag="v1")
