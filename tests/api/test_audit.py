"""The audit: who did what from where and how it ended, as a line in the log and as an event; no body and no secret."""

import json
import logging
import uuid

import pytest

import faults
import pki
from access_kit import Closed, basic, through_nginx
from clocks import Clock
from push_calls import API, TEMPLATE, Push
from s3reg.api import audit, create_app
from s3reg.model.identity import ROOT
from s3reg.registry import Wanted

WAIT_SECONDS = 60
LAST = 1 << 40


class Lines(logging.Handler):
    """The audit's lines: their fields."""

    def __init__(self):
        super().__init__()
        self.told = []

    def emit(self, record):
        if getattr(record, "event", "") == "audit":
            self.told.append(record.fields)


@pytest.fixture
def lines():
    handler = Lines()
    logging.getLogger("s3reg").addHandler(handler)
    logging.getLogger("s3reg").setLevel(logging.INFO)
    yield handler.told
    logging.getLogger("s3reg").removeHandler(handler)


def events(app):
    """What was kept, once all is written: the asker and the facts."""
    held = app.extensions["s3reg"]
    held.finish(WAIT_SECONDS)
    return [{"by": one.by, **one.said} for one in held.registry().events(ROOT, Wanted(0, LAST, 1000))]


@pytest.fixture
def closed(tmp_path):
    return Closed(tmp_path / "store", authorization=True)


def but_request(facts):
    return {name: value for name, value in facts.items() if name not in {"request", "session", "version"}}


def test_a_push_a_plan_and_a_removal_are_told_with_all_that_names_them(app, http, lines):
    Push([http], tag="v1").run()
    http.get(f"{API}/plan?ref={TEMPLATE}")
    http.get(f"{API}/templates")
    http.get(f"{API}/template?ref={TEMPLATE}")
    http.delete(f"/registry/revert?id={TEMPLATE}&tag=v1")
    known = {"by": "everyone", "address": "127.0.0.1", "template": TEMPLATE, "name": "13.1-base"}
    wanted = [
        known | {"method": "POST", "deed": "open-push", "tag": "v1", "status": 201},
        known | {"method": "POST", "deed": "push", "tag": "v1", "number": 0, "status": 200},
        known | {"method": "GET", "deed": "plan", "tag": "v1", "status": 200},
        known | {"method": "DELETE", "deed": "revert", "tag": "v1", "removed": "v1", "status": 200},
    ]
    assert [but_request(told) for told in lines] == wanted
    assert [but_request(told) for told in events(app)] == wanted
    assert len({told["request"] for told in lines}) == 4
    assert lines[0]["session"] == lines[1]["session"]


@pytest.mark.parametrize(
    ("asked", "facts"),
    [
        (("DELETE", "/registry/vm?id=none", None), {"deed": "delete", "template": "none", "status": 400}),
        (("DELETE", "/api/v1/registry/vm", {"id": "none"}), {"deed": "delete", "template": "none", "status": 400}),
        (("PUT", "/registry/vm/arch", {"id": "none", "arch": "arm64"}), {"deed": "set-arch", "arch": "arm64"}),
        (
            ("GET", f"{API}/plan?ref=none&tag=v9", None),
            {"deed": "plan", "template": "none", "tag": "v9", "status": 404},
        ),
        (("POST", f"{API}/sessions", {}), {"deed": "open-push", "status": 400, "code": "request-invalid"}),
    ],
)
def test_what_fails_is_told_with_how(http, lines, asked, facts):
    method, path, body = asked
    http.open(path, method=method, json=body)
    (told,) = lines
    assert told.items() >= facts.items()
    assert told["code"]


def test_what_only_looks_is_not_told(http, lines):
    for path in ("/", "/livez", "/registry/vm", "/registry/v2/vm", "/registry/disk", "/api/v1/status", "/none"):
        http.get(path)
    http.post("/log", json={"content": "x"})
    assert lines == []


def test_a_login_is_a_line_and_no_event_and_what_it_does_then_is_told_of_its_key(closed, lines):
    closed.group("ci", "revert", "delete_vm")
    headers = closed.key("ci", groups=["ci"])
    closed.http.delete("/registry/vm?id=none", headers=headers)
    assert [(told["by"], told["deed"], told["status"]) for told in lines] == [
        ("key:ci", "login", 200),
        ("key:ci", "delete", 400),
    ]
    assert [told["deed"] for told in events(closed.app)] == ["delete"]


