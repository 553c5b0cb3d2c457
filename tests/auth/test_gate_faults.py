"""Every store call of every deed fails once, or loses its answer once: no secret logs in twice, and no record is lost."""

import itertools

import pytest

from auth.replicas import HOME, KEPT, SECRET, Replicas, admit, bearer, login, secret
from clocks import Clock
from faults import Before, Counting, FailsOnCall, LosesAnswer
from s3reg import crypto
from s3reg.errors import (
    GroupChanged,
    GroupNotFound,
    KeyNotFound,
    KeyTaken,
    PutUnsettled,
    StoreUnavailable,
    Unauthenticated,
)
from s3reg.model import format_access as fmt
from s3reg.model.access import Group
from s3reg.store.files import FilesStore

AWAY = StoreUnavailable(store="s3://x", reason="on purpose")
UNSETTLED = PutUnsettled(key="x", reason="it never arrived")
TEAM = Group("team", frozenset({"list_vms"}), {}, {})


@pytest.fixture
def fresh(tmp_path):
    """Stores with a key and a group, each as fresh as the first."""
    numbers = itertools.count()

    def make():
        store = FilesStore(tmp_path / str(next(numbers)), secret=bytes(32))
        gate = Replicas(store, Clock()).gate()
        admit(gate, "old", groups=["old"])
        gate.groups.write(Group("old", frozenset({"index"}), {}, {}), gen=0)
        return store

    return make


def gate_over(store, clock=None, **more):
    return Replicas(store, clock or Clock()).gate(**more)


DEEDS = {
    "create": (lambda gate: admit(gate, "new", groups=["a"]), lambda gate: gate.keys.find("new").groups == ("a",)),
    "change": (lambda gate: gate.keys.change("old", groups=["b"]), lambda gate: gate.keys.find("old").groups == ("b",)),
    "delete": (lambda gate: gate.keys.delete("old"), lambda gate: gate.keys.all() == []),
    "make a group": (lambda gate: gate.groups.write(TEAM, gen=0), lambda gate: gate.groups.find("team").gen == 1),
    "change a group": (
        lambda gate: gate.groups.write(Group("old"), gen=1),
        lambda gate: (gate.groups.find("old").gen, gate.groups.find("old").templates) == (2, None),
    ),
    "delete a group": (lambda gate: gate.groups.delete("old"), lambda gate: gate.groups.all() == []),
}
every_deed = pytest.mark.parametrize("deed", DEEDS)


def calls(fresh, deed, verb=None):
    counted = Counting(fresh())
    DEEDS[deed][0](gate_over(counted))
    return counted.count(verb)


@every_deed
def test_a_deed_that_the_store_did_not_take_can_be_repeated_and_is_done_then(fresh, deed):
    act, is_done = DEEDS[deed]
    for number in range(1, calls(fresh, deed) + 1):
        store = fresh()
        before = {stat.key: store.get(stat.key).data for stat in store.list("")}
        faulty = FailsOnCall(store, number, AWAY)
        gate = gate_over(faulty)
        with pytest.raises(StoreUnavailable):
            act(gate)
        assert faulty.happened
        assert {stat.key: store.get(stat.key).data for stat in store.list("")} == before
        act(gate)
        assert is_done(gate_over(store))


@every_deed
@pytest.mark.parametrize("applied", [True, False], ids=["applied", "not applied"])
def test_a_deed_whose_answer_is_lost_is_done_once_and_said_to_be_done(fresh, deed, applied):
    act, is_done = DEEDS[deed]
    for number in range(1, calls(fresh, deed, "put") + 1):
        store = fresh()
        faulty = LosesAnswer(store, number) if applied else FailsOnCall(store, number, UNSETTLED, verb="put")
        act(gate_over(faulty))
        assert faulty.happened
        assert is_done(gate_over(store))


def test_the_private_half_that_is_given_fits_the_key_whatever_was_lost_on_the_way(fresh):
    store = fresh()
    _, private = gate_over(LosesAnswer(store)).keys.create("new", ttl=None, groups=[], public_key=None)
    found = gate_over(store).keys.find("new")
    assert crypto.PrivateKey(private).open(crypto.PublicKey(found.public_key).seal(b"x")) == b"x"


def test_of_two_who_make_one_key_both_answers_lost_the_one_that_was_not_applied_is_told(fresh):
    store = fresh()
    rival = gate_over(LosesAnswer(store))
    beaten = Before(store, "put", lambda: admit(rival, "new", groups=["theirs"]))
    with pytest.raises(KeyTaken):
        admit(gate_over(LosesAnswer(beaten)), "new", groups=["ours"])
    assert gate_over(store).keys.find("new").groups == ("theirs",)


