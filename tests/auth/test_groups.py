"""Groups as people write and delete them, through several replicas."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from faults import Before, Counting
from s3reg.errors import (
    AccessRecordDamaged,
    FormatUnknown,
    GroupChanged,
    GroupNotFound,
    Invalid,
    NameInvalid,
    StoreCopied,
)
from s3reg.model import format_access as fmt
from s3reg.model.access import PERMISSIONS, Group
from s3reg.model.identity import Action

TEMPLATE = "0f8fad5b-d9cb-469f-a165-70867728950e"
TEAM = Group(
    "team",
    frozenset({"list_vms", "pull_vm"}),
    {TEMPLATE: frozenset({Action.LIST})},
    {"team-1": frozenset(Action), "main": frozenset()},
)
WHERE = fmt.group_key("team")


@pytest.fixture
def groups(replicas):
    return replicas.gate().groups


@pytest.fixture
def others(replicas):
    return replicas.gate().groups


def spoil(store, name="team", **fields):
    key = fmt.group_key(name)
    store.put(key, json.dumps(json.loads(store.get(key).data) | fields).encode())


def test_a_group_that_is_written_is_there_on_every_replica(groups, others, store):
    wrote = groups.write(TEAM, gen=0)
    assert wrote == replace(TEAM, gen=1)
    assert others.find("team") == groups.find("team") == wrote
    assert [stat.key for stat in store.list("auth/")] == [WHERE]


def test_a_group_is_replaced_only_if_it_is_the_one_that_was_read(groups, others):
    first = groups.write(TEAM, gen=0)
    second = others.write(replace(TEAM, templates=None), gen=first.gen)
    assert (second.gen, second.templates) == (2, None)
    for gen in (0, first.gen, 3):
        with pytest.raises(GroupChanged):
            groups.write(TEAM, gen=gen)
    assert groups.find("team") == second
    assert groups.write(TEAM, gen=None).gen == 3, "whatever it was"
    with pytest.raises(GroupChanged):
        groups.write(replace(TEAM, name="not there"), gen=1)


def test_of_those_who_change_a_group_at_once_one_does(replicas, groups):
    groups.write(TEAM, gen=None)
    start = threading.Barrier(4)

    def write(permission):
        others = replicas.gate().groups
        start.wait()
        try:
            return others.write(replace(TEAM, permissions=frozenset({permission})), gen=1)
        except GroupChanged:
            return None

    with ThreadPoolExecutor(4) as pool:
        wrote = [group for group in pool.map(write, sorted(PERMISSIONS)[:4]) if group is not None]
    assert [groups.find("team")] == wrote


def test_s24_a_deleted_group_is_gone_and_one_made_again_is_another(groups, others):
    first = groups.write(TEAM, gen=0)
    others.delete("team")
    assert groups.all() == others.all() == []
    for deed in (groups.find, groups.delete, others.delete):
        with pytest.raises(GroupNotFound):
            deed("team")
    with pytest.raises(GroupChanged):
        groups.write(TEAM, gen=first.gen)
    again = groups.write(Group("team"), gen=0)
    assert again.gen > first.gen
    assert others.find("team") == again


def test_a_write_that_meets_a_delete_is_told_so(replicas, store, groups):
    groups.write(TEAM, gen=0)
    racing = Before(store, "put", lambda: groups.delete("team"), prefix=fmt.GROUPS)
    with pytest.raises(GroupChanged):
        replicas.gate(racing).groups.write(TEAM, gen=1)
    assert racing.happened
    assert groups.all() == []


def test_s24_all_groups_are_listed_by_name_on_every_replica(groups, others):
    wrote = [groups.write(Group(f"group {number:02}", templates={}), gen=0) for number in range(30)]
    assert groups.all() == others.all() == wrote


def test_names_are_looked_at_and_kept_in_one_spelling(groups, store):
    for name in ("", "a\nb", " a", "x" * 129, None):
        with pytest.raises(NameInvalid):
            groups.write(replace(TEAM, name=name), gen=None)
    for more in ({"templates": {"base": frozenset()}}, {"domains": {"Main": frozenset()}}):
        with pytest.raises(NameInvalid):
            groups.write(replace(TEAM, **more), gen=None)
    with pytest.raises(Invalid, match="'fly'"):
        groups.write(replace(TEAM, permissions=frozenset({"fly"})), gen=None)
    many = {f"{number:08x}-0000-4000-8000-000000000000": frozenset() for number in range(50_001)}
    with pytest.raises(Invalid, match="50000"):
        groups.write(replace(TEAM, templates=many), gen=None)
    assert list(store.list("auth/")) == []
    wrote = groups.write(replace(TEAM, name="e\u0301", templates={TEMPLATE.upper(): frozenset()}), gen=None)
    assert (wrote.name, list(wrote.templates)) == ("é", [TEMPLATE])
    assert groups.find("e\u0301") == wrote


def test_a_group_says_nothing_of_a_record_that_its_writer_did_not_mean(groups):
    wrote = groups.write(replace(TEAM, gen=77, damaged="x", unknown={"later": 1}, deleted=True), gen=None)
    assert wrote == replace(TEAM, gen=1)


def test_what_a_later_release_put_beside_is_kept_and_what_it_wrote_is_not_touched(groups, store):
    groups.write(TEAM, gen=None)
    spoil(store, note=5, permissions=["list_vms", "of a later release"])
    kept = groups.find("team")
    groups.write(replace(kept, templates=None), gen=kept.gen)
    assert json.loads(store.get(WHERE).data)["note"] == 5
    assert "of a later release" in groups.find("team").permissions
    spoil(store, v=2)
    before = store.get(WHERE).data
    for deed in (
        lambda: groups.write(TEAM, gen=None),
        lambda: groups.delete("team"),
        lambda: groups.find("team"),
    ):
        with pytest.raises(FormatUnknown):
            deed()
    assert store.get(WHERE).data == before


def test_a_damaged_group_is_told_of_and_in_nobodys_way_and_can_be_written_and_deleted(groups, store):
    for name in ("a", "b", "c", "sound"):
        groups.write(replace(TEAM, name=name), gen=0)
    spoil(store, "a", domains=[])
    spoil(store, "b", v=2)
    store.put(fmt.group_key("c"), b"")
    assert {group.name: group.damaged is None for group in groups.all()} == {
        fmt.group_key("c"): False,
        "a": False,
        "b": False,
        "sound": True,
    }
    assert groups.of(["a", "b", "c", "sound"]) == [groups.find("sound")]
    for name in ("a", "c"):
        with pytest.raises(AccessRecordDamaged):
            groups.find(name)
    assert groups.write(replace(TEAM, name="a"), gen=1).gen == 2, "the number could be read"
    groups.delete("c")
    with pytest.raises(GroupNotFound):
        groups.find("c")


def test_where_the_store_may_not_be_written_nothing_is(replicas, store, groups):
    wrote = groups.write(TEAM, gen=None)

    def refuse():
        raise StoreCopied(made_as="a", now="b")

    counted = Counting(store)
    copy = replicas.gate(counted, writable=refuse).groups
    for deed in (lambda: copy.write(TEAM, gen=None), lambda: copy.delete("team")):
        with pytest.raises(StoreCopied):
            deed()
    assert counted.count("put") == 0
    assert copy.all() == [wrote]


def test_groups_are_read_once_in_two_seconds_and_those_that_are_not_there_too(replicas, store, clock):
    counted = Counting(store)
    groups = replicas.gate(counted).groups
    replicas.gate().groups.write(TEAM, gen=None)
    names = ["team", "nowhere", "OU with a\nnew line", "x" * 1000]
    for _ in range(5):
        assert [group.name for group in groups.of(names)] == ["team"]
    assert counted.count("get") == 2
    clock.now += 2
    groups.of(names)
    assert counted.count("get") == 4
    groups.of(names, anew=True)
    assert counted.count("get") == 6