def test_what_anka_s_way_gives_a_group_is_told_and_cut_short_where_it_is_long(closed, lines):
    rows = [{"id": str(uuid.UUID(int=n, version=4)), "type": "template", "permissions": ["pull"]} for n in range(9)]
    path = "/admin/v1/api/permission/group/ci/resources"
    for many in (1, 0, 9):
        assert closed.http.post(path, json=rows[:many], headers=closed.root).status_code == 200
    one, none, all_of_them = (told["templates"] for told in lines)
    assert (one, none) == (f"{rows[0]['id']}=pull", "none")
    assert (all_of_them[:41], all_of_them[-1], len(all_of_them)) == (one, "…", 255)


def test_of_a_refusal_is_told_what_lacks(closed, lines):
    closed.group("ci", "index")
    closed.http.delete("/registry/vm?id=none", headers=closed.key("ci", groups=["ci"]))
    _login, told = lines
    assert (told["status"], told["reason"]) == (403, "key:ci lacks the permission delete_vm")


def test_of_a_refused_certificate_is_told_why(tmp_path, lines):
    closed = Closed(tmp_path / "store", authority=pki.Authority())
    closed.http.get("/registry/vm", headers=through_nginx(pki.Authority("Others").issue("robot").pem))
    (told,) = lines
    assert (told["by"], told["code"]) == ("nobody", "certificate-refused")
    assert "robot" in told["reason"]


def test_changes_of_keys_and_groups_are_told_without_a_key(closed, lines):
    root = closed.client(closed.root)
    made = root.post(f"{API}/keys", json={"id": "new", "ttl": None, "groups": ["a", "b"], "public_key": None})
    assert made.status_code == 201
    root.post(f"{API}/keys/revoke", json={"id": "new"})
    domains = [{"name": "ios", "permissions": ["pull", "list"]}]
    group = {"name": "ci", "permissions": ["revert", "index"], "templates": None, "domains": domains, "gen": None}
    root.post(f"{API}/groups", json=group)
    root.post(f"{API}/groups/delete", json={"name": "ci"})
    assert [(told["deed"], told.get("key"), told.get("group"), told["by"]) for told in lines] == [
        ("create-key", "new", None, "root"),
        ("revoke-key", "new", None, "root"),
        ("write-group", None, "ci", "root"),
        ("delete-group", None, "ci", "root"),
    ]
    assert lines[0].items() >= {"groups": "a, b", "ttl": "never"}.items()
    assert lines[2].items() >= {"permissions": "index, revert", "templates": "all", "domains": "ios=list,pull"}.items()
    assert made.json["private_key"] not in json.dumps([lines, events(closed.app)])


def test_a_refusal_is_told_with_who_it_was_and_what_was_missing(closed, lines):
    closed.group("ci", "index")
    headers = closed.key("ci", groups=["ci"])
    assert closed.http.get("/registry/vm", headers=headers).status_code == 403
    assert closed.http.get("/registry/vm").status_code == 401
    assert closed.http.get("/registry/vm", headers=basic("not the root token")).status_code == 401
    assert [(told["by"], told["deed"], told["status"], told["code"]) for told in lines[1:]] == [
        ("key:ci", "list_v1", 403, "forbidden"),
        ("nobody", "list_v1", 401, "unauthenticated"),
        ("nobody", "list_v1", 401, "unauthenticated"),
    ]
    assert len(events(closed.app)) == 3
    assert "not the root token" not in json.dumps([lines, events(closed.app)])


def test_a_login_that_fails_is_told_with_the_key_that_it_was_for(closed, lines):
    assert closed.http.post("/tap/v1/shake", json={"id": "nix", "secret": "x" * 64}).status_code in {400, 401, 403}
    (told,) = lines
    assert (told["deed"], told["key"], told["by"]) == ("login", "nix", "nobody")
    assert "x" * 64 not in json.dumps([lines, events(closed.app)])


def test_refusals_without_end_are_a_few_lines_and_a_number_each_minute(closed, lines):
    clock = closed.app.extensions["s3reg-refusals"].clock = Clock()
    for _ in range(200):
        assert closed.http.get("/registry/vm", headers=basic("wrong")).status_code in {401, 429}
    assert len(lines) <= audit.TOLD_EACH
    clock.now += audit.MINUTE
    closed.http.get("/livez")
    assert lines[-1] == {"by": "nobody", "address": "127.0.0.1", "deed": "refused", "more": 201 - len(lines)}
    assert events(closed.app)[-1] == lines[-1]
    closed.http.get("/registry/vm")
    assert lines[-1]["status"] == 401


