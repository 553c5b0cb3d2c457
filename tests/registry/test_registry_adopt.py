"""A copy of a store becomes a store of its own, or stays what it is: whatever was copied when, whoever dies on the way."""

import contextlib
import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest

from faults import Before, Counting, FailsOnCall, LosesAnswer
from registry.material import BASE, OTHER, Pusher, check_sound, heads, purge, put_marker, sessions
from s3reg.errors import (
    AdoptionDisturbed,
    CopyDamaged,
    FormatUnknown,
    NotACopy,
    RecordDamaged,
    SessionExpired,
    StoreCopied,
    StoreUnavailable,
    TagNotFound,
    TemplateNotFound,
)
from s3reg.model import format as fmt
from s3reg.model.format_access import SIGNING_KEY
from s3reg.model.identity import EVERYONE
from s3reg.model.template import SessionState
from s3reg.registry import Registry
from s3reg.store.files import FilesStore

COPIES = Path(__file__).parents[2] / "docs/howto/copies.md"
SEEDS = range(8)


class Elsewhere(FilesStore):
    """A directory that stands for a bucket: it says where it is."""

    made_as = location = "s3://copy"


@pytest.fixture
def copied(store, tmp_path):
    """The same bytes, at another place than they were made; the original stands for a bucket of another name."""
    return Elsewhere(tmp_path / "store", secret=bytes(32))


@pytest.fixture
def copy(copied):
    return Registry(copied)


def made(store):
    return json.loads(store.get(fmt.FORMAT_KEY).data)


class TestAdoption:
    def test_a_copy_is_written_from_then_on_and_the_original_stays_what_it_is(self, node, registry, store, tmp_path):
        node.push()
        secret = registry.signing_secret()
        target = Elsewhere(tmp_path / "copy", secret=bytes(32))
        for stat in store.list(""):
            target.put(stat.key, store.get(stat.key).data)
        copy = Registry(target)
        with pytest.raises(StoreCopied):
            Pusher(copy, target).push(tag="v2")
        done = copy.adopt()
        assert (done.made_as, done.sessions, done.markers) == ("directory", 0, 0)
        assert (done.checked.templates, done.checked.versions, done.checked.damage) == (1, 1, [])
        Pusher(copy, target).push(tag="v2")
        copy.sweep()
        check_sound(target)
        assert copy.fsck().clean
        assert not copy.status().copied
        assert made(target)["store"] == done.store != made(store)["store"]
        assert copy.signing_secret() != secret == registry.signing_secret()
        node.push(tag="v3")

    def test_a_directory_that_was_copied_with_its_folders_names_is_refused(self, registry, store, copied, copy):
        registry.prepare()
        store.put(f"heads.d/{BASE}.json", b"bytes")
        with pytest.raises(CopyDamaged, match=r"folders of a directory"):
            copy.adopt()
        assert copy.adopt(force=True).checked.versions == 0

    def test_a_secret_that_was_not_copied_is_made(self, node, copied, copy):
        node.push()
        assert copy.adopt().checked.clean
        assert copy.signing_secret()

    def test_what_we_do_not_know_of_its_format_stays(self, node, copied, copy):
        raw = {**made(copied), "later": [1], "features": {**made(copied)["features"]}}
        copied.put(fmt.FORMAT_KEY, json.dumps(raw).encode())
        copy.adopt()
        assert made(copied)["later"] == [1]

    @pytest.mark.parametrize("use", ["read", "write"])
    def test_a_feature_that_we_lack_is_refused(self, use, copied, copy):
        raw = made(copied)
        raw["features"][use] = ["later"]
        copied.put(fmt.FORMAT_KEY, json.dumps(raw).encode())
        with pytest.raises(FormatUnknown):
            copy.adopt()
        assert made(copied) == raw

    def test_a_store_that_was_made_where_it_is_is_none(self, registry, node, store):
        node.push()
        before = {stat.key: stat.etag for stat in store.list("")}
        with pytest.raises(NotACopy):
            registry.adopt(force=True)
        assert {stat.key: stat.etag for stat in store.list("")} == before

    def test_neither_is_an_empty_one(self, tmp_path):
        empty = FilesStore(tmp_path / "empty", secret=bytes(32))
        with pytest.raises(NotACopy):
            Registry(empty).adopt()
        assert list(empty.list("")) == []

    def test_one_that_lacks_its_format_is_refused(self, node, copied, copy):
        node.push()
        copied.delete([fmt.FORMAT_KEY])
        with pytest.raises(RecordDamaged):
            copy.adopt(force=True)

    def test_a_second_time_there_is_nothing_to_adopt(self, node, copy):
        copy.adopt()
        with pytest.raises(NotACopy):
            copy.adopt()

    def test_whoever_thinks_better_of_it_has_changed_nothing(self, node, copied, copy):
        node.push()
        before = {stat.key: stat.etag for stat in copied.list("")}

        def no(found):
            assert found.versions == 1
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            copy.adopt(agreed=no)
        assert {stat.key: stat.etag for stat in copied.list("")} == before


