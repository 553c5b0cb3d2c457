"""What a store is before any template is looked at; and what every record is read and written with."""

import threading
from dataclasses import replace

import pytest

from faults import Counting, FailsOnCall, LosesAnswer
from registry.material import BASE
from s3reg.errors import FormatUnknown, PreconditionFailed, RecordDamaged, StoreCopied, TooBusy
from s3reg.model import format as fmt
from s3reg.model import format_access
from s3reg.model.template import Head
from s3reg.registry import Limits, Registry
from s3reg.registry.recent import Recent
from s3reg.registry.records import Records
from s3reg.store import Object, Stat
from s3reg.store.files import FilesStore


@pytest.fixture
def empty(tmp_path):
    return FilesStore(tmp_path / "empty", secret=bytes(32))


def test_s22_an_empty_store_becomes_ours_once(empty):
    made = Registry(empty).prepare()

    assert Registry(empty).prepare() == made
    assert made.made_as == empty.made_as
    assert Registry(empty).status().store == made.store
    assert not Registry(empty).status().copied


def test_an_empty_store_that_may_not_be_written_is_an_empty_registry(empty):
    assert Registry(empty).prepare(write=False).store == ""
    assert list(empty.list("")) == []


def test_replicas_that_start_at_once_agree(empty):
    start, found = threading.Barrier(6), []

    def prepare():
        start.wait()
        registry = Registry(empty)
        found.append((registry.prepare().store, registry.signing_secret()))

    threads = [threading.Thread(target=prepare) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(found)) == 1
    assert len(found[0][1]) == 32


def test_a_lost_answer_while_a_store_is_made_is_no_trouble(empty):
    lossy = LosesAnswer(empty, prefix=fmt.FORMAT_KEY)
    assert Registry(lossy).prepare() == Registry(empty).prepare()
    assert lossy.happened


def test_a_store_that_lost_its_format_is_not_made_anew(store, node):
    node.push()
    store.delete([fmt.FORMAT_KEY])

    with pytest.raises(RecordDamaged):
        Registry(store).prepare()


def change_format(store, **changes):
    kept = fmt.read_format(store.get(fmt.FORMAT_KEY).data)
    store.put(fmt.FORMAT_KEY, fmt.write_format(replace(kept, **changes)))


def test_a_copied_store_is_refused_for_writing_and_good_for_reading(store, node, registry):
    node.push()
    change_format(store, made_as="https://elsewhere/bucket")

    with pytest.raises(StoreCopied):
        registry.prepare()
    assert registry.prepare(write=False).made_as == "https://elsewhere/bucket"
    assert registry.status().copied
    assert registry.templates(node.asker)


def test_unknown_features_are_refused_for_what_they_are_needed(store, registry):
    change_format(store, sweep=frozenset({"a"}))
    assert registry.prepare()
    change_format(store, write=frozenset({"b"}))
    assert registry.prepare(write=False)
    with pytest.raises(FormatUnknown):
        registry.prepare()
    change_format(store, read=frozenset({"c"}), write=frozenset())
    with pytest.raises(FormatUnknown):
        registry.prepare(write=False)


@pytest.mark.parametrize("data", [b"", b"{}", b'{"v": 1, "secret": "aGk="}', b'{"v": 1, "secret": "?"}', b'{"v": 2}'])
def test_a_damaged_signing_secret_is_refused_without_being_quoted(store, registry, data):
    store.put(format_access.SIGNING_KEY, data)

    with pytest.raises((RecordDamaged, FormatUnknown)) as caught:
        registry.signing_secret()
    assert "aGk=" not in str(caught.value)


# --- Records ---------------------------------------------------------------------------------------------------------


def records(store, attempts=5):
    return Records(store, Limits(attempts=attempts), lambda: 0, sleep=lambda seconds: None)


def test_a_head_changes_once_for_one_operation(store):
    head = Head(BASE, "a", "main")
    for _ in range(3):
        records(store).change_head(BASE, "op", lambda now: now or head)

    assert records(store).head(BASE).gen == 1


def test_a_head_that_could_not_be_read_again_is_not_written(store):
    with pytest.raises(RecordDamaged):
        records(store).change_head(BASE, "op", lambda _: Head(BASE, "a\nb", "main"))
    assert records(store).head(BASE) is None


def test_a_change_of_mind_leaves_the_head_as_it_is(store):
    assert records(store).change_head(BASE, "op", lambda now: now) is None
    assert records(store).head(BASE) is None


def test_a_swap_that_never_succeeds_ends(store):
    class Never(Counting):
        def put(self, key, data, *, only_if=None):
            raise PreconditionFailed(key=key)

    with pytest.raises(TooBusy):
        records(Never(store)).change_head(BASE, "op", lambda _: Head(BASE, "a", "main"))
    with pytest.raises(TooBusy):
        records(Never(store)).create("format2.json", b"x")


def test_creating_gives_what_lies_there(store):
    assert records(store).create("check/a", b"mine") == b"mine"
    assert records(store).create("check/a", b"other") == b"mine"
    lossy = LosesAnswer(store)
    assert records(lossy).create("check/b", b"mine") == b"mine"
    assert lossy.happened


def test_creating_goes_on_after_a_put_of_which_nobody_knows_and_that_did_not_count(store):
    from s3reg.errors import PutUnsettled

    fails = FailsOnCall(store, 1, PutUnsettled(key="check/a", reason="r"), verb="put")

    assert records(fails).create("check/a", b"mine") == b"mine"
    assert store.get("check/a").data == b"mine"


def test_a_record_larger_than_any_is_read_no_further(store):
    class Endless(Counting):
        def get(self, key, *, first=0, length=None):
            assert length is not None
            return Object(b" " * length, Stat(key, "e", 1 << 40, 0))

    with pytest.raises(RecordDamaged, match="larger"):
        records(Endless(store)).head(BASE)


def test_what_is_kept_is_bounded_and_what_was_used_last_stays():
    recent, read = Recent(10), []

    def get(key, cost=4):
        return recent.get(key, lambda: (read.append(key) or key.upper(), cost))

    assert [get("a"), get("b"), get("a"), get("c"), get("a"), get("b")] == ["A", "B", "A", "C", "A", "B"]
    assert read == ["a", "b", "c", "b"]
    get("huge", 11)
    get("huge", 11)
    assert read[-2:] == ["huge", "huge"]


def test_what_could_not_be_read_is_not_kept():
    recent = Recent(10)

    def fail():
        raise RecordDamaged(what="x", reason="y")

    with pytest.raises(RecordDamaged):
        recent.get("a", fail)
    assert recent.get("a", lambda: (1, 1)) == 1
