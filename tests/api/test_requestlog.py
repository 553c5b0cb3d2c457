"""Each request has an id, which all that is said and done for it carries, and one line in the log."""

import re
import threading

import pytest

import faults
import loglines
from access_kit import PROXIED, Closed, basic
from push_calls import API, TEMPLATE
from s3reg import telemetry
from s3reg.api import create_app
from s3reg.errors import StoreUnavailable
from s3reg.store.together import gather

HEADER = "X-Request-Id"
OURS = re.compile("[0-9a-f]{16}")


@pytest.fixture
def lines():
    return loglines.taken()


class Down(faults.Wrapped):
    def _call(self, call, act):
        raise StoreUnavailable(store="s", reason="no route to host")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/livez"),
        ("GET", "/registry/vm"),
        ("GET", f"{API}/templates"),
        ("GET", "//registry//vm/"),
        ("GET", "/none"),
        ("GET", "/transfer/v1/none"),
        ("PUT", "/registry/vm"),
        ("GET", "/registry/vm?id=none"),
        ("GET", "/objects/packs/main/a?expires=1"),
        ("OPTIONS", "/registry/vm"),
    ],
)
def test_every_answer_says_what_the_request_is_called(http, lines, method, path):
    answer = http.open(path, method=method, headers={HEADER: "3f2a.b_C-7"})
    assert answer.headers.getlist(HEADER) == ["3f2a.b_C-7"]
    assert [told["request"] for told in lines("request")] == ["3f2a.b_C-7"]


@pytest.mark.parametrize(
    "said",
    ["", " ", "a b", "x" * 65, "x" * 10_240, "ü", "\u0430bc", "a,b", "a\tb", "a/b", "-\x7f", '"a"', "a%0d%0ab", "٣"],
)
def test_what_is_no_id_is_replaced(http, lines, said):
    answer = http.get("/registry/vm", environ_overrides={"HTTP_X_REQUEST_ID": said})
    assert OURS.fullmatch(answer.headers[HEADER])
    (told,) = lines("request")
    assert told["request"] == answer.headers[HEADER]


def test_no_header_and_two_are_no_id_either(http):
    assert OURS.fullmatch(http.get("/livez").headers[HEADER])
    assert OURS.fullmatch(http.get("/livez", headers=[(HEADER, "one"), (HEADER, "two")]).headers[HEADER])


def test_an_id_of_64_characters_is_one(http):
    assert http.get("/livez", headers={HEADER: "x" * 64}).headers[HEADER] == "x" * 64


def test_each_line_of_a_request_has_its_id_also_a_library_s_and_a_failure_s(settings, store, lines):
    http = create_app(settings, Down(store)).test_client()
    answer = http.delete("/registry/vm?id=x", headers={HEADER: "mine"})
    assert answer.status_code == 503
    assert {told["event"] for told in lines()} >= {"request", "request-failed", "audit"}
    assert {told["request"] for told in lines()} == {"mine"}
    assert telemetry.request_id() is None


def test_threads_that_work_for_a_request_carry_its_id(lines):
    meet = threading.Barrier(3)

    def job(number):
        meet.wait(60)
        telemetry.emit("worked", number=number)

    with telemetry.of_request("mine"):
        gather(job, range(3))
    gather(lambda number: telemetry.emit("idled", number=number), range(3))
    assert [told["request"] for told in lines("worked")] == ["mine"] * 3
    assert all("request" not in told for told in lines("idled"))


def test_the_line_of_a_request_tells_what_came_from_whom_and_how_it_ended(tmp_path, lines):
    closed = Closed(tmp_path / "store", proxies=PROXIED["proxies"])
    http = closed.app.test_client()
    headers = {**basic(closed.token), "X-Forwarded-For": "10.9.8.7"}
    http.get(f"{API}/template?ref={TEMPLATE}&tag=SeCrEt", headers=headers)
    http.get("/registry/vm", headers={"X-Forwarded-For": "10.9.8.7"})
    known, refused = lines("request")
    wanted = {"method": "GET", "route": f"{API}/template", "path": f"{API}/template", "address": "10.9.8.7"}
    assert known.items() >= (wanted | {"by": "root", "status": 404}).items()
    assert known["bytes"] > 0
    assert known["ms"] >= 0
    assert refused.items() >= {"route": "/registry/vm", "by": "nobody", "status": 401}.items()
    assert "SeCrEt" not in str(lines("request"))
    assert closed.token not in str(lines())


def test_a_path_that_is_none_of_ours_has_no_route(http, lines):
    http.get("/wp-login.php")
    assert lines("request")[0]["route"] is None


def test_a_route_is_a_pattern_and_no_path(http, lines):
    http.get("/objects/packs/main/a?expires=1")
    assert lines("request")[0]["route"] == "/objects/<path:key>"


def test_probes_are_told_at_the_level_of_others_only_when_they_fail(settings, store, lines):
    http = create_app(settings, store).test_client()
    for path in ("/livez", "/readyz"):
        http.get(path)
    create_app(settings, Down(store)).test_client().get("/readyz")
    assert [(told["level"], told["status"]) for told in lines("request")] == [
        ("debug", 200),
        ("debug", 200),
        ("info", 503),
    ]


def test_refusals_that_were_only_counted_are_told_without_a_stranger_s_id(tmp_path, lines):
    closed = Closed(tmp_path / "store")
    http = closed.app.test_client()
    for _ in range(60):
        http.get("/registry/vm", headers=basic("wrong-but-long"))
    closed.app.extensions["s3reg-refusals"].clock = lambda: float("inf")
    http.get("/registry/status", headers=basic(closed.token))
    (counted,) = [told for told in lines("audit") if "more" in told]
    assert "request" not in counted