class TestWhatIsTheOriginals:
    def test_its_pushes_are_given_up_and_a_sweep_clears_up_behind_them(self, node, copied, copy):
        opened = node.open()
        node.files(opened.session)
        assert copy.adopt().sessions == 1
        assert [one.state for one in sessions(copied)] == [SessionState.EXPIRED]
        swept = copy.sweep()
        assert (swept.given_up, list(copied.list(fmt.PACKS)), list(copied.list(fmt.SESSIONS))) == (1, [], [])

    def test_its_sweeps_markers_go(self, node, copied, copy):
        node.push()
        put_marker(copied, "a" * 32, [fmt.pack_key("main", "b" * 32, "c" * 64)])
        assert copy.adopt().markers == 1
        assert list(copied.list(fmt.MARKERS)) == []

    def test_whoever_pushes_to_this_very_bucket_under_its_other_name_commits_nothing_more(self, node, store, copy):
        # The name was another, the bucket is the same: so nothing that is written by then is lost, and nothing comes after.
        opened = node.open()
        files = node.files(opened.session)
        copy.adopt()
        with pytest.raises((StoreCopied, SessionExpired)):
            node.commit(opened.session, files)
        copy.sweep()
        assert [head.versions for head in heads(store)] == [()]

    def test_a_commit_between_any_two_steps_is_whole_or_refused(self, node, store, copied):
        steps = Counting(copied)
        node.push(OTHER, name="other", words=("x",))
        Registry(steps).adopt()
        first = next(n for n, call in enumerate(steps.calls, 1) if call.verb == "put")
        for n in range(first, len(steps.calls) + 1):
            store.put(fmt.FORMAT_KEY, json.dumps({**made(store), "made_as": store.made_as}).encode())
            tag = f"v{n}"
            opened = node.open(tag=tag)
            files = node.files(opened.session, (tag,))

            def commit(opened=opened, files=files, tag=tag):
                with contextlib.suppress(StoreCopied, SessionExpired):
                    node.commit(opened.session, files, tag)

            copy = Registry(Before(copied, None, commit, n=n))
            copy.adopt()
            Registry(copied).sweep()
            check_sound(copied)


class TestDamage:
    def test_a_copy_that_lacks_a_pack_is_refused_and_stays_as_it_is(self, node, copied, copy):
        node.push()
        copied.delete([next(copied.list(fmt.PACKS)).key])
        before = {stat.key: stat.etag for stat in copied.list("")}
        with pytest.raises(CopyDamaged) as refused:
            copy.adopt()
        assert "sequoia v1 disk" in str(refused.value)
        assert {stat.key: stat.etag for stat in copied.list("")} == before

    def test_one_whose_trash_lacks_a_pack_is_refused_too(self, node, registry, copied, copy):
        node.push()
        registry.delete(EVERYONE, BASE, operation="1" * 32)
        copied.delete([next(copied.list(fmt.PACKS)).key])
        with pytest.raises(CopyDamaged, match=r"sequoia v1 disk \(in the trash\)"):
            copy.adopt()

    def test_forced_it_is_adopted_and_no_push_builds_on_what_is_missing(self, node, copied, copy):
        node.push()
        pack = next(copied.list(fmt.PACKS)).key
        copied.delete([pack])
        done = copy.adopt(force=True)
        assert len(done.checked.damage) == 1
        opened = Pusher(copy, copied).open(tag="v2")
        assert [one.sha256 for one in opened.damaged] == [pack.rpartition("/")[2]]


PREFIXES = (fmt.PACKS, fmt.MAPS, fmt.VERSIONS, fmt.HEADS, fmt.SESSIONS, fmt.MARKERS, "auth/", fmt.PULLS)


def copied_in(order, source, target, between):
    """What a copy is that took one prefix after the other, while the original changed between them."""
    for prefix in order:
        for stat in list(source.list(prefix)):
            target.put(stat.key, source.get(stat.key).data)
        between(prefix)


def untagged(registry, tag):
    with contextlib.suppress(TagNotFound, TemplateNotFound):
        registry.untag(EVERYONE, BASE, tag=tag, operation="1" * 32)


