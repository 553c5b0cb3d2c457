"""The native API's calls about who may do what."""

import base64

import pytest
from cryptography.hazmat.primitives import serialization
from openapi_schema_validator import OAS31Validator

import tap
from access_kit import Closed, basic, public_der
from faults import Wrapped
from kept import Kept
from push_calls import TEMPLATE, Push
from s3reg import wire
from s3reg.crypto import PublicKey
from s3reg.model.identity import Action
from s3reg.store.files import FilesStore
from s3reg.wire import access as messages

API = wire.PREFIX
PUBLIC = base64.b64encode(public_der(tap.key())).decode()
FINGERPRINT = PublicKey(public_der(tap.key())).fingerprint


@pytest.fixture
def closed(tmp_path):
    return Closed(tmp_path / "store", authorization=True, clock=lambda: 1_800_000_000.5)


@pytest.fixture
def root(closed):
    """`root("POST", "/keys", {…})` gives status and JSON."""

    def ask(method, path, body=None, **query):
        answer = closed.http.open(API + path, method=method, json=body, query_string=query, headers=closed.root)
        return answer.status_code, answer.json

    return ask


def made(root, **more):
    status, told = root("POST", "/keys", {"id": "ci", "groups": ["g1"], "ttl": None, "public_key": PUBLIC, **more})
    assert status == 201, told
    return told


# --- Who am I --------------------------------------------------------------------------------------------------------


def test_everybody_may_ask_who_they_are(closed, root):
    on = {"access_control": True, "authorization": True}
    assert root("GET", "/whoami") == (200, {"name": "root", "groups": [], "permissions": None, **on})
    closed.group("g1", "list_vms", "index")
    closed.group("g2", "index")
    login = closed.key("ci", ["g2", "g1", "nowhere"])
    told = closed.http.get(f"{API}/whoami", headers=login).json
    assert told == {"name": "key:ci", "groups": ["g2", "g1", "nowhere"], "permissions": ["index", "list_vms"], **on}
    nobody = closed.key("nobody")
    assert closed.http.get(f"{API}/whoami", headers=nobody).json["permissions"] == []
    assert closed.http.get(f"{API}/openapi.json", headers=nobody).status_code == 200
    assert closed.http.get(f"{API}/whoami").status_code == 401


def test_without_authorization_a_key_is_permitted_everything(tmp_path):
    closed = Closed(tmp_path / "store")
    told = closed.http.get(f"{API}/whoami", headers=closed.key("ci", ["g1"])).json
    assert (told["authorization"], told["permissions"], told["groups"]) == (False, None, ["g1"])


# --- Keys ------------------------------------------------------------------------------------------------------------


def test_a_key_is_made_listed_changed_and_revoked(closed, root):
    told = made(root, ttl=60)
    key = {
        "id": "ci",
        "groups": ["g1"],
        "created": 1_800_000_000.5,
        "expires": 1_800_000_060.5,
        "fingerprint": FINGERPRINT,
        "damaged": None,
    }
    assert told == {"key": key, "private_key": None}
    assert root("GET", "/keys") == (200, {"keys": [key]})
    changed = {**key, "groups": ["g2", "g3"]}
    assert root("POST", "/keys/change", {"id": "ci", "groups": ["g2", "g3"]}) == (
        200,
        {"key": changed, "private_key": None},
    )
    longer = {**changed, "expires": 1_800_000_600.5}
    assert root("POST", "/keys/change", {"id": "ci", "ttl": 600})[1]["key"] == longer
    assert root("POST", "/keys/change", {"id": "ci"})[1]["key"] == longer
    assert closed.http.get(f"{API}/whoami", headers=closed.login("ci")).json["groups"] == ["g2", "g3"]
    assert root("POST", "/keys/revoke", {"id": "ci"}) == (200, {})
    assert root("GET", "/keys") == (200, {"keys": []})


def test_a_pair_that_the_registry_makes_is_given_once(root):
    status, told = root("POST", "/keys", {"id": "ci", "ttl": None, "groups": []})
    assert (status, told["key"]["expires"]) == (201, None)
    private = serialization.load_der_private_key(base64.b64decode(told["private_key"], validate=True), None)
    assert told["key"]["fingerprint"] == PublicKey(public_der(private)).fingerprint
    assert "private" not in str(root("GET", "/keys"))


