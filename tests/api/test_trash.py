"""The native API's view of single versions and of the trash."""

import uuid

import pytest

from access_kit import Closed
from push_calls import API, TEMPLATE, Push
from refusals import native
from s3reg.api import create_app
from s3reg.model.identity import ROOT
from s3reg.registry import Wanted
from s3reg.settings import Settings

OTHER = "22222222-aaaa-4bbb-8ccc-000000000002"
NAME = "13.1-base"
WEEK = 7 * 24 * 3600
LAST = 1 << 40


@pytest.fixture
def call(http):
    """`call("untag", tag="b")`: the answer to such a change of the template, by an operation of its own."""

    def run(path, **more):
        return http.post(f"{API}/{path}", json={"operation": uuid.uuid4().hex, "template": TEMPLATE, **more})

    return run


def tags(http, ref=TEMPLATE):
    answer = http.get(f"{API}/template?ref={ref}")
    return "".join(version["tag"] for version in answer.json["versions"]) if answer.status_code == 200 else None


def ids(http, ref=TEMPLATE):
    """Of the template's versions, by tag."""
    return {version["tag"]: version["id"] for version in http.get(f"{API}/template?ref={ref}").json["versions"]}


def trash(http, query=""):
    answer = http.get(f"{API}/trash{query}")
    assert answer.status_code == 200, answer.text
    return answer.json["entries"]


@pytest.mark.usefixtures("three")
def test_one_version_goes_and_the_newer_ones_are_named_that_have_another_number_now(http, call):
    before = ids(http)
    answer = call("untag", tag="b").json
    (entry,) = trash(http)
    assert answer == {
        "template": TEMPLATE, "name": NAME, "removed": ["b"], "left": 2, "deleted": False, "until": entry["until"],
        "renumbered": ["c"],
    }  # fmt: skip
    assert tags(http) == "ac"
    assert entry["until"] == entry["removed"] + WEEK
    assert {name: entry[name] for name in ("template", "name", "deleted", "version", "tag", "removed_by")} == {
        "template": TEMPLATE, "name": NAME, "deleted": False, "version": before["b"], "tag": "b",
        "removed_by": "everyone",
    }  # fmt: skip


@pytest.mark.parametrize("asked", [{"number": 0}, {"tag": "a"}, {"tag": "a", "number": 0}])
@pytest.mark.usefixtures("three")
def test_it_is_named_by_tag_or_number_and_has_to_be_the_one_that_is_meant(http, call, asked):
    before = ids(http)
    native(call("untag", version=before["b"], **asked), 409, "version-changed")
    assert tags(http) == "abc"
    assert call("untag", version=before["a"], **asked).json["removed"] == ["a"]
    assert call("untag", version=before["c"]).json["removed"] == ["c"]
    assert call("untag", tag="b").json["deleted"]


@pytest.mark.usefixtures("three")
def test_it_goes_only_while_the_newest_version_is_the_one_that_was_seen(http, call):
    before = ids(http)
    native(call("untag", tag="a", newest=before["b"]), 409, "template-changed")
    native(call("untag", tag="a", newest="c"), 400, "request-invalid")
    assert tags(http) == "abc"
    assert call("untag", tag="a", newest=before["c"]).json["removed"] == ["a"]


REFUSED = [
    ("untag", {}, 400, "invalid"),
    ("untag", {"tag": ""}, 400, "request-invalid"),
    ("untag", {"tag": "nix"}, 404, "tag-not-found"),
    ("untag", {"number": 3}, 404, "version-not-found"),
    ("untag", {"tag": "a", "number": 1}, 400, "selectors-disagree"),
    ("untag", {"tag": "a", "template": OTHER}, 404, "template-not-found"),
    ("retag", {"tag": "a"}, 400, "request-invalid"),
    ("retag", {"tag": "a", "new": " "}, 400, "request-invalid"),
    ("retag", {"tag": "a", "new": "b"}, 409, "new-tag-taken"),
    ("retag", {"tag": "nix", "new": "z"}, 404, "tag-not-found"),
    ("trash/restore", {}, 400, "request-invalid"),
    ("trash/restore", {"versions": []}, 400, "request-invalid"),
    ("trash/restore", {"versions": ["1" * 32, "2" * 32], "as_tag": "z"}, 400, "invalid"),
    ("trash/restore", {"versions": ["f" * 32]}, 404, "not-in-trash"),
    ("trash/restore", {"versions": ["f" * 32], "template": OTHER}, 404, "template-not-found"),
    ("trash/purge", {"versions": []}, 400, "request-invalid"),
    ("trash/purge", {"versions": ["f" * 32], "template": None}, 400, "invalid"),
    ("trash/purge", {"template": OTHER}, 404, "template-not-found"),
    ("trash/purge", {"operation": "1"}, 400, "request-invalid"),
]


@pytest.mark.usefixtures("three")
def test_what_is_refused_changes_nothing(http, call):
    for path, asked, status, code in REFUSED:
        native(call(path, **asked), status, code)
    assert tags(http) == "abc"
    assert trash(http) == []


@pytest.mark.usefixtures("three")
def test_a_version_gets_another_tag(http, call):
    before = ids(http)
    assert call("retag", tag="b", new="z").json == {"template": TEMPLATE, "name": NAME, "tag": "z"}
    assert tags(http) == "azc"
    assert ids(http)["z"] == before["b"]


