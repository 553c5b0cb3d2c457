"""Reverts and deletes: one swap of one head, which loses nothing, whoever else is at work on it."""

import contextlib
import random
import shutil

import pytest

from faults import Before, Counting, FailsOnCall, LosesAnswer, Refuses
from registry.material import (
    BASE,
    OTHER,
    Pusher,
    change_head,
    check_sound,
    config,
    image,
    read_head,
)
from registry.turns import ByChance, ByScript, Turns, Until
from s3reg.errors import (
    Forbidden,
    NameAmbiguous,
    NameInvalid,
    NameTaken,
    RecordDamaged,
    SelectorsDisagree,
    StoreCopied,
    StoreUnavailable,
    TagNotFound,
    TemplateNotFound,
    VersionNotFound,
)
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE, Action, Identity, Rights
from s3reg.model.names import MAIN_DOMAIN
from s3reg.registry import ProposedFile, Registry
from s3reg.store.files import FilesStore

ONE, TWO = "1" * 32, "2" * 32
JO = Identity("jo")
SEEDS, MANY_SEEDS = 10, 5_000


def without(*forbidden):
    """Somebody who may do everything but what is named."""
    return Identity("reader", rights=Rights(domains={MAIN_DOMAIN: frozenset(Action) - set(forbidden)}))


def tags(head):
    return [entry.tag for entry in head.versions], [entry.tag for entry in head.removed]


@pytest.fixture
def three(node):
    for tag in ("a", "b", "c"):
        node.push(tag=tag, words=(tag,))


@pytest.mark.usefixtures("three")
def test_what_goes_is_kept_with_when_and_who_and_comes_in_one_swap(store):
    counted = Counting(store)
    before = read_head(store)

    gone = Registry(counted, clock=lambda: 1234.5).revert(JO, BASE, tag="b", operation=ONE)

    head = read_head(store)
    assert gone.head == head
    assert [entry.tag for entry in gone.removed] == ["b", "c"]
    assert tags(head) == (["a"], ["b", "c"])
    assert [(entry.removed, entry.removed_by) for entry in head.removed] == [(1234, "jo")] * 2
    assert {entry.id for entry in head.removed} == {entry.id for entry in before.versions[1:]}
    assert (head.gen, head.deleted) == (before.gen + 1, False)
    assert [call.keys for call in counted.calls if call.verb in {"put", "delete"}] == [(fmt.head_key(BASE),)]
    check_sound(store)


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("selector", [{"tag": "a"}, {"number": 0}, None])
def test_with_the_oldest_version_the_template_goes(store, registry, selector):
    if selector is None:
        gone = registry.delete(JO, BASE, operation=ONE)
    else:
        gone = registry.revert(JO, BASE, **selector, operation=ONE)

    assert tags(gone.head) == ([], ["a", "b", "c"])
    assert (gone.head.deleted, gone.head.size) == (True, 0)
    assert registry.templates(EVERYONE) == []
    with pytest.raises(TemplateNotFound):
        registry.find(EVERYONE, BASE)
    check_sound(store)


def test_the_size_is_that_of_the_union_of_what_is_left(node, store, registry):
    """The second version shares the first one's layer and adds one; the third replaces both."""
    done = node.push(tag="a", words="x")
    opened = node.open(tag="b")
    theirs = next(file for file in opened.bases[0].files if file.map)
    same = ProposedFile("disk", theirs.role, theirs.size, theirs.digest, drive=0, map=theirs.map)
    top = image(store, opened.session, "top", "yz", drive=0, parent="disk")
    second = node.commit(opened.session, (same, top, config()), "b")
    node.push(tag="c", words="pqr")

    assert read_head(store).size > second.head.size == theirs.size + top.size
    assert registry.revert(JO, BASE, operation=ONE).head.size == second.head.size
    assert registry.revert(JO, BASE, operation=TWO).head.size == done.head.size


@pytest.mark.parametrize("damage", [b"", b"{", None])
def test_s20_damaged_version_records_prevent_neither_revert_nor_delete(node, store, damage):
    for tag, words in (("a", "pqr"), ("b", "x"), ("c", "y")):
        node.push(tag=tag, words=words)
    before = read_head(store)
    for entry in (before.versions[0], before.versions[2]):
        key = fmt.version_key(BASE, entry.id)
        store.delete([key]) if damage is None else store.put(key, damage)

    left = Registry(store).revert(JO, BASE, operation=ONE).head
    assert left.size == left.versions[0].size > left.versions[1].size, "what was lost counts by itself"
    assert Registry(store).delete(JO, BASE, operation=TWO).head.deleted


