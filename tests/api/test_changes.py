"""The native API's changes of a template: revert, delete, rename, each done once however often it is asked for."""

import uuid

import pytest

from push_calls import API, TEMPLATE
from refusals import native

OTHER = "22222222-aaaa-4bbb-8ccc-000000000002"


def operation():
    return uuid.uuid4().hex


@pytest.fixture
def revert(http):
    def call(**more):
        return http.post(API + "/revert", json={"operation": operation(), "template": TEMPLATE, **more})

    return call


@pytest.fixture
def rename(http):
    def call(name, **more):
        return http.post(API + "/rename", json={"operation": operation(), "template": TEMPLATE, "name": name, **more})

    return call


def tags(http):
    answer = http.get(f"{API}/templates")
    return [version["tag"] for one in answer.json["templates"] for version in one["versions"]]


@pytest.mark.parametrize(
    ("asked", "removed"),
    [
        ({}, "c"),
        ({"tag": "b"}, "bc"),
        ({"number": 1}, "bc"),
        ({"tag": "c", "number": 2}, "c"),
        ({"tag": "a"}, "abc"),
        ({"number": 0}, "abc"),
        ({"everything": True}, "abc"),
    ],
)
@pytest.mark.usefixtures("three")
def test_what_a_revert_names_goes_with_all_that_is_newer(http, revert, asked, removed):
    left = 3 - len(removed)
    answer = revert(**asked).json
    until = answer.pop("until")
    assert answer == {
        "template": TEMPLATE, "name": "13.1-base", "removed": list(removed), "left": left, "deleted": not left,
        "renumbered": [],
    }  # fmt: skip
    assert http.get(f"{API}/trash").json["entries"][-1]["until"] == until
    assert tags(http) == list("abc"[:left])


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ({"tag": "nix"}, 404, "tag-not-found"),
        ({"number": 3}, 404, "version-not-found"),
        ({"tag": "a", "number": 1}, 400, "selectors-disagree"),
        ({"everything": True, "tag": "a"}, 400, "selectors-disagree"),
        ({"everything": True, "number": 0}, 400, "selectors-disagree"),
        ({"template": OTHER}, 404, "template-not-found"),
        ({"template": OTHER, "everything": True}, 404, "template-not-found"),
        ({"operation": "1"}, 400, "request-invalid"),
        ({"number": -1}, 400, "request-invalid"),
    ],
)
@pytest.mark.usefixtures("three")
def test_a_refused_revert_changes_nothing(http, revert, asked, status, code):
    native(revert(**asked), status, code)
    assert tags(http) == ["a", "b", "c"]


@pytest.mark.parametrize("asked", [{}, {"tag": "c"}, {"everything": True}])
@pytest.mark.usefixtures("three")
def test_a_repeated_revert_is_done_once(http, revert, asked):
    same = operation()
    first = revert(operation=same, **asked).json
    again = revert(operation=same, **asked).json
    assert again == {**first, "removed": []}
    assert len(tags(http)) == first["left"]


@pytest.mark.usefixtures("three")
def test_a_renamed_template_has_its_new_name_and_its_versions(http, rename):
    same = operation()
    for _ in range(2):
        assert rename("sonoma", operation=same).json == {"template": TEMPLATE, "name": "sonoma"}
    assert http.get(f"{API}/template?ref=sonoma").json["id"] == TEMPLATE
    native(http.get(f"{API}/template?ref=13.1-base"), 404, "template-not-found")
    assert tags(http) == ["a", "b", "c"]


def test_a_name_that_another_template_carries_is_taken_only_if_that_is_meant(http, push, rename):
    push()
    push(template=OTHER, name="sonoma")
    native(rename("sonoma"), 409, "name-taken")
    assert rename("sonoma", same_name=True).status_code == 200
    native(http.get(f"{API}/template?ref=sonoma"), 409, "name-ambiguous")


def test_a_name_that_is_none_or_a_template_that_is_not_there_is_refused(push, rename):
    push()
    native(rename("a/b"), 400, "request-invalid")
    native(rename("sonoma", template=OTHER), 404, "template-not-found")
