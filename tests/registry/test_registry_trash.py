"""What was removed: listed, restored, purged; single versions untagged and retagged. One swap of one head each."""

import itertools
from dataclasses import replace

import pytest

from faults import Before, Counting, FailsOnCall, LosesAnswer
from registry.askers import ALL, guest, tenant
from registry.material import (
    BASE,
    OTHER,
    Pusher,
    change_head,
    check_sound,
    end_trash,
    read_head,
    swept,
)
from s3reg.errors import (
    Forbidden,
    Invalid,
    NameTaken,
    NewTagTaken,
    NotInTrash,
    RecordDamaged,
    RestoreTagTaken,
    SelectorsDisagree,
    SessionNotFound,
    StoreUnavailable,
    TagNotFound,
    TemplateChanged,
    TemplateNotFound,
    VersionChanged,
    VersionNotFound,
)
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE, Action, Identity
from s3reg.registry import Limits, Registry

ONE, TWO, THREE = "1" * 32, "2" * 32, "3" * 32
JO = Identity("jo")
WEEK = 7 * 24 * 3600


@pytest.fixture
def three(node):
    """The versions a, b and c of BASE, by tag."""
    return {tag: node.push(tag=tag, words=(tag,)).entry for tag in ("a", "b", "c")}


def tags(head):
    return "".join(entry.tag for entry in head.versions), "".join(entry.tag for entry in head.removed)


def ids(entries, words):
    return [entries[tag].id for tag in words]


def swaps(counted):
    return [call.keys for call in counted.calls if call.verb in {"put", "delete"}]


# --- Untag -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [{"tag": "b"}, {"number": 1}, {"tag": "b", "number": 1}, {}])
def test_one_version_from_the_middle_goes_in_one_swap(store, three, which):
    counted = Counting(store)
    before = read_head(store)
    gone = Registry(counted, clock=lambda: 1234.5).untag(JO, BASE, **which, version=three["b"].id, operation=ONE)

    head = read_head(store)
    assert gone.head == head
    assert (tags(head), head.deleted, head.gen) == (("ac", "b"), False, before.gen + 1)
    assert ([entry.tag for entry in gone.removed], [entry.tag for entry in gone.renumbered]) == (["b"], ["c"])
    assert gone.until == 1234 + WEEK
    assert head.size < before.size
    assert swaps(counted) == [(fmt.head_key(BASE),)]
    check_sound(store)


def test_with_the_only_version_the_template_goes(node, store, registry):
    node.push(tag="a")
    gone = registry.untag(JO, BASE, tag="a", operation=ONE)
    assert (gone.head.deleted, gone.head.size, gone.renumbered) == (True, 0, ())
    with pytest.raises(TemplateNotFound):
        registry.find(EVERYONE, BASE)


@pytest.mark.parametrize(
    ("which", "error"),
    [
        ({}, Invalid),
        ({"tag": "nix"}, TagNotFound),
        ({"number": 3}, VersionNotFound),
        ({"version": "f" * 32}, VersionNotFound),
        ({"tag": "a", "number": 1}, SelectorsDisagree),
        ({"tag": "a", "version": "f" * 32}, VersionChanged),
        ({"number": 0, "version": "f" * 32}, VersionChanged),
    ],
)
def test_s11_what_is_not_named_or_is_another_one_by_now_stays(store, three, which, error):
    counted = Counting(store)
    with pytest.raises(error):
        Registry(counted).untag(JO, BASE, **which, operation=ONE)
    assert swaps(counted) == []


def test_what_was_pushed_over_a_tag_while_somebody_looked_stays(node, store, registry, three):
    node.push(tag="b", words="x", force=True)
    with pytest.raises(VersionChanged):
        registry.untag(JO, BASE, tag="b", version=three["b"].id, operation=ONE)
    assert tags(read_head(store)) == ("abc", "b")


