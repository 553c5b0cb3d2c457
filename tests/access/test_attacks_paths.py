"""Attacks on the way to a route: paths, methods and headers that mean another route to somebody in between."""

import pytest

from access.refusal import REFUSED
from access_kit import basic, bearer

PUBLIC = {"/livez", "/readyz"}

SPELLINGS = [
    "//registry//vm/", "/registry/vm/", "///registry///vm///", "/Registry/vm", "/REGISTRY/VM", "/registry/vm;x",
    "/registry;/vm", "/registry/vm%00", "/registry/vm\0", "/registry/vm ", "/registry/vm%20", "/registry%2fvm",
    "/registry/./vm", "/./registry/vm", "/tap/v1/../../registry/vm", "/tap/v1/hand/../../../registry/vm",
    "/livez/../registry/vm", "/livez/../v1/apikey", "/livez/..%2fregistry/vm", "/livez%2f..%2fv1%2fapikey",
    "/livez;/registry/vm", "/livez/registry/vm", "/readyz/../transfer/v1/templates", "/objects/../registry/vm",
    "/objects/%2e%2e/registry/vm", "//objects/../transfer/v1/templates", "/objects/..//v1/apikey", "/tap/v1/hand/x",
    "/tap/v1", "/tap/v1/", "/tap/v1/keys", "/tap/v1//../whoami", "/transfer/v1/../v1/whoami", "/transfer//v1//whoami/",
    "/transfer/v1/whoami?x=/livez", "/\\registry\\vm", "/registry\\vm", "/api/v1/registry/vm/", "/api//v1/apikey",
    "/api/../livez/../v1/apikey", "/.", "/..", "//", "/%2e%2e/%2e%2e/etc/passwd", "/../../../../etc/passwd", "/static/x",
    "/v1/apikey/", "/v1/apikey#/livez", "/v1/apikey%3f/livez", "/v1/apikey/livez", "/admin", "/admin/api/v1/permission",
    "/console", "/openapi.json", "/transfer/v1", "/transfer/v1/openapi.json/livez", "/favicon.ico", "/metrics", "*",
    "/\N{FULLWIDTH LATIN SMALL LETTER R}egistry/vm", "/registry/\u2028vm", "/livez\u2044..\u2044v1/apikey",
]  # fmt: skip
METHODS = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PROPFIND",
    "get",
    "G\u00c9T",
]


@pytest.mark.parametrize("path", SPELLINGS, ids=ascii)
def test_no_spelling_of_a_path_leads_around_the_guard(closed, path):
    for method in METHODS:
        answer = closed.exactly(path, method)
        assert answer.status_code in {400, 401, 403}, answer.text
        assert b"OK" not in answer.data
    for spelled in {path.replace("%2f", "/").replace("%2e", "."), path.replace("..", "%2e%2e")}:
        assert closed.exactly(spelled).status_code in {400, 401, 403}


@pytest.mark.parametrize("path", ["//livez", "/livez/", "//readyz//", "///livez"])
def test_what_is_public_is_public_in_each_spelling_that_leads_there(closed, path):
    assert closed.exactly(path).status_code == 200


@pytest.mark.parametrize("path", ["/LIVEZ", "/livez ", "/livez;a", "/livez/x", "/livez%20", "/livezz", "/live"])
def test_what_is_nearly_public_is_not(closed, path):
    assert (closed.exactly(path).status_code, closed.exactly(path).data) == (401, REFUSED)


@pytest.mark.parametrize("method", METHODS)
def test_no_method_gets_around_the_guard_and_none_of_a_public_path_does_more(closed, method):
    for rule in closed.app.url_map.iter_rules():
        path = rule.rule.replace("<path:key>", "heads/x.json").replace("<sid>", "0" * 32)
        path = path.replace("<group>", "g").replace("<path:group>", "g").replace("<name>", "g")
        answer = closed.exactly(path, method)
        if method.upper() in rule.methods and path in PUBLIC:
            assert answer.status_code == 200
        elif path.startswith(("/tap/", "/objects/", *PUBLIC)):
            assert answer.status_code in {400, 401, 403, 405}, (path, answer.text)
        else:
            assert answer.status_code == 401, (path, answer.text)