@pytest.mark.usefixtures("three")
def test_a_deleted_template_is_restored_from_what_the_trash_lists(http, call):
    before = http.get(f"{API}/template?ref={TEMPLATE}").json
    call("revert", everything=True)
    assert tags(http) is None
    found = trash(http, f"?ref={NAME}")
    assert [(one["tag"], one["deleted"]) for one in found] == [("a", True), ("b", True), ("c", True)]
    assert found == trash(http) == trash(http, f"?ref={TEMPLATE}")
    done = call("trash/restore", versions=[one["version"] for one in found]).json
    assert done == {"template": TEMPLATE, "name": NAME, "restored": ["a", "b", "c"], "deleted": False}
    assert http.get(f"{API}/template?ref={NAME}").json == before
    assert trash(http) == []


@pytest.mark.usefixtures("three")
def test_a_tag_and_a_name_that_are_taken_by_now_are_named_and_got_round(http, call, push):
    before = ids(http)
    call("revert", everything=True)
    push(tag="a", template=OTHER)
    told = native(call("trash/restore", versions=[before["a"]]), 409, "name-taken")
    assert OTHER in told
    assert call("trash/restore", versions=[before["a"]], same_name=True).json["restored"] == ["a"]
    push(tag="b", name="sonoma")
    told = native(call("trash/restore", versions=[before["b"], before["c"]]), 409, "restore-tag-taken")
    assert "tag 'b'" in told
    assert call("trash/restore", versions=[before["b"]], as_tag="o").json["restored"] == ["o"]
    assert tags(http) == "aob"


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("untag", {"number": 0}),
        ("retag", {"tag": "a", "new": "z"}),
        ("trash/restore", {}),
        ("trash/purge", {}),
        ("trash/purge", {"template": None}),
    ],
)
@pytest.mark.usefixtures("three")
def test_a_repeated_change_is_done_once(http, call, path, asked):
    gone = ids(http)["c"]
    call("untag", tag="c")
    if path == "trash/restore":
        asked = {"versions": [gone]}
    same = uuid.uuid4().hex
    first = call(path, **asked, operation=same).json
    after = http.get(f"{API}/template?ref={TEMPLATE}").json, trash(http)
    again = call(path, **asked, operation=same).json
    told_once = {"removed": [], "renumbered": [], "purged": 0}
    assert again == {**first, **{name: value for name, value in told_once.items() if name in first}}
    assert (http.get(f"{API}/template?ref={TEMPLATE}").json, trash(http)) == after


@pytest.mark.usefixtures("three")
def test_what_was_purged_does_not_come_back_and_is_said_to_be_gone(http, call):
    before = ids(http)
    call("revert", tag="b")
    assert call("trash/purge", versions=[before["b"], before["a"]]).json == {"purged": 1}
    native(call("trash/restore", versions=[before["b"], before["c"]]), 404, "not-in-trash")
    assert call("trash/restore", versions=[before["c"]]).json["restored"] == ["c"]
    assert tags(http) == "ac"


@pytest.mark.usefixtures("three")
def test_how_long_it_is_kept_is_a_setting(tmp_path, store):
    http = create_app(Settings(store=str(tmp_path / "store"), trash_seconds=60), store).test_client()
    http.post(f"{API}/untag", json={"operation": "1" * 32, "template": TEMPLATE, "tag": "a"})
    (entry,) = trash(http)
    assert entry["until"] == entry["removed"] + 60


@pytest.mark.usefixtures("three")
def test_the_audit_tells_what_was_done_with_which_versions(app, http, call):
    before = ids(http)
    call("retag", tag="a", new="z")
    call("untag", tag="b")
    call("trash/restore", versions=[before["b"]])
    call("revert", tag="b")
    call("trash/purge", versions=[before["b"], before["c"]])
    held = app.extensions["s3reg"]
    held.finish(60)
    found = [one.said for one in held.registry().events(ROOT, Wanted(0, LAST, 1000)) if one.said["deed"] != "push"]
    facts = ("deed", "template", "name", "tag", "old", "removed", "restored", "purged", "tags")
    about = {"template": TEMPLATE, "name": NAME}
    assert [{name: said[name] for name in facts if name in said} for said in found[-5:]] == [
        {"deed": "retag", **about, "tag": "z", "old": "a"},
        {"deed": "untag", **about, "tag": "b", "removed": "b"},
        {"deed": "restore", **about, "restored": "b"},
        {"deed": "revert", **about, "tag": "b", "removed": "b, c"},
        {"deed": "purge", **about, "purged": 2, "tags": "b, c"},
    ]


def test_what_it_takes_is_what_the_table_says(tmp_path):
    closed = Closed(tmp_path / "store", authorization=True)
    root = closed.client(closed.root)
    for tag in ("a", "b"):
        Push([root], tag=tag).run()
    vid = ids(root)["b"]
    everything = {TEMPLATE: ["list", "push_tag", "delete_revert"]}
    closed.group("pushing", "push_vm", templates=everything)
    closed.group("removing", "revert", templates=everything)
    pusher, remover = (closed.client(closed.key(name, [name])) for name in ("pushing", "removing"))

    def ask(http, path, **more):
        return http.post(f"{API}/{path}", json={"operation": uuid.uuid4().hex, "template": TEMPLATE, **more})

    calls = [("untag", {"tag": "b"}), ("trash/restore", {"versions": [vid]}), ("retag", {"tag": "a", "new": "z"})]
    calls += [("untag", {"tag": "b"}), ("trash/purge", {})]
    for path, more in calls:
        may, other = (remover, pusher) if path in {"untag", "trash/purge"} else (pusher, remover)
        native(ask(other, path, **more), 403, "forbidden")
        assert ask(may, path, **more).status_code == 200
    native(pusher.get(f"{API}/trash"), 403, "forbidden")
    assert trash(remover) == []
