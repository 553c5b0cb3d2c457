"""Two templates of one name, which nothing forbids whoever means it: told apart by their ids, never taken for each other."""

import pytest

from push_calls import TEMPLATE, Push

TWIN = "22222222-aaaa-4bbb-8ccc-000000000002"
NAME = "13.1-base"


@pytest.fixture
def twins(http):
    """Both, of which the second has one version more."""
    for template, tags in ((TEMPLATE, ["v1"]), (TWIN, ["v1", "v2"])):
        for tag in tags:
            push = Push([http], template=template, tag=tag, name=NAME)
            push.open(same_name=True)
            push.commit(same_name=True)


def of_both(http):
    """Their tags by id, as Anka's clients read them."""
    found = {row["id"]: row["name"] for row in http.get("/registry/v2/vm").json["body"]}
    assert set(found.values()) == {NAME}
    answers = {template: http.get(f"/registry/v2/vm?id={template}").json["body"] for template in found}
    return {template: [version["tag"] for version in body["versions"]] for template, body in answers.items()}


def test_t6_both_are_listed_and_each_is_found_by_its_id(http, twins):
    assert {next(iter(row)) for row in http.get("/registry/vm").json["body"]} == {TEMPLATE, TWIN}
    assert of_both(http) == {TEMPLATE: ["v1"], TWIN: ["v1", "v2"]}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/registry/v2/vm"),
        ("GET", "/registry/vm/info"),
        ("DELETE", "/registry/vm"),
        ("DELETE", "/registry/revert"),
    ],
)
def test_t6_asking_by_the_name_of_both_gives_the_ids_and_changes_nothing(method, path, http, twins):
    answer = http.open(path, method=method, query_string={"id": NAME})
    assert (answer.status_code, answer.json["status"]) == (400, "FAIL")
    assert TEMPLATE in answer.json["message"]
    assert TWIN in answer.json["message"]
    assert of_both(http) == {TEMPLATE: ["v1"], TWIN: ["v1", "v2"]}


def test_t6_what_is_done_to_one_is_not_done_to_the_other(http, twins):
    assert http.delete(f"/registry/revert?id={TWIN}").status_code == 200
    assert of_both(http) == {TEMPLATE: ["v1"], TWIN: ["v1"]}
    assert http.delete(f"/registry/vm?id={TWIN}").status_code == 200
    assert of_both(http) == {TEMPLATE: ["v1"]}