def test_of_two_who_change_one_group_the_answer_lost_the_one_that_was_not_applied_is_told(fresh):
    store = fresh()
    beaten = Before(store, "put", lambda: gate_over(store).groups.write(TEAM, gen=0))
    with pytest.raises(GroupChanged):
        gate_over(LosesAnswer(beaten)).groups.write(Group("team"), gen=0)
    assert gate_over(store).groups.find("team").permissions == TEAM.permissions


def test_what_was_deleted_after_a_lost_answer_stays_deleted(fresh):
    store = fresh()
    gate_over(LosesAnswer(store)).keys.delete("old")
    gate_over(LosesAnswer(store)).groups.delete("old")
    with pytest.raises(KeyNotFound):
        gate_over(store).keys.delete("old")
    with pytest.raises(GroupNotFound):
        gate_over(store).groups.delete("old")


# --- Logins ----------------------------------------------------------------------------------------------------------


def logins(gate, once, times=3):
    """How often a secret logs in."""
    found = 0
    for _ in range(times):
        try:
            gate.shake("old", once, HOME)
            found += 1
        except Unauthenticated:
            pass
    return found


@pytest.mark.parametrize(
    "break_it",
    [
        lambda store: FailsOnCall(store, 1, AWAY, verb="get", prefix=fmt.KEYS),
        lambda store: FailsOnCall(store, 1, AWAY, verb="put", prefix=fmt.SPENT),
        lambda store: FailsOnCall(store, 1, UNSETTLED, verb="put", prefix=fmt.SPENT),
        lambda store: LosesAnswer(store, prefix=fmt.SPENT),
    ],
    ids=["the key is not read", "nothing is used up", "nobody knows", "its answer is lost"],
)
def test_a_secret_whose_shake_fails_logs_in_once_at_most_and_another_one_does(fresh, break_it):
    store = fresh()
    faulty = break_it(store)
    gate, other = gate_over(faulty), gate_over(store)
    once = secret(other, "old")
    with pytest.raises((StoreUnavailable, PutUnsettled)):
        gate.shake("old", once, HOME)
    assert faulty.happened
    assert logins(gate, once) + logins(other, once) <= 1
    assert login(gate, "old")
    assert login(other, "old")


def test_a_secret_of_which_the_store_did_not_say_that_it_is_new_is_no_login(fresh):
    store = fresh()
    gate = gate_over(LosesAnswer(store, prefix=fmt.SPENT))
    once = secret(gate, "old")
    with pytest.raises(PutUnsettled):
        gate.shake("old", once, HOME)
    assert logins(gate, once) == 0, "it may have been its first use: nobody knows"
    assert login(gate, "old")


def test_while_the_store_is_away_what_was_known_a_moment_ago_counts_and_nobody_is_called_unknown(fresh):
    store, clock = fresh(), Clock()

    class Gone(FailsOnCall):
        gone = False

        def _is_nth(self, call):
            return self.gone

    leaving = Gone(store, 1, AWAY)
    gate = gate_over(leaving, clock, authorization=True)
    of = login(gate, "old")
    assert gate.bearer(bearer(of), HOME).rights is not None
    leaving.gone = True
    assert gate.bearer(bearer(of), HOME).name == "key:old"
    for ask in (
        lambda: gate.permit(gate.bearer(bearer(of), HOME), ["list_vms"]),
        lambda: gate.shake("old", secret(gate, "old"), HOME),
        lambda: gate.hand("nobody", HOME),
    ):
        with pytest.raises(StoreUnavailable):
            ask()
    clock.now += KEPT
    for ask in (lambda: gate.bearer(bearer(of), HOME), lambda: gate.hand("old", HOME)):
        with pytest.raises(StoreUnavailable):
            ask()
    leaving.gone = False
    assert gate.bearer(bearer(of), HOME).name == "key:old"


def test_the_signing_secret_that_cannot_be_had_is_nobodys_fault(fresh):
    def away():
        raise AWAY

    store = fresh()
    gate = gate_over(store, secret=away)
    of, once = login(gate_over(store), "old"), secret(gate_over(store), "old")
    for ask in (
        lambda: gate.bearer(bearer(of), HOME),
        lambda: gate.shake("old", once, HOME),
        lambda: gate.hand("old", HOME),
    ):
        with pytest.raises(StoreUnavailable):
            ask()
    assert gate_over(store, secret=lambda: SECRET).bearer(bearer(of), HOME)