@pytest.mark.parametrize("newest", ["c", "d"])
def test_one_goes_only_while_the_version_that_was_taken_for_the_newest_is_still_that(store, registry, three, newest):
    counted = Counting(store)
    seen = three[newest].id if newest in three else "f" * 32
    if newest == "c":
        registry.revert(EVERYONE, BASE, operation=TWO)
    before = read_head(store)
    with pytest.raises(TemplateChanged):
        Registry(counted).untag(JO, BASE, tag="a", newest=seen, operation=ONE)
    assert (swaps(counted), read_head(store)) == ([], before)
    registry.untag(JO, BASE, tag="a", newest=before.versions[-1].id, operation=ONE)
    assert read_head(store).removed[-1].id == three["a"].id


def test_a_version_that_is_all_that_a_revert_left_a_moment_ago_stays_where_the_newest_was_named(store, three):
    def revert():
        Registry(store).revert(EVERYONE, BASE, tag="b", operation=TWO)

    late = Registry(Before(store, "put", revert, prefix=fmt.HEADS))
    with pytest.raises(TemplateChanged):
        late.untag(JO, BASE, version=three["a"].id, newest=three["c"].id, operation=ONE)
    assert tags(read_head(store)) == ("a", "bc")


# --- Retag -----------------------------------------------------------------------------------------------------------


def test_a_version_gets_another_tag_in_its_place(store, three):
    counted = Counting(store)
    before = read_head(store)
    head = Registry(counted).retag(JO, BASE, tag="b", new="e\u0301", operation=ONE)
    assert head == read_head(store)
    assert [entry.tag for entry in head.versions] == ["a", "é", "c"]
    assert [entry.id for entry in head.versions] == [entry.id for entry in before.versions]
    assert swaps(counted) == [(fmt.head_key(BASE),)]
    assert Registry(store).version(EVERYONE, BASE, tag="é")[1].id == three["b"].id


@pytest.mark.usefixtures("three")
def test_a_tag_that_is_not_there_gets_no_other_and_one_of_another_version_is_not_given(store, registry):
    before = read_head(store)
    with pytest.raises(TagNotFound):
        registry.retag(JO, BASE, tag="nix", new="z", operation=ONE)
    with pytest.raises(NewTagTaken):
        registry.retag(JO, BASE, tag="a", new="b", operation=ONE)
    assert read_head(store) == before


# --- The trash -------------------------------------------------------------------------------------------------------


def test_the_trash_has_what_was_reverted_untagged_deleted_and_replaced(node, store, three):
    node.push(OTHER, tag="x", name="another")
    now = [1000.0]
    limits = Limits(trash_seconds=60)
    registry = Registry(store, limits=limits, clock=lambda: now[0])
    assert registry.trash(JO) == registry.trash(JO, BASE) == []
    registry.untag(JO, BASE, tag="b", operation=ONE)
    now[0] = 2000.0
    Pusher(registry, store, JO).push(tag="a", words="n", force=True)
    registry.delete(JO, OTHER, operation=TWO)
    found = registry.trash(JO)
    assert [
        (one.head.name, one.entry.tag, one.entry.removed, one.entry.removed_by, one.entry.until) for one in found
    ] == [
        ("another", "x", 2000, "jo", 2060),
        ("sequoia", "b", 1000, "jo", 1060),
        ("sequoia", "a", 2000, "jo", 2060),
    ]
    assert [one.head.deleted for one in found] == [True, False, False]
    assert registry.trash(JO, BASE) == registry.trash(JO, "sequoia") == found[1:]
    assert registry.trash(JO, OTHER) == registry.trash(JO, "another") == found[:1]
    assert found[2].entry.id == three["a"].id


def test_kept_for_no_time_it_lies_there_until_the_next_sweep(store, three):
    registry = Registry(store, limits=Limits(trash_seconds=0), clock=lambda: 1000.0)
    assert registry.revert(JO, BASE, operation=ONE).until == 1000
    (one,) = registry.trash(JO)
    assert one.entry.until == 1000
    assert registry.restore(JO, BASE, versions=[one.entry.id], operation=TWO).restored == (three["c"],)


