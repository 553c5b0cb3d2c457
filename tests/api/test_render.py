"""Every refusal in the dialect of its path; of a defect the log tells more than the answer; no credential in either."""

import json
import logging

import pytest

import faults
from s3reg import wire
from s3reg.api import create_app
from s3reg.errors import StoreUnavailable

NATIVE = ["/transfer/v1/nothing", "/transfer/v1/sessions/a/b/c", "/objects/"]
ANKA = [
    "/registry/nothing", "/registry/vm/info/more", "/v1/nothing", "/tap/v1/nothing", "/admin/nothing", "/api/v1/nothing",
    "/api/v1/registry/vm/distribute", "/log/nothing", "/nothing", "/transfer",
]  # fmt: skip
WRONG_METHODS = [
    ("POST", "/registry/status"), ("PUT", "/registry/vm"), ("POST", "/registry/vm"), ("DELETE", "/registry/v2/vm"),
    ("POST", "/registry/vm/info"), ("GET", "/registry/revert"), ("POST", "/registry/revert"), ("POST", "/registry/vm/arch"),
    ("DELETE", "/registry/disk"), ("GET", "/log"), ("PUT", "/api/v1/registry/vm"), ("GET", "/api/v1/registry/revert"),
    ("POST", "/api/v1/status"), ("POST", "/livez"), ("DELETE", "/"), ("PATCH", "/registry/vm"), ("OPTIONS", "/registry/vm"),
]  # fmt: skip


def told(answer):
    """The native error in an answer."""
    assert answer.mimetype == "application/json"
    error = answer.json["error"]
    assert set(error) == {"code", "message", "remedy", "detail"}
    return error


def failed(answer):
    """The message of a failure in the Anka envelope."""
    assert answer.mimetype == "application/json"
    assert set(answer.json) == {"status", "message"}
    assert answer.json["status"] == "FAIL"
    return answer.json["message"]


@pytest.mark.parametrize("path", NATIVE)
def test_an_unrouted_native_path_is_404_in_native_json(http, path):
    answer = http.get(path)
    assert answer.status_code == 404
    assert told(answer)["code"] == "route-not-found"


@pytest.mark.parametrize("path", ANKA)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_s18_an_unrouted_other_path_is_404_in_the_anka_envelope(http, method, path):
    answer = http.open(path, method=method)
    assert answer.status_code == 404
    assert path in failed(answer)


@pytest.mark.parametrize(("method", "path"), WRONG_METHODS)
def test_s18_a_wrong_method_of_another_path_is_405_in_the_anka_envelope(http, method, path):
    answer = http.open(path, method=method)
    assert answer.status_code == 405
    assert method in failed(answer)
    assert method not in answer.headers["Allow"]


def test_a_wrong_method_of_a_native_path_is_405_and_names_the_right_ones(http):
    native = http.delete("/transfer/v1/plan")
    assert (native.status_code, told(native)["code"]) == (405, "method-not-allowed")
    assert "GET" in native.headers["Allow"]
    assert http.options("/transfer/v1/templates").status_code == 405


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b"[1", b'{"a": NaN}', b'{"a": Infinity}', b"[" * 200_000, b'{"a":' * 200_000, b"9" * 5000],
    ids=["nothing", "open", "no text", "cut", "NaN", "Infinity", "deep lists", "deep objects", "a huge number"],
)
@pytest.mark.parametrize("path", ["/sessions", f"/sessions/{'a' * 32}/commit", "/pulls"])
def test_a_body_that_is_no_json_is_malformed(http, path, body):
    answer = http.post(wire.PREFIX + path, data=body)
    assert answer.status_code == 400
    assert told(answer)["code"] == "request-invalid"


@pytest.mark.parametrize(
    "body", [[], "text", 1, None, True, {"bases": 1}, {"template": ["x"]}, {"template": {"a": {}}}]
)
def test_a_body_of_the_wrong_shape_is_malformed_and_says_where(http, body):
    answer = http.post(f"{wire.PREFIX}/sessions", data=json.dumps(body))
    assert answer.status_code == 400
    error = told(answer)
    assert error["code"] == "request-invalid"
    assert error["detail"]["problems"]


