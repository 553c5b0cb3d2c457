"""The login of API keys over HTTP: what Anka's clients send, and what they can read."""

import base64
import json
import re

import pytest

import tap
from access_kit import Closed, bearer
from s3reg.api.tap import LARGEST_BODY

FORMS = ["application/json", "application/x-www-form-urlencoded", "text/plain", None]


@pytest.fixture
def closed(tmp_path):
    made = Closed(tmp_path / "store")
    made.make("ci", ["g1"])
    return made


def hand(closed, data='{"id": "ci"}', **more):
    return closed.http.post("/tap/v1/hand", data=data, **more)


@pytest.mark.parametrize("kind", FORMS)
def test_a_hand_is_one_line_of_strict_base64_and_nothing_else(closed, kind):
    answer = hand(closed, content_type=kind)
    assert (answer.status_code, answer.mimetype) == (200, "text/plain")
    assert re.fullmatch(rb"[A-Za-z0-9+/]+={0,2}", answer.data)
    opened = tap.key().decrypt(base64.b64decode(answer.data, validate=True), tap.OAEP).decode()
    assert re.fullmatch(r"[A-Za-z0-9_-]+", opened)  # shells and exporters paste it into JSON as it is
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("kind", FORMS)
def test_a_shake_is_plain_json_of_a_login_that_opens_the_registry(closed, kind):
    asked = {"id": "ci", "secret": closed.secret("ci")}
    answer = closed.http.post("/tap/v1/shake", data=json.dumps(asked), content_type=kind)
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    told = answer.json
    assert set(told) == {"id", "data", "ttl"}
    assert (told["id"], told["ttl"]) == ("ci", 300)
    assert set(told["data"]) == {"userName", "token", "sessionId"}
    assert told["data"]["userName"] == "ci"
    assert re.fullmatch(r"[A-Za-z0-9_-]{54}", told["data"]["token"])
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", told["data"]["sessionId"])
    assert closed.http.get("/transfer/v1/whoami", headers=bearer(told["data"])).json["name"] == "key:ci"


def compact(data):
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


SPELLINGS = {
    "jq": lambda data: json.dumps(data, indent=2) + "\n",
    "Go": compact,
    "Java": lambda data: json.dumps(dict(reversed(data.items()))),
    "more than we said": lambda data: json.dumps({**data, "groups": ["admin"], "later": {"deep": [1]}}),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_bearer_is_read_however_its_json_is_written(closed, spelling):
    text = SPELLINGS[spelling](closed.data("ci")).encode()
    standard, safe = base64.b64encode(text).decode(), base64.urlsafe_b64encode(text).decode()
    for spelt in (standard, standard.rstrip("="), safe, safe.rstrip("="), f"{standard[:76]} {standard[76:]}"):
        for scheme in ("Bearer", "bearer"):
            answer = closed.http.get("/registry/status", headers={"Authorization": f"{scheme} {spelt}"})
            assert answer.status_code == 200


def test_a_login_may_be_as_short_as_the_settings_say(tmp_path):
    closed = Closed(tmp_path / "store", login_seconds=30)
    closed.make("ci")
    assert closed.shake("ci", closed.secret("ci")).json["ttl"] == 30


def test_what_does_not_log_in_is_told_in_the_envelope(closed):
    wrong = [
        hand(closed, '{"id": "nobody"}'),
        hand(closed, '{"id": "../../x"}'),
        closed.shake("ci", "x" * 64),
        closed.shake("nobody", closed.secret("ci")),
        closed.shake("ci", ""),
    ]
    for answer in wrong:
        assert answer.status_code == 401
        assert answer.data == b'{"status":"FAIL","message":"Authentication Required"}'


@pytest.mark.parametrize("path", ["/tap/v1/hand", "/tap/v1/shake"])
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"ci"',
        b"{}",
        b'{"id": null}',
        b'{"id": 5, "secret": "x"}',
        b'{"id": ["ci"], "secret": {}}',
        b"\xff",
        b"id=ci",
    ],
)
def test_what_names_no_key_is_bad_input(closed, path, sent):
    answer = closed.http.post(path, data=sent)
    assert (answer.status_code, answer.json["status"]) == (400, "FAIL")


@pytest.mark.parametrize("path", ["/tap/v1/hand", "/tap/v1/shake"])
def test_of_somebody_unknown_no_large_body_is_read(closed, path):
    sent = json.dumps({"id": "ci", "secret": "x" * LARGEST_BODY})
    answer = closed.http.post(path, data=sent)
    assert answer.status_code == 413
    assert f"larger than {LARGEST_BODY} bytes" in answer.json["message"]
    answer = hand(closed, json.dumps({"id": "ci", "other": "x" * (LARGEST_BODY - 100)}))
    assert answer.status_code == 200


def test_a_wrong_credential_beside_it_is_not_looked_at(closed):
    for wrong in ("Basic x", "Bearer x", "Nonsense"):
        assert hand(closed, headers={"Authorization": wrong}).status_code == 200


def test_s25_each_step_of_a_login_may_meet_another_replica(closed):
    """As behind an address that several registries share."""
    replicas = [closed, closed.replica(), closed.replica()]
    for turn in range(3):
        first, second, third = replicas[turn:] + replicas[:turn]
        answer = second.shake("ci", first.secret("ci"))
        assert answer.status_code == 200
        assert third.http.get("/registry/status", headers=bearer(answer.json["data"])).status_code == 200


@pytest.mark.parametrize("path", ["/tap/v1/hand", "/tap/v1/shake"])
def test_where_access_control_is_off_there_is_no_login(http, path):
    answer = http.post(path, json={"id": "ci", "secret": "x"})
    assert (answer.status_code, answer.json["status"]) == (404, "FAIL")
