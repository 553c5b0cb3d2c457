"""`/admin/…/permission/…`, as the scripts of Anka's administrators call it."""

import json
import threading

import pytest

from access_kit import Closed
from faults import Before
from push_calls import Push
from s3reg.model.access import RESOURCE_PERMISSIONS
from s3reg.model.identity import Action
from s3reg.store.files import FilesStore

SPELLINGS = ["/admin/api/v1", "/admin/v1/api"]
A, B = "11111111-aaaa-4bbb-8ccc-000000000001", "22222222-aaaa-4bbb-8ccc-000000000002"
ROWS = [
    {"id": A, "id_type": "id", "type": "template", "permissions": ["list", "pull"]},
    {"id": B, "id_type": "id", "type": "template", "permissions": ["delete_revert"]},
]


@pytest.fixture
def closed(tmp_path):
    return Closed(tmp_path / "store", authorization=True)


@pytest.fixture(params=SPELLINGS)
def ask(closed, request):
    """`ask(rows, group="ci")` saves the rows; `ask()` shows them."""

    def asked(rows=None, group="ci", method=None):
        path = f"{request.param}/permission/group/{group}/resources"
        data = rows if isinstance(rows, bytes | None) else json.dumps(rows)
        return closed.http.open(
            path, method=method or ("GET" if rows is None else "POST"), data=data, headers=closed.root
        )

    return asked


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_what_may_be_permitted_is_told_with_its_meaning(closed, spelling):
    answer = closed.http.get(f"{spelling}/permission/resources/permissions", headers=closed.root)
    assert (answer.json["status"], answer.json["message"]) == ("OK", "")
    (told,) = answer.json["body"]
    assert told["resource_type"] == "template"
    assert set(told["permissions"]) == {action.value for action in RESOURCE_PERMISSIONS}
    assert told["permissions"]["pull"]["label"] == "Pull"
    assert all(row["description"] for row in told["permissions"].values())


def test_resources_are_saved_and_shown_as_they_were_sent(ask):
    assert ask(ROWS).json == {"status": "OK", "message": "Saved"}
    answer = ask()
    assert list(answer.json) == ["status", "message", "body"]
    assert answer.json["body"] == ROWS
    assert ask(ROWS[1:]).status_code == 200
    assert ask().json["body"] == ROWS[1:]
    assert ask([]).status_code == 200
    assert ask().json["body"] == []


def test_a_group_that_there_is_not_is_made_by_saving_and_not_by_looking(closed, ask):
    assert ask(group="new").status_code == 400
    assert ask(ROWS, group="new").status_code == 200
    found = closed.gate.groups.find("new")
    assert found.templates == {A: {Action.LIST, Action.PULL}, B: {Action.DELETE_REVERT}}
    assert found.permissions == set()


def test_what_else_a_group_has_stays(closed, ask):
    closed.group("ci", "list_vms", "pull_vm", domains={"far": ["list"]})
    assert ask().json["body"] == []  # all of them, and none by name
    assert ask(ROWS).status_code == 200
    found = closed.gate.groups.find("ci")
    assert found.permissions == {"list_vms", "pull_vm"}
    assert found.domains == {"far": {Action.LIST}}


def test_s24_saved_resources_count_at_once_for_logins_that_there_are(closed, ask):
    Push([closed.client(closed.root)], template=A).run()
    closed.group("ci", "list_vms", templates={})
    login = closed.key("bot", ["ci"])

    def listed():
        return [row["id"] for row in closed.http.get("/registry/v2/vm", headers=login).json["body"]]

    assert listed() == []
    ask(ROWS)
    assert listed() == [A]
    ask(ROWS[1:])
    assert listed() == []


def test_names_of_templates_are_written_in_one_way(ask):
    assert ask([{**ROWS[0], "id": A.upper()}]).status_code == 200
    assert ask().json["body"] == ROWS[:1]


def test_type_and_kind_of_id_may_be_left_out(ask):
    assert ask([{"id": A, "permissions": ["pull", "list", "pull"]}]).status_code == 200
    assert ask().json["body"] == ROWS[:1]


