"""Ten thousand bad logins of every kind, while a good one works and the store is hardly asked."""

import itertools
import json
import secrets

import pytest

import faults
from access_kit import Closed, basic, bearer
from s3reg.errors import TooManyFailures, Unauthenticated
from s3reg.store.files import FilesStore

ONE = "192.0.2.1"
ELSEWHERE = "198.51.100.9"
MANY = 2500


@pytest.fixture
def store(tmp_path):
    return faults.Counting(FilesStore(tmp_path / "store"))


@pytest.fixture
def closed(tmp_path, store):
    """Its clock stands still: what may be tried once a second is not tried again."""
    return Closed(tmp_path / "store", store=store, clock=lambda: 1_800_000_000.0)


def addresses():
    return (f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}" for n in itertools.count())


def tried(act, *arguments):
    """What became of an attempt: `refused`, or `unheard`."""
    try:
        act(*arguments)
    except Unauthenticated:
        return "refused"
    except TooManyFailures:
        return "unheard"
    raise AssertionError("it was let in")


def bad_bearer(number):
    said = {"userName": f"k{number}", "sessionId": secrets.token_hex(16), "token": secrets.token_urlsafe(40)[:54]}
    return bearer(said)["Authorization"].partition(" ")[2].encode()


def storm(gate, address):
    """Ten thousand of them, from where `address` says; counts what became of them."""
    found = {"refused": 0, "unheard": 0}
    for number in range(MANY):
        found[tried(gate.basic, "root", secrets.token_bytes(12), next(address))] += 1
        found[tried(gate.hand, f"nobody{number}", next(address))] += 1
        found[tried(gate.shake, "ci", secrets.token_urlsafe(48), next(address))] += 1
        found[tried(gate.bearer, bad_bearer(number), next(address))] += 1
    return found


def test_ten_thousand_bad_logins_from_one_address_cost_the_store_a_few_looks(closed, store):
    good = closed.key("ci")
    data, secret = closed.data("ci"), closed.secret("ci")
    store.calls.clear()

    found = storm(closed.gate, itertools.repeat(ONE))

    assert sum(found.values()) == 4 * MANY
    assert found["unheard"] >= 2 * MANY - 20, "of what can be guessed, twenty were looked at"
    assert len(store.calls) <= 25
    there = {"environ_base": {"REMOTE_ADDR": ONE}}
    assert closed.http.get("/registry/vm", headers=good, **there).status_code == 200
    assert closed.http.get("/registry/vm", headers=bearer(data), **there).status_code == 200
    assert closed.hand("ci", **there).status_code == 200
    assert closed.shake("ci", secret, **there).status_code == 200
    refused = closed.http.get("/registry/vm", headers=closed.root, **there)
    assert refused.status_code == 429, "a guess that is right is not heard either: else it would be worth guessing on"
    assert int(refused.headers["Retry-After"]) >= 1
    elsewhere = {"environ_base": {"REMOTE_ADDR": ELSEWHERE}}
    assert closed.http.get("/registry/vm", headers=closed.root, **elsewhere).status_code == 200


def test_ten_thousand_bad_logins_from_as_many_addresses_keep_nobody_out(closed, store):
    good = closed.key("ci")
    data, secret = closed.data("ci"), closed.secret("ci")
    store.calls.clear()

    found = storm(closed.gate, addresses())

    assert sum(found.values()) == 4 * MANY
    assert len(store.calls) <= MANY + 25, "one look for each address that names an unknown key"
    there = {"environ_base": {"REMOTE_ADDR": ELSEWHERE}}
    for headers in (good, bearer(data), closed.root):
        assert closed.http.get("/registry/vm", headers=headers, **there).status_code == 200
    assert closed.hand("ci", **there).status_code == 200
    assert closed.shake("ci", secret, **there).status_code == 200


def test_a_thousand_guesses_at_one_name_from_addresses_that_have_failed_before_are_not_heard(closed):
    """A net of machines: each has failed once, and together they have used up what a name is listened to."""
    for number, address in enumerate(itertools.islice(addresses(), 200)):
        assert tried(closed.gate.basic, "root", b"guess%d" % number, address) == "refused"
    found = [tried(closed.gate.basic, "root", b"again", address) for address in itertools.islice(addresses(), 200)]
    assert set(found) == {"unheard"}
    assert closed.gate.basic("root", closed.token.encode(), ELSEWHERE).name == "root"