def test_a_version_record_that_the_store_withholds_keeps_no_other_version_from_coming_or_going(node, store):
    for tag, words in (("a", "pqr"), ("b", "x"), ("c", "y")):
        node.push(tag=tag, words=words)
    rotten = fmt.version_key(BASE, read_head(store).versions[0].id)
    refuses = Refuses(store, rotten, "get")
    registry = Registry(refuses)
    Pusher(registry, store).push(tag="d", words="z")
    assert registry.untag(JO, BASE, tag="b", operation=ONE).head.size > 0
    assert [version is None for version in registry.describe(JO, BASE).versions] == [True, False, False]
    refuses.verbs = ("get", "stat")
    with pytest.raises(StoreUnavailable):
        Registry(refuses).untag(JO, BASE, tag="c", operation=TWO)


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    ("selector", "error"),
    [
        ({"tag": "nix"}, TagNotFound),
        ({"number": 3}, VersionNotFound),
        ({"tag": "a", "number": 1}, SelectorsDisagree),
        ({"tag": "nix", "number": 1}, TagNotFound),
    ],
)
def test_s11_what_is_not_there_is_refused_and_nothing_is_written(store, selector, error):
    counted = Counting(store)
    with pytest.raises(error):
        Registry(counted).revert(JO, BASE, **selector, operation=ONE)
    assert counted.count("put") == counted.count("delete") == 0


@pytest.mark.usefixtures("three")
def test_whoever_may_not_is_refused_and_whoever_may_not_see_finds_nothing(store, registry):
    before = read_head(store)
    for forbidden, error in ((Action.DELETE_REVERT, Forbidden), (Action.LIST, TemplateNotFound)):
        asker = without(forbidden)
        with pytest.raises(error):
            registry.revert(asker, BASE, operation=ONE)
        with pytest.raises(error):
            registry.delete(asker, BASE, operation=ONE)
    with pytest.raises(Forbidden):
        registry.set_arch(without(Action.SET_ARCH), BASE, arch="arm64", operation=ONE)
    with pytest.raises(Forbidden):
        registry.rename(without(Action.PUSH), BASE, name="x", operation=ONE)
    assert read_head(store) == before


def test_whoever_may_not_see_a_template_is_not_told_of_its_damage(store, registry):
    store.put(fmt.head_key(BASE), b"{")
    for verb in (
        lambda asker: registry.find(asker, BASE),
        lambda asker: registry.describe(asker, BASE),
        lambda asker: registry.plan(asker, BASE),
        lambda asker: registry.revert(asker, BASE, operation=ONE),
        lambda asker: registry.pulled(asker, BASE, TWO),
    ):
        with pytest.raises(RecordDamaged):
            verb(JO)
        with pytest.raises(TemplateNotFound):
            verb(without(Action.LIST))


def test_a_copy_of_a_store_is_not_changed(node, store):
    node.push()
    store.made_as = "elsewhere"
    before = read_head(store)
    with pytest.raises(StoreCopied):
        Registry(store).revert(JO, BASE, operation=ONE)
    assert read_head(store) == before


# --- Repeated, raced, lost -------------------------------------------------------------------------------------------

VERBS = {
    "revert": lambda registry, ref: registry.revert(JO, ref, operation=ONE).head,
    "delete": lambda registry, ref: registry.delete(JO, ref, operation=ONE).head,
    "rename": lambda registry, ref: registry.rename(JO, ref, name="sonoma", operation=ONE),
    "set_arch": lambda registry, ref: registry.set_arch(JO, ref, arch="arm64", operation=ONE),
}
every_verb = pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)


@every_verb
@pytest.mark.usefixtures("three")
def test_the_same_operation_is_done_once_whichever_replica_is_asked(store, verb):
    first = verb(Registry(store), BASE)
    assert verb(Registry(store), BASE) == first == read_head(store)