def test_a_template_of_which_nothing_is_left_has_no_trash_and_none_is_made_up(node, store, registry):
    node.push(tag="a")
    registry.delete(JO, BASE, operation=ONE)
    registry.purge(JO, BASE, operation=TWO)
    for ref in (BASE, "sequoia", OTHER, "nix"):
        with pytest.raises(TemplateNotFound):
            registry.trash(JO, ref)
    opened = node.open(OTHER, name="late")
    swept(store, expire=True)
    assert read_head(store, OTHER).deleted, "the fence that a sweep leaves"
    for ref in (OTHER, read_head(store, OTHER).name):
        with pytest.raises(TemplateNotFound):
            registry.trash(JO, ref)
    with pytest.raises(TemplateNotFound):
        registry.purge(JO, OTHER, operation=ONE)
    assert opened.session.template == OTHER


def test_a_damaged_head_is_told_to_who_asks_for_it_and_in_nobody_elses_way(node, store, registry, three):
    node.push(OTHER, tag="x", name="another")
    registry.delete(JO, OTHER, operation=ONE)
    store.put(fmt.head_key(BASE), store.get(fmt.head_key(BASE)).data.replace(b'"versions"', b'"verses"'))
    assert [one.entry.tag for one in registry.trash(JO)] == ["x"]
    for call in (
        lambda: registry.trash(JO, BASE),
        lambda: registry.trash(JO, "sequoia"),
        lambda: registry.restore(JO, BASE, versions=[three["a"].id], operation=TWO),
        lambda: registry.purge(JO, BASE, operation=TWO),
    ):
        with pytest.raises(RecordDamaged):
            call()
    assert [one.entry.tag for one in registry.purge(JO, None, operation=TWO)] == ["x"]


# --- Restore ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gone", ["c", "bc", "abc", "b", "a"])
def test_what_is_restored_is_as_it_was_and_can_be_pulled(store, registry, three, gone):
    before = read_head(store)
    for number, tag in enumerate(gone):
        registry.untag(JO, BASE, tag=tag, operation=f"{number:032x}")
    counted = Counting(store)
    done = Registry(counted).restore(JO, BASE, versions=ids(three, gone), operation=ONE)
    head = read_head(store)
    assert done.head == head
    assert [entry.tag for entry in done.restored] == list(gone)
    assert (head.versions, head.removed, head.deleted) == (before.versions, (), False)
    assert (head.size, head.name, head.arch) == (before.size, before.name, before.arch)
    assert swaps(counted) == [(fmt.head_key(BASE),)]
    assert registry.plan(EVERYONE, BASE, tag=gone[0]).version.id == three[gone[0]].id
    check_sound(store)


def test_what_was_replaced_by_force_comes_back_under_another_tag_before_what_took_its_place(
    node, store, registry, three
):
    node.push(tag="b", words="n", force=True)
    with pytest.raises(RestoreTagTaken) as caught:
        registry.restore(JO, BASE, versions=ids(three, "b"), operation=ONE)
    assert caught.value.detail["tag"] == "b"
    registry.restore(JO, BASE, versions=ids(three, "b"), as_tag="o", operation=TWO)
    assert tags(read_head(store)) == ("aobc", "")
    assert registry.describe(EVERYONE, BASE).head.versions[1].id == three["b"].id
    assert node.push(tag="d").head.versions[-1].tag == "d", "the head goes on being written"
    check_sound(store)


def test_a_template_that_was_deleted_and_pushed_again_gets_back_what_it_had(node, store, registry, three):
    registry.delete(JO, BASE, operation=ONE)
    node.push(tag="c", words="n", name="sonoma")
    with pytest.raises(RestoreTagTaken):
        registry.restore(JO, BASE, versions=ids(three, "abc"), operation=TWO)
    assert tags(read_head(store)) == ("c", "abc")
    registry.restore(JO, BASE, versions=ids(three, "ab"), operation=TWO)
    registry.restore(JO, BASE, versions=ids(three, "c"), as_tag="o", operation=THREE)
    assert (tags(read_head(store)), read_head(store).name) == (("aboc", ""), "sonoma")
    check_sound(store)