def test_one_network_of_ipv6_is_one_address(closed):
    found = [tried(closed.gate.basic, "root", b"guess", f"2001:db8:1:2::{number:x}") for number in range(1, 200)]
    assert found.count("refused") == 20
    assert tried(closed.gate.basic, "root", b"guess", "2001:db8:1:3::1") == "refused"


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-Ip", "Forwarded", "X-Client-Ip", "True-Client-Ip"])
def test_nobody_talks_his_address_away(closed, header):
    """No proxy is configured: whatever such a header says, it is the client who says it."""
    there = {"environ_base": {"REMOTE_ADDR": ONE}}
    codes = [
        closed.http.get("/registry/vm", headers={**basic("wrong token"), header: address}, **there).status_code
        for address in itertools.islice(addresses(), 40)
    ]
    assert codes == [401] * 20 + [429] * 20


def test_behind_a_proxy_only_what_the_proxy_has_added_counts(tmp_path):
    import ipaddress

    proxies = (ipaddress.ip_network("10.9.0.0/16"),)
    closed = Closed(tmp_path / "store", clock=lambda: 1_800_000_000.0, proxies=proxies)

    def knock(forwarded):
        headers = {**basic("wrong token"), "X-Forwarded-For": forwarded}
        return closed.http.get("/registry/vm", headers=headers, environ_base={"REMOTE_ADDR": "10.9.0.1"}).status_code

    spoofed = [knock(f"{address}, {ONE}") for address in itertools.islice(addresses(), 20)]
    assert spoofed == [401] * 20
    assert knock(f"203.0.113.5, {ONE}") == 429
    assert knock(f"203.0.113.5, 10.9.0.7, {ONE}, 10.9.0.7") == 429, "through two proxies of ours"
    assert knock(f"{ONE}, 203.0.113.5") == 401, "another client"


def test_what_is_not_heard_is_not_looked_at(closed, store):
    """Neither the token nor the store: the answer is there before."""
    for _ in range(20):
        tried(closed.gate.basic, "root", b"guess", ONE)
    store.calls.clear()
    assert tried(closed.gate.basic, "root", closed.token.encode(), ONE) == "unheard"
    assert tried(closed.gate.hand, "somebody", ONE) == "unheard"
    assert store.calls == []


def test_a_bad_login_is_told_in_the_words_of_its_dialect_when_it_is_not_heard(closed):
    for _ in range(20):
        tried(closed.gate.basic, "root", b"guess", "127.0.0.1")
    answer = closed.http.get("/registry/vm", headers=closed.root)
    assert (answer.status_code, answer.json["status"]) == (429, "FAIL")
    answer = closed.http.get("/transfer/v1/whoami", headers=closed.root)
    assert (answer.status_code, answer.json["error"]["code"]) == (429, "too-many-failures")
    answer = closed.hand("nobody")
    assert answer.status_code == 429


def test_logins_that_end_and_are_used_on_cost_no_attempt(tmp_path, clock):
    """A node that sleeps wakes up with a login that has ended: it must not be kept out for that."""
    closed = Closed(tmp_path / "store", clock=clock)
    old = closed.key("ci")
    clock.ahead += 400
    for _ in range(200):
        assert closed.http.get("/registry/vm", headers=old).status_code == 401
    assert closed.http.get("/registry/vm", headers=closed.login("ci")).status_code == 200
    assert closed.http.get("/registry/vm", headers=closed.root).status_code == 200


def test_bad_logins_leave_nothing_in_the_store(closed, store):
    closed.make("ci")
    before = {stat.key for stat in store.list("") if not stat.key.startswith("events/")}
    for number in range(30):
        closed.hand(f"nobody{number}")
        closed.shake("ci", secrets.token_urlsafe(48))
        closed.http.get("/registry/vm", headers={"Authorization": f"Bearer {bad_bearer(number).decode()}"})
        closed.http.post("/tap/v1/shake", data=json.dumps({"id": "ci"}))
    assert {stat.key for stat in store.list("") if not stat.key.startswith("events/")} == before
