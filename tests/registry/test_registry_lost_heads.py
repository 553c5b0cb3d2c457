"""Heads that somebody removed from outside: what they named must not look like what nobody needs, until a person says so."""

import pytest

from faults import Before
from registry.askers import tenant
from registry.material import (
    BASE,
    OTHER,
    Pusher,
    base,
    change_session,
    check_sound,
    config,
    needed_by,
    read_head,
    sessions,
    swept,
)
from s3reg.errors import HeadLost, HeadThere, NameInvalid, TemplateIdTaken, TemplateNotFound
from s3reg.model import format as fmt
from s3reg.model.template import SessionState
from s3reg.registry import Limits, ProposedFile, Registry

THIRD = "00000000-0000-4000-8000-000000000003"
BYTES = (fmt.PACKS, fmt.MAPS, fmt.VERSIONS)


def keys(store, *prefixes):
    return {stat.key for prefix in prefixes or ("",) for stat in store.list(prefix)}


def lose_head(store, template=OTHER):
    store.delete([fmt.head_key(template)])


@pytest.fixture
def lost(node, store):
    """A template of two versions that has lost its head, beside a sound one; the keys of its objects."""
    node.push(BASE, "v1")
    needed = set()
    for tag in ("v1", "v2"):
        done = node.push(OTHER, tag, words=("ab", tag), name="other")
        needed |= needed_by(store, OTHER, done.entry.id)
    lose_head(store)
    return needed


# --- Nothing goes by mistake ------------------------------------------------------------------------------------------


def test_a_sweep_names_every_template_whose_head_is_lost(node, store, lost):
    node.push(THIRD, "v1", name="third")
    lose_head(store, THIRD)
    for dry_run in (False, True):
        with pytest.raises(HeadLost) as stopped:
            node.registry.sweep(dry_run=dry_run)
        assert stopped.value.detail["templates"] == f"{OTHER}, {THIRD}"
    assert lost < keys(store)


def test_a_push_does_not_make_a_template_anew_that_has_lost_its_head(node, store, lost):
    """Its new head would name one version, and the next sweep would take all others."""
    with pytest.raises(HeadLost):
        node.push(OTHER, "v3", name="other")
    assert lost < keys(store)


def test_nor_does_a_push_that_was_under_way_when_it_was_lost(node, store):
    node.push(OTHER, "v1", name="other")
    session = node.open(OTHER, "v2", "other").session
    files = node.files(session, "q")
    lose_head(store)
    with pytest.raises(HeadLost):
        node.commit(session, files, "v2", name="other")
    with pytest.raises(HeadLost):
        swept(store, expire=True)
    assert len(keys(store, fmt.VERSIONS)) == 1


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_push_that_is_given_up_hides_no_loss(node, store, dry_run):
    """The head that fences it off would be one that names nothing."""
    node.push(OTHER, "v1", name="other")
    node.open(OTHER, "v2", "other")
    lose_head(store)
    with pytest.raises(HeadLost):
        Registry(store, limits=Limits(idle_seconds=-1)).sweep(dry_run=dry_run)
    assert fmt.head_key(OTHER) not in keys(store)
    assert len(keys(store, fmt.VERSIONS)) == 1


def test_who_may_not_know_of_a_template_does_not_learn_that_its_head_is_lost(node, store, lost):
    with pytest.raises(TemplateIdTaken):
        Pusher(node.registry, store, tenant("ci", "theirs")).push(OTHER, "v3", name="other")


# --- And nothing is refused that is no loss ---------------------------------------------------------------------------


def test_two_first_pushes_at_once_are_none(node, store):
    """One has written its version's record, and no head is there yet."""
    ours, theirs = (node.open(OTHER, tag, "other").session for tag in ("v1", "v2"))
    files = node.files(ours, "q"), node.files(theirs, "r")
    late = Before(store, "put", lambda: node.commit(theirs, files[1], "v2", name="other"), prefix=fmt.HEADS)
    Pusher(Registry(late), store).commit(ours, files[0], "v1", name="other")
    assert late.happened
    assert {entry.tag for entry in read_head(store, OTHER).versions} == {"v1", "v2"}