WRONG = [
    ({}, "array"),
    (None, "array"),
    ("x", "array"),
    ([None], "object"),
    ([[]], "object"),
    ([{}], "permissions"),
    ([{"permissions": []}], "template id"),
    ([{**ROWS[0], "id": "latest"}], "template id"),
    ([{**ROWS[0], "id": 5}], "template id"),
    ([{**ROWS[0], "id_type": "name"}], "id_type"),
    ([{**ROWS[0], "type": "node"}], "type"),
    ([{**ROWS[0], "permissions": "list"}], "permissions"),
    ([{**ROWS[0], "permissions": {"list": True}}], "permissions"),
    ([{**ROWS[0], "permissions": ["List"]}], "delete_revert"),
    ([{**ROWS[0], "permissions": ["list_vms"]}], "set_arch"),
    ([{**ROWS[0], "permissions": [None]}], "save_image"),
    ([{**ROWS[0], "permissions": [["list"]]}], "pull"),
    ([{**ROWS[0], "permissions": ["x" * 5000]}], "xxx"),
    ([ROWS[0], {**ROWS[0], "permissions": ["pull"]}], "twice"),
    ([ROWS[0], {**ROWS[0], "id": A.upper()}], "twice"),
    (b"[", "JSON"),
    (b"", "JSON"),
]


@pytest.mark.parametrize(("sent", "told"), WRONG, ids=[str(sent)[:60] for sent, _ in WRONG])
def test_what_is_wrong_is_told_and_changes_nothing(closed, sent, told):
    path = f"{SPELLINGS[0]}/permission/group/ci/resources"
    closed.group("ci", templates={A: ["list"]})
    before = closed.gate.groups.find("ci")
    data = sent if isinstance(sent, bytes) else json.dumps(sent)
    answer = closed.http.post(path, data=data, headers=closed.root)
    assert (answer.status_code, answer.json["status"]) == (400, "FAIL")
    assert told in answer.json["message"]
    assert len(answer.json["message"]) < 500
    assert closed.gate.groups.find("ci") == before


@pytest.mark.parametrize("name", ["a b", "gr%C3%BCn", "x" * 128, "%2E%2E", "a%3Fb", "a%2Fb", "a/resources"])
def test_a_group_may_have_any_name(ask, name):
    assert ask(ROWS, group=name).status_code == 200
    assert ask(group=name).json["body"] == ROWS


@pytest.mark.parametrize("name", ["x" * 129, "%00", "%20", "a%0Ab", "%FF%FE%00"])
def test_a_group_without_a_name_is_none(closed, ask, name):
    assert ask(ROWS, group=name).status_code in {400, 404}
    assert closed.gate.groups.all() == []


def test_a_change_of_another_replica_in_between_is_not_lost(tmp_path):
    """Between reading the group and writing it, the other one permits something."""
    kept = FilesStore(tmp_path / "store")
    other = Closed(tmp_path / "store", store=kept)
    other.group("ci", "index")
    during = Before(kept, "put", lambda: other.group("ci", "list_vms"), prefix="auth/groups/")
    closed = Closed(tmp_path / "store", store=during, token=other.token)
    answer = closed.http.post(f"{SPELLINGS[0]}/permission/group/ci/resources", json=ROWS, headers=closed.root)
    assert answer.status_code == 200
    found = closed.gate.groups.find("ci")
    assert (found.permissions, set(found.templates or {})) == ({"list_vms"}, {A, B})


def test_many_who_save_at_once_leave_what_one_of_them_sent(closed):
    path = f"{SPELLINGS[0]}/permission/group/ci/resources"
    answers = []

    def save(rows):
        with closed.app.test_client() as http:
            answers.append(http.post(path, json=rows, headers=closed.root).status_code)

    threads = [threading.Thread(target=save, args=([row],)) for row in ROWS * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {200, 400, 503}
    assert 200 in answers
    assert closed.http.get(path, headers=closed.root).json["body"] in ([ROWS[0]], [ROWS[1]])