@pytest.mark.usefixtures("three")
def test_an_operation_of_a_template_that_is_hidden_by_now_finds_nothing(registry):
    registry.delete(JO, BASE, operation=ONE)
    with pytest.raises(TemplateNotFound):
        registry.delete(without(Action.LIST), BASE, operation=ONE)
    with pytest.raises(TemplateNotFound):
        registry.delete(JO, BASE, operation=TWO)


@every_verb
def test_a_change_asked_for_by_the_id_of_a_deleted_template_is_not_made_to_one_that_is_named_so(
    node, store, registry, verb
):
    node.push(BASE)
    node.push(OTHER, name=BASE)
    registry.delete(JO, BASE, operation=TWO)
    before = read_head(store, OTHER)
    with pytest.raises(TemplateNotFound):
        verb(registry, BASE)
    assert read_head(store, OTHER) == before
    assert registry.find(EVERYONE, BASE) == before


@every_verb
@pytest.mark.usefixtures("three")
def test_a_lost_answer_of_the_swap_does_it_once_and_tells_what_was_done(store, verb):
    lost = LosesAnswer(store, prefix=fmt.HEADS)
    before = read_head(store)
    assert verb(Registry(lost), BASE) == read_head(store)
    assert lost.happened
    assert read_head(store).gen == before.gen + 1


@pytest.mark.usefixtures("three")
def test_a_revert_whose_answer_was_lost_still_tells_what_went(store):
    gone = Registry(LosesAnswer(store, prefix=fmt.HEADS)).revert(JO, BASE, tag="b", operation=ONE)
    assert [entry.tag for entry in gone.removed] == ["b", "c"]


@every_verb
def test_whatever_call_fails_repeating_does_it_once(tmp_path, verb):
    def made(number):
        store = FilesStore(tmp_path / str(number), secret=bytes(32))
        Registry(store).prepare()
        for tag in ("a", "b"):
            Pusher(Registry(store), store).push(tag=tag)
        return store

    counted = Counting(made(0))
    expected = verb(Registry(counted), BASE)
    for n in range(1, len(counted.calls) + 1):
        faulty = FailsOnCall(made(n), n, StoreUnavailable(store="s", reason="on purpose"))
        registry = Registry(faulty)
        with contextlib.suppress(StoreUnavailable):  # a version's record is asked for once more
            verb(registry, BASE)
        assert faulty.happened
        head = verb(registry, BASE)
        assert tags(head) == tags(expected)
        assert (head.gen, head.name, head.arch) == (expected.gen, expected.name, expected.arch)


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    ("selector", "left"), [({"tag": "b"}, ["a"]), ({"number": 2}, ["a", "b"]), ({}, ["a", "b", "c"])]
)
def test_a_push_that_is_committed_just_before_the_swap_is_newer_and_goes_too(node, store, selector, left):
    rival = Before(store, "put", lambda: node.push(tag="d", words="d"), prefix=fmt.HEADS)

    gone = Registry(rival).revert(JO, BASE, **selector, operation=ONE)

    assert rival.happened
    assert tags(read_head(store))[0] == left
    assert gone.removed[-1].tag == "d"
    check_sound(store)


@pytest.mark.usefixtures("three")
def test_a_tag_that_another_revert_took_meanwhile_is_not_there_and_no_other_goes(store):
    rival = Before(store, "put", lambda: Registry(store).revert(JO, BASE, operation=TWO), prefix=fmt.HEADS)
    with pytest.raises(TagNotFound):
        Registry(rival).revert(JO, BASE, tag="c", operation=ONE)
    assert tags(read_head(store)) == (["a", "b"], ["c"])


def test_a_push_whose_template_is_deleted_before_its_swap_brings_it_back_with_itself_alone(node, store):
    node.push(tag="a")
    session = node.open(tag="b", name="ignored").session
    files = node.files(session, "q")
    late = Before(store, "put", lambda: Registry(store).delete(JO, BASE, operation=ONE), prefix=fmt.HEADS)

    Pusher(Registry(late), store).commit(session, files, "b", name="back")

    head = read_head(store)
    assert tags(head) == (["b"], ["a"])
    assert (head.name, head.deleted) == ("back", False)
    assert head.size == head.versions[0].size
    check_sound(store)