@pytest.mark.parametrize(
    ("path", "sent", "status", "code"),
    [
        ("/keys", {"id": "ci", "ttl": None, "public_key": PUBLIC}, 409, "key-taken"),
        ("/keys", {"id": "root", "ttl": None}, 400, "request-invalid"),
        ("/keys", {}, 400, "request-invalid"),
        ("/keys", {"id": "new"}, 400, "request-invalid"),
        ("/keys", {"id": "new", "tll": 60}, 400, "request-invalid"),
        ("/keys", {"id": "new", "ttl": 0}, 400, "request-invalid"),
        ("/keys", {"id": "new", "ttl": 10**12}, 400, "request-invalid"),
        ("/keys", {"id": "new", "ttl": None, "groups": "g1"}, 400, "request-invalid"),
        ("/keys", {"id": "new", "ttl": None, "groups": [""]}, 400, "request-invalid"),
        ("/keys", {"id": "new", "ttl": None, "groups": [f"g{n}" for n in range(1000)]}, 400, "request-invalid"),
        ("/keys", {"id": "new", "ttl": None, "public_key": "!"}, 400, "request-invalid"),
        ("/keys", {"id": "new", "ttl": None, "public_key": base64.b64encode(b"x" * 300).decode()}, 400, "invalid"),
        ("/keys", {"id": "new", "ttl": None, "public_key": tap.printed(tap.key())}, 400, "invalid"),
        ("/keys/change", {"id": "nix", "ttl": 5}, 404, "key-not-found"),
        ("/keys/revoke", {"id": "nix"}, 404, "key-not-found"),
        ("/keys/revoke", {"id": "../x"}, 404, "key-not-found"),
    ],
)
def test_what_is_wrong_with_a_key_is_told_and_changes_nothing(root, path, sent, status, code):
    made(root)
    before = root("GET", "/keys")
    found, told = root("POST", path, sent)
    assert (found, told["error"]["code"]) == (status, code)
    assert told["error"]["remedy"]
    assert tap.printed(tap.key())[40:80] not in str(told)
    assert root("GET", "/keys") == before


def test_a_damaged_key_is_listed_as_what_it_is(closed, root):
    made(root)
    (stat,) = closed.store.list("auth/keys/")
    closed.store.put(stat.key, b"{")
    (told,) = root("GET", "/keys")[1]["keys"]
    assert told["damaged"]
    assert (told["groups"], told["fingerprint"]) == ([], "")
    assert len(closed.http.get("/v1/apikey", headers=closed.root).json["body"]) == 1


# --- Groups ----------------------------------------------------------------------------------------------------------

GROUP = {
    "name": "ci",
    "permissions": ["index", "list_vms"],
    "templates": [{"id": TEMPLATE, "permissions": ["list", "pull"]}],
    "domains": [{"name": "main", "permissions": ["push_tag"]}],
}