class TestCopiesOfAStoreThatChanges:
    @pytest.mark.parametrize("seed", SEEDS)
    def test_in_any_order_it_is_refused_or_sound(self, seed, node, registry, store, tmp_path):
        dice = random.Random(seed)
        node.push(tag="v1")
        node.push(tag="v2", words=("c",))
        left = [
            lambda: node.push(tag="v3", words=("d",)),
            lambda: node.push(OTHER, name="other", words=("e",)),
            lambda: node.open(tag="v9"),
            lambda: untagged(registry, "v1"),
            lambda: (purge(store), registry.sweep()),
        ]
        dice.shuffle(left)
        order = [fmt.FORMAT_KEY, *PREFIXES]
        dice.shuffle(order)
        target = Elsewhere(tmp_path / "copy", secret=bytes(32))
        copied_in(order, store, target, lambda _: left.pop()() if left and dice.random() < 0.7 else None)
        copy = Registry(target)
        try:
            copy.adopt()
        except CopyDamaged:
            assert copy.status().copied
            return
        check_sound(target)
        copy.sweep()
        check_sound(target)
        assert copy.fsck(read_data=100).clean
        Pusher(copy, target).push(tag="after", same_name=True)

    def test_in_the_documented_order_it_is_whole_though_pushes_and_sweeps_go_on(self, node, registry, store, tmp_path):
        # What is removed meanwhile lies in the trash: no sweep takes it before the copy is done. What is pushed meanwhile
        # may be missed, and a head that names it copied: so what never changes is copied again, behind the heads.
        node.push(tag="v1")
        target = Elsewhere(tmp_path / "copy", secret=bytes(32))
        number = iter(range(2, 100))

        def goes_on(prefix):
            tag = f"v{next(number)}"
            node.push(tag=tag, words=(prefix,))
            if tag == "v3":
                untagged(registry, "v1")
            registry.sweep()

        order = re.search(r"for prefix in (.*); do", COPIES.read_text())[1].split()
        copied_in([f"{prefix}/" for prefix in order], store, target, goes_on)
        copied_in([fmt.FORMAT_KEY], store, target, lambda _: None)
        copy = Registry(target)
        assert copy.adopt().checked.clean
        copy.sweep()
        check_sound(target)
        (head,) = heads(target)
        assert [entry.tag for entry in head.versions] == [f"v{number}" for number in range(2, 2 + order.index("heads"))]
        assert [entry.tag for entry in head.removed] == ["v1"]


class TestFaults:
    """It may die at every call; then it is a copy as before, or adopted, and a second try brings it there."""

    def test_whatever_call_fails_it_is_read_only_or_adopted_and_can_be_repeated(self, node, store, copied):
        node.push()
        node.open(OTHER, "x", "other")
        put_marker(copied, "a" * 32, [])
        raw = store.get(fmt.FORMAT_KEY).data
        counting = Counting(copied)
        Registry(counting).adopt()
        outcomes = Counter()
        for n in range(1, len(counting.calls) + 1):
            store.put(fmt.FORMAT_KEY, raw)
            failing = FailsOnCall(copied, n, StoreUnavailable(reason="on purpose"))
            with contextlib.suppress(StoreUnavailable):
                Registry(failing).adopt()
            if Registry(copied).status().copied:
                outcomes["copy"] += 1
                with pytest.raises(StoreCopied):
                    node_of(copied).push(tag="no")
                Registry(copied).adopt()
            else:
                outcomes["adopted"] += 1
            assert made(copied)["made_as"] == copied.made_as
        assert outcomes["copy"] > 0

    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_a_lost_answer_is_done(self, n, node, copied):
        node.push()
        losing = LosesAnswer(copied, n)
        Registry(losing).adopt()
        assert losing.happened
        assert not Registry(copied).status().copied

    def test_of_two_that_adopt_at_once_one_at_most_succeeds_whoever_comes_between(self, node, store, copied):
        node.push()
        Registry(store).signing_secret()
        raw, secret = store.get(fmt.FORMAT_KEY).data, store.get(SIGNING_KEY).data
        counting = Counting(copied)
        Registry(counting).adopt()
        for n in range(1, len(counting.calls) + 1):
            store.put(fmt.FORMAT_KEY, raw)
            store.put(SIGNING_KEY, secret)
            kept = []

            def rival(kept=kept):
                kept.append(Registry(copied).adopt().store)
                kept.append(copied.get(SIGNING_KEY).data)

            try:
                Registry(Before(copied, None, rival, n=n)).adopt()
            except (AdoptionDisturbed, NotACopy):
                # The rival's stands, its secret too: whoever has read it goes on with it.
                assert [made(copied)["store"], copied.get(SIGNING_KEY).data] == kept
                assert not Registry(copied).status().copied
            except StoreCopied:
                raise AssertionError("that says nothing of what to do") from None
            else:
                raise AssertionError(f"both have adopted it, at call {n}")


def node_of(store):
    return Pusher(Registry(store), store)