def test_one_address_leaves_the_lines_of_others():
    refusals = audit.Refusals(Clock())
    assert [refusals.is_told("a") for _ in range(audit.TOLD_EACH + 2)][-3:] == [True, False, False]
    assert refusals.is_told("b")
    assert refusals.counted() == []
    assert refusals.counted(everything=True) == [("a", 2)]


def test_addresses_without_end_take_no_more_room():
    refusals = audit.Refusals(Clock())
    for number in range(audit.MOST_ADDRESSES):
        assert refusals.is_told(str(number))
    told = [refusals.is_told(f"more {number}") for number in range(audit.TOLD_EACH + 5)]
    assert told.count(True) == audit.TOLD_EACH
    assert refusals.counted(everything=True) == [(audit.OTHERS, 5)]


def test_the_end_of_a_process_tells_what_was_only_counted(closed, lines):
    for _ in range(audit.TOLD_EACH + 3):
        closed.http.get("/registry/vm")
    audit.finish(closed.app, WAIT_SECONDS)
    assert lines[-1]["more"] == 3
    assert events(closed.app)[-1]["more"] == 3


def test_a_line_says_so_when_its_event_finds_no_room(settings, store, lines, monkeypatch):
    app = create_app(settings, store)
    monkeypatch.setattr(type(app.extensions["s3reg"]), "note", lambda *_: False)
    app.test_client().delete("/registry/vm?id=none")
    assert lines[0]["kept"] is False


def test_a_store_that_hangs_over_an_event_holds_no_request_up(settings, store, lines):
    hanging = faults.Paused(store, "put", prefix="events/")
    app = create_app(settings, hanging)
    http = app.test_client()
    for _ in range(5):
        assert http.delete("/registry/vm?id=none").status_code == 400
    assert hanging.reached.wait(WAIT_SECONDS)
    assert http.delete("/registry/vm?id=none").status_code == 400
    hanging.release()
    assert len(events(app)) == len(lines) == 6


def test_an_audit_that_fails_fails_no_request(settings, store, caplog, monkeypatch):
    app = create_app(settings, store)
    monkeypatch.setattr(audit, "_facts", lambda *_: 1 // 0)
    assert app.test_client().delete("/registry/vm?id=none").status_code == 400
    assert "audit-failed" in caplog.text


def test_what_is_told_has_a_bound_and_no_link(app, http, lines):
    link = "https://h/p?X-Amz-Signature=" + "5" * 64
    http.get(f"{API}/plan", query_string={"ref": "x" * 5000, "tag": link})
    assert len(lines[0]["template"]) == audit.LONGEST
    assert "5" * 64 not in json.dumps([lines, events(app)])


# --- Asked for -------------------------------------------------------------------------------------------------------


def test_events_are_asked_for_by_time_asker_kind_and_template(app, http):
    http.delete("/registry/vm?id=none")
    http.post("/log", json={"content": "x"})
    app.extensions["s3reg"].finish(WAIT_SECONDS)

    def found(**query):
        answer = http.get(f"{API}/events", query_string=query)
        assert answer.status_code == 200, answer.text
        return [event["kind"] for event in answer.json["events"]]

    assert sorted(found()) == ["audit", "report"]
    assert found(kind="audit") == found(template="none") == ["audit"]
    assert found(by="root") == found(until=1) == found(limit=0) == []
    assert len(found(limit=1)) == 1


@pytest.mark.parametrize("query", ["since=x", "until=-1", "kind=x", "limit=1.5", "since=" + "9" * 30, "since=²"])
def test_what_makes_no_sense_is_refused(http, query):
    assert http.get(f"{API}/events?{query}").json["error"]["code"] == "request-invalid"


def test_they_are_shown_to_whoever_may_read_them(closed):
    closed.group("readers", "get_log_archive")
    closed.group("others", "list_vms")
    assert closed.http.get(f"{API}/events", headers=closed.key("r", groups=["readers"])).status_code == 200
    answer = closed.http.get(f"{API}/events", headers=closed.key("o", groups=["others"]))
    assert (answer.status_code, answer.json["error"]["detail"]["permission"]) == (403, "get_log_archive")
    assert closed.http.get(f"{API}/events").status_code == 401


def test_a_copy_of_a_store_keeps_no_events_and_answers(settings, three, lines):
    three.made_as = "elsewhere"
    app = create_app(settings, three)
    before = events(app)
    assert app.test_client().get(f"{API}/plan?ref={TEMPLATE}").status_code == 200
    assert events(app) == before
    assert [told["deed"] for told in lines] == ["plan"]