@pytest.mark.parametrize("prefix", [fmt.VERSIONS, fmt.SESSIONS])
def test_a_first_push_that_ends_while_another_looks_is_none(node, store, prefix):
    session = node.open(OTHER, "v1", "other").session
    files = node.files(session, "q")
    late = Before(store, None, lambda: node.commit(session, files, "v1", name="other"), prefix=prefix)
    Pusher(Registry(late), store).push(OTHER, "v2", name="other")
    assert late.happened
    assert {entry.tag for entry in read_head(store, OTHER).versions} == {"v1", "v2"}


def test_a_first_push_that_ends_while_a_sweep_gives_another_up_is_none(node, store):
    abandoned, session = (node.open(OTHER, tag, "other").session for tag in ("v1", "v2"))
    files = node.files(session, "q")
    change_session(store, abandoned, state=SessionState.EXPIRED)
    late = Before(
        store, "list", lambda: node.commit(session, files, "v2", name="other"), prefix=f"{fmt.VERSIONS}{OTHER}"
    )
    Registry(late).sweep()
    assert late.happened
    assert [entry.tag for entry in read_head(store, OTHER).versions] == ["v2"]
    assert sessions(store) == []
    assert node.registry.sweep().removed == 0


# --- The way on -------------------------------------------------------------------------------------------------------


def test_whoever_says_that_it_is_gone_for_good_lets_its_versions_go(node, store, lost):
    sizes = {stat.key: stat.size for stat in store.list("")}
    forecast = node.registry.sweep(dry_run=True, lost=[OTHER])
    assert fmt.head_key(OTHER) not in keys(store)
    done = node.registry.sweep(lost=[OTHER])
    assert keys(store, *BYTES) == sizes.keys() & keys(store, *BYTES)
    assert not lost & keys(store)
    assert (done.removed, done.freed) == (len(lost), sum(sizes[key] for key in lost))
    assert (forecast.removed, forecast.freed) == (done.removed, done.freed)
    assert read_head(store, OTHER).deleted
    check_sound(store)
    assert node.registry.sweep().removed == 0
    node.push(OTHER, "v1", name="other")


def test_what_others_need_of_it_stays(node, store):
    opened = node.open(BASE, "v1", bases=(base(node.push(OTHER, "v1", name="other")),))
    ((theirs,),) = ([file for file in version.files if file.map] for version in opened.bases)
    kept = ProposedFile("disk", theirs.role, theirs.size, theirs.digest, drive=0, map=theirs.map)
    node.commit(opened.session, (kept, config()))
    lose_head(store)
    done = node.registry.sweep(lost=[OTHER])
    assert done.removed == 1
    check_sound(store)


def test_a_template_that_has_its_head_is_refused_and_nothing_is_written(node, store, lost):
    before = {stat.key: stat.etag for stat in store.list("")}
    for dry_run in (False, True):
        with pytest.raises(HeadThere):
            node.registry.sweep(lost=[OTHER, BASE], dry_run=dry_run)
    assert {stat.key: stat.etag for stat in store.list("")} == before


def test_one_whose_head_is_put_back_meanwhile_keeps_it(node, store):
    node.push(OTHER, "v1", name="other")
    raw = store.get(fmt.head_key(OTHER)).data
    lose_head(store)
    late = Before(store, "put", lambda: store.put(fmt.head_key(OTHER), raw), prefix=fmt.HEADS)
    with pytest.raises(HeadThere):
        Registry(late).sweep(lost=[OTHER])
    assert late.happened
    assert store.get(fmt.head_key(OTHER)).data == raw


def test_an_id_of_which_there_is_nothing_is_refused(node, store, lost):
    before = keys(store)
    for wrong, error in ((THIRD, TemplateNotFound), ("other", NameInvalid)):
        with pytest.raises(error):
            node.registry.sweep(lost=[OTHER, wrong])
    assert keys(store) == before


def test_a_first_push_under_way_has_lost_nothing(node, store):
    """Its version lies there without a head, as that of a lost one does."""
    session = node.open(OTHER, "v1", "other").session
    files = node.files(session, "q")
    died = Before(store, "put", lambda: 1 / 0, prefix=fmt.HEADS)
    with pytest.raises(ZeroDivisionError):
        Pusher(Registry(died), store).commit(session, files, name="other")
    with pytest.raises(TemplateNotFound):
        node.registry.sweep(lost=[OTHER])
    assert node.registry.sweep().removed == 0