def push_of(tag):
    return lambda store: Pusher(Registry(store), store).push(tag=tag, words=(tag,))


def revert_of(operation, **selector):
    def act(store):
        with contextlib.suppress(TagNotFound, TemplateNotFound):  # another one was faster
            Registry(store).revert(JO, BASE, **selector, operation=operation)

    return act


def test_a_revert_and_a_push_that_meet_at_the_swap_both_happen(store):
    push_of("a")(store)
    push, revert = 0, 1
    script = ByScript([Until(push, "put", fmt.HEADS), Until(revert, "put", fmt.HEADS), Until(push), Until(revert)])
    Turns(script).run(store, [push_of("b"), revert_of(ONE, tag="a")])

    head = read_head(store)
    assert tags(head) == ([], ["a", "b"])
    assert (head.gen, head.deleted, head.size) == (3, True, 0)


def play(path, seed):
    """Two pushes and two reverts of one template, taking turns at every store call; its head before and after."""
    store = FilesStore(path, secret=bytes(32))
    Registry(store).prepare()
    for tag in ("a", "b"):
        push_of(tag)(store)
    before = read_head(store)
    actors = [push_of("c"), push_of("d"), revert_of(ONE), revert_of(TWO, tag=random.Random(seed).choice("abc"))]
    Turns(ByChance(seed, actors=len(actors), steps=80)).run(store, actors)
    return store, before, read_head(store)


def play_all(path, seeds):
    for seed in seeds:
        store, before, head = play(path / str(seed), seed)
        everything = [*head.versions, *head.removed]
        assert sorted(entry.tag for entry in everything) == ["a", "b", "c", "d"], seed
        assert {entry.id for entry in before.versions} < {entry.id for entry in everything}, seed
        reverts = {ONE, TWO} & set(head.operations)
        assert reverts, seed
        assert head.gen == before.gen + 2 + len(reverts), "each wrote once"
        assert head.deleted == (not head.versions), seed
        assert head.size == sum(entry.size for entry in head.versions), "no two share a layer"
        check_sound(store)
        shutil.rmtree(path / str(seed))


def test_reverts_and_pushes_that_meet_lose_nothing(tmp_path):
    play_all(tmp_path, range(SEEDS))


@pytest.mark.campaign
def test_reverts_and_pushes_that_meet_lose_nothing_in_many_games(tmp_path):
    play_all(tmp_path, range(SEEDS, MANY_SEEDS))


# --- Labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("three")
def test_a_renamed_template_keeps_all_else_and_is_found_by_its_new_name(store, registry):
    change_head(store, unknown={"labels": {"team": "blue"}})
    before = read_head(store)

    registry.rename(JO, "sequoia", name="sonoma", operation=ONE)

    head = read_head(store)
    assert (head.versions, head.unknown, head.size) == (before.versions, before.unknown, before.size)
    assert registry.find(EVERYONE, "sonoma").id == BASE
    with pytest.raises(TemplateNotFound):
        registry.find(EVERYONE, "sequoia")


def test_a_name_that_another_template_carries_is_refused_unless_it_is_meant(node, registry, store):
    node.push(BASE)
    node.push(OTHER, name="sonoma")
    before = read_head(store)
    with pytest.raises(NameTaken):
        registry.rename(JO, BASE, name="sonoma", operation=ONE)
    assert read_head(store) == before
    assert registry.rename(JO, BASE, name="sequoia", operation=ONE).name == "sequoia"
    registry.rename(JO, BASE, name="sonoma", same_name=True, operation=TWO)
    with pytest.raises(NameAmbiguous):
        registry.delete(JO, "sonoma", operation="3" * 32)


@pytest.mark.parametrize("arch", ["", "x86_64"])
def test_an_architecture_that_is_none_is_not_set(node, registry, arch):
    node.push(arch="amd64")
    with pytest.raises(NameInvalid):
        registry.set_arch(JO, BASE, arch=arch, operation=ONE)
    assert registry.find(EVERYONE, BASE).arch == "amd64"


def test_an_architecture_that_was_set_is_kept_by_later_pushes(node, registry):
    node.push(tag="a", arch="amd64")
    registry.set_arch(JO, BASE, arch="arm64", operation=ONE)
    assert node.push(tag="b", arch="amd64").head.arch == "arm64"
