"""Every store call of a push fails once, or loses its answer once; the node repeats what failed, and all is well."""

import itertools

import pytest

from faults import Counting, FailsOnCall, LosesAnswer
from registry.material import (
    BASE,
    OTHER,
    Pusher,
    base,
    check_sound,
    config,
    heads,
    image,
    read_head,
    sessions,
)
from s3reg.errors import PutUnsettled, StoreUnavailable
from s3reg.registry import Registry
from s3reg.store.files import FilesStore


def repeated(call):
    """What a node does with an answer that says: try again."""
    for _ in range(3):
        try:
            return call()
        except StoreUnavailable:
            continue
    raise AssertionError("three times")


def whole_push(store, faulty, told):
    """A delta push through `faulty`, each verb repeated where it fails; what goes straight to the store is not touched."""
    node = Pusher(Registry(faulty), store)
    other = base(told["other"])
    opened = repeated(lambda: node.open(BASE, "v2"))
    session = opened.session
    repeated(lambda: node.registry.add_bases(node.asker, session.id, [other]))
    repeated(lambda: node.registry.sign_uploads(node.asker, session.id, [("pack", "0" * 64, 1)]))
    theirs = next(file for file in opened.bases[0].files if file.map)
    new = image(store, session, "top", "c", drive=0, parent="disk")
    from s3reg.registry import ProposedFile

    same = ProposedFile("disk", theirs.role, theirs.size, theirs.digest, drive=0, map=theirs.map)
    files = (same, new, config())
    return repeated(lambda: node.commit(session, files, "v2"))


@pytest.fixture
def make(tmp_path):
    """Stores with a template to push to, and another as a base, each as fresh as the first."""
    numbers = itertools.count()

    def fresh():
        store = FilesStore(tmp_path / str(next(numbers)), secret=bytes(32))
        Registry(store).prepare()
        node = Pusher(Registry(store), store)
        node.push(BASE, "v1")
        return store, {"other": node.push(OTHER, "v1", name="other", words="x")}

    return fresh


def calls_of_a_push(make):
    store, told = make()
    counted = Counting(store)
    whole_push(store, counted, told)
    return len(counted.calls), counted.count("put")


def check_done(store, done):
    head = read_head(store)
    assert [entry.tag for entry in head.versions] == ["v1", "v2"]
    assert head.removed == ()
    assert head.versions[1] == done.entry
    assert head.gen == 2
    check_sound(store)


def test_s4_whatever_call_fails_a_repeated_push_makes_exactly_one_version(make):
    calls, _ = calls_of_a_push(make)
    assert calls > 25
    for n in range(1, calls + 1):
        store, told = make()
        faulty = FailsOnCall(store, n, StoreUnavailable(store="s", reason="on purpose"))

        done = whole_push(store, faulty, told)

        assert faulty.happened
        check_done(store, done)


def test_s1_whatever_call_fails_nothing_half_is_visible(make):
    """Without a repeat: the node gives up at the first failure."""
    calls, _ = calls_of_a_push(make)
    for n in range(1, calls + 1):
        store, told = make()
        faulty = FailsOnCall(store, n, KeyboardInterrupt("the replica dies"))

        with pytest.raises(KeyboardInterrupt):
            whole_push(store, faulty, told)

        assert {len(head.versions) for head in heads(store)} <= {1, 2}
        assert len(read_head(store, OTHER).versions) == 1
        check_sound(store)


def test_whatever_put_loses_its_answer_a_push_makes_exactly_one_version(make):
    _, puts = calls_of_a_push(make)
    assert puts == 7
    for n in range(1, puts + 1):
        store, told = make()
        faulty = LosesAnswer(store, n)

        done = whole_push(store, faulty, told)

        assert faulty.happened
        check_done(store, done)
        assert sessions(store) == []


def test_whatever_put_is_unsettled_and_did_not_count_a_push_makes_exactly_one_version(make):
    _, puts = calls_of_a_push(make)
    for n in range(1, puts + 1):
        store, told = make()
        faulty = FailsOnCall(store, n, PutUnsettled(key="k", reason="on purpose"), verb="put")

        done = whole_push(store, faulty, told)

        assert faulty.happened
        check_done(store, done)
