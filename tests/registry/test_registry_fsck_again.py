"""What a check of a store finds is looked at a second time: what passed is no damage, and condemns no pack."""

import array
import hashlib
import json
import random
import threading
from dataclasses import replace

import pytest

from faults import Corrupting, Counting, FailsOnCall, Refuses, Wrapped
from registry.material import (
    BASE,
    CHUNK,
    OTHER,
    Placed,
    Pusher,
    config,
    file_map,
    mapped,
    pack_bytes,
    put_pack,
    read_head,
)
from registry.material import chunk as chunk_of
from s3reg.errors import ObjectNotFound, StoreUnavailable
from s3reg.model import format as fmt
from s3reg.model import format_access as access
from s3reg.model import packs
from s3reg.model.chunks import CHUNK_LOG2
from s3reg.model.names import Digest
from s3reg.model.packs import PackRef
from s3reg.model.template import PackUse
from s3reg.registry import Registry
from s3reg.registry.withheld import LARGE


class GarblesOnce:
    """What `get` gives of the n-th reading of keys with this prefix went wrong on its way; every other is right."""

    def __init__(self, prefix, n=1, harm=lambda data: bytes([data[0] ^ 1, *data[1:]])):
        self.happened = 0
        self._prefix, self._n, self._harm = prefix, n, harm
        self._lock = threading.Lock()

    def __call__(self, key, data):
        if not key.startswith(self._prefix) or not data:
            return data
        with self._lock:
            self.happened += 1
            return self._harm(data) if self.happened == self._n else data


def last_flipped(data):
    return bytes([*data[:-1], data[-1] ^ 1])


@pytest.fixture
def full(node, store):
    """One of everything: templates, a push under way, a key, a group, the secret."""
    node.push(BASE, "v1", words=("a", "b"))
    node.push(OTHER, "v1", name="other", words=("c",))
    node.open(OTHER, "v2", name="other")
    registry = Registry(store)
    registry.signing_secret()
    return store


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize(
    ("prefix", "harm"),
    [
        (fmt.HEADS, None),
        (fmt.VERSIONS, None),
        (fmt.MAPS, None),
        (fmt.PACKS, last_flipped),
        (fmt.PACKS, lambda data: bytes([*data[:-12], data[-12] ^ 1, *data[-11:]])),
        (fmt.SESSIONS, None),
        (access.SIGNING_KEY, None),
    ],
    ids=["head", "version", "map", "pack's end", "pack's table", "session", "secret"],
)
@pytest.mark.parametrize("read_data", [0, 100])
def test_what_came_over_garbled_once_is_no_damage_and_condemns_nothing(store, prefix, harm, read_data):
    garbles = GarblesOnce(prefix, **({} if harm is None else {"harm": harm}))
    done = Registry(Corrupting(store, garbles)).fsck(read_data=read_data)
    assert garbles.happened > 1, "it was looked at again"
    assert done.damage == []
    assert list(store.list(fmt.DAMAGED)) == []


@pytest.mark.usefixtures("full")
def test_a_pack_that_was_garbled_once_as_it_was_read_whole_is_sound(store):
    """Both ends were read before, each once; what is garbled now is the first chunk."""
    garbles = GarblesOnce(fmt.PACKS, n=3)
    done = Registry(Corrupting(store, garbles)).fsck(read_data=100)
    assert (garbles.happened, done.damage, done.read.count) == (5, [], 2)
    assert list(store.list(fmt.DAMAGED)) == []


@pytest.mark.usefixtures("full")
def test_a_pack_that_was_read_twice_and_is_bad_is_not_read_again(store):
    key = next(stat.key for stat in store.list(fmt.PACKS))
    store.put(key, last_flipped(store.get(key).data))
    counting = Counting(store)
    assert not Registry(counting).fsck(read_data=100).clean
    assert counting.count("get", key) == 3, "its end, and twice all of it"


@pytest.mark.usefixtures("full")
def test_a_pack_that_was_cut_and_is_gone_at_the_second_look_is_said_to_be_missing(store):
    key = next(stat.key for stat in store.list(fmt.PACKS))
    store.put(key, store.get(key).data[:-1])

    def tell(done):
        if done.step == "looking again":
            store.delete([key])

    assert [one.reason for one in Registry(store).fsck(told=tell).damage] == ["it is missing"]


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("prefix", [fmt.VERSIONS, fmt.MAPS, fmt.PACKS])
def test_what_was_not_found_once_is_no_damage(store, prefix):
    verb = "stat" if prefix == fmt.PACKS else "get"
    fails = FailsOnCall(store, 1, ObjectNotFound(key="what is there"), verb=verb, prefix=prefix)
    done = Registry(fails).fsck()
    assert fails.happened
    assert done.damage == []
    assert list(store.list(fmt.DAMAGED)) == []


