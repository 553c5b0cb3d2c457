"""Requests by chance: none is answered with 500, each in its envelope, and one that is refused has changed nothing."""

from hypothesis import given
from hypothesis import strategies as st

from api.fuzzed import FIRST, SECOND, anything, body, known, words
from s3reg import wire

ID, VERSION = ["id"], ["tag", "tag_name", "version", "number", "Version"]
ANKA = {
    ("GET", "/registry/status"): [],
    ("GET", "/registry/vm"): ID,
    ("GET", "/registry/v2/vm"): ID,
    ("GET", "/registry/vm/info"): ID + VERSION,
    ("DELETE", "/registry/vm"): ID,
    ("DELETE", "/registry/revert"): ID + VERSION,
    ("PUT", "/registry/vm/arch"): ["id", "arch"],
    ("GET", "/registry/disk"): [],
    ("GET", "/api/v1/status"): [],
    ("GET", "/api/v1/registry/vm"): ["id", "apiVer", "info", "tag", "Version"],
    ("DELETE", "/api/v1/registry/vm"): ID,
    ("DELETE", "/api/v1/registry/revert"): ID + VERSION,
    ("POST", "/log"): ["machine_name", "service", "host", "content"],
    ("GET", "/readyz"): [],
}
"""(method, path) → the parameters that it has, in the query or in the body."""

NATIVE = {
    ("GET", "/templates"): [],
    ("GET", "/template"): ["ref"],
    ("GET", "/plan"): ["ref", "tag", "number"],
    ("POST", "/pulls"): ["template", "version"],
    ("POST", "/sessions"): ["template", "name", "tag", "arch", "force", "same_name", "domain", "bases"],
    ("GET", f"/sessions/{'0' * 32}"): [],
    ("DELETE", f"/sessions/{'0' * 32}"): [],
    ("POST", f"/sessions/{'0' * 32}/bases"): ["bases"],
    ("POST", f"/sessions/{'0' * 32}/uploads"): ["objects"],
    ("POST", f"/sessions/{'0' * 32}/commit"): ["tag", "name", "files", "description", "arch", "force", "same_name"],
    ("POST", "/revert"): ["operation", "template", "tag", "number", "everything"],
    ("POST", "/untag"): ["operation", "template", "tag", "number", "version"],
    ("POST", "/retag"): ["operation", "template", "tag", "new"],
    ("GET", "/trash"): ["ref"],
    ("POST", "/trash/restore"): ["operation", "template", "versions", "as_tag", "same_name"],
    ("POST", "/trash/purge"): ["operation", "template", "versions"],
    ("POST", "/rename"): ["operation", "template", "name", "same_name"],
}

spoilt_path = st.sampled_from(
    [str, lambda path: f"/{path}", lambda path: f"{path}/", lambda path: path.replace("/", "//")]
)


def fields(names, values):
    """Some of these parameters, and maybe one that there is not."""
    return st.dictionaries(st.sampled_from([*names, "other"]), values, max_size=4)


@st.composite
def requests(draw, path, names):
    """(path, query, body): parameters of this path here and there, or anything at all for a body."""
    query = draw(st.lists(st.tuples(st.sampled_from([*names, "other"]), words), max_size=4))
    sent = draw(
        st.none()
        | st.binary(max_size=40)
        | anything.map(body)
        | fields(names, known | anything).map(body)
        | fields(names, words).map(lambda found: body(found)[:-1])
    )
    return draw(spoilt_path)(path), query, sent


@given(st.data(), st.sampled_from(sorted(ANKA)), st.none() | st.none() | st.sampled_from(["POST", "PATCH", "PUT"]))
def test_whatever_is_asked_of_the_anka_dialect_is_answered_in_its_envelope(place, data, route, other):
    place.begin()
    method, path = route
    answer = place.ask(other or method, *data.draw(requests(path, ANKA[route])))
    assert answer.status_code in {200, 400, 404, 405, 413}, answer.text
    told = answer.json
    assert isinstance(told["message"], str)
    if answer.status_code == 200:
        assert told["status"] == "OK"
        assert told["message"] == ""
    else:
        assert told["status"] == "FAIL"
        assert told["message"]
        assert "body" not in told
    if answer.status_code != 200 or method == "GET":
        assert place.unchanged()


@given(st.data(), st.sampled_from(sorted(NATIVE)))
def test_whatever_is_asked_of_the_native_api_is_answered_or_told_by_its_code(place, data, operation):
    place.begin()
    method, path = operation
    answer = place.ask(method, *data.draw(requests(wire.PREFIX + path, NATIVE[operation])))
    assert answer.status_code in {200, 201, 400, 404, 409, 410, 413}, answer.text
    if answer.status_code >= 400:
        told = answer.json["error"]
        assert told["code"]
        assert told["message"]
        assert told["remedy"]
    if answer.status_code >= 400 or method == "GET":
        assert place.unchanged()


@given(st.sampled_from([FIRST, SECOND]) | words, st.sampled_from(["arm64", "amd64", "ARM64", ""]) | anything)
def test_an_architecture_is_set_to_one_of_two_or_not_at_all(place, template, arch):
    place.begin()
    answer = place.ask("PUT", "/registry/vm/arch", [], body({"id": template, "arch": arch}))
    if answer.status_code == 200:
        assert arch in {"arm64", "amd64"}
        assert place.http.get("/registry/v2/vm", query_string={"id": template}).json["body"]["arch"] == arch
    else:
        assert answer.status_code == 400
        assert place.unchanged()


@given(st.data())
def test_a_name_is_given_as_a_rename_asks_or_not_at_all(place, data):
    place.begin()
    before = place.names()
    template = data.draw(st.sampled_from([FIRST, SECOND]))
    name = data.draw(words | st.sampled_from(sorted(before.values())) | anything)
    sent = {"operation": "a" * 32, "template": template, "name": name, **data.draw(fields(["same_name"], anything))}
    answer = place.ask("POST", f"{wire.PREFIX}/rename", [], body(sent))
    if answer.status_code == 200:
        told = answer.json
        assert place.names() == {**before, template: told["name"]}
        again = place.ask("POST", f"{wire.PREFIX}/rename", [], body(sent))
        assert (again.status_code, again.json) == (200, told)
    else:
        assert answer.status_code in {400, 409}
        assert place.unchanged()
