"""The native API's usage: what templates take on the store, what their end frees, and when they were of use."""

import pytest

from push_calls import API, TEMPLATE
from refusals import native
from s3reg.model import format as fmt

SUMS = {"exclusive", "shared", "live", "trash", "frees"}


def test_each_template_and_version_is_told_with_what_it_takes(standing):
    answer = standing.get(f"{API}/usage").json
    (one,) = answer["templates"]
    assert (one["template"], one["deleted"], one["damaged"]) == (TEMPLATE, False, None)
    assert one["exclusive"] + one["shared"] == answer["stored"] > 0
    assert (one["frees"], answer["trash"], answer["uploading"]) == (answer["stored"], 0, 0)
    assert [tag["tag"] for tag in one["tags"]] == ["a", "b", "c"]
    assert all(0 < tag["live"] <= tag["exclusive"] + tag["shared"] for tag in one["tags"])
    assert standing.get(f"{API}/usage", query_string={"ref": TEMPLATE}).json == answer
    assert one.keys() >= SUMS


def test_what_all_versions_free_together_is_what_the_template_does(standing):
    (one,) = standing.get(f"{API}/usage").json["templates"]
    going = [{"template": TEMPLATE, "version": tag["version"]} for tag in one["tags"]]
    assert standing.post(f"{API}/usage/frees", json={"versions": going}).json == {"frees": one["frees"]}
    for row, tag in zip(going, one["tags"], strict=True):
        assert standing.post(f"{API}/usage/frees", json={"versions": [row]}).json == {"frees": tag["frees"]}
    assert standing.post(f"{API}/usage/frees", json={"versions": []}).json == {"frees": 0}


@pytest.mark.parametrize("path", ["usage", "uses"])
def test_what_there_is_not_is_not_found(path, standing):
    native(standing.get(f"{API}/{path}", query_string={"ref": "nothing"}), 404, "template-not-found")


@pytest.mark.parametrize("row", [{}, {"template": "x", "version": "0" * 32}, {"template": TEMPLATE, "version": "../x"}])
def test_versions_are_named_by_ids(row, standing):
    native(standing.post(f"{API}/usage/frees", json={"versions": [row]}), 400, "request-invalid")


def test_uses_tell_pulls_and_the_registrys_time(three, http):
    (one,) = http.get(f"{API}/uses").json["templates"]
    assert [row["last_pull"] for row in one["versions"]] == [None, None, None]
    newest = one["versions"][-1]["version"]
    assert http.post(f"{API}/pulls", json={"template": TEMPLATE, "version": newest}).status_code == 200
    answer = http.get(f"{API}/uses", query_string={"ref": one["name"]}).json
    pulled = int(three.stat(fmt.pull_key(TEMPLATE, newest)).modified)
    assert [row["last_pull"] for row in answer["templates"][0]["versions"]] == [None, None, pulled]
    assert answer["now"] >= answer["templates"][0]["versions"][-1]["created"]