@pytest.mark.usefixtures("full")
def test_a_pack_that_reads_well_is_not_condemned_by_what_a_version_says_of_its_size(store):
    """The map, which has the bytes of its name, says its size: then the record is wrong."""
    key = fmt.version_key(BASE, read_head(store).versions[0].id)
    raw = json.loads(store.get(key).data)
    raw["files"][0]["packs"][0][2] += 1
    store.put(key, json.dumps(raw).encode())
    done = Registry(store).fsck()
    assert [(one.what.value, one.tag, one.file) for one in done.damage] == [("version", "v1", "disk")]
    assert (done.recorded, list(store.list(fmt.DAMAGED))) == (0, [])


@pytest.mark.usefixtures("full")
def test_a_noted_pack_that_looks_bad_only_in_passing_stays_as_it_was_noted(store):
    """A mark goes by reading that was asked for, never in passing."""
    pack = next(stat.key for stat in store.list(fmt.PACKS) if read_head(store).versions[0].id in stat.key)
    store.put(fmt.damaged_key(*fmt.pack_of_key(pack)), b"")
    done = Registry(Corrupting(store, GarblesOnce(pack, harm=last_flipped))).fsck()
    assert [(one.key, one.lost) for one in done.damage] == [(pack, ((CHUNK, 2 * CHUNK),))]
    assert "found bad before" in done.damage[0].reason
    done = Registry(store).fsck(read_data=100)
    assert (done.damage, done.forgotten, done.recorded) == ([], 1, 0)
    assert list(store.list(fmt.DAMAGED)) == []


def test_a_pack_whose_table_does_not_bear_out_a_map_stays_bad_though_its_frames_decode(node, store):
    """Reading it neither clears it nor takes its mark away, check after check."""
    opened = node.open()
    node.commit(opened.session, node.files(opened.session, ("a", "b")))
    data, places = pack_bytes([chunk_of("a"), chunk_of("b")])
    lengths = [length for _, _, length in places]
    wrong = packs.seek_table(array.array("I", [lengths[0] + 1, lengths[1] - 1]), array.array("I", [CHUNK, CHUNK]))
    data = data[: sum(lengths)] + wrong
    pack = PackRef(opened.session.id, Digest(hashlib.sha256(data).hexdigest()), len(data))
    store.put(fmt.pack_key("main", pack.sid, pack.sha256), data)
    said = file_map([Placed(digest, pack, offset, length) for digest, offset, length in places])
    lie = mapped(store, opened.session, "disk", said, drive=0)
    key = fmt.version_key(BASE, read_head(store).versions[0].id)
    version = fmt.read_version(store.get(key).data, BASE, read_head(store).versions[0].id)
    uses = tuple(PackUse(one, live) for one, live in said.live_bytes().items())
    disk = replace(version.files[0], map=lie.map, packs=uses, size=lie.size, digest=lie.digest)
    store.put(key, fmt.write_version(replace(version, files=(disk, *version.files[1:]))))
    for read_data in (0, 100, 100, 0):
        done = Registry(store).fsck(read_data=read_data)
        found = [(one.what.value, one.tag, one.lost) for one in done.damage if one.what.value == "pack"]
        assert found == [("pack", "v1", ())]
        assert (done.recorded, done.forgotten) == (1, 0)


# --- What the store tells of, and does not give ----------------------------------------------------------------------


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize(
    ("prefix", "what", "noted"),
    [
        (fmt.HEADS, "head", 0),
        (fmt.VERSIONS, "version", 0),
        (fmt.MAPS, "map", 2),
        (fmt.PACKS, "pack", 2),
        (fmt.SESSIONS, "session", 0),
        (access.SIGNING_KEY, "secret", 0),
    ],
)
def test_what_the_store_tells_of_and_does_not_give_is_named_and_the_check_goes_on(store, prefix, what, noted):
    """As MinIO does where a bit flipped on its disk: it cuts its answer off, each time."""
    done = Registry(Refuses(store, prefix, "get")).fsck(read_data=100)
    assert done.step == "done"
    assert {one.what.value for one in done.damage} == {what}
    assert all("does not give it" in one.reason for one in done.damage)
    assert len(list(store.list(fmt.DAMAGED))) == done.recorded == noted
    assert Registry(store).fsck(read_data=100).damage == []
    assert list(store.list(fmt.DAMAGED)) == []


@pytest.mark.usefixtures("full")
def test_packs_that_an_overloaded_store_refused_as_they_were_read_are_asked_for_again_at_the_end(store):
    """Its HEAD is cheap, and answers; it was no rot, and each mark would cost the next push its base."""
    refuses = Refuses(store, fmt.PACKS)

    def tell(done):
        refuses.verbs = {"checksums": ("get",), "looking again": ()}.get(done.step, refuses.verbs)

    done = Registry(refuses).fsck(read_data=100, told=tell)
    assert (done.read.count, done.damage) == (2, [])
    assert list(store.list(fmt.DAMAGED)) == []


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("read_data", [0, 100])
def test_a_store_that_gives_nothing_and_tells_of_all_has_too_much_to_do_and_nothing_is_noted(store, read_data):
    """MinIO answers 503 to GET and 200 to HEAD. It begins once the versions were read."""
    refuses = Refuses(store, "")

    def tell(done):
        if done.step in {"checksums", "reading"}:
            refuses.verbs = ("get",)

    key = next(stat.key for stat in store.list(fmt.PACKS))
    store.put(key, last_flipped(store.get(key).data))  # else nothing is read without --read-data
    with pytest.raises(StoreUnavailable):
        Registry(refuses).fsck(read_data=read_data, told=tell)
    assert list(store.list(fmt.DAMAGED)) == []


