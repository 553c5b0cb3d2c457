"""`/v1/apikey`, as the scripts of administrators call it."""

import base64
import json
import re
import string
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives import serialization

import tap
from access_kit import Closed, public_der
from clocks import Clock

PUBLIC = base64.b64encode(public_der(tap.key())).decode()
NOW = 1_800_000_000.123456


@pytest.fixture
def clock():
    return Clock(NOW)


@pytest.fixture
def closed(tmp_path, clock):
    return Closed(tmp_path / "store", clock=clock)


@pytest.fixture
def ask(closed):
    """`ask("POST", {"id": "ci", "ttl": 60})` asks as root, and gives the answer."""

    def asked(method, body=None, query="", path="/v1/apikey"):
        data = body if isinstance(body, str | bytes | None) else json.dumps(body)
        return closed.http.open(path + query, method=method, data=data, headers=closed.root)

    return asked


def keys(ask):
    answer = ask("GET")
    assert answer.status_code == 200
    assert list(answer.json) == ["status", "message", "body"]
    return {key["id"]: key for key in answer.json["body"]}


def moment(text):
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d", text)
    return datetime.fromisoformat(text)


def test_a_key_is_made_and_its_private_half_is_given_in_one_line(ask):
    answer = ask("POST", '{ "id": "nathan", "ttl": 86400, "groups": ["g1"] }')
    assert answer.status_code == 200
    assert list(answer.json) == ["status", "message", "body"]
    assert answer.json["body"].startswith("MII")
    der = base64.b64decode(answer.json["body"], validate=True)
    private = serialization.load_der_private_key(der, None)
    assert private.key_size == 2048
    assert der == tap.der(private)  # PKCS #1, not #8
    assert answer.headers["Cache-Control"] == "no-store"


def test_with_a_public_key_of_ones_own_nothing_private_is_given(closed, ask):
    answer = ask("POST", {"id": "ci", "ttl": 60, "groups": [], "publicKey": PUBLIC})
    assert answer.json == {"status": "OK", "message": ""}
    assert closed.http.get("/registry/status", headers=closed.login("ci")).status_code == 200


def test_keys_are_listed_with_times_that_every_client_can_parse(ask):
    ask("POST", {"id": "b", "ttl": 86400, "groups": ["g2", "g1"], "publicKey": PUBLIC})
    ask("POST", {"id": "a", "ttl": 1, "publicKey": PUBLIC})
    found = keys(ask)
    assert list(found) == ["a", "b"]
    assert found["b"].keys() == {"id", "groups", "expiration", "created"}
    assert found["b"]["groups"] == ["g2", "g1"]
    created, end = moment(found["b"]["created"]), moment(found["b"]["expiration"])
    assert abs(created.timestamp() - NOW) < 1e-5
    assert (end - created).total_seconds() == 86400


@pytest.mark.parametrize("query", ["?id=b", ""])
def test_one_key_comes_in_an_array_too(ask, query):
    for key in ("a", "b"):
        ask("POST", {"id": key, "ttl": 60, "publicKey": PUBLIC})
    answer = ask("GET", None if query else {"id": "b"}, query)
    assert [key["id"] for key in answer.json["body"]] == ["b"]
    assert ask("GET", query="?id=nix").status_code == 400
    assert "nix" in ask("GET", query="?id=nix").json["message"]


def test_a_key_without_an_end_has_one_that_no_client_stumbles_over(closed, ask):
    closed.make("ci")
    end = moment(keys(ask)["ci"]["expiration"])
    assert end > datetime(2150, 1, 1, tzinfo=UTC)
    assert end.timestamp() * 1e9 < 2**63  # Go's nanoseconds


@pytest.mark.parametrize("groups", [["g1", "g2"], "g1,g2", " g1 , g2,", ["g1", "g2", "g1"]])
@pytest.mark.parametrize("ttl", [86400, "86400"])
@pytest.mark.parametrize("path", ["/v1/apikey", "/api/v1/apikey"])
def test_parameters_come_as_each_document_spells_them(ask, groups, ttl, path):
    sent = {"id": "ci", "ttl": ttl, "groups": groups, "publicKey": PUBLIC}
    assert ask("POST", sent, path=path).status_code == 200
    assert keys(ask)["ci"]["groups"] == ["g1", "g2"]


