"""A store that tells of its calls is the store that it was; what it tells is what happened."""

import pytest

from contracts.object_store import ObjectStoreContract
from faults import FailsOnCall
from s3reg.errors import ObjectNotFound, StoreUnavailable
from s3reg.store import ABSENT
from s3reg.store.files import FilesStore
from s3reg.store.observed import Observed
from store.test_files import SECRET, opener_of


class TestObserved(ObjectStoreContract):
    keeps_checksums = False

    @pytest.fixture
    def files(self, tmp_path):
        return FilesStore(tmp_path / "store", secret=SECRET)

    @pytest.fixture
    def store(self, files):
        return Observed(files, [lambda *_: None], [lambda *_: None])

    @pytest.fixture
    def opener(self, files):
        return opener_of(files)


@pytest.fixture
def files(tmp_path):
    return FilesStore(tmp_path / "store", secret=SECRET)


@pytest.fixture
def calls():
    return []


def observed(store, calls, links=None):
    def note(verb, outcome, seconds):
        assert seconds >= 0
        calls.append((verb, outcome))

    return Observed(store, [note], [] if links is None else [lambda *said: links.append(said)])


def test_each_call_is_told_once_with_its_verb_and_how_it_ended(files, calls):
    store = observed(files, calls)
    store.put("a/1", b"x", only_if=ABSENT)
    store.get("a/1")
    store.stat("a/1")
    listing = store.relist("a/")
    store.relist("a/", listing)
    store.room()
    store.delete(["a/1"])
    with pytest.raises(ObjectNotFound):
        store.get("a/1")
    assert calls == [
        *(("put", "ok"), ("get", "ok"), ("stat", "ok"), ("relist", "ok"), ("relist", "ok"), ("room", "ok")),
        *(("delete", "ok"), ("get", "object-not-found")),
    ]


def test_a_listing_is_told_when_it_ends_or_is_given_up_or_fails(files, calls):
    store = observed(files, calls)
    for key in ("a/1", "a/2"):
        files.put(key, b"")
    found = store.list("a/")
    assert next(found).key == "a/1"
    assert calls == []
    found.close()
    assert calls == [("list", "ok")]
    assert len(list(store.list("a/"))) == 2
    assert calls == [("list", "ok")] * 2


def test_what_a_store_that_is_away_raises_is_told_and_raised(files, calls):
    for verb, act in (
        ("stat", lambda store: store.stat("a")),
        ("list", lambda store: list(store.list("a/"))),
    ):
        away = FailsOnCall(files, 1, StoreUnavailable(store="it", reason="away"), verb=verb)
        with pytest.raises(StoreUnavailable):
            act(observed(away, calls))
    assert calls == [("stat", "store-unavailable"), ("list", "store-unavailable")]


def test_links_are_told_by_method_and_number_and_are_no_calls(files, calls):
    links = []
    store = observed(files, calls, links)
    store.sign_get("a", seconds=60)
    store.sign_gets((key for key in "abc"), seconds=60)
    store.sign_put("a", size=1, sha256="0" * 64, seconds=60)
    assert links == [("get", 1), ("get", 3), ("put", 1)]
    assert calls == []
