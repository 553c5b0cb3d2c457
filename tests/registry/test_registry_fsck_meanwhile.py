"""A check of a store while others work on it: at whichever of its calls they do what they do, nothing is told as damage."""

import functools
import shutil

import pytest

from faults import Before, Counting, FailsOnCall
from registry.material import BASE, OTHER, Pusher, purge, read_head, swept
from s3reg.errors import StoreUnavailable
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE
from s3reg.registry import Registry
from s3reg.store.files import FilesStore


def over(folder):
    """A node of the registry over this folder."""
    store = FilesStore(folder, secret=bytes(32))
    return Pusher(Registry(store), store)


@pytest.fixture
def fresh(in_memory):
    """Makes a store: BASE with two versions, OTHER with one."""
    node = over(in_memory / "first")
    node.registry.prepare()
    node.push(BASE, "v1", words=("a",))
    node.push(BASE, "v2", words=("b",))
    node.push(OTHER, "v1", name="other", words=("c",))

    def make(name):
        shutil.copytree(in_memory / "first", in_memory / str(name))
        return over(in_memory / str(name))

    return make


def brought_and_taken_away(node):
    """A version comes, and goes for good, under a template of its own; another template goes; a sweep runs."""
    gone = "00000000-0000-4000-8000-000000000003"
    node.push(gone, "v1", name="gone", words=("d",))
    purge(node.store, gone)
    purge(node.store, OTHER)
    assert swept(node.store).removed == 6


def replaced_and_restored(node):
    """A version is replaced by force and comes back under another tag; what replaced it goes for good; a sweep runs."""
    old = read_head(node.store).versions[0].id
    new = node.push(BASE, "v1", words=("e",), force=True).entry.id
    node.registry.restore(EVERYONE, BASE, versions=[old], as_tag="again", operation="1" * 32)
    node.registry.untag(EVERYONE, BASE, tag="v1", operation="2" * 32)
    node.registry.purge(EVERYONE, BASE, versions=[new], operation="3" * 32)
    assert swept(node.store).removed == 3


def given_up(node):
    """A push begins, sends, is given up, and is swept."""
    opened = node.open(OTHER, "v2", name="other")
    node.files(opened.session, ("f",))
    assert swept(node.store, expire=True).removed == 2


@pytest.mark.parametrize("act", [brought_and_taken_away, replaced_and_restored, given_up])
def test_at_whichever_call_others_come_in_between_nothing_is_told_as_damage(fresh, act):
    counting = Counting(fresh("counted").store)
    assert Registry(counting).fsck(read_data=100).clean
    assert len(counting.calls) > 30
    for n in range(1, len(counting.calls) + 1):
        node = fresh(n)
        between = Before(node.store, None, functools.partial(act, node), n=n)
        done = Registry(between).fsck(read_data=100)
        assert between.happened
        assert done.damage == [], n
        assert list(node.store.list(fmt.DAMAGED)) == [], n


@pytest.mark.parametrize("prefix", [fmt.HEADS, fmt.VERSIONS, fmt.MAPS, fmt.PACKS])
def test_what_is_purged_at_one_call_and_swept_at_another_is_no_damage(fresh, prefix):
    """Between the reading of heads, of the versions that they named, and of what those stand on."""
    for n in range(1, 6):
        node = fresh(n)
        sweeping = Before(node.store, None, functools.partial(swept, node.store), n=n, prefix=prefix)
        removing = Before(sweeping, None, functools.partial(purge, node.store), prefix=fmt.HEADS, n=3)
        done = Registry(removing).fsck(read_data=100)
        assert removing.happened
        assert done.damage == [], n
        assert list(node.store.list(fmt.DAMAGED)) == [], n


@pytest.mark.parametrize("prefix", [fmt.VERSIONS, fmt.MAPS, fmt.PACKS])
def test_what_is_bad_at_both_looks_and_is_let_go_by_then_is_nobody_s_loss(node, store, prefix):
    """Heads are read for the last time after the second look."""
    node.push()
    key = next(stat.key for stat in store.list(prefix))
    store.put(key, store.get(key).data[:-1] + b"?")
    letting_go = Before(store, "get", functools.partial(purge, store), n=2, prefix=prefix)
    done = Registry(letting_go).fsck()
    assert letting_go.happened
    assert done.damage == []
    assert list(store.list(fmt.DAMAGED)) == []


@pytest.mark.parametrize("step", ["gc/", "heads/"])
def test_a_first_push_whose_version_is_written_and_whose_head_is_not_is_no_template_that_lost_its_head(store, step):
    """Checked between the two; and once more while the check itself goes on, when the head is there."""
    told = []
    between = Before(store, "put", lambda: told.append(Registry(store).fsck()), prefix="heads/")
    Pusher(Registry(between), store).push(BASE, "v1")
    assert [done.damage for done in told] == [[]]
    assert [tally.count for tally in told[0].orphans.values()] == [0, 0, 0]
    node = Pusher(Registry(store), store)
    opened = node.open(OTHER, name="other")
    files = node.files(opened.session, ("x",))
    committing = Before(store, "list", lambda: node.commit(opened.session, files, name="other"), prefix=step)
    assert Registry(committing).fsck().damage == []
    assert committing.happened


def test_first_pushes_that_never_came_to_write_their_head_are_no_template_that_lost_it(node, store):
    """One died before the check, one died after it had read the sessions."""

    def die(tag):
        broken = FailsOnCall(store, 1, StoreUnavailable(store="", reason="on purpose"), verb="put", prefix=fmt.HEADS)
        with pytest.raises(StoreUnavailable):
            Pusher(Registry(broken), store).push(OTHER, tag, words=(tag,), name="other")

    node.registry.prepare()
    die("v1")
    meanwhile = Before(store, "list", lambda: die("v2"), prefix=f"{fmt.VERSIONS}{OTHER}/")
    assert Registry(meanwhile).fsck().damage == []
    assert meanwhile.happened
