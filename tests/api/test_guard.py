"""Who asks is looked at before anything else is: which credentials are taken, in which spellings, and how it is said."""

import base64
import contextlib
import http.client
import json
from ipaddress import ip_network
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pki
import running
from access_kit import Closed, basic, through_nginx
from faults import Wrapped
from kept import Kept
from push_calls import TEMPLATE, Push
from s3reg.api.needs import NEEDS
from s3reg.errors import StoreUnavailable
from s3reg.store.files import FilesStore

ANKA, NATIVE = "/registry/vm", "/transfer/v1/templates"
UNKNOWN = b'{"status":"FAIL","message":"Authentication Required"}'
TOKENS = [":@/%+\"'\\{}", "colon:in:the:middle", " blanks around ", "passwörd-日本語-🔑", "a=b&c=d;e,f", "x" * 3000]
"""Root tokens as people choose them, or their generators do."""


@pytest.fixture
def closed(tmp_path):
    return Closed(tmp_path / "store")


@pytest.fixture
def strict(tmp_path):
    return Closed(tmp_path / "store", authorization=True)


def proof(text, scheme="Basic"):
    return {"Authorization": f"{scheme} {text}"}


# --- Without a credential --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/registry/status", ANKA, "/v1/apikey", "/api/v1/status", "/log", "/nowhere"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PATCH"])
def test_s23_without_a_credential_ankas_clients_read_that_one_is_required(closed, path, method):
    answer = closed.http.open(path, method=method)
    assert (answer.status_code, answer.data, answer.mimetype) == (401, UNKNOWN, "application/json")
    assert answer.headers["WWW-Authenticate"].startswith("Basic ")


@pytest.mark.parametrize("path", [NATIVE, "/transfer/v1/nowhere", "/transfer/v1/openapi.json"])
def test_without_a_credential_our_client_is_told_which_ones_there_are(closed, path):
    answer = closed.http.get(path)
    assert answer.status_code == 401
    assert answer.json["error"]["code"] == "unauthenticated"
    assert "--api-key" in answer.json["error"]["remedy"]


def test_what_is_nowhere_and_what_takes_another_method_is_told_to_those_who_may_come_in(closed):
    for method, path, status in (("GET", "/nowhere", 404), ("PATCH", ANKA, 405), ("GET", "/tap/v1/hand", 405)):
        assert closed.http.open(path, method=method).status_code == 401
        assert closed.http.open(path, method=method, headers=closed.root).status_code == status


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/readyz/"])
def test_probes_bring_no_credential_and_need_none(closed, path):
    assert closed.http.get(path, headers=proof("nonsense")).status_code == 200


def test_every_route_has_a_row_and_every_row_a_route(closed):
    assert {rule.endpoint for rule in closed.app.url_map.iter_rules()} <= NEEDS.keys()
    assert NEEDS.keys() <= set(closed.app.view_functions)


def test_a_route_without_a_row_is_refused_even_to_root(closed):
    called = []
    closed.app.add_url_rule("/forgotten", "forgotten", lambda: called.append(1) or "")
    answer = closed.http.get("/forgotten", headers=closed.root)
    assert (answer.status_code, answer.json["message"]) == (500, "Internal server error")
    assert not called


# --- The root token --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", TOKENS)
def test_s26_a_root_token_may_have_any_characters(tmp_path, token):
    closed = Closed(tmp_path / "store", token=token)
    for user in ("root", ""):
        assert closed.http.get(ANKA, headers=basic(token, user)).status_code == 200
    for wrong in (token + "x", token[:-1], token.upper() + " ", ""):
        assert closed.http.get(ANKA, headers=basic(wrong)).status_code == 401


@pytest.mark.parametrize("user", ["Root", "admin", "root ", " root", "key:ci", "röot"])
def test_the_root_token_is_no_other_users_password(closed, user):
    assert closed.http.get(ANKA, headers=basic(closed.token, user)).status_code == 401


def test_basic_is_read_however_clients_spell_it(tmp_path):
    token = "~~~???>>>token"  # its base64 has both characters in which the alphabets differ
    closed = Closed(tmp_path / "store", token=token)
    text = base64.b64encode(f"root:{token}".encode()).decode()
    assert {"+", "/"} & set(text)
    for spelt in (text, text.rstrip("="), text.replace("+", "-").replace("/", "_"), f" {text} "):
        assert closed.http.get(ANKA, headers=proof(spelt)).status_code == 200, spelt
    for scheme in ("basic", "BASIC", "Basic "):
        assert closed.http.get(ANKA, headers=proof(text, scheme)).status_code == 200, scheme


def test_two_root_tokens_are_valid_at_a_time(tmp_path):
    closed = Closed(tmp_path / "store", root_token_previous="the-one-before")
    assert closed.http.get(ANKA, headers=closed.root).status_code == 200
    assert closed.http.get(ANKA, headers=basic("the-one-before")).status_code == 200