OVERRIDES = [
    {"X-HTTP-Method-Override": "GET"},
    {"X-HTTP-Method": "DELETE"},
    {"X-Method-Override": "PUT"},
    {"X-Original-URL": "/livez"},
    {"X-Rewrite-URL": "/livez"},
    {"X-Original-URI": "/livez"},
    {"X-Forwarded-Uri": "/livez"},
    {"X-Forwarded-Path": "/livez"},
    {"X-Forwarded-Prefix": "/tap/v1"},
    {"X-Script-Name": "/registry"},
    {"X-Forwarded-User": "root"},
    {"X-Remote-User": "root"},
    {"Remote-User": "root"},
    {"X-Authenticated-User": "root"},
    {"X-Forwarded-For": "127.0.0.1"},
    {"X-Real-Ip": "127.0.0.1"},
    {"Forwarded": "for=127.0.0.1;by=127.0.0.1"},
    {"X-Forwarded-Host": "localhost"},
    {"Host": "127.0.0.1"},
    {"X-Client-Cert": "x"},
    {"X-Ssl-Client-Verify": "SUCCESS", "X-Ssl-Client-S-Dn": "CN=root"},
    {"Ssl-Client-Verify": "SUCCESS", "Ssl-Client-Subject-Dn": "CN=root"},
    {"Authorization": ""},
    {"Proxy-Authorization": "Basic cm9vdDp4"},
    {"Cookie": "session=root; token=root"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"},
]


@pytest.mark.parametrize("headers", OVERRIDES, ids=lambda headers: next(iter(headers)))
def test_no_header_is_a_credential_but_the_one_that_is(closed, headers):
    for path in ("/registry/vm", "/v1/apikey", "/transfer/v1/templates"):
        for method in ("GET", "POST", "DELETE"):
            assert closed.exactly(path, method, headers=headers).status_code == 401


@pytest.mark.parametrize("headers", OVERRIDES[:9], ids=lambda headers: next(iter(headers)))
def test_no_header_makes_of_a_call_that_is_permitted_one_that_is_not(strict, headers):
    strict.group("readers", "list_vms")
    proof = strict.key("ci", ["readers"])
    assert strict.exactly("/registry/vm", headers={**proof, **headers}).status_code == 200
    for method, path in (("DELETE", "/registry/vm"), ("POST", "/v1/apikey"), ("GET", "/v1/apikey")):
        answer = strict.exactly(path, method, headers={**proof, **headers, "X-HTTP-Method-Override": "GET"})
        assert answer.status_code == 403


@pytest.mark.parametrize(
    "query",
    ["?authorization=Basic", "?token=x", "?access_token=x", "?apiVer=v1&user=root", "?_method=GET", "?id=/livez"],
)
def test_no_query_is_a_credential(closed, query):
    for path in ("/registry/vm", "/transfer/v1/templates", "/v1/apikey"):
        assert closed.http.get(path + query).status_code == 401
        assert closed.http.get(f"{path}{query}&root_token={closed.token}").status_code == 401


def test_a_credential_of_a_body_is_none(closed):
    said = {"id": "ci", "user": "root", "token": closed.token, "password": closed.token, "Authorization": closed.token}
    assert closed.http.post("/v1/apikey", json=said).status_code == 401
    assert closed.http.post("/transfer/v1/keys", json=said).status_code == 401


def test_two_authorization_headers_are_not_the_better_one_of_them(closed):
    """A server joins what comes twice with a comma (RFC 9110, section 5.3)."""
    good, bad = closed.root["Authorization"], basic("x" * 20)["Authorization"]
    for value in (f"{bad}, {good}", f"{good}, {bad}", f"{good},{good}", f"{bearer({})['Authorization']}, {good}"):
        assert closed.http.get("/registry/vm", headers={"Authorization": value}).status_code == 401


@pytest.mark.parametrize("path", ["/nowhere", "/transfer/v1/nowhere", "/registry/vm/nowhere", "/tap/v1/nowhere"])
def test_what_is_nowhere_is_told_to_those_only_who_may_come_in(closed, path):
    assert closed.exactly(path).status_code == 401
    assert closed.exactly(path, headers=closed.root).status_code == 404
    assert closed.exactly(path, "POST").status_code == 401


def test_a_refusal_tells_nothing_of_the_route(closed):
    told = {}
    for rule in closed.app.url_map.iter_rules():
        path = rule.rule.replace("<path:key>", "x")
        if not path.startswith(("/tap/", "/objects/", *PUBLIC, "/transfer/")):
            for method in ("GET", "POST", "DELETE"):
                answer = closed.exactly(path, method)
                told[answer.status_code, answer.data, tuple(sorted(answer.headers.keys()))] = path
    assert len(told) == 1
    (status, data, _), _ = next(iter(told.items()))[0], None
    assert (status, data) == (401, REFUSED)


def test_a_body_is_not_looked_at_before_it_is_known_who_sends_it(closed):
    for path in ("/log", "/v1/apikey", "/transfer/v1/sessions", "/transfer/v1/revert"):
        for data in (b"{", b"x" * 100_000, b"\0", b"[" * 10_000):
            assert closed.http.post(path, data=data).status_code == 401