def test_a_name_that_another_template_carries_by_now_is_refused_unless_it_is_meant(node, store, registry, three):
    registry.delete(JO, BASE, operation=ONE)
    node.push(OTHER, tag="x")
    with pytest.raises(NameTaken) as caught:
        registry.restore(JO, BASE, versions=ids(three, "a"), operation=TWO)
    assert caught.value.detail["ids"] == OTHER
    assert read_head(store).deleted
    assert sorted(one.head.id for one in registry.trash(JO, "sequoia")) == [BASE] * 3
    registry.restore(JO, BASE, versions=ids(three, "a"), same_name=True, operation=TWO)
    assert len(registry.templates(EVERYONE)) == 2
    registry.restore(JO, BASE, versions=ids(three, "b"), operation=THREE)
    assert tags(read_head(store)) == ("ab", "c")


def test_all_that_are_named_come_back_or_none(node, store, registry, three):
    registry.delete(JO, BASE, operation=ONE)
    registry.purge(JO, BASE, versions=ids(three, "b"), operation=TWO)
    before = read_head(store)
    for wrong in (ids(three, "ab"), [three["a"].id, "f" * 32]):
        with pytest.raises(NotInTrash):
            registry.restore(JO, BASE, versions=wrong, operation=THREE)
    for wrong in ({"versions": []}, {"versions": ids(three, "ac"), "as_tag": "o"}):
        with pytest.raises(Invalid):
            registry.restore(JO, BASE, **wrong, operation=THREE)
    assert read_head(store) == before


def test_what_is_no_template_or_nothing_but_a_purged_one_has_nothing_to_restore(registry, three):
    registry.delete(JO, BASE, operation=ONE)
    registry.purge(JO, BASE, operation=TWO)
    for template in (BASE, OTHER):
        with pytest.raises(TemplateNotFound):
            registry.restore(JO, template, versions=ids(three, "a"), operation=THREE)


def test_what_lies_in_the_trash_outlives_a_sweep_and_what_was_purged_does_not(store, registry, three):
    registry.delete(JO, BASE, operation=ONE)
    assert swept(store).removed == 0
    registry.purge(JO, BASE, versions=ids(three, "bc"), operation=TWO)
    assert swept(store).removed > 0
    registry.restore(JO, BASE, versions=ids(three, "a"), operation=THREE)
    assert registry.plan(EVERYONE, BASE).version.id == three["a"].id
    check_sound(store)


def test_a_push_that_is_repeated_after_its_version_was_removed_brings_nothing_back_but_a_restore_does(node, registry):
    opened = node.open()
    files = node.files(opened.session)
    done = node.commit(opened.session, files)
    registry.delete(JO, BASE, operation=ONE)
    with pytest.raises(SessionNotFound):
        node.commit(opened.session, files)
    assert registry.restore(JO, BASE, versions=[done.entry.id], operation=TWO).restored == (done.entry,)
    assert node.commit(opened.session, files).entry == done.entry


def test_fields_of_a_newer_release_come_back_too(store, registry, three):
    marked = tuple(replace(entry, unknown={"kept": "x"}) for entry in read_head(store).versions)
    change_head(store, versions=marked, unknown={"labels": 1})
    registry.delete(JO, BASE, operation=ONE)
    registry.restore(JO, BASE, versions=ids(three, "b"), operation=TWO)
    assert read_head(store).versions == (marked[1],)
    assert read_head(store).unknown == {"labels": 1}


# --- Purge -----------------------------------------------------------------------------------------------------------


def test_a_purge_takes_these_versions_all_of_a_template_or_everything(node, store, registry, three):
    node.push(OTHER, tag="x", name="another")
    registry.delete(JO, OTHER, operation=ONE)
    registry.delete(JO, BASE, operation=ONE)
    gone = registry.purge(JO, BASE, versions=[*ids(three, "b"), "f" * 32], operation=TWO)
    assert [(one.head.id, one.entry.tag) for one in gone] == [(BASE, "b")]
    assert tags(read_head(store)) == ("", "ac")
    assert len(registry.purge(JO, None, operation=THREE)) == 3
    assert registry.trash(JO) == registry.purge(JO, None, operation=ONE) == []