def test_a_body_that_is_deep_where_it_may_be_anything_is_taken_for_what_it_is(http):
    deep = {"template": "x", "unknown": json.loads("[" * 500 + "]" * 500)}
    answer = http.post(f"{wire.PREFIX}/sessions", json=deep)
    assert told(answer)["code"] == "request-invalid"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_413(http, chunked):
    data = b" " * (wire.LARGEST_BODY + 1)
    more = {"headers": {"Transfer-Encoding": "chunked"}, "environ_overrides": {"wsgi.input_terminated": True}}
    answer = http.post(f"{wire.PREFIX}/sessions", data=data, **(more if chunked else {}))
    assert answer.status_code == 413
    assert told(answer)["code"] == "request-too-large"


def test_the_content_type_of_a_body_is_not_looked_at(http, push):
    push()
    body = json.dumps({"template": "11111111-AAAA-4bbb-8ccc-000000000001", "name": "13.1-base", "tag": "v2"})
    for kind in ("application/x-www-form-urlencoded", "text/plain", ""):
        answer = http.post(f"{wire.PREFIX}/sessions", data=body, content_type=kind)
        assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(
    "sid", ["x", "A" * 32, "..", "%2e%2e%2fheads", "a" * 31 + "%00", "%F0%9F%98%80" * 8, "a" * 3000]
)
def test_a_session_id_that_is_none_is_refused_and_reaches_no_key(http, sid):
    answer = http.get(f"{wire.PREFIX}/sessions/{sid}")
    assert answer.status_code in {400, 404}
    assert told(answer)["code"] in {"name-invalid", "route-not-found"}
    assert len(answer.data) < 2000


class Down(faults.Wrapped):
    """A store that never answers."""

    def _call(self, call, act):
        raise StoreUnavailable(store=self.location, reason="connection refused")


class Broken(faults.Wrapped):
    """A store with a defect of ours."""

    def _call(self, call, act):
        raise ZeroDivisionError("internal SeCrEt of /etc/passwd at http://s3/k?X-Amz-Signature=abcdef")


@pytest.mark.parametrize("path", ["/transfer/v1/templates", "/transfer/v1/template?ref=x", "/transfer/v1/plan?ref=x"])
def test_a_store_that_is_down_is_503_in_native_json(settings, store, path):
    answer = create_app(settings, Down(store)).test_client().get(path)
    assert answer.status_code == 503
    assert told(answer)["code"] == "store-unavailable"
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize("path", ["/registry/vm", "/registry/v2/vm", "/registry/vm/info?id=x"])
def test_a_store_that_is_down_is_503_in_the_anka_envelope(settings, store, path):
    answer = create_app(settings, Down(store)).test_client().get(path)
    assert answer.status_code == 503
    assert "connection refused" in failed(answer)


@pytest.mark.parametrize("path", ["/transfer/v1/templates", "/registry/v2/vm"])
def test_a_defect_is_500_and_only_the_log_tells_what_it_was(settings, store, caplog, path):
    answer = create_app(settings, Broken(store)).test_client().get(path)
    assert answer.status_code == 500
    for inside in ("SeCrEt", "ZeroDivision", "passwd", "Traceback", "faults"):
        assert inside not in answer.text
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info[0] is ZeroDivisionError
    assert (told(answer)["code"] if "transfer" in path else failed(answer)) in {"internal", "Internal server error"}


def test_a_request_is_one_line_in_the_log_without_its_query(http, caplog):
    caplog.set_level(logging.DEBUG, "s3reg")
    http.get("/objects/packs/main/a?expires=1&signature=SeCrEt")
    http.get("/transfer/v1/plan?ref=WhatIsAskedFor")
    lines = [record.getMessage() for record in caplog.records if getattr(record, "event", "") == "request"]
    assert len(lines) == 2
    assert "path=/objects/packs/main/a" in lines[0]
    assert "status=403" in lines[0]
    assert "SeCrEt" not in caplog.text
    assert "?" not in "".join(lines)
