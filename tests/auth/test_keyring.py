"""API keys as people make, change and delete them, through several replicas."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import tap
from auth.replicas import admit, public
from faults import Before, Counting
from s3reg import crypto
from s3reg.auth.keyring import LONGEST_TTL
from s3reg.errors import (
    AccessRecordDamaged,
    FormatUnknown,
    Invalid,
    KeyNotFound,
    KeyTaken,
    NameInvalid,
    StoreCopied,
    TooBusy,
)
from s3reg.model import format_access as fmt

WHERE = fmt.api_key_key("ci")


@pytest.fixture
def gate(replicas):
    return replicas.gate()


@pytest.fixture
def other(replicas):
    return replicas.gate()


def raw(store, key_id="ci"):
    return json.loads(store.get(fmt.api_key_key(key_id)).data)


def spoil(store, key_id="ci", **fields):
    store.put(fmt.api_key_key(key_id), json.dumps(raw(store, key_id) | fields).encode())


# --- Making ----------------------------------------------------------------------------------------------------------


def test_a_key_that_is_made_here_gives_its_private_half_once_and_keeps_none(gate, other, store, clock):
    key, private = gate.keys.create("ci", ttl=86_400, groups=["nodes", "team blue"], public_key=None)
    assert crypto.PrivateKey(private).open(crypto.PublicKey(key.public_key).seal(b"x")) == b"x"
    assert (key.id, key.groups, key.created, key.expires) == (
        "ci",
        ("nodes", "team blue"),
        clock.now,
        clock.now + 86_400,
    )
    assert other.keys.find("ci") == key
    assert [stat.key for stat in store.list("auth/")] == [WHERE]
    assert set(raw(store)) == {
        "v", "gen", "id", "serial", "public_key", "groups", "created", "expires", "deleted",
    }  # fmt: skip


def test_a_key_that_is_brought_along_has_no_private_half_here(gate, clock):
    key, private = gate.keys.create("ci", ttl=None, groups=[], public_key=public(tap.key()))
    assert (private, key.public_key, key.expires, key.groups) == (None, public(tap.key()), None, ())
    clock.now += 1e9
    assert not gate.keys.find("ci").ended(clock.now)


@pytest.mark.parametrize("given", [b"", b"nonsense", tap.pem(tap.key()), b"\xff" * 300])
def test_what_is_no_public_key_makes_no_key(gate, store, given):
    with pytest.raises(Invalid, match="public key"):
        gate.keys.create("ci", ttl=None, groups=[], public_key=given)
    assert list(store.list("auth/")) == []


@pytest.mark.parametrize("ttl", [0, -1, 1.5, True, "60", LONGEST_TTL + 1, float("nan")])
def test_a_key_lives_for_whole_seconds_and_a_hundred_years_at_most(gate, store, ttl):
    with pytest.raises(Invalid, match="ttl"):
        admit(gate, ttl=ttl)
    assert list(store.list("auth/")) == []
    before = admit(gate, ttl=LONGEST_TTL)
    with pytest.raises(Invalid, match="ttl"):
        gate.keys.change("ci", ttl=ttl)
    assert gate.keys.find("ci") == before


def test_names_are_looked_at_before_anything_is_made(gate, store):
    for key_id in ("", "root", "everyone", "a\nb", " ci", "x" * 129, None):
        with pytest.raises(NameInvalid):
            admit(gate, key_id)
    for groups in ([""], ["a", "b\0"], [None], ["x" * 129]):
        with pytest.raises(NameInvalid):
            admit(gate, groups=groups)
    with pytest.raises(Invalid, match="1000 groups"):
        admit(gate, groups=map(str, range(1001)))
    assert list(store.list("auth/")) == []


def test_names_are_kept_in_one_spelling_and_groups_once(gate):
    key = admit(gate, "cafe\u0301", groups=["e\u0301", "b", "é"])
    assert (key.id, key.groups) == ("café", ("é", "b"))
    assert gate.keys.find("cafe\u0301") == gate.keys.find("café") == key


def test_an_id_is_taken_until_its_key_has_ended(gate, other, clock):
    first = admit(gate, ttl=60)
    for public_key in (None, public(tap.key())):
        with pytest.raises(KeyTaken):
            other.keys.create("ci", ttl=None, groups=[], public_key=public_key)
    clock.now += 60
    second = admit(other, groups=["b"])
    assert second.serial != first.serial
    assert second.gen > first.gen
    assert gate.keys.find("ci") == second


def test_of_those_who_make_a_key_of_one_id_at_once_one_has_it(replicas):
    start = threading.Barrier(4)

    def make(group):
        gate = replicas.gate()
        start.wait()
        try:
            return admit(gate, groups=[group])
        except KeyTaken:
            return None

    with ThreadPoolExecutor(4) as pool:
        made = [key for key in pool.map(make, "abcd") if key is not None]
    assert [replicas.gate().keys.find("ci")] == made


# --- Changing --------------------------------------------------------------------------------------------------------


def test_a_change_leaves_what_it_does_not_name(gate, other, clock):
    made = admit(gate, groups=["a"], ttl=100)
    clock.now += 50
    longer = other.keys.change("ci", ttl=100)
    assert (longer.expires, longer.groups) == (clock.now + 100, ("a",))
    moved = gate.keys.change("ci", groups=["b", "c"])
    assert (moved.expires, moved.groups) == (longer.expires, ("b", "c"))
    assert (moved.serial, moved.public_key, moved.created) == (made.serial, made.public_key, made.created)
    assert gate.keys.change("ci", groups=()).groups == ()
    assert gate.keys.find("ci").gen == made.gen + 3


def test_a_change_that_changes_nothing_writes_nothing(replicas, store, gate):
    made = admit(gate, groups=["a"])
    counted = Counting(store)
    assert replicas.gate(counted).keys.change("ci", groups=["a"]) == made
    assert counted.count("put") == 0


def test_a_key_that_has_ended_may_be_given_more_time(gate, clock):
    admit(gate, ttl=10)
    clock.now += 10
    assert gate.keys.find("ci").ended(clock.now)
    gate.keys.change("ci", ttl=10)
    assert not gate.keys.find("ci").ended(clock.now)


def test_the_end_of_a_key_can_be_taken_away_and_is_not_by_chance(gate):
    admit(gate, ttl=10)
    with pytest.raises(Invalid, match="both"):
        gate.keys.change("ci", ttl=10, endless=True)
    assert gate.keys.change("ci", groups=["a"]).expires is not None
    assert gate.keys.change("ci", endless=True).expires is None
    assert gate.keys.find("ci").groups == ("a",)


def test_two_changes_at_once_both_count(replicas, store, gate):
    admit(gate, groups=["a"])
    racing = Before(store, "put", lambda: gate.keys.change("ci", groups=["b"]), prefix=fmt.KEYS)
    changed = replicas.gate(racing).keys.change("ci", ttl=60)
    assert racing.happened
    assert (changed.groups, changed.expires is None) == (("b",), False)
    assert gate.keys.find("ci") == changed


def test_a_key_that_others_change_all_the_time_is_said_to_be_busy_and_is_what_they_made_of_it(replicas, store, gate):
    admit(gate)

    class Restless(Before):
        def _is_nth(self, call):
            return call.is_on("put", fmt.KEYS)

    numbers = iter(range(1000))
    restless = Restless(store, "put", lambda: gate.keys.change("ci", groups=[str(next(numbers))]))
    with pytest.raises(TooBusy):
        replicas.gate(restless).keys.change("ci", ttl=60)
    assert gate.keys.find("ci").expires is None


def test_what_a_later_release_put_beside_is_kept_and_what_it_wrote_is_not_touched(gate, store):
    admit(gate)
    spoil(store, note={"by": "jo"})
    gate.keys.change("ci", groups=["b"])
    assert raw(store)["note"] == {"by": "jo"}
    spoil(store, v=2)
    before = store.get(WHERE).data
    for deed in (
        lambda: gate.keys.change("ci", groups=["c"]),
        lambda: gate.keys.delete("ci"),
        lambda: gate.keys.find("ci"),
        lambda: admit(gate),
    ):
        with pytest.raises(FormatUnknown):
            deed()
    assert store.get(WHERE).data == before


def test_who_is_not_there_is_not_found(gate):
    admit(gate)
    gate.keys.delete("ci")
    for key_id in ("ci", "nobody", "../ci", "CI"):
        for deed in (gate.keys.find, gate.keys.delete, gate.keys.change):
            with pytest.raises(KeyNotFound):
                deed(key_id)


# --- Deleting --------------------------------------------------------------------------------------------------------


def test_a_deleted_key_is_gone_and_its_id_may_be_another_keys(gate, other):
    first = admit(gate)
    other.keys.delete("ci")
    assert gate.keys.all() == []
    second = admit(gate)
    assert second.serial != first.serial
    assert other.keys.all() == [second]


def test_a_change_that_meets_a_delete_brings_nothing_back(replicas, store, gate):
    admit(gate)
    racing = Before(store, "put", lambda: gate.keys.delete("ci"), prefix=fmt.KEYS)
    with pytest.raises(KeyNotFound):
        replicas.gate(racing).keys.change("ci", ttl=60)
    assert racing.happened
    assert gate.keys.all() == []


# --- Listing and damage ----------------------------------------------------------------------------------------------


def test_s24_all_keys_are_listed_by_id_on_every_replica_ended_ones_too(gate, other, clock):
    made = [admit(gate, f"key {number:03}", ttl=number + 1) for number in range(30)]
    clock.now += 10
    assert gate.keys.all() == other.keys.all() == made
    other.keys.delete("key 007")
    assert gate.keys.all() == other.keys.all() == made[:7] + made[8:]


def test_s21_what_somebody_else_left_among_the_keys_is_passed_over(gate, store):
    made = admit(gate)
    for name in (".DS_Store", "a" * 64, "notes.json"):
        store.put(fmt.KEYS + name, b"\0")
    assert gate.keys.all() == [made]


def test_a_damaged_key_is_told_of_and_in_nobodys_way_and_can_be_deleted(gate, store):
    for key_id in ("ci", "cj", "ck", "sound"):
        admit(gate, key_id)
    spoil(store, "ci", groups=None)
    spoil(store, "cj", v=2)
    store.put(fmt.api_key_key("ck"), b"{")
    listed = gate.keys.all()
    assert {key.id: key.damaged is None for key in listed} == {
        fmt.api_key_key("ck"): False,
        "ci": False,
        "cj": False,
        "sound": True,
    }
    for key_id in ("ci", "ck"):
        for deed in (
            gate.keys.find,
            lambda key_id: gate.keys.change(key_id, ttl=5),
            lambda key_id: admit(gate, key_id),
        ):
            with pytest.raises(AccessRecordDamaged):
                deed(key_id)
        gate.keys.delete(key_id)
        with pytest.raises(KeyNotFound):
            gate.keys.find(key_id)
        assert gate.keys.find("sound") == listed[-1]
        assert admit(gate, key_id) == gate.keys.find(key_id)


def test_where_the_store_may_not_be_written_nothing_is(replicas, store, gate):
    made = admit(gate)

    def refuse():
        raise StoreCopied(made_as="a", now="b")

    counted = Counting(store)
    copy = replicas.gate(counted, writable=refuse)
    for deed in (
        lambda: admit(copy, "new"),
        lambda: copy.keys.change("ci", ttl=5),
        lambda: copy.keys.delete("ci"),
    ):
        with pytest.raises(StoreCopied):
            deed()
    assert counted.count("put") == 0
    assert copy.keys.all() == [made]