def test_a_purge_takes_nothing_that_is_in_a_template_and_writes_nothing_where_there_is_nothing(store, registry, three):
    before = read_head(store)
    assert registry.purge(JO, BASE, operation=ONE) == registry.purge(JO, None, operation=ONE) == []
    assert registry.purge(JO, BASE, versions=ids(three, "abc"), operation=ONE) == []
    assert read_head(store) == before
    with pytest.raises(Invalid):
        registry.purge(JO, None, versions=ids(three, "a"), operation=ONE)


def test_one_that_was_restored_while_somebody_thought_about_a_purge_stays(store, registry, three):
    registry.revert(JO, BASE, tag="b", operation=ONE)
    registry.restore(JO, BASE, versions=ids(three, "b"), operation=TWO)
    assert [one.entry.tag for one in registry.purge(JO, BASE, versions=ids(three, "bc"), operation=THREE)] == ["c"]
    assert tags(read_head(store)) == ("ab", "")


# --- Once, whoever else is at work -----------------------------------------------------------------------------------

CALLS = {
    "untag": lambda it, who, gone: it.untag(who, BASE, tag="b", operation=ONE),
    "untag by number": lambda it, who, gone: it.untag(who, BASE, number=0, operation=ONE),
    "retag": lambda it, who, gone: it.retag(who, BASE, tag="b", new="z", operation=ONE),
    "restore": lambda it, who, gone: it.restore(who, BASE, versions=[gone], operation=ONE),
    "purge": lambda it, who, gone: it.purge(who, BASE, operation=ONE),
    "purge all": lambda it, who, gone: it.purge(who, None, operation=ONE),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@pytest.fixture
def gone(registry, three):
    """The id of c, which was removed."""
    registry.revert(EVERYONE, BASE, operation="a" * 32)
    return three["c"].id


@every_call
def test_a_repeated_call_is_done_once(store, registry, gone, call):
    call(registry, JO, gone)
    after = read_head(store)
    call(Registry(store), JO, gone)
    assert read_head(store) == after


@every_call
def test_one_whose_answer_from_the_store_is_lost_is_done_once(store, gone, call):
    before = read_head(store)
    faulty = LosesAnswer(store, prefix=fmt.HEADS)
    call(Registry(faulty), JO, gone)
    assert faulty.happened
    after = read_head(store)
    assert after.gen == before.gen + 1
    assert after.operations[-1] == ONE


@every_call
def test_whatever_call_of_the_store_fails_nothing_is_changed_and_it_can_be_repeated(store, gone, call):
    before = read_head(store)
    for number in itertools.count(1):
        faulty = FailsOnCall(store, number, StoreUnavailable(reason="it is away"))
        try:
            call(Registry(faulty), JO, gone)
        except StoreUnavailable:
            assert read_head(store) == before
        if not faulty.happened:
            break
    assert number > 3
    assert read_head(store).gen == before.gen + 1


@every_call
def test_what_somebody_pushes_meanwhile_stays(node, store, gone, call):
    pushing = Before(store, "put", lambda: node.push(tag="n", words="n"), prefix=fmt.HEADS)
    call(Registry(pushing), JO, gone)
    head = read_head(store)
    assert head.operations[-1] == ONE
    assert head.tagged("n")
    check_sound(store)


def test_what_a_sweep_does_to_a_template_leaves_the_operations_that_callers_may_repeat(node, store, registry, three):
    """Else a revert whose answer was lost would be done twice, once a sweep has given up so many pushes."""
    registry.revert(JO, BASE, operation=ONE)
    end_trash(store)
    for number in range(3):
        node.open(tag=f"x{number}")
    before = read_head(store)
    done = swept(store, expire=True)
    assert (done.given_up, done.purged) == (3, 1)
    assert (read_head(store).gen, read_head(store).operations) == (before.gen + 4, before.operations)
    registry.revert(JO, BASE, operation=ONE)
    assert tags(read_head(store)) == ("ab", "")


@pytest.mark.usefixtures("three")
def test_what_a_sweep_let_go_is_counted_once_though_the_answer_was_lost(store, registry):
    registry.revert(JO, BASE, tag="b", operation=ONE)
    end_trash(store)
    lost = LosesAnswer(store, prefix=fmt.HEADS)
    assert Registry(lost).sweep().purged == 2
    assert lost.happened
    assert tags(read_head(store)) == ("a", "")


def test_two_who_restore_one_version_bring_it_back_once(store, registry, gone):
    def another():
        registry.restore(EVERYONE, BASE, versions=[gone], operation=TWO)

    with pytest.raises(NotInTrash):
        Registry(Before(store, "put", another, prefix=fmt.HEADS)).restore(JO, BASE, versions=[gone], operation=ONE)
    assert tags(read_head(store)) == ("abc", "")


# --- Who may ---------------------------------------------------------------------------------------------------------


def test_the_trash_of_what_may_not_be_listed_does_not_exist(node, store, registry):
    mine, yours = tenant("mine", "mine"), tenant("yours", "yours")
    Pusher(registry, store, mine).push(tag="a")
    theirs = Pusher(registry, store, yours).push(OTHER, tag="b").entry.id
    for template in (BASE, OTHER):
        registry.delete(EVERYONE, template, operation=ONE)
    assert [one.head.id for one in registry.trash(mine)] == [BASE]
    assert [one.head.id for one in registry.trash(mine, "sequoia")] == [BASE]
    for call in (
        lambda: registry.trash(mine, OTHER),
        lambda: registry.restore(mine, OTHER, versions=[theirs], operation=TWO),
        lambda: registry.purge(mine, OTHER, operation=TWO),
        lambda: registry.restore(mine, OTHER, versions=[theirs], operation=ONE),
        lambda: registry.purge(mine, OTHER, operation=ONE),
    ):
        with pytest.raises(TemplateNotFound):
            call()
    assert [one.head.id for one in registry.purge(mine, None, operation=TWO)] == [BASE]
    assert tags(read_head(store, OTHER)) == ("", "b")
    registry.restore(yours, OTHER, versions=[theirs], operation=THREE)
    assert read_head(store, OTHER).domain == "yours"


def test_who_may_not_remove_sees_no_trash_and_who_may_not_push_restores_nothing(store, registry, gone):
    may = {action: " ".join(one.value for one in ALL - {action}) for action in (Action.DELETE_REVERT, Action.PUSH)}
    pusher, remover = guest(main=may[Action.DELETE_REVERT]), guest(main=may[Action.PUSH])
    before = read_head(store)
    blind = guest(main=" ".join(one.value for one in ALL - {Action.LIST}))
    for who in (pusher, blind):
        assert registry.trash(who) == registry.purge(who, None, operation=ONE) == []
    for call in (
        lambda: registry.trash(pusher, BASE),
        lambda: registry.trash(pusher, "sequoia"),
        lambda: registry.purge(pusher, BASE, operation=ONE),
        lambda: registry.untag(pusher, BASE, tag="a", operation=ONE),
        lambda: registry.restore(remover, BASE, versions=[gone], operation=ONE),
        lambda: registry.retag(remover, BASE, tag="a", new="z", operation=ONE),
    ):
        with pytest.raises(Forbidden):
            call()
    assert read_head(store) == before
    assert len(registry.trash(remover)) == 1
    registry.restore(pusher, BASE, versions=[gone], operation=ONE)


def test_of_one_name_only_what_may_be_removed_shows(node, store, registry):
    """Two templates carry it: of one the asker may remove versions, the other it may list."""
    for template in (BASE, OTHER):
        node.push(template, tag="a", same_name=True)
        registry.delete(EVERYONE, template, operation=ONE)
    asker = guest(templates={BASE: "list", OTHER: "list delete_revert"})
    assert [one.head.id for one in registry.trash(asker, "sequoia")] == [OTHER]
    registry.purge(asker, OTHER, operation=TWO)
    with pytest.raises(Forbidden):
        registry.trash(asker, "sequoia")