@given(
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=60)
    | st.builds(lambda data: base64.b64encode(data).decode(), st.binary(max_size=60)),
    st.sampled_from(["Basic", "Bearer", "basic", "Digest", "", "Negotiate"]),
)
def test_no_header_by_chance_opens_anything_or_breaks_anything(locked, text, scheme):
    closed, kept, addresses = locked
    for path in (ANKA, NATIVE):
        somewhere = {"REMOTE_ADDR": str(next(addresses))}
        answer = closed.http.delete(path, headers=proof(text, scheme), environ_base=somewhere)
        assert answer.status_code == 401
    assert kept.unchanged()


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    closed = Closed(tmp_path_factory.mktemp("locked") / "store")
    closed.http.get("/readyz")
    return closed, Kept(closed.store), ip_network("10.0.0.0/8").hosts()


# --- Which of two credentials ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ca():
    return pki.Authority()


def test_a_header_counts_before_a_certificate_and_is_told_if_it_is_wrong(tmp_path, ca):
    behind_nginx = {"proxies": (ip_network("127.0.0.1"),), "proxy_certificates": "nginx"}
    closed = Closed(tmp_path / "store", client_ca=str(ca.write(tmp_path / "ca.pem")), **behind_nginx)
    shown = through_nginx(ca.issue("robot", ou=["ci"]).pem)

    def name(**headers):
        answer = closed.http.get("/transfer/v1/whoami", headers={**shown, **headers})
        return answer.json.get("name", answer.status_code)

    assert name() == "cert:robot"
    assert name(Authorization="") == "cert:robot"
    assert name(**closed.root) == "root"
    assert name(**closed.key("ci")) == "key:ci"
    for wrong in (basic("wrong"), proof("x", "Bearer"), proof("x", "Digest"), proof(""), {"Authorization": "Basic"}):
        assert name(**wrong) == 401


# --- What it may -----------------------------------------------------------------------------------------------------


def test_s23_what_is_not_permitted_is_told_by_the_permissions_name_in_both_dialects(strict):
    strict.group("ci", "index")
    mine = strict.key("ci", ["ci"])
    answer = strict.http.get(ANKA, headers=mine)
    assert answer.status_code == 403
    assert answer.json == {"status": "FAIL", "message": "not allowed: key:ci lacks the permission list_vms"}
    assert "WWW-Authenticate" not in answer.headers
    answer = strict.http.get(NATIVE, headers=mine)
    assert answer.status_code == 403
    assert answer.json["error"]["code"] == "forbidden"
    assert answer.json["error"]["detail"]["permission"] == "list_vms"
    strict.group("ci", "list_vms")
    assert strict.http.get(ANKA, headers=mine).status_code == 200


def test_a_right_that_changed_meanwhile_is_not_one_that_was_asked_for(strict):
    """What a refusal is looked at again for are rights to templates: the call itself is permitted, or it is not made."""
    Push([strict.client(strict.root)]).run()
    strict.group("ci", "index")
    mine = strict.key("ci", ["ci"])
    assert strict.http.get("/registry/status", headers=mine).status_code == 200
    strict.replica().group("ci", "get_disk_info")
    assert strict.http.get(ANKA, headers=mine).status_code == 403
    strict.replica().group("ci", "index", "list_vms", templates={})
    assert strict.http.get("/registry/status", headers=mine).status_code == 200
    strict.replica().group("ci", "index", templates={TEMPLATE: ["list"]})
    assert strict.http.get(f"{ANKA}?id={TEMPLATE}", headers=mine).status_code in {400, 403}


def test_a_plan_takes_both_of_its_permissions(strict):
    mine = strict.key("ci", ["ci"])
    for given_, missing in (((), "pull_vm"), (("pull_vm",), "download_vm"), (("download_vm",), "pull_vm")):
        strict.group("ci", *given_)
        answer = strict.http.get(f"/transfer/v1/plan?ref={TEMPLATE}", headers=mine)
        assert (answer.status_code, answer.json["error"]["detail"]["permission"]) == (403, missing)
    strict.group("ci", "pull_vm", "download_vm")
    assert strict.http.get(f"/transfer/v1/plan?ref={TEMPLATE}", headers=mine).status_code == 404


def test_a_revert_of_everything_is_a_deletion(strict):
    Push([strict.client(strict.root)]).run()
    change = {"operation": "1" * 32, "template": TEMPLATE}
    mine = strict.key("ci", ["ci"])

    def asked(*permissions, **more):
        strict.group("ci", *permissions)
        return strict.http.post("/transfer/v1/revert", json={**change, **more}, headers=mine)

    for everything in (True, "yes", 1, "true"):
        answer = asked("revert", everything=everything)
        assert (answer.status_code, answer.json["error"]["detail"]["permission"]) == (403, "delete_vm")
    for everything in (False, "no", 0, "false", "off"):
        answer = asked("delete_vm", everything=everything)
        assert (answer.status_code, answer.json["error"]["detail"]["permission"]) == (403, "revert")
    for nonsense in (None, [], "perhaps", {}):
        assert asked("delete_vm", "revert", everything=nonsense).status_code == 400
    assert asked("delete_vm", everything=True).json["deleted"]