def test_a_group_is_made_changed_by_who_has_read_it_and_deleted(root):
    status, told = root("POST", "/groups", {**GROUP, "gen": None})
    assert status == 200
    assert told == {**GROUP, "gen": told["gen"], "damaged": None}
    assert root("GET", "/groups") == (200, {"groups": [told]})
    again = root("POST", "/groups", {**GROUP, "gen": None})
    assert (again[0], again[1]["error"]["code"]) == (409, "group-changed")
    status, changed = root("POST", "/groups", {**told, "templates": None})
    assert (status, changed["templates"]) == (200, None)
    assert changed["gen"] > told["gen"]
    late = root("POST", "/groups", {**told, "permissions": []})
    assert (late[0], late[1]["error"]["code"]) == (409, "group-changed")
    assert root("GET", "/groups") == (200, {"groups": [changed]})
    assert root("POST", "/groups/delete", {"name": "ci"}) == (200, {})
    assert root("POST", "/groups/delete", {"name": "ci"})[0] == 404
    assert root("GET", "/groups") == (200, {"groups": []})
    assert root("POST", "/groups", {"name": "ci", "templates": None})[0] == 200


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"name": ""}, "name"),
        ({"name": None}, "name"),
        ({"permissions": ["List_vms"]}, "list_vms"),
        ({"permissions": "index"}, "permissions"),
        ({"permissions": [5]}, "permissions"),
        ({"templates": [{"id": "x", "permissions": []}]}, "templates"),
        ({"templates": [{"id": TEMPLATE, "permissions": ["list_vms"]}]}, "get_config"),
        ({"templates": {}}, "templates"),
        ({"templates": [{"id": TEMPLATE, "permissions": ["list"]}] * 2}, "twice"),
        ({"domains": [{"name": "main", "permissions": []}] * 2}, "twice"),
        ({"domains": [{"name": "No Domain", "permissions": []}]}, "domain"),
        ({"domains": [{"name": "main", "permissions": ["nix"]}]}, "'nix'"),
        ({"gen": -1}, "gen"),
        ({"gen": 5}, "is not the one that it was"),
    ],
)
def test_what_is_wrong_with_a_group_is_told_and_changes_nothing(root, more, told):
    root("POST", "/groups", GROUP)
    before = root("GET", "/groups")
    status, answer = root("POST", "/groups", {**GROUP, "gen": before[1]["groups"][0]["gen"], **more})
    assert status in {400, 409}
    assert told in answer["error"]["message"]
    assert root("GET", "/groups") == before


# --- What they come to -----------------------------------------------------------------------------------------------


def test_access_is_explained_by_what_gives_it(closed, root):
    Push([closed.client(closed.root)]).run()
    closed.group("readers", "list_vms", "pull_vm", templates={TEMPLATE: ["list"]})
    closed.group("pushers", "push_vm", "list_vms", templates={}, domains={"main": ["push_tag", "list"]})
    made(root, groups=["readers", "pushers", "nowhere"])
    for ref in (TEMPLATE, "13.1-base"):
        status, told = root("GET", "/access", key="ci", ref=ref)
        assert status == 200
        assert (told["template"], told["name"], told["domain"]) == (TEMPLATE, "13.1-base", "main")
        assert (told["key"]["id"], told["ended"], told["authorization"]) == ("ci", False, True)
        assert told["missing"] == ["nowhere"]
        assert {row["permission"]: row["groups"] for row in told["permissions"]} == {
            "list_vms": ["pushers", "readers"],
            "pull_vm": ["readers"],
            "push_vm": ["pushers"],
        }
        actions = {row["action"]: [(giver["group"], giver["by"]) for giver in row["by"]] for row in told["actions"]}
        assert actions.keys() == {action.value for action in Action}
        assert actions["list"] == [("pushers", "domain"), ("readers", "template")]
        assert actions["push_tag"] == [("pushers", "domain")]
        assert actions["pull"] == []


def test_access_to_what_is_nowhere_cannot_be_explained(closed, root):
    Push([closed.client(closed.root)]).run()
    assert root("GET", "/access", key="nix", ref=TEMPLATE)[1]["error"]["code"] == "key-not-found"
    made(root)
    assert root("GET", "/access", key="ci", ref="nix")[1]["error"]["code"] == "template-not-found"
    assert root("GET", "/access", key="ci")[1]["error"]["code"] == "request-invalid"
    assert root("GET", "/access", ref=TEMPLATE)[1]["error"]["code"] == "request-invalid"


# --- A copy of the store ---------------------------------------------------------------------------------------------


class At(Wrapped):
    """A store elsewhere, with what lies in this one."""

    def __init__(self, store, where):
        super().__init__(store)
        self.made_as = self.location = where