def test_parameters_may_stand_in_the_query(ask):
    def query(**more):
        return "?" + urlencode(more)

    sent = query(id="ci", ttl=60, groups="g1,g2", publicKey=PUBLIC)
    assert ask("POST", query=sent).json == {"status": "OK", "message": ""}
    assert keys(ask)["ci"]["groups"] == ["g1", "g2"]
    assert ask("PUT", query=query(id="ci", groups="g3")).status_code == 200
    assert ask("PUT", {"groups": ["g3"], "ttl": 99}, query(id="ci")).status_code == 200
    assert keys(ask)["ci"]["groups"] == ["g3"]
    assert ask("DELETE", {"id": "other"}, query(id="ci")).status_code == 400
    assert ask("DELETE", query=query(id="ci")).status_code == 200
    assert keys(ask) == {}


@pytest.mark.parametrize("plus", ["+", "%2B", "%20"])
def test_a_plus_of_a_public_key_is_one_though_nobody_escapes_it(ask, plus):
    printed = (base64.b64encode(public_der(tap.key(name))).decode() for name in ("", *string.ascii_letters))
    public = next(text for text in printed if "+" in text)  # of a thousand keys, four have none
    query = "?id=ci&ttl=60&publicKey=" + public.replace("+", plus).replace("/", "%2F")
    assert ask("POST", query=query).json == {"status": "OK", "message": ""}


def test_a_change_changes_what_is_named_and_nothing_else(ask, clock):
    ask("POST", {"id": "ci", "ttl": 60, "groups": ["g1"], "publicKey": PUBLIC})
    before = keys(ask)["ci"]
    clock.now += 10
    assert ask("PUT", {"id": "ci", "groups": ["test1", "test3"]}).json == {"status": "OK", "message": ""}
    assert keys(ask)["ci"] == {**before, "groups": ["test1", "test3"]}
    assert ask("PUT", {"id": "ci", "ttl": "100"}).json == {"status": "OK", "message": ""}
    after = keys(ask)["ci"]
    assert (after["groups"], after["created"]) == (["test1", "test3"], before["created"])
    assert abs(moment(after["expiration"]).timestamp() - (NOW + 110)) < 1e-5
    assert ask("PUT", {"id": "ci", "groups": []}).status_code == 200
    assert keys(ask)["ci"]["groups"] == []


def test_s24_a_change_and_a_deletion_reach_logins_that_there_are(tmp_path):
    closed = Closed(tmp_path / "store", authorization=True)
    closed.group("listers", "list_vms")
    login = closed.key("ci", ["nothing"])
    http, root = closed.http, closed.root
    assert http.get("/registry/vm", headers=login).status_code == 403
    http.put("/v1/apikey", json={"id": "ci", "groups": ["listers"]}, headers=root)
    assert http.get("/registry/vm", headers=login).status_code == 200
    http.put("/v1/apikey", json={"id": "ci", "groups": ["nothing"]}, headers=root)
    assert http.get("/registry/vm", headers=login).status_code == 403
    http.delete("/v1/apikey", json={"id": "ci"}, headers=root)
    assert http.get("/registry/vm", headers=login).status_code == 401


def test_a_deleted_key_is_gone_and_its_id_is_free(ask):
    ask("POST", {"id": "ci", "ttl": 60, "publicKey": PUBLIC})
    assert ask("DELETE", {"id": "ci"}).json == {"status": "OK", "message": ""}
    assert keys(ask) == {}
    assert ask("DELETE", {"id": "ci"}).status_code == 400
    assert ask("PUT", {"id": "ci", "ttl": 60}).status_code == 400
    assert ask("POST", {"id": "ci", "ttl": 60, "publicKey": PUBLIC}).status_code == 200


def test_an_id_that_is_taken_is_refused_and_its_key_stays(ask):
    ask("POST", {"id": "ci", "ttl": 60, "groups": ["g1"], "publicKey": PUBLIC})
    before = keys(ask)
    answer = ask("POST", {"id": "ci", "ttl": 90, "groups": ["g2"]})
    assert answer.status_code == 400
    assert "already exists" in answer.json["message"]
    assert keys(ask) == before


