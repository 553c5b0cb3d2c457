"""Requests by chance about keys and groups: none is answered with 500, and one that is refused has changed nothing."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tap
from access_kit import Closed, public_der
from api.fuzzed import FIRST, anything, body, words
from kept import Kept
from s3reg import wire
from s3reg.crypto import PublicKey
from s3reg.model.access import PERMISSIONS
from s3reg.model.identity import Action

PUBLIC = base64.b64encode(public_der(tap.key())).decode()
FINGERPRINT = PublicKey(public_der(tap.key())).fingerprint
KEYS = ["id", "ttl", "groups", "publicKey"]
RESOURCES = "/admin/api/v1/permission/group/ci/resources"
ANKA = {
    ("GET", "/v1/apikey"): KEYS,
    ("POST", "/v1/apikey"): KEYS,
    ("PUT", "/v1/apikey"): KEYS,
    ("DELETE", "/api/v1/apikey"): KEYS,
    ("GET", RESOURCES): [],
    ("POST", RESOURCES): ["id", "id_type", "type", "permissions"],
    ("POST", "/tap/v1/hand"): ["id"],
    ("POST", "/tap/v1/shake"): ["id", "secret"],
}
"""(method, path) → the parameters that it has, in the query or in the body."""
NATIVE = {
    ("GET", "/whoami"): [],
    ("GET", "/keys"): [],
    ("POST", "/keys"): ["id", "ttl", "groups", "public_key"],
    ("POST", "/keys/change"): ["id", "ttl", "groups"],
    ("POST", "/keys/revoke"): ["id"],
    ("GET", "/groups"): [],
    ("POST", "/groups"): ["name", "permissions", "templates", "domains", "gen"],
    ("POST", "/groups/delete"): ["name"],
    ("GET", "/access"): ["key", "ref"],
}
ACTIONS = st.lists(st.sampled_from([action.value for action in Action] + ["nix"]), max_size=3)
ROW = st.fixed_dictionaries(
    {"id": st.sampled_from([FIRST, FIRST.upper(), "nix"]), "permissions": ACTIONS},
    optional={"name": st.just("main"), "type": st.sampled_from(["template", "node"]), "id_type": st.just("id")},
)
values = st.one_of(
    st.sampled_from(["ci", "bot", "g1,g2", "60", PUBLIC, "", "root", "../x", "x" * 300]),
    st.integers(-1, 10**12),
    st.lists(st.sampled_from(["g1", "g2", "", *PERMISSIONS]), max_size=3),
    st.lists(ROW, max_size=2),
    words,
    anything,
)


@pytest.fixture(scope="module")
def closed(tmp_path_factory):
    """A key `ci`, and a group of the same name."""
    made = Closed(tmp_path_factory.mktemp("fuzz") / "store")
    made.http.get("/readyz")
    made.make("ci", ["ci"])
    made.group("ci", "index", templates={FIRST: ["list"]})
    return made


@pytest.fixture(scope="module")
def kept(closed):
    return Kept(closed.store)


def sent(names):
    """A body with some of these, or any other."""
    found = st.dictionaries(st.sampled_from([*names, "other"]), values, max_size=5)
    # A pair that the registry makes takes a tenth of a second.
    own = found.map(lambda fields: {"publicKey": PUBLIC, "public_key": PUBLIC, **fields})
    return st.one_of(own.map(body), st.lists(ROW, max_size=3).map(body), anything.map(body), st.binary(max_size=40))


@pytest.fixture(scope="module")
def ask(closed, kept):
    """Asks as root, of a registry that is as it was at the beginning."""

    def asked(route, data, query=None, headers=None):
        kept.begin()
        method, path = route
        headers = closed.root if headers is None else headers
        return closed.http.open(path, method=method, data=data, query_string=query, headers=headers)

    return asked


@given(st.data(), st.sampled_from(sorted(ANKA)))
def test_whatever_is_asked_of_ankas_calls_is_answered_in_an_envelope_or_a_login(ask, kept, data, route):
    method, path = route
    queries = st.dictionaries(st.sampled_from([*ANKA[route], "other"]), words.map(printable), max_size=3)
    query = {"publicKey": PUBLIC} if method == "POST" else {}
    answer = ask(route, data.draw(sent(ANKA[route])), data.draw(queries) | query)
    if path == "/tap/v1/hand" and answer.status_code == 200:
        assert kept.unchanged()
        return
    assert answer.status_code in {200, 400, 401, 429}, answer.text
    assert answer.json["status"] == ("OK" if answer.status_code == 200 else "FAIL")
    assert answer.status_code == 200 or answer.json["message"]
    if answer.status_code != 200 or method == "GET":
        assert kept.unchanged()


@given(st.data(), st.sampled_from(sorted(NATIVE)))
def test_whatever_is_asked_of_the_native_calls_is_answered_or_told_by_its_code(ask, kept, data, route):
    method, path = route
    queries = st.dictionaries(st.sampled_from([*NATIVE[route], "other"]), words.map(printable), max_size=3)
    answer = ask((method, wire.PREFIX + path), data.draw(sent(NATIVE[route])), data.draw(queries))
    assert answer.status_code in {200, 201, 400, 404, 409}, answer.text
    if answer.status_code >= 400:
        assert answer.json["error"]["code"]
        assert answer.json["error"]["remedy"]
    if answer.status_code >= 400 or method == "GET":
        assert kept.unchanged()


@given(st.data(), st.sampled_from(sorted(route for route in ANKA if "/tap/" not in route[1])))
def test_without_a_credential_no_body_does_anything(ask, kept, data, route):
    answer = ask(route, data.draw(sent(ANKA[route])), headers={})
    assert answer.status_code == 401
    assert kept.unchanged()


@given(st.data())
def test_a_key_that_was_made_by_chance_is_listed_as_it_was_made(closed, ask, kept, data):
    key_id, ttl = data.draw(words), data.draw(st.integers(1, 10**6))
    groups = data.draw(st.lists(words, max_size=3))
    told = body({"id": key_id, "ttl": ttl, "groups": groups, "public_key": PUBLIC})
    answer = ask(("POST", f"{wire.PREFIX}/keys"), told)
    if answer.status_code == 201:
        made = answer.json["key"]
        listed = {key["id"]: key for key in closed.http.get(f"{wire.PREFIX}/keys", headers=closed.root).json["keys"]}
        assert listed[made["id"]] == made
        assert made["fingerprint"] == FINGERPRINT
        assert closed.http.get(f"{wire.PREFIX}/whoami", headers=closed.login(made["id"])).status_code == 200
        assert closed.http.delete("/v1/apikey", data=body({"id": key_id}), headers=closed.root).status_code == 200
    else:
        assert kept.unchanged()


def printable(text):
    """Text that a query can hold."""
    return text.encode("utf-8", "replace").decode()
