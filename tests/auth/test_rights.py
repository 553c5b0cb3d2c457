"""Groups add up, and never take away; and what they come to can be explained."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3reg.auth import rights
from s3reg.auth.rights import MOST_KEPT, Given, Unions
from s3reg.model.access import PERMISSIONS, ApiKey, Group
from s3reg.model.identity import Action, Identity
from s3reg.model.template import Head

TEMPLATES = [f"0000000{number}-0000-4000-8000-000000000000" for number in range(4)]
DOMAINS = ["main", "team-1", "team-2"]

actions = st.frozensets(st.sampled_from(Action))
groups = st.builds(
    Group,
    name=st.sampled_from("abcdef"),
    permissions=st.frozensets(st.sampled_from(sorted(PERMISSIONS)), max_size=5),
    templates=st.none() | st.dictionaries(st.sampled_from(TEMPLATES), actions),
    domains=st.dictionaries(st.sampled_from(DOMAINS), actions),
)
sets_of_groups = st.lists(groups, max_size=5, unique_by=lambda group: group.name)


def asker(of):
    return Identity("key:ci", tuple(group.name for group in of), rights.union(of))


def everything(of):
    """All that somebody in these groups may do."""
    who = asker(of)
    may = {
        (action, template, domain)
        for action in Action
        for template in TEMPLATES
        for domain in [*DOMAINS, None]
        if who.may(action, template, domain)
    }
    domains = who.domains()
    return (
        may | {name for name in PERMISSIONS if who.lacks([name]) is None} | set(DOMAINS if domains is None else domains)
    )


@given(sets_of_groups, groups)
def test_one_group_more_never_takes_anything_away(some, more):
    assert everything(some) <= everything([*some, more])


@given(sets_of_groups)
def test_what_groups_give_together_is_what_each_gives(some):
    assert everything(some) == set().union(*(everything([group]) for group in some))
    assert everything(some) == everything(some[::-1]) == everything(some + some)


def test_no_group_gives_nothing():
    assert everything([]) == set()


def test_a_group_that_says_nothing_of_templates_gives_them_all_in_every_domain():
    who = asker([Group("a")])
    assert all(who.may(action, template, None) for action in Action for template in TEMPLATES)
    assert who.domains() is None
    assert who.lacks(["index"]) == "index", "and no permission"


def test_an_empty_list_of_templates_gives_none():
    who = asker([Group("a", frozenset({"index"}), templates={})])
    assert not any(who.may(action, template, "main") for action in Action for template in TEMPLATES)
    assert who.domains() == frozenset()
    assert who.lacks(["index"]) is None


def test_a_domain_gives_each_template_that_is_in_it_and_only_push_lets_make_one():
    who = asker(
        [
            Group(
                "a",
                templates={},
                domains={"team-1": frozenset(Action), "team-2": frozenset({Action.PULL, Action.LIST})},
            )
        ]
    )
    assert who.may(Action.PULL, TEMPLATES[0], "team-2")
    assert not who.may(Action.PUSH, TEMPLATES[0], "team-2")
    assert not who.may(Action.PULL, TEMPLATES[0], "main")
    assert not who.may(Action.PULL, TEMPLATES[0], None)
    assert who.domains() == {"team-1"}


def test_what_groups_give_is_added_up_once_as_long_as_they_are_the_same():
    unions = Unions()
    one, other = Group("a", frozenset({"index"}), {}), Group("b", frozenset({"list_vms"}), {})
    first = unions.of([one, other])
    assert unions.of([one, other]) is first
    assert first == rights.union([one, other])
    changed = replace(one, permissions=frozenset())
    assert unions.of([changed, other]) == rights.union([changed, other])
    assert unions.of([one]) == rights.union([one])
    assert unions.of([]) == rights.union([])
    for number in range(MOST_KEPT):
        unions.of([Group(f"group {number}")])
    assert unions.of([changed, other]) == rights.union([changed, other])


# --- Why ---

HEAD = Head(id=TEMPLATES[0], name="base", domain="team-1", arch="", size=0)


def key(*names):
    return ApiKey("ci", "0" * 32, b"x", names, 0.0, None)


def explained(key, groups, *, ended=False, authorization=True):
    return rights.explain(key, groups, HEAD, ended=ended, authorization=authorization)


def test_an_explanation_tells_which_group_gives_what_and_by_what():
    told = explained(
        key("list", "mine", "all", "gone"),
        [
            Group("mine", frozenset({"list_vms", "pull_vm"}), templates={TEMPLATES[0]: frozenset({Action.PULL})}),
            Group(
                "list", frozenset({"list_vms"}), templates={}, domains={"team-1": frozenset({Action.LIST, Action.PULL})}
            ),
            Group("all"),
        ],
    )
    assert told.permissions == {"list_vms": ("list", "mine"), "pull_vm": ("mine",)}
    assert told.actions[Action.PULL] == (
        Given("all", "all templates"),
        Given("list", "domain"),
        Given("mine", "template"),
    )
    assert told.actions[Action.LIST] == (Given("all", "all templates"), Given("list", "domain"))
    assert told.actions[Action.PUSH] == (Given("all", "all templates"),)
    assert set(told.actions) == set(Action)
    assert (told.groups, told.missing) == (("list", "mine", "all", "gone"), ("gone",))
    assert (told.template, told.domain) == (TEMPLATES[0], "team-1")


def test_an_explanation_tells_what_nobody_gives():
    other = Group("a", templates={TEMPLATES[1]: frozenset(Action)}, domains={"main": frozenset(Action)})
    told = explained(key("a"), [other])
    assert told.permissions == {}
    assert not any(told.actions.values())


@pytest.mark.parametrize("switch", [True, False])
def test_an_explanation_tells_whether_the_key_has_ended_and_groups_count(switch):
    told = explained(key(), [], ended=switch, authorization=switch)
    assert (told.ended, told.authorization) == (switch, switch)


@given(sets_of_groups)
def test_an_explanation_says_what_holds(some):
    told = explained(key(*(group.name for group in some)), some)
    who = asker(some)
    for action in Action:
        assert bool(told.actions[action]) == who.may(action, HEAD.id, HEAD.domain)
    assert set(told.permissions) == {name for name in PERMISSIONS if who.lacks([name]) is None}