class GivesSmall(Wrapped):
    """As MinIO while its disk hangs: it gives what it keeps with its records, and HEAD answers."""

    def _call(self, call, act):
        if call.is_on("get", "") and self.store.stat(call.keys[0]).size >= LARGE:
            raise StoreUnavailable(store="the store", reason="SlowDownRead")
        return act()


@pytest.fixture
def large(node, store):
    """Four packs of 128 KiB and more, as only bytes are that cannot be compressed."""
    for number in range(4):
        opened = node.open(BASE, f"v{number}", force=True)
        words = [random.Random(f"{number} {place}").randbytes(CHUNK) for place in range(3)]
        disk = mapped(store, opened.session, "disk", file_map(put_pack(store, opened.session, words)), drive=0)
        node.commit(opened.session, (disk, config()), f"v{number}", force=True)
    return [stat.key for stat in store.list(fmt.PACKS)]


def test_a_store_that_gives_no_large_object_is_short_of_breath_and_one_that_gives_others_lost_this_one(store, large):
    gives = GivesSmall(store)
    with pytest.raises(StoreUnavailable):
        Registry(gives).fsck(read_data=100)
    assert list(store.list(fmt.DAMAGED)) == []
    rotten = Refuses(store, large[0], "get")
    assert {one.key for one in Registry(rotten).fsck(read_data=100).damage} == {large[0]}
    assert [stat.key for stat in store.list(fmt.DAMAGED)] == [fmt.damaged_key(*fmt.pack_of_key(large[0]))]


@pytest.mark.usefixtures("full")
def test_a_map_that_the_store_does_not_give_and_was_noted_keeps_no_push_away(store):
    """Else nothing could be put back."""
    rotten = Refuses(store, fmt.MAPS, "get")
    assert Registry(rotten).fsck().recorded == 2
    opened = Pusher(Registry(rotten), store).open(BASE, "v2")
    assert (opened.bases, opened.chunk_log2) == ((), CHUNK_LOG2)


def test_a_version_s_record_that_the_store_does_not_give_does_not_keep_what_replaces_it_away(node, store):
    pushed = node.push(BASE, "v1")
    rotten = Refuses(store, fmt.version_key(BASE, pushed.entry.id), "get")
    node = Pusher(Registry(rotten), store)
    assert node.open(BASE, "v2").bases == ()
    node.push(BASE, "v1", words=("z",), force=True)
    assert [entry.id for entry in read_head(store).removed] == [pushed.entry.id]
    away = Refuses(store, fmt.version_key(BASE, read_head(store).versions[0].id), "get", "stat")
    with pytest.raises(StoreUnavailable):
        Pusher(Registry(away), store).open(BASE, "v3")


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize("prefix", [fmt.HEADS, fmt.VERSIONS, fmt.MAPS, fmt.PACKS])
def test_a_store_that_says_nothing_of_an_object_either_does_not_answer_and_nothing_is_noted(store, prefix):
    with pytest.raises(StoreUnavailable):
        Registry(Refuses(store, prefix, "get", "stat")).fsck(read_data=100)
    assert list(store.list(fmt.DAMAGED)) == []


# --- Keys, groups, the secret ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("full")
@pytest.mark.parametrize(
    ("what", "key"),
    [
        ("key", access.api_key_key("ci")),
        ("group", access.group_key("builders")),
        ("secret", access.SIGNING_KEY),
    ],
)
def test_a_credential_s_record_that_cannot_be_read_is_named_with_what_to_do(store, what, key):
    store.put(key, b'{"v":1}')
    done = Registry(store).fsck()
    assert [(one.what.value, one.key) for one in done.damage] == [(what, key)]
    assert done.damage[0].remedy
    assert not done.sound
    assert Registry(store).fsck(only=["sequoia"]).clean, "of one template alone, that is none"


def test_used_secrets_are_ours_and_other_keys_beside_them_are_not(full):
    store = full
    store.put(access.spent_key(1e9, "0" * 24), b"")
    for key in ("auth/x", "auth/keys/x.json", "auth/spent/x"):
        store.put(key, b"")
    done = Registry(store).fsck()
    assert done.damage == []
    assert sorted(done.foreign) == ["auth/keys/x.json", "auth/spent/x", "auth/x"]
