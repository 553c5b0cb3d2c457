"""The stores that misbehave do so at the chosen call, and are honest stores otherwise."""

import threading

import pytest

from faults import Before, Call, Corrupting, Counting, FailsOnCall, LosesAnswer, Paused
from s3reg.errors import ObjectNotFound, PreconditionFailed, PutUnsettled, StoreUnavailable
from s3reg.store import ABSENT, Match
from s3reg.store.files import FilesStore

DOWN = StoreUnavailable(store="the test's", reason="as the test wants it")


@pytest.fixture
def store(tmp_path):
    return FilesStore(tmp_path, secret=bytes(32))


def test_every_verb_goes_through_and_is_counted(store):
    counting = Counting(FailsOnCall(store, 1, DOWN, verb="never"))
    etag = counting.put("a/b", b"0123", only_if=ABSENT)
    counting.put("a/b", b"4567", only_if=Match(etag))
    assert counting.get("a/b", first=1, length=2).data == b"56"
    assert [item.key for item in counting.list("a/", after="a/a")] == ["a/b"]
    assert counting.stat("a/b").size == 4
    assert counting.sign_get("a/b", seconds=5).url
    assert counting.sign_gets(["a/b"], seconds=5)[0].url
    assert counting.sign_put("a/c", size=0, sha256="0" * 64, seconds=5).url
    counting.delete(iter(["a/b", "x"]))
    with pytest.raises(ObjectNotFound):
        counting.stat("a/b")
    assert [call.verb for call in counting.calls] == [
        "put",
        "put",
        "get",
        "list",
        "stat",
        "sign_get",
        "sign_gets",
        "sign_put",
        "delete",
        "stat",
    ]
    assert counting.calls[8] == Call("delete", ("a/b", "x"))
    assert (counting.count(), counting.count("put"), counting.count("delete", "x")) == (10, 2, 1)
    assert (counting.location, counting.made_as) == (store.location, store.made_as)


def test_the_call_that_fails_is_not_applied(store):
    failing = FailsOnCall(store, 2, DOWN, verb="put", prefix="heads/")
    failing.put("heads/a", b"1")
    failing.put("packs/a", b"1")
    assert not failing.happened
    with pytest.raises(StoreUnavailable):
        failing.put("heads/a", b"2")
    assert failing.happened
    assert failing.get("heads/a").data == b"1"
    failing.put("heads/a", b"3")
    assert store.get("heads/a").data == b"3"


def test_a_lost_answer_is_lost_whether_the_put_was_applied_or_not(store):
    with pytest.raises(PutUnsettled):
        LosesAnswer(store).put("a", b"1", only_if=ABSENT)
    assert store.get("a").data == b"1"
    losing = LosesAnswer(store)
    with pytest.raises(PutUnsettled):
        losing.put("a", b"2", only_if=ABSENT)
    with pytest.raises(PreconditionFailed):
        losing.put("a", b"2", only_if=ABSENT)
    assert store.get("a").data == b"1"


def test_somebody_else_comes_first(store):
    rival = Before(store, "put", lambda: store.put("a", b"rival"), prefix="a")
    with pytest.raises(PreconditionFailed):
        rival.put("a", b"mine", only_if=ABSENT)
    assert store.get("a").data == b"rival"
    rival.put("a", b"mine")
    assert store.get("a").data == b"mine"


def test_a_paused_call_waits_for_its_release(store):
    paused = Paused(store, "put")
    thread = threading.Thread(target=paused.put, args=("a", b"1"))
    thread.start()
    assert paused.reached.wait(60)
    assert list(store.list("")) == []
    paused.release()
    thread.join(60)
    assert store.get("a").data == b"1"


def test_what_is_read_may_be_corrupted_and_what_lies_there_is_not(store):
    store.put("a", b"123")
    assert Corrupting(store, lambda key, data: key.encode() + data[1:]).get("a").data == b"a23"
    assert store.get("a").data == b"123"
