"""Headers that go with every answer, and what no answer tells."""

import socket
import ssl

import pytest

from push_calls import API
from s3reg.api import create_app
from s3reg.api.headers import ALWAYS, OVER_TLS

ASKED = [
    ("GET", "/"),
    ("GET", "/livez"),
    ("GET", "/readyz"),
    ("GET", "/registry/vm"),
    ("GET", "/registry/vm?id=none"),
    ("DELETE", "/registry/vm"),
    ("GET", "/api/v1/status"),
    ("GET", f"{API}/templates"),
    ("GET", f"{API}/openapi.json"),
    ("POST", f"{API}/sessions"),
    ("GET", f"{API}/none"),
    ("PATCH", "/registry/vm"),
    ("OPTIONS", "/registry/vm"),
    ("HEAD", "/registry/vm"),
    ("GET", "/none"),
    ("GET", "/objects/heads/x"),
    ("PUT", "/objects/packs/x"),
    ("POST", "/tap/v1/hand"),
]


@pytest.mark.parametrize(("method", "path"), ASKED)
def test_every_answer_has_them(http, method, path):
    answer = http.open(path, method=method)
    assert dict(answer.headers).items() >= ALWAYS.items()
    assert "Strict-Transport-Security" not in answer.headers
    assert "Server" not in answer.headers


def test_an_answer_that_is_an_accident_has_them_and_tells_nothing_of_it(settings, store):
    app = create_app(settings, store)
    app.view_functions["anka.status"] = lambda: 1 // 0
    answer = app.test_client().get("/registry/status")
    assert answer.status_code == 500
    assert dict(answer.headers).items() >= ALWAYS.items()
    for told in ("Traceback", "ZeroDivision", "test_headers", "lambda"):
        assert told not in answer.text


def test_over_tls_browsers_are_told_to_stay_there(http):
    with socket.socket() as sock:
        secured = ssl.create_default_context().wrap_socket(sock, server_hostname="x")
        with secured:
            answer = http.get("/livez", environ_overrides={"gunicorn.socket": secured})
            plain = http.get("/livez", environ_overrides={"gunicorn.socket": sock, "wsgi.url_scheme": "https"})
    assert answer.headers["Strict-Transport-Security"] == OVER_TLS
    assert "Strict-Transport-Security" not in plain.headers  # a proxy's browsers are the proxy's


@pytest.mark.parametrize(
    "path",
    [
        "/objects/",
        "/objects",
        "/objects/heads/",
        "/objects/heads",
        "/objects/packs/main/",
        "/objects/format.json",
        "/objects/auth/signing.json",
        "/objects/..%2f..%2fetc%2fpasswd",
        "/objects/../auth/signing.json",
        "/objects/%2e%2e/auth/signing.json",
        "/objects//etc/passwd",
        "/objects/heads/..%2fauth%2fsigning.json",
        "/objects/heads%00/x",
        "/..%2f..%2fetc/passwd",
        "//etc/passwd",
        "/static/",
        "/static/../auth/signing.json",
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "DELETE", "POST"])
def test_no_path_lists_or_leaves_the_store(standing, method, path):
    answer = standing.open(path, method=method)
    assert answer.status_code in {400, 403, 404, 405}
    for told in ("Traceback", 'File "', "root:", '"secret"', ".json\n", "<title>", "werkzeug"):
        assert told not in answer.text
