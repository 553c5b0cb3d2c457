"""The directory store behaves as a dictionary does, whatever is done to it in whatever order."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from s3reg.errors import ObjectNotFound, PreconditionFailed
from s3reg.store import ABSENT, Match
from s3reg.store.files import FilesStore

KEYS = st.sampled_from(
    ["a", "A", "a/b", "a/B", "a-", "a0", "a.d", "a.d/b", "a/b/c", ".a", "a/.b", "aBCDe", "abcde", "b.d/.d", "b/c/d/e/f"]
)
DATA = st.sampled_from([b"", b"1", b"2", b"3", b"longer"])


class FilesAsDict(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.store = FilesStore(self.root)
        self.model, self.etags = {}, {}
        self.past = {}
        self.listings = dict.fromkeys(["", "a", "a/", "b.d/"])

    def teardown(self):
        shutil.rmtree(self.root)

    def wrote(self, key, data, etag):
        assert self.past.setdefault((key, etag), data) == data
        self.model[key], self.etags[key] = data, etag

    @rule(key=KEYS, data=DATA)
    def put(self, key, data):
        self.wrote(key, data, self.store.put(key, data))

    @rule(key=KEYS, data=DATA)
    def put_if_absent(self, key, data):
        if key in self.model:
            with pytest.raises(PreconditionFailed):
                self.store.put(key, data, only_if=ABSENT)
        else:
            self.wrote(key, data, self.store.put(key, data, only_if=ABSENT))

    @rule(key=KEYS, data=DATA)
    def put_if_match(self, key, data):
        if key in self.model:
            self.wrote(key, data, self.store.put(key, data, only_if=Match(self.etags[key])))

    @rule(key=KEYS, data=DATA, pick=st.randoms(use_true_random=False))
    def put_if_match_of_the_past(self, key, data, pick):
        old = sorted(etag for where, etag in self.past if where == key and etag != self.etags.get(key))
        if old:
            with pytest.raises(PreconditionFailed):
                self.store.put(key, data, only_if=Match(pick.choice(old)))

    @rule(keys=st.lists(KEYS, max_size=5))
    def delete(self, keys):
        self.store.delete(keys)
        for key in keys:
            self.model.pop(key, None)
            self.etags.pop(key, None)

    @rule(key=KEYS, first=st.integers(-8, 8), length=st.none() | st.integers(0, 8))
    def get(self, key, first, length):
        if key not in self.model:
            with pytest.raises(ObjectNotFound):
                self.store.get(key, first=first, length=length)
            return
        found = self.store.get(key, first=first, length=length)
        rest = self.model[key][first:]
        assert found.data == (rest if length is None else rest[:length])
        assert (found.stat.etag, found.stat.size) == (self.etags[key], len(self.model[key]))

    @rule(
        prefix=st.sampled_from(["", "a", "a/", "A", "a.d", "a.d/", ".", "b/c/", "b/c/d/e/f"]), after=st.just("") | KEYS
    )
    def list(self, prefix, after):
        expected = sorted(key for key in self.model if key.startswith(prefix) and key > after)
        assert [item.key for item in self.store.list(prefix, after=after)] == expected

    @rule()
    def reopen(self):
        self.store = FilesStore(self.root)

    @invariant()
    def all_is_there(self):
        listed = {item.key: (item.etag, item.size) for item in self.store.list("")}
        assert listed == {key: (self.etags[key], len(data)) for key, data in self.model.items()}

    @invariant()
    def all_is_there_when_it_is_listed_again(self):
        for prefix, before in self.listings.items():
            self.listings[prefix] = listing = self.store.relist(prefix, before)
            expected = sorted((key, self.etags[key]) for key in self.model if key.startswith(prefix))
            assert [(item.key, item.etag) for item in listing.stats] == expected

    @invariant()
    def nothing_else_is_there(self):
        assert sum(1 for path in self.root.rglob("*") if path.is_file()) == len(self.model) + len(
            list((self.root / ".locks").iterdir())
        )
        empty = [path for path in self.root.rglob("*.d") if path.is_dir() and not any(path.iterdir())]
        assert empty == []


FilesAsDict.TestCase.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
TestFilesAsDict = FilesAsDict.TestCase