WRONG = [
    ("POST", {}, "id"),
    ("POST", {"id": "", "ttl": 5}, "id"),
    ("POST", {"id": 5, "ttl": 5}, "id"),
    ("POST", {"id": "root", "ttl": 5}, "id"),
    ("POST", {"id": "x\u0000", "ttl": 5}, "id"),
    ("POST", {"id": "new"}, "ttl"),
    ("POST", {"id": "new", "ttl": 0}, "ttl"),
    ("POST", {"id": "new", "ttl": -5}, "ttl"),
    ("POST", {"id": "new", "ttl": 1.5}, "ttl"),
    ("POST", {"id": "new", "ttl": True}, "ttl"),
    ("POST", {"id": "new", "ttl": "1h"}, "ttl"),
    ("POST", {"id": "new", "ttl": "9" * 5000}, "ttl"),
    ("POST", {"id": "new", "ttl": 10**18}, "ttl"),
    ("POST", {"id": "new", "ttl": 60, "groups": {"a": 1}}, "groups"),
    ("POST", {"id": "new", "ttl": 60, "groups": [5]}, "group"),
    ("POST", {"id": "new", "ttl": 60, "groups": [""]}, "group"),
    ("POST", {"id": "new", "ttl": 60, "groups": [["a"]]}, "group"),
    ("POST", {"id": "new", "ttl": 60, "groups": [f"g{n}" for n in range(5000)]}, "groups"),
    ("POST", {"id": "new", "ttl": 60, "publicKey": "x"}, "public key"),
    ("POST", {"id": "new", "ttl": 60, "publicKey": 5}, "publicKey"),
    ("POST", {"id": "new", "ttl": 60, "publicKey": tap.printed(tap.key())}, "public key"),
    ("POST", [], "object"),
    ("POST", b"{", "JSON"),
    ("POST", b'{"id": "new", "ttl": 60, "id": "ci"}', "JSON"),
    ("PUT", {"id": "ci"}, "nothing to change"),
    ("PUT", {"id": "ci", "group": ["g9"]}, "nothing to change"),
    ("PUT", {"id": "ci", "ttl": 60, "publicKey": PUBLIC}, "publicKey"),
    ("PUT", {"ttl": 60}, "id"),
    ("PUT", {"id": "nix", "ttl": 60}, "nix"),
    ("DELETE", {}, "id"),
    ("DELETE", {"id": ["ci"]}, "id"),
    ("DELETE", {"id": "CI"}, "CI"),
]


@pytest.mark.parametrize(("method", "sent", "told"), WRONG, ids=[f"{m}-{str(s)[:40]}" for m, s, _ in WRONG])
def test_what_is_wrong_is_told_and_changes_nothing(ask, method, sent, told):
    ask("POST", {"id": "ci", "ttl": 60, "groups": ["g1"], "publicKey": PUBLIC})
    before = keys(ask)
    answer = ask(method, sent)
    assert (answer.status_code, answer.json["status"]) == (400, "FAIL")
    assert told in answer.json["message"]
    assert tap.printed(tap.key())[40:80] not in answer.text
    assert keys(ask) == before


def test_a_name_that_reads_the_same_in_unicode_is_the_same_key(ask):
    composed, apart = "caf\u00e9", "cafe\u0301"
    ask("POST", {"id": composed, "ttl": 60, "publicKey": PUBLIC})
    assert [key["id"] for key in ask("GET", {"id": apart}).json["body"]] == [composed]
    assert ask("DELETE", {"id": apart}).status_code == 200


def test_no_private_half_lies_in_the_store(closed, ask):
    body = base64.b64decode(ask("POST", {"id": "ci", "ttl": 60}).json["body"])
    numbers = serialization.load_der_private_key(body, None).private_numbers()
    secret = numbers.p.to_bytes(128, "big")
    for stat in closed.store.list(""):
        data = closed.store.get(stat.key).data
        for form in (secret, secret.hex().encode(), *(base64.b64encode(secret[n:])[:150] for n in range(3))):
            assert form not in data
