"""What may not be listed does not exist: in no dialect, by no name, number or size, in no error."""

import uuid

import pytest

from access.house import ALL, EVERY_ACTION, FAR, NAMES, OPEN, OTHER, SIZES, House
from access.routes import BY_PARAMETER, ROUTES
from push_calls import Layer, Push
from s3reg.model.identity import ROOT

AT = "/transfer/v1"
NOBODY = "99999999-aaaa-4bbb-8ccc-000000000009"
"""An id that no template has."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return House(tmp_path_factory.mktemp("house"), authorization=True)


@pytest.fixture
def house(shared):
    shared.begin()
    return shared


@pytest.fixture
def only(house):
    """Asks with a key that may do everything with one template of three, and nothing with the others."""
    headers, _ = house.key(house.group(ALL, ((OPEN, EVERY_ACTION),)))
    house.keep()
    return house.closed.client(headers)


@pytest.fixture
def root(house):
    return house.closed.client(house.closed.root)


def body(answer):
    assert answer.status_code == 200, answer.text
    return answer.json["body"]


def test_every_list_has_the_one_template_and_nothing_of_the_others(only):
    assert body(only.get("/registry/vm")) == [{OPEN: NAMES[OPEN]}]
    assert body(only.get("/registry/v2/vm")) == [{"id": OPEN, "name": NAMES[OPEN], "size": SIZES[OPEN]}]
    assert body(only.get("/api/v1/registry/vm?apiVer=v1")) == [{"id": OPEN, "name": NAMES[OPEN]}]
    (row,) = body(only.get("/api/v1/registry/vm"))
    assert (row["id"], row["size"]) == (OPEN, SIZES[OPEN])
    (entry,) = only.get(f"{AT}/templates").json["templates"]
    assert (entry["id"], entry["size"]) == (OPEN, SIZES[OPEN])


@pytest.mark.parametrize("path", ["/registry/disk", "/api/v1/registry/disk"])
def test_the_disk_is_as_full_as_what_is_listed(house, only, root, path):
    found = body(only.get(path))
    assert found["total"] - found["free"] == SIZES[OPEN]
    none = body(house.closed.http.get(path, headers=house.key(house.group(ALL, ()))[0]))
    assert none["total"] == none["free"] == found["free"]
    assert none["free"] not in body(root.get(path)).values(), "nothing of the disk itself"


def reads():
    """Every GET that tells something of templates; the last link of a plan changes with each second."""
    for case, route in ROUTES.items():
        method, _, path = case.partition(" ")
        if method == "GET" and not route.public and "<>" not in path and path not in {f"{AT}/events", f"{AT}/plan"}:
            yield case, route
    for case, (method, route) in BY_PARAMETER.items():
        if method == "GET":
            yield case, route


def test_no_answer_changes_when_what_is_hidden_does(house, only, root):
    def answers():
        found = {}
        for case, route in reads():
            answer = only.get(**route.call(house, "").options())
            assert answer.status_code == 200, (case, answer.text)
            found[case] = answer.data
        return found

    before = answers()
    push = Push([root], template=NOBODY, name="secret", layers=[Layer("s" * 32 + ".ank", b"s" * 9999)])
    push.open(domain="far")
    done = push.commit()
    root.post(f"{AT}/pulls", json={"template": NOBODY, "version": done["version"]})
    root.post(f"{AT}/rename", json={"operation": "1" * 32, "template": OTHER, "name": NAMES[OPEN], "same_name": True})
    root.delete("/registry/revert", json={"id": FAR})
    assert answers() == before


HIDDEN = {FAR: NOBODY, OTHER: NOBODY, NAMES[FAR]: "far-awax", NAMES[OTHER]: "11.7"}
"""What an asker may try to find out about: it and something of the same form that there is not."""

QUESTIONS = {
    "v1": lambda ref: ("GET", "/registry/vm", {"id": ref}, None),
    "v2": lambda ref: ("GET", "/registry/v2/vm", {"id": ref}, None),
    "info": lambda ref: ("GET", "/registry/vm/info", {"id": ref}, None),
    "info of a tag": lambda ref: ("GET", "/registry/vm/info", {"id": ref, "tag": "a"}, None),
    "info of a tag with two readings": lambda ref: ("GET", "/registry/vm/info", {"id": ref, "tag": "a b"}, None),
    "info of a number": lambda ref: ("GET", "/registry/vm/info", {"id": ref, "version": "0"}, None),
    "delete": lambda ref: ("DELETE", "/registry/vm", {"id": ref}, None),
    "delete by body": lambda ref: ("DELETE", "/registry/vm", {}, {"id": ref}),
    "revert": lambda ref: ("DELETE", "/registry/revert", {"id": ref}, None),
    "revert of a tag": lambda ref: ("DELETE", "/registry/revert", {"id": ref, "tag": "a+b"}, None),
    "revert by body": lambda ref: ("DELETE", "/registry/revert", {}, {"id": ref, "version": 1}),
    "arch": lambda ref: ("PUT", "/registry/vm/arch", {}, {"id": ref, "arch": "arm64"}),
    "controller": lambda ref: ("GET", "/api/v1/registry/vm", {"id": ref}, None),
    "controller's info": lambda ref: ("GET", "/api/v1/registry/vm", {"id": ref, "info": ""}, None),
    "controller's delete": lambda ref: ("DELETE", "/api/v1/registry/vm", {"id": ref}, None),
    "controller's revert": lambda ref: ("DELETE", "/api/v1/registry/revert", {"id": ref}, None),
    "template": lambda ref: ("GET", f"{AT}/template", {"ref": ref}, None),
    "plan": lambda ref: ("GET", f"{AT}/plan", {"ref": ref}, None),
    "plan of a tag": lambda ref: ("GET", f"{AT}/plan", {"ref": ref, "tag": "a"}, None),
    "plan of no tag": lambda ref: ("GET", f"{AT}/plan", {"ref": ref, "tag": "none"}, None),
    "plan of a number": lambda ref: ("GET", f"{AT}/plan", {"ref": ref, "number": "0"}, None),
    "access": lambda ref: ("GET", f"{AT}/access", {"key": "victim", "ref": ref}, None),
    "native revert": lambda ref: ("POST", f"{AT}/revert", {}, {"operation": "2" * 32, "template": ref}),
    "everything": lambda ref: (
        "POST", f"{AT}/revert", {}, {"operation": "2" * 32, "template": ref, "everything": True}
    ),
    "rename": lambda ref: ("POST", f"{AT}/rename", {}, {"operation": "2" * 32, "template": ref, "name": "mine"}),
    "untag": lambda ref: ("POST", f"{AT}/untag", {}, {"operation": "2" * 32, "template": ref, "tag": "a"}),
    "retag": lambda ref: ("POST", f"{AT}/retag", {}, {"operation": "2" * 32, "template": ref, "tag": "a", "new": "z"}),
    "trash": lambda ref: ("GET", f"{AT}/trash", {"ref": ref}, None),
    "restore": lambda ref: (
        "POST", f"{AT}/trash/restore", {}, {"operation": "2" * 32, "template": ref, "versions": ["3" * 32]}
    ),
    "purge": lambda ref: ("POST", f"{AT}/trash/purge", {}, {"operation": "2" * 32, "template": ref}),
    "pulled": lambda ref: ("POST", f"{AT}/pulls", {}, {"template": ref, "version": "3" * 32}),
    "open": lambda ref: ("POST", f"{AT}/sessions", {}, {"template": ref, "name": "mine", "tag": "a"}),
    "open for all": lambda ref: (
        "POST", f"{AT}/sessions", {}, {"template": ref, "name": "mine", "tag": "a", "force": True, "same_name": True}
    ),
    "open in a domain": lambda ref: (
        "POST", f"{AT}/sessions", {}, {"template": ref, "name": "mine", "tag": "a", "domain": "far"}
    ),
}  # fmt: skip
ID_ONLY = {
    "native revert",
    "everything",
    "rename",
    "untag",
    "retag",
    "restore",
    "purge",
    "pulled",
    "open",
    "open for all",
    "open in a domain",
}


def ask(client, question, ref):
    method, path, query, said = QUESTIONS[question](ref)
    return client.open(path, method=method, query_string=query, json=said)


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_is_hidden_answers_as_what_there_is_not(house, only, question):
    for hidden, missing in HIDDEN.items():
        if question in ID_ONLY and hidden in NAMES.values():
            continue
        first, second = ask(only, question, hidden), ask(only, question, missing)
        assert first.status_code == second.status_code, first.text
        assert first.text.replace(hidden, missing) == second.text
        assert sorted(first.headers.keys()) == sorted(second.headers.keys())
        assert house.unchanged()


def test_the_versions_of_what_is_hidden_are_hidden_too(house, only):
    versions = {}
    for template in (OTHER, FAR):
        head = house.registry.describe(ROOT, template).head
        versions |= {entry.id: template for entry in head.versions}
    assert len(versions) == 4
    for version, template in versions.items():
        found = only.post(f"{AT}/pulls", json={"template": template, "version": version})
        missing = only.post(f"{AT}/pulls", json={"template": NOBODY, "version": version})
        assert found.status_code == 404
        assert found.text.replace(template, NOBODY) == missing.text
        mixed = only.post(f"{AT}/pulls", json={"template": OPEN, "version": version})
        assert (mixed.status_code, mixed.json["error"]["code"]) == (404, "version-not-found")
        bases = [{"template": template, "version": version}, {"template": NOBODY, "version": uuid.uuid4().hex}]
        opened = only.post(f"{AT}/sessions", json={"template": OPEN, "name": "x", "tag": "n", "bases": bases}).json
        assert len({dropped["reason"] for dropped in opened["dropped"]}) == 1
        assert {entry["template"] for entry in opened["bases"]} == {OPEN}


def test_a_name_of_what_is_hidden_is_free(house, only):
    taken = only.post(
        f"{AT}/rename", json={"operation": "4" * 32, "template": OPEN, "name": NAMES[FAR], "same_name": False}
    )
    assert taken.status_code == 200, taken.text
    assert only.get(f"{AT}/template?ref={NAMES[FAR]}").json["id"] == OPEN, "and it is nobody else's name"
    house.begin()
    headers, _ = house.key(house.group(ALL, (), (("mine", EVERY_ACTION),)))
    tenant = house.closed.client(headers)
    Push([tenant], template=NOBODY, name=NAMES[OPEN], layers=[]).run()
    assert [entry["id"] for entry in tenant.get(f"{AT}/templates").json["templates"]] == [NOBODY]


def test_a_number_counts_only_what_is_listed(house, only):
    assert len(body(only.get("/registry/v2/vm"))) == 1
    assert only.head("/registry/v2/vm").content_length == len(only.get("/registry/v2/vm").data)
    headers, _ = house.key(house.group(ALL, ((NOBODY, EVERY_ACTION),)))
    nothing = house.closed.client(headers)
    assert body(nothing.get("/registry/v2/vm")) == body(nothing.get("/registry/vm")) == []
    assert body(nothing.get("/api/v1/registry/vm")) == []
    assert nothing.get(f"{AT}/templates").json == {"templates": []}


def test_what_happened_to_what_is_hidden_is_not_told_either(tmp_path):
    house = House(tmp_path, authorization=True)
    root = house.closed.client(house.closed.root)
    for template in (OPEN, FAR):
        assert root.put("/registry/vm/arch", json={"id": template, "arch": "arm64"}).status_code == 200
        assert root.get(f"{AT}/plan?ref={template}").status_code == 200
    root.post("/log", json={"content": f"pulled {NAMES[FAR]}"})
    headers, asker = house.key(house.group(ALL, ((OPEN, ("list",)),)))
    house.closed.app.extensions["s3reg"].finish(30)

    def told(client, **query):
        return client.get(f"{AT}/events", query_string={"limit": "1000", **query}).text

    mine = house.closed.client(headers)
    for found in (told(mine), told(mine, template=FAR), told(mine, template=NAMES[FAR]), told(mine, by="root")):
        assert FAR not in found
        assert NAMES[FAR] not in found
    assert OPEN in told(mine)
    assert asker not in told(mine), "it has done nothing yet that is told of"
    assert FAR in told(root)
