"""A push that ended badly is nobody's trouble: not another node's, and not its own when it is tried again."""

from push_calls import Layer, Push

LAYERS = [Layer("a" * 32 + ".ank", b"disk" * 100_000), Layer("b" * 32 + ".ank", b"more" * 50_000, drive=1)]


def tags(http):
    (template,) = http.get("/transfer/v1/templates").json["templates"]
    return [version["tag"] for version in template["versions"]]


def test_s3_a_push_that_was_left_in_the_middle_is_in_nobodys_way(http):
    left = Push([http], layers=LAYERS)
    left.open()
    files = left.files()

    Push([http], layers=LAYERS).run()
    assert tags(http) == ["v1"]

    late = left.call("POST", f"/sessions/{left.sid}/commit", {"tag": "v1", "name": left.name, "files": files}, 409)
    assert late["error"]["code"] == "tag-taken"
    left.tag = "v2"
    left.commit(files)
    assert tags(http) == ["v1", "v2"]


def test_s4_a_push_that_failed_works_when_it_is_tried_again_at_once(http):
    push = Push([http], layers=LAYERS)
    push.open()
    whole = push.files()
    lacking = [{**entry, "map": {**entry["map"], "sha256": "0" * 64}} if "map" in entry else entry for entry in whole]
    body = {"tag": "v1", "name": push.name, "files": lacking}
    assert push.call("POST", f"/sessions/{push.sid}/commit", body, 400)["error"]["code"] == "commit-invalid"

    push.commit(whole)  # the same session goes on
    again = Push([http], layers=LAYERS, tag="v2")
    again.open()
    again.call("DELETE", f"/sessions/{again.sid}")
    again.run()  # and a new one after one that was given up
    assert tags(http) == ["v1", "v2"]
