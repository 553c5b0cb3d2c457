"""Who is asking, and what may they do: one registry's replicas, each with a gate of its own, over one store."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import pki
from auth.replicas import AWAY, HOME, KEPT, ROOT_TOKEN, Replicas, admit, bearer, login, opened, secret
from faults import Counting
from s3reg.auth.certificates import Certificates, Presented
from s3reg.auth.roottoken import RootTokens
from s3reg.errors import CertificateRefused, Forbidden, KeyNotFound, StoreCopied, TooManyFailures, Unauthenticated
from s3reg.model import format_access as fmt
from s3reg.model.access import Group
from s3reg.model.identity import ROOT, Action, Identity
from s3reg.model.template import Head
from s3reg.store.s3 import S3Store

TEMPLATE = "0f8fad5b-d9cb-469f-a165-70867728950e"


@pytest.fixture
def a(replicas):
    return replicas.gate()


@pytest.fixture
def b(replicas):
    return replicas.gate()


@pytest.fixture
def c(replicas):
    return replicas.gate()


def is_known(gate, of):
    try:
        return gate.bearer(bearer(of), HOME).name
    except Unauthenticated:
        return None


def is_in(gate, secret_, key_id="ci"):
    try:
        return gate.shake(key_id, secret_, HOME)
    except Unauthenticated:
        return None


# --- The root token --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("user", ["root", ""])
def test_s26_whoever_has_the_root_token_is_root(a, user):
    assert a.basic(user, ROOT_TOKEN.encode(), HOME) is ROOT


@pytest.mark.parametrize(
    ("user", "password"),
    [("root", ROOT_TOKEN[:-1]), ("", ""), ("Root", ROOT_TOKEN), ("ci", ROOT_TOKEN), ("everyone", ROOT_TOKEN)],
)
def test_whoever_has_not_is_nobody(a, user, password):
    with pytest.raises(Unauthenticated):
        a.basic(user, password.encode(), HOME)


def test_who_guesses_root_tokens_is_listened_to_twenty_times_and_is_in_nobody_elses_way(replicas, clock):
    looked = []

    def tokens():
        looked.append(1)
        return (b"the right one",)

    gate = replicas.gate(roots=RootTokens(tokens))
    limited = []
    for number in range(10_000):
        with pytest.raises((Unauthenticated, TooManyFailures)) as refused:
            gate.basic("root", f"guess {number}".encode(), AWAY)
        if isinstance(refused.value, TooManyFailures):
            limited.append(refused.value.detail["seconds"])
        if number % 1000 == 0:
            assert gate.basic("root", b"the right one", HOME) is ROOT
    assert limited == [1] * (10_000 - 20)
    assert len(looked) == 20 + 10, "the others were not even compared"
    clock.now += 1
    assert gate.basic("root", b"the right one", AWAY) is ROOT


# --- Logging in ------------------------------------------------------------------------------------------------------


def test_s25_a_hand_on_one_replica_a_shake_on_the_next_and_a_call_on_the_third(a, b, c):
    admit(a, groups=["nodes"])
    handed = a.hand("ci", HOME)
    assert "\n" not in handed
    of = b.shake("ci", opened(handed), HOME)
    assert c.bearer(bearer(of), HOME) == Identity("key:ci", ("nodes",), None)


def test_a_secret_is_used_once_by_whichever_replica_is_first(a, b, clock):
    admit(a)
    once = secret(a)
    assert is_in(b, once)
    clock.now += 5
    for gate in (a, b):
        assert not is_in(gate, once)


def test_s25_of_replicas_that_are_given_one_secret_at_once_one_says_yes(replicas):
    gates = [replicas.gate() for _ in range(4)]
    admit(gates[0])
    for _ in range(5):
        once, start = secret(gates[0]), threading.Barrier(8)

        def shake(gate, once=once, start=start):
            start.wait()
            return is_in(gate, once)

        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(shake, gates + gates))
        assert len([of for of in found if of]) == 1


def test_what_a_login_uses_up_is_named_by_its_hour_and_holds_nothing(a, store):
    admit(a)
    of = login(a)
    (spent,) = store.list(fmt.SPENT)
    assert spent.key.startswith("auth/spent/2023111422/")
    assert spent.size == 0
    for part in (of.session, of.token[:11], of.token[11:]):
        assert part not in spent.key


def test_a_secret_ends_and_is_then_refused_without_a_look_at_the_store(replicas, store, a, clock):
    admit(a)
    late = secret(a)
    clock.now += 10
    counted = Counting(store)
    assert not is_in(replicas.gate(counted), late)
    assert counted.calls == []


def test_what_is_made_up_is_refused_without_a_look_at_the_store_and_is_in_nobodys_way(replicas, store, a):
    admit(a)
    counted = Counting(store)
    gate = replicas.gate(counted)
    for number in range(1000):
        with pytest.raises(Unauthenticated):
            gate.shake("ci", f"{number:064}", HOME)
        with pytest.raises(Unauthenticated):
            gate.bearer(bearer({"userName": "ci", "sessionId": "0" * 8, "token": f"{number:054}"}), HOME)
    assert counted.calls == []
    assert is_known(gate, login(gate)) == "key:ci"


@pytest.mark.parametrize("key_id", ["nobody", "", "root", "../ci", "ci\0", "ci ", "x" * 10_000, "\ud800"])
def test_nobody_is_handed_a_secret_for_a_key_that_is_not_there(a, key_id):
    admit(a)
    once = secret(a)
    with pytest.raises(Unauthenticated):
        a.hand(key_id, HOME)
    assert not is_in(a, once, key_id)
    assert is_in(a, once), "and it is not used up"


def test_who_asks_for_keys_that_are_not_there_costs_twenty_looks_and_is_in_no_known_keys_way(replicas, store, a, clock):
    admit(a)
    counted = Counting(store)
    gate = replicas.gate(counted)
    login(gate, address=AWAY)
    counted.calls.clear()
    limited = 0
    for number in range(1000):
        try:
            gate.hand(f"key {number}", AWAY)
        except TooManyFailures:
            limited += 1
        except Unauthenticated:
            pass
    assert limited == 980
    assert len(counted.calls) == 20
    clock.now += 0.5
    assert login(gate, address=AWAY), "a key that is known is not guessed, whoever else is at that address"
    assert login(gate, address=HOME)


def test_a_key_that_ends_is_no_way_around_the_limit(replicas, store, a, clock):
    admit(a, ttl=60)
    counted = Counting(store)
    gate = replicas.gate(counted)
    login(gate)
    clock.now += 60
    counted.calls.clear()
    for _ in range(100):
        with pytest.raises((Unauthenticated, TooManyFailures)):
            gate.hand("ci", HOME)
    assert len(counted.calls) == 20


def test_a_login_ends_when_its_key_does(a, b, clock):
    admit(a, ttl=60)
    of = login(a)
    assert of.ttl == 60
    clock.now += 59.9
    assert is_known(b, of)
    clock.now += 0.1
    assert not is_known(a, of)
    assert not is_known(b, of)


def test_on_a_copy_of_a_store_nobody_logs_in_with_a_key_and_nothing_is_written(replicas, store, a):
    admit(a)
    counted = Counting(store)

    def refuse():
        raise StoreCopied(made_as="a", now="b")

    copy = replicas.gate(counted, writable=refuse)
    with pytest.raises(StoreCopied):
        copy.shake("ci", secret(copy), HOME)
    assert counted.count("put") == 0
    assert copy.basic("root", ROOT_TOKEN.encode(), HOME) is ROOT


def test_whether_the_store_may_be_written_is_asked_once_in_two_seconds(replicas, a, clock):
    asked = []
    admit(a)
    gate = replicas.gate(writable=lambda: asked.append(1))
    for _ in range(3):
        login(gate)
    assert len(asked) == 1
    clock.now += KEPT
    login(gate)
    assert len(asked) == 2


# --- Freshness -------------------------------------------------------------------------------------------------------


def test_s24_a_deleted_key_is_refused_here_at_once_and_everywhere_after_two_seconds(a, b, clock):
    admit(a)
    of = login(b)
    assert is_known(a, of)
    a.keys.delete("ci")
    assert not is_known(a, of)
    with pytest.raises(Unauthenticated):
        a.hand("ci", HOME)
    clock.now += KEPT
    assert not is_known(b, of)
    with pytest.raises(Unauthenticated):
        b.hand("ci", HOME)


def test_a_key_made_again_takes_no_login_and_no_secret_of_the_one_before(a, b, clock):
    admit(a)
    of, once = login(b), secret(b)
    a.keys.delete("ci")
    admit(a)
    assert is_known(b, login(a)) == "key:ci", "the new one counts at once, everywhere"
    clock.now += KEPT
    for gate in (a, b):
        assert not is_known(gate, of)
        assert not is_in(gate, once)


def test_a_new_key_counts_at_once_on_every_replica(a, b):
    for gate in (a, b):
        with pytest.raises(Unauthenticated):
            gate.hand("ci", HOME)
    admit(a)
    assert is_known(a, login(b)) == "key:ci"


def test_a_key_that_is_given_more_time_counts_at_once_on_every_replica(a, b, clock):
    admit(a, ttl=60)
    login(b)
    clock.now += 59.5
    login(b)
    a.keys.change("ci", ttl=60)
    clock.now += 0.6
    assert is_known(b, login(b)) == "key:ci"


def test_a_key_is_read_once_in_two_seconds_however_many_calls_there_are(replicas, store, a, clock):
    admit(a, groups=["nodes", "gone"])
    a.groups.write(Group("nodes"), gen=None)
    counted = Counting(store)
    gate = replicas.gate(counted, authorization=True)
    of = login(a)
    for _ in range(100):
        is_known(gate, of)
    assert len(counted.calls) == 3
    clock.now += KEPT
    is_known(gate, of)
    assert len(counted.calls) == 6


# --- What may they do ------------------------------------------------------------------------------------------------


@pytest.fixture
def strict(replicas):
    return replicas.gate(authorization=True)


@pytest.fixture
def stricter(replicas):
    """Another replica of it."""
    return replicas.gate(authorization=True)


def may(gate, of, *permissions):
    try:
        return gate.permit(gate.bearer(bearer(of), HOME), permissions) and True
    except Forbidden as e:
        return e.detail["permission"]


def test_without_authorization_any_credential_may_do_everything(a):
    admit(a, groups=["nothing"])
    who = a.bearer(bearer(login(a)), HOME)
    assert who.rights is None
    assert a.permit(who, ["delete_vm", "whatever"]) is who
    assert who.may(Action.DELETE_REVERT, TEMPLATE, "main")


def test_with_it_groups_say_and_the_first_permission_that_lacks_is_named(strict):
    admit(strict, groups=["list", "pull", "gone"])
    strict.groups.write(Group("list", frozenset({"list_vms"}), templates={}), gen=0)
    strict.groups.write(Group("pull", frozenset({"pull_vm"}), templates={TEMPLATE: frozenset({Action.PULL})}), gen=0)
    of = login(strict)
    assert may(strict, of, "list_vms", "pull_vm") is True
    assert may(strict, of, "list_vms", "push_vm", "delete_vm") == "push_vm"
    who = strict.bearer(bearer(of), HOME)
    assert who.groups == ("list", "pull", "gone")
    assert who.may(Action.PULL, TEMPLATE, "main")
    assert not who.may(Action.PUSH, TEMPLATE, "main")
    assert strict.permit(ROOT, ["delete_vm"]) is ROOT


def test_s24_what_is_granted_counts_at_once_on_every_replica(strict, stricter):
    admit(strict, groups=["team"])
    of = login(strict)
    assert may(stricter, of, "list_vms") == "list_vms"
    strict.groups.write(Group("team", frozenset({"list_vms"}), templates={}), gen=0)
    assert may(stricter, of, "list_vms") is True
    assert may(stricter, of, "pull_vm") == "pull_vm"
    strict.groups.write(Group("more", frozenset({"pull_vm"})), gen=0)
    strict.keys.change("ci", groups=["team", "more"])
    assert may(stricter, of, "pull_vm") is True
    assert stricter.renewed(stricter.bearer(bearer(of), HOME)).may(Action.PUSH, TEMPLATE, "main")


@pytest.mark.parametrize(
    "take_away",
    [
        lambda gate: gate.groups.delete("team"),
        lambda gate: gate.groups.write(Group("team", templates={}), gen=None),
        lambda gate: gate.keys.change("ci", groups=["other"]),
    ],
    ids=["the group", "its permission", "the key's being in it"],
)
def test_s24_what_is_taken_away_is_refused_here_at_once_and_everywhere_after_two_seconds(
    strict, stricter, clock, take_away
):
    strict.groups.write(Group("team", frozenset({"list_vms"}), templates={}), gen=0)
    admit(strict, groups=["team"])
    of = login(strict)
    assert [may(gate, of, "list_vms") for gate in (strict, stricter)] == [True, True]
    take_away(strict)
    assert may(strict, of, "list_vms") == "list_vms"
    clock.now += KEPT
    assert may(stricter, of, "list_vms") == "list_vms"


def test_whoever_is_renewed_after_their_key_is_gone_is_nobody(strict, stricter, clock):
    admit(strict, groups=["team"], ttl=60)
    who = stricter.bearer(bearer(login(strict)), HOME)
    clock.now += 60
    with pytest.raises(Unauthenticated):
        stricter.renewed(who)
    strict.keys.delete("ci")
    with pytest.raises(Unauthenticated):
        stricter.permit(who, ["list_vms"])


def test_of_two_groups_of_which_one_is_damaged_the_other_gives_what_it_gives(strict, store, caplog):
    admit(strict, groups=["sound", "damaged"])
    for name, permission in (("sound", "list_vms"), ("damaged", "pull_vm")):
        strict.groups.write(Group(name, frozenset({permission}), templates={}), gen=0)
    store.put(fmt.group_key("damaged"), b"{}")
    of = login(strict)
    assert may(strict, of, "list_vms") is True
    assert may(strict, of, "pull_vm") == "pull_vm"
    assert "group-unreadable group=damaged" in caplog.text


def test_a_damaged_key_locks_out_nobody_but_itself(a, b, store, clock, caplog):
    admit(a, "ci")
    admit(a, "cj")
    ci, cj = login(b, "ci"), login(b, "cj")
    store.put(fmt.api_key_key("ci"), b"{}")
    clock.now += KEPT
    assert [is_known(b, ci), is_known(b, cj)] == [None, "key:cj"]
    with pytest.raises(Unauthenticated):
        b.hand("ci", HOME)
    assert login(b, "cj")
    assert "key-unreadable key=ci" in caplog.text
    assert "key=cj" not in caplog.text


# --- Certificates ----------------------------------------------------------------------------------------------------


def test_whom_a_certificate_stands_for_has_the_groups_that_it_names(replicas, tmp_path, caplog):
    ca = pki.Authority()
    certificates = Certificates(ca.write(tmp_path / "ca.pem"))
    gate = replicas.gate(certificates=certificates, authorization=True)
    robot = Presented(ca.issue("ci", ou=["one", "two"]).der)
    gate.groups.write(Group("two", frozenset({"list_vms"}), templates={}), gen=0)
    who = gate.certificate(robot, HOME)
    assert (who.name, who.groups) == ("cert:ci", ("one", "two"))
    assert gate.permit(who, ["list_vms"]) is who
    replicas.gate().groups.write(Group("one", frozenset({"pull_vm"}), templates={}), gen=0)
    assert gate.permit(who, ["pull_vm", "list_vms"]).groups == who.groups
    with pytest.raises(CertificateRefused):
        gate.certificate(Presented(pki.Authority().issue("ci", ou=["two"]).der), HOME)
    assert f"certificate-refused address={HOME} reason=" in caplog.text
    with pytest.raises(Unauthenticated):
        replicas.gate().certificate(robot, HOME)


# --- Why -------------------------------------------------------------------------------------------------------------


def test_it_is_explained_what_a_key_may_do_now_and_by_which_group(strict, stricter, clock):
    head = Head(id=TEMPLATE, name="base", domain="team-1", arch="", size=0)
    admit(strict, groups=["team", "gone"], ttl=60)
    assert stricter.explain("ci", head).missing == ("team", "gone")
    strict.groups.write(Group("team", frozenset({"list_vms"}), {}, {"team-1": frozenset({Action.LIST})}), gen=0)
    told = stricter.explain("ci", head)
    assert (told.ended, told.authorization, told.groups, told.missing) == (False, True, ("team", "gone"), ("gone",))
    assert told.permissions == {"list_vms": ("team",)}
    assert [(given.group, given.by) for given in told.actions[Action.LIST]] == [("team", "domain")]
    assert told.actions[Action.PULL] == ()
    clock.now += 60
    assert stricter.explain("ci", head).ended
    with pytest.raises(KeyNotFound):
        stricter.explain("nobody", head)


# --- On a bucket -----------------------------------------------------------------------------------------------------


def test_s25_on_a_bucket_it_is_all_the_same(minio, bucket, clock):
    name = bucket(minio)
    replicas = Replicas(S3Store(name, endpoint=minio.endpoint, region=minio.region), clock)
    a, b = (
        replicas.gate(S3Store(name, endpoint=minio.endpoint, region=minio.region), authorization=True) for _ in range(2)
    )
    admit(a, groups=["team"])
    of = b.shake("ci", secret(a), HOME)
    assert may(a, of, "list_vms") == "list_vms"
    wrote = b.groups.write(Group("team", frozenset({"list_vms"}), {}, {}), gen=0)
    assert may(a, of, "list_vms") is True
    assert a.groups.all() == [wrote]
    once, start = secret(a), threading.Barrier(2)

    def shake(gate):
        start.wait()
        return is_in(gate, once)

    with ThreadPoolExecutor(2) as pool:
        assert len([of for of in pool.map(shake, (a, b)) if of]) == 1
    a.keys.change("ci", groups=["team", "more"])
    assert [key.groups for key in b.keys.all()] == [("team", "more")]
    b.groups.delete("team")
    b.keys.delete("ci")
    clock.now += KEPT
    assert not is_known(a, of)
    assert (a.keys.all(), a.groups.all()) == ([], [])
    again = admit(a)
    assert b.keys.find("ci") == again