def test_in_a_copy_of_a_store_keys_are_read_and_not_changed(tmp_path):
    files = FilesStore(tmp_path / "store")
    first = Closed(tmp_path / "store", store=At(files, "s3://first"), authorization=True)
    first.group("readers", "list_vms", "view_permissions")
    login = first.key("ci", ["readers"])
    copy = Closed(tmp_path / "store", store=At(files, "s3://copy"), token=first.token, authorization=True)
    kept = Kept(files)
    for headers in (copy.root, login):
        assert copy.http.get("/registry/vm", headers=headers).json["body"] == []
        assert [key["id"] for key in copy.http.get(f"{API}/keys", headers=headers).json["keys"]] == ["ci"]
    changes = {
        "/keys": {"id": "new", "ttl": None, "public_key": PUBLIC},
        "/keys/change": {"id": "ci", "ttl": 60},
        "/keys/revoke": {"id": "ci"},
        "/groups": {"name": "new", "templates": []},
        "/groups/delete": {"name": "readers"},
    }
    for path, sent in changes.items():
        answer = copy.http.post(API + path, json=sent, headers=copy.root)
        assert answer.json["error"]["code"] == "store-copied", path
    assert copy.http.post("/v1/apikey", json={"id": "new", "ttl": 5}, headers=copy.root).status_code >= 400
    assert kept.unchanged()


def test_a_copy_without_a_secret_to_sign_with_gets_none(tmp_path):
    files = FilesStore(tmp_path / "store")
    first = Closed(tmp_path / "store", store=At(files, "s3://first"))
    login = first.key("ci")
    files.delete([stat.key for stat in files.list("auth/signing")])
    copy = Closed(tmp_path / "store", store=At(files, "s3://copy"), token=first.token)
    kept = Kept(files)
    answer = copy.http.get(f"{API}/whoami", headers=login)
    assert answer.json["error"]["code"] == "store-copied"
    assert copy.http.get(f"{API}/whoami", headers=copy.root).status_code == 200
    assert kept.unchanged()


# --- The description -------------------------------------------------------------------------------------------------


def test_answers_are_of_the_described_shape_and_are_read_by_our_client(closed, root):
    Push([closed.client(closed.root)]).run()
    document = root("GET", "/openapi.json")[1]
    asked = [
        ("GET", "/whoami", None, messages.WhoAmISchema),
        ("POST", "/keys", {"id": "ci", "ttl": None, "groups": ["ci"], "public_key": PUBLIC}, messages.MadeKeySchema),
        ("POST", "/keys", {"id": "made", "ttl": None}, messages.MadeKeySchema),
        ("POST", "/keys/change", {"id": "ci", "ttl": 60}, messages.MadeKeySchema),
        ("GET", "/keys", None, messages.KeysAnswerSchema),
        ("POST", "/groups", GROUP, messages.GroupEntrySchema),
        ("GET", "/groups", None, messages.GroupsAnswerSchema),
        ("GET", "/access", None, messages.ExplainedSchema),
    ]
    for method, path, sent, schema in asked:
        query = {"key": "ci", "ref": TEMPLATE} if path == "/access" else {}
        status, told = root(method, path, sent, **query)
        described = document["paths"][API + path][method.lower()]
        content = described["responses"][str(status)]["content"]["application/json"]["schema"]
        OAS31Validator({**content, "components": document["components"]}).validate(told)
        assert wire.write(wire.read(schema, told)) == told


def test_what_a_call_takes_stands_in_its_description(closed, root):
    document = root("GET", "/openapi.json")[1]
    assert document["paths"][f"{API}/plan"]["get"]["description"] == "Takes `pull_vm` and `download_vm`."
    assert document["paths"][f"{API}/revert"]["post"]["description"] == "Takes `revert`, or `delete_vm`."
    assert "description" not in document["paths"][f"{API}/whoami"]["get"]
    assert set(document["components"]["securitySchemes"]) == {"rootToken", "login", "certificate"}
    assert {} in document["security"]
    told = document["components"]["schemas"]["Key"]["properties"]["expires"]["description"]
    assert told == "Seconds since 1970; null: never."


def test_no_secret_shows_in_a_message(closed):
    told = [
        messages.MadeKey(messages.Key("ci", (), 0.0, None, ""), b"secret"),
        messages.NewKey("ci", public_key=b"secret"),
    ]
    assert "secret" not in repr(told)
    assert closed.token not in repr([closed.gate, closed.app.extensions, basic])
