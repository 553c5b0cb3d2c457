"""Attacks that pass one thing for another: links, tokens and keys for logins, and ids of keys for other ids."""

import base64
import json
import unicodedata

import pytest

import tap
from access.refusal import knock, refused
from access_kit import basic, bearer, public_der
from s3reg import crypto
from s3reg.model import format as fmt

# --- One signature for another ---------------------------------------------------------------------------------------


def test_a_link_is_no_login_and_no_secret_and_neither_is_a_link(closed):
    closed.make("ci")
    data, secret = closed.data("ci"), closed.secret("ci")
    closed.app.extensions["s3reg"].registry()
    link = closed.store.sign_get(fmt.FORMAT_KEY, seconds=60).url
    path, _, query = link.partition("?")
    signature = query.partition("signature=")[2]
    assert closed.http.get(link).status_code == 200

    for text in (signature, "A" * 11 + signature, signature + "A" * 11, ("A" * 64 + signature)[-64:]):
        assert refused(closed.shake("ci", text))
        assert knock(closed, bearer({**data, "token": text})) == 401
        assert knock(closed, basic(text)) == 401
    for text in (
        data["token"],
        data["token"][-43:],
        data["token"][:43],
        secret,
        secret[-43:],
        secret[:43],
        closed.token,
    ):
        expires = query.partition("&")[0]
        assert closed.http.get(f"{path}?{expires}&signature={text}").status_code == 403


def test_a_root_token_is_no_secret_and_no_login(closed):
    closed.make("ci")
    data = closed.data("ci")
    assert refused(closed.shake("ci", closed.token))
    assert refused(closed.shake("root", closed.token))
    assert knock(closed, {"Authorization": f"Bearer {closed.token}"}) == 401
    assert knock(closed, bearer(closed.token)) == 401
    assert knock(closed, bearer({"userName": "root", "sessionId": "1", "token": closed.token})) == 401
    assert knock(closed, bearer({**data, "token": closed.token})) == 401
    assert knock(closed, basic(json.dumps(data))) == 401
    assert knock(closed, basic(data["token"])) == 401
    assert knock(closed, basic(closed.secret("ci"))) == 401


def parts(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def test_a_json_web_token_is_nothing_here_whatever_its_algorithm(closed):
    closed.make("ci")
    data = closed.data("ci")
    claims = {**data, "sub": "ci", "iss": "s3reg", "exp": 4102444800, "groups": ["root"]}
    public = closed.gate.keys.find("ci").public_key
    for algorithm in ("none", "None", "NONE", "HS256", "RS256"):
        head = parts({"alg": algorithm, "typ": "JWT"})
        for key in (b"", public, base64.b64encode(public)):
            signed = crypto.mac(key, f"{head}.{parts(claims)}") if algorithm == "HS256" else ""
            token = f"{head}.{parts(claims)}.{signed}"
            for headers in ({"Authorization": f"Bearer {token}"}, bearer(token), bearer({**data, "token": token})):
                assert knock(closed, headers) == 401
            assert refused(closed.shake("ci", token))


def test_the_public_half_of_a_key_signs_nothing(closed):
    closed.make("ci")
    data, secret = closed.data("ci"), closed.secret("ci")
    public = closed.gate.keys.find("ci").public_key
    for key in (public, base64.b64encode(public), b"", b"\0" * 32):
        forged = crypto.mac(key, data["userName"], data["sessionId"])
        assert knock(closed, bearer({**data, "token": data["token"][:11] + forged})) == 401
        assert refused(closed.shake("ci", secret[:21] + forged))


# --- Ids of keys -----------------------------------------------------------------------------------------------------

ODD_IDS = [
    "../../format", "..", ".", "/", "a/b", "a\\b", "..%2f..%2fformat.json", "ci\0", "\0", "ci\n", "ci\r\nX: y", "",
    " ", "ci ", " ci", "\N{CYRILLIC SMALL LETTER ES}i", "\N{FULLWIDTH LATIN SMALL LETTER C}i", "ci\N{ZERO WIDTH SPACE}",
    "c\N{COMBINING ACUTE ACCENT}i", "\N{RIGHT-TO-LEFT OVERRIDE}ci", "x" * 10_000, "\ud800", "CI", "Ci", "ci.json",
    "'; drop table keys; --", '"', "{}", "%00", "ci,cj", "*", "?", "[a-z]i", "~", "$HOME", "\N{PILE OF POO}",
]  # fmt: skip


@pytest.mark.parametrize("key_id", ODD_IDS, ids=lambda text: ascii(text)[:30])
def test_an_odd_id_is_nobodys_and_leads_nowhere(closed, key_id):
    headers = closed.key("ci")
    secret = closed.secret("ci")
    before = [stat.key for stat in closed.store.list("") if not stat.key.startswith("events/")]
    for answer in (closed.hand(key_id), closed.shake(key_id, secret)):
        assert answer.status_code in {400, 401, 429}, answer.text
    for name in ("/v1/apikey", "/api/v1/apikey"):
        found = closed.http.get(name, headers=closed.root, query_string={"id": key_id.encode("utf-8", "replace")})
        assert found.status_code in {200, 400} if not key_id else found.status_code == 400, found.text
    for method in ("DELETE", "PUT"):
        answer = closed.http.open("/v1/apikey", method=method, headers=closed.root, json={"id": key_id, "groups": []})
        assert answer.status_code == 400, answer.text
    assert [stat.key for stat in closed.store.list("") if not stat.key.startswith("events/")] == before
    assert knock(closed, headers) == 200, "the key that is there is as it was"


@pytest.mark.parametrize("key_id", ODD_IDS, ids=lambda text: ascii(text)[:30])
def test_a_key_of_an_odd_id_is_made_as_itself_or_not_at_all(closed, key_id):
    ours = closed.key("ci")
    new = {"id": key_id, "ttl": 60, "groups": [], "publicKey": base64.b64encode(public_der(tap.key())).decode()}
    answer = closed.http.post("/v1/apikey", headers=closed.root, json=new)
    assert answer.status_code in {200, 400}, answer.text
    for stat in closed.store.list("auth/keys/"):
        assert len(stat.key) == len("auth/keys/") + 64 + len(".json")
    if answer.status_code == 200:
        told = closed.http.get("/transfer/v1/whoami", headers=closed.login(key_id)).json
        assert told["name"] == "key:" + unicodedata.normalize("NFC", key_id)
    assert closed.http.get("/transfer/v1/whoami", headers=ours).json["name"] == "key:ci"