def test_a_configuration_is_one_in_the_controllers_list_too(strict):
    Push([strict.client(strict.root)]).run()
    strict.group("ci", "list_vms")
    mine = strict.key("ci", ["ci"])
    for path in ("/registry/vm/info?", "/api/v1/registry/vm?info&"):
        answer = strict.http.get(f"{path}id={TEMPLATE}", headers=mine)
        assert answer.status_code == 403
        assert "pull_vm" in answer.json["message"]
    assert strict.http.get("/api/v1/registry/vm", headers=mine).status_code == 200


def test_without_authorization_any_credential_may_do_everything(closed):
    mine = closed.key("ci")
    for path in (ANKA, NATIVE, "/v1/apikey", "/transfer/v1/groups"):
        assert closed.http.get(path, headers=mine).status_code == 200


# --- Too often -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [ANKA, NATIVE])
def test_who_fails_too_often_is_told_when_to_come_back(tmp_path, path):
    closed = Closed(tmp_path / "store", clock=lambda: 1_800_000_000.0)
    login = closed.key("ci")
    answers = [closed.http.get(path, headers=basic("wrong-again")) for _ in range(21)]
    assert [answer.status_code for answer in answers] == [401] * 20 + [429]
    assert int(answers[-1].headers["Retry-After"]) >= 1
    assert "WWW-Authenticate" not in answers[-1].headers
    assert "too many" in answers[-1].text
    assert closed.http.get(path, headers=closed.root).status_code == 429
    elsewhere = {"REMOTE_ADDR": "192.0.2.7"}
    assert closed.http.get(path, headers=closed.root, environ_base=elsewhere).status_code == 200
    assert closed.http.get(path, headers=login).status_code == 200


# --- A store that is away --------------------------------------------------------------------------------------------


class Away(Wrapped):
    def _call(self, call, act):
        raise StoreUnavailable(store=self.location, reason="no route to host")


def test_a_login_is_not_refused_because_the_store_is_away(tmp_path):
    before = Closed(tmp_path / "store")
    login = before.key("ci")
    closed = Closed(tmp_path / "store", store=Away(FilesStore(tmp_path / "store")), token=before.token)
    for path in (ANKA, "/registry/status", NATIVE):
        answer = closed.http.get(path, headers=login)
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]
    assert closed.http.get("/registry/status", headers=closed.root).status_code == 200
    assert closed.http.get("/registry/status", headers=basic("wrong")).status_code == 401
    assert closed.http.get("/livez").status_code == 200


# --- Pages of other sites --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:81", "http://localhost.evil.example", "http://[", ""]
)
def test_a_page_of_another_site_changes_nothing_with_a_credential_that_a_browser_added(closed, standing, origin):
    for ask, headers in ((closed.http, closed.root), (standing, {})):
        for method, path in (("POST", "/transfer/v1/revert"), ("DELETE", ANKA), ("PUT", "/v1/apikey")):
            answer = ask.open(path, method=method, headers={**headers, "Origin": origin}, data=b"{}")
            assert answer.status_code == 403, answer.text
            assert "page" in answer.text
        assert ask.get(ANKA, headers={**headers, "Origin": origin}).status_code == 200
    answer = closed.http.delete(ANKA, headers={**closed.root, "Origin": "http://LOCALHOST"})
    assert answer.status_code == 400


# --- Access control that is off --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/v1/apikey",
        "/api/v1/apikey",
        "/admin/api/v1/permission/group/ci/resources",
        "/transfer/v1/keys",
        "/transfer/v1/groups",
    ],
)
def test_where_access_control_is_off_keys_and_groups_are_told_to_need_it(http, path, caplog):
    answer = http.get(path)
    assert answer.status_code == 501
    assert "access control is off" in answer.text
    assert "request-failed" not in caplog.text, "that is no defect, and anybody can ask"


def test_where_access_control_is_off_everyone_asks(http):
    told = http.get("/transfer/v1/whoami").json
    nothing = {"access_control": False, "authorization": False}
    assert told == {"name": "everyone", "groups": [], "permissions": None, **nothing}
    assert http.get("/registry/status", headers=basic("whatever-it-is")).status_code == 200


# --- A server of its own ---------------------------------------------------------------------------------------------


def test_who_sends_megabytes_with_a_wrong_credential_reads_the_answer_and_goes_on(tmp_path):
    token = "a-token-for-this-test"
    with (
        running.serving(tmp_path, "--store", tmp_path / "store", "--workers", "1", S3REG_ROOT_TOKEN=token) as registry,
        contextlib.closing(http.client.HTTPConnection(urlsplit(registry.url).netloc, timeout=60)) as line,
    ):
        for headers, status in ((basic("wrong-token"), 401), (tap_bearer(), 401), (basic(token), 400)):
            line.request("POST", "/transfer/v1/sessions", b"[" * 7 * 1024**2, headers)
            answer = line.getresponse()
            assert answer.status == status
            assert json.loads(answer.read())["error"]["code"]


def tap_bearer():
    data = {"userName": "ci", "token": "x" * 54, "sessionId": "0" * 36}
    return proof(base64.b64encode(json.dumps(data).encode()).decode(), "Bearer")
