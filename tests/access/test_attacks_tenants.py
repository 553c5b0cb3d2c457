"""Attacks of one tenant on another: on its sessions, packs, maps, bases, plans and links."""

import threading
import uuid

import pytest

from access.house import ALL, EVERY_ACTION, House
from push_calls import Layer, Push
from s3reg.model import format as fmt

AT = "/transfer/v1"
BLUE, RED, NEW = (f"{digit * 8}-aaaa-4bbb-8ccc-00000000000{digit}" for digit in "789")
LAYERS = [Layer("b" * 32 + ".ank", b"blue's own disk " * 1000)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Two tenants, each with a domain, a template, and everything permitted in there."""
    house = House(tmp_path_factory.mktemp("tenants"), authorization=True)
    house.tenants = {}
    for name, template in (("blue", BLUE), ("red", RED)):
        headers, asker = house.key(house.group(ALL, (), ((name, EVERY_ACTION),)))
        client = house.closed.client(headers)
        push = Push([client], template=template, name=f"{name}-base", layers=LAYERS if name == "blue" else [])
        push.open()
        push.done = push.commit(push.files())
        house.tenants[name] = (client, asker, push)
    house.keep()
    return house


@pytest.fixture
def house(shared):
    shared.begin()
    return shared


@pytest.fixture
def red(house):
    return house.tenants["red"][0]


@pytest.fixture
def blue(house):
    return house.tenants["blue"][0]


@pytest.fixture
def theirs(blue):
    """Blue's push, under way: opened, its layers uploaded."""
    push = Push([blue], template=BLUE, name="blue-base", tag="v2", layers=LAYERS)
    push.open()
    push.entries = push.files()
    return push


def mapped(push):
    return next(entry for entry in push.entries if "map" in entry)


def config(push):
    return [entry for entry in push.entries if "map" not in entry]


def test_each_tenant_sees_its_own(red, blue):
    assert [entry["name"] for entry in red.get(f"{AT}/templates").json["templates"]] == ["red-base"]
    assert [entry["name"] for entry in blue.get(f"{AT}/templates").json["templates"]] == ["blue-base"]


CALLS = {
    "show": ("GET", "", None),
    "abort": ("DELETE", "", None),
    "bases": ("POST", "/bases", {"bases": []}),
    "uploads": ("POST", "/uploads", {"objects": [{"kind": "pack", "sha256": "0" * 64, "size": 5}]}),
    "uploads of nothing": ("POST", "/uploads", {"objects": []}),
    "commit": ("POST", "/commit", {"tag": "x", "name": "x", "files": []}),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_session_of_another_tenant_is_like_none(house, red, theirs, call):
    method, rest, said = CALLS[call]
    missing = uuid.uuid4().hex
    before = house.store.changed.copy()
    first = red.open(f"{AT}/sessions/{theirs.sid}{rest}", method=method, json=said)
    second = red.open(f"{AT}/sessions/{missing}{rest}", method=method, json=said)
    assert first.status_code == second.status_code
    assert first.text.replace(theirs.sid, missing) == second.text
    assert house.store.changed == before
    theirs.commit(theirs.entries)


def test_a_session_of_root_or_of_a_certificate_of_the_same_name_is_like_none(house, red):
    _, asker, _ = house.tenants["red"]
    for owner in ("root", asker.replace("key:", "cert:"), asker.removeprefix("key:"), asker.upper(), f"{asker} "):
        sid = house.session(owner)
        assert red.get(f"{AT}/sessions/{sid}").status_code == 410


def test_not_even_root_goes_on_with_a_push_of_a_tenant(house, theirs):
    root = house.closed.client(house.closed.root)
    assert root.get(f"{AT}/sessions/{theirs.sid}").status_code == 410


def test_a_commit_that_is_repeated_by_another_tenant_tells_nothing(house, red):
    """After a commit its session is gone, and the version carries its id."""
    _, _, push = house.tenants["blue"]
    missing = uuid.uuid4().hex
    said = {"tag": "x", "name": "x", "files": config_only(push)}
    first = red.post(f"{AT}/sessions/{push.sid}/commit", json=said)
    second = red.post(f"{AT}/sessions/{missing}/commit", json=said)
    assert (first.status_code, first.text.replace(push.sid, missing)) == (second.status_code, second.text)


def config_only(push):
    (entry,) = Push([], template=push.template, layers=[]).files()
    return [entry]


@pytest.mark.parametrize("more", [{}, {"domain": "blue"}, {"domain": "red"}, {"force": True, "same_name": True}])
def test_nobody_pushes_to_a_template_of_another_tenant(house, red, more):
    said = {"template": BLUE, "name": "x", "tag": "x", **more}
    answer = red.post(f"{AT}/sessions", json=said)
    assert answer.status_code in {403, 404, 409}
    assert "blue-base" not in answer.text
    assert house.unchanged()


def test_nobody_makes_a_template_in_a_domain_of_another_tenant(house, red):
    said = {"template": NEW, "name": "x", "tag": "x"}
    first = red.post(f"{AT}/sessions", json={**said, "domain": "blue"})
    second = red.post(f"{AT}/sessions", json={**said, "domain": "blux"})
    assert first.status_code == 403
    assert first.text.replace("blue", "blux") == second.text, "whether there is such a domain is not told"
    assert house.unchanged()


def test_a_template_that_names_no_domain_comes_into_the_only_one_that_is_allowed(red):
    answer = red.post(f"{AT}/sessions", json={"template": NEW, "name": "x", "tag": "x"})
    assert (answer.status_code, answer.json["domain"]) == (201, "red")


def test_a_base_of_another_tenant_is_dropped_like_one_that_there_is_not(house, red, blue):
    _, _, push = house.tenants["blue"]
    theirs = {"template": BLUE, "version": push.done["version"]}
    missing = {"template": NEW, "version": uuid.uuid4().hex}
    wrong = {"template": RED, "version": push.done["version"]}
    bases = [theirs, missing, wrong]
    opened = red.post(f"{AT}/sessions", json={"template": RED, "name": "x", "tag": "x", "bases": bases}).json
    added = red.post(f"{AT}/sessions/{opened['session']}/bases", json={"bases": bases}).json
    for answer in (opened, added):
        assert len({entry["reason"] for entry in answer["dropped"]}) == 1
        assert len(answer["dropped"]) == 3
        assert BLUE not in [entry["template"] for entry in answer["bases"]]
    assert {entry["template"] for entry in added["bases"]} <= {RED}


def commit(red, files, expect=400):
    push = Push([red], template=RED, name="red-base", tag="stolen", layers=[])
    push.open()
    return push.call("POST", f"/sessions/{push.sid}/commit", {"tag": "stolen", "name": "x", "files": files}, expect)


def test_a_commit_takes_no_map_of_another_tenant(house, red, theirs):
    entry = mapped(theirs)
    nowhere = {**entry, "map": {**entry["map"], "sid": uuid.uuid4().hex}}
    told = [commit(red, [*config(theirs), one])["error"]["message"] for one in (entry, nowhere)]
    assert told[0] == told[1]


def test_a_commit_takes_no_pack_of_another_tenant_even_by_a_map_of_its_own(house, red, theirs):
    """Blue's own map, sent again by red: it names blue's pack, whose digest red has guessed or heard."""
    ref = mapped(theirs)["map"]
    data = house.closed.store.get(fmt.map_key("blue", ref["sid"], ref["sha256"])).data
    push = Push([red], template=RED, name="red-base", tag="stolen", layers=[])
    push.open()
    assert push.put("map", data) == ref["sha256"]
    own = {**mapped(theirs), "map": {**ref, "sid": push.sid}}
    said = {"tag": "stolen", "name": "x", "files": [*config(theirs), own]}
    answer = push.call("POST", f"/sessions/{push.sid}/commit", said, 400)
    assert answer["error"]["code"] == "commit-invalid"
    assert "was not uploaded" in answer["error"]["message"] or "of no base" in answer["error"]["message"]


def test_what_another_tenant_has_costs_a_push_what_it_costs_alone(house, red, theirs):
    theirs.commit(theirs.entries)
    push = Push([red], template=RED, name="red-base", tag="same", layers=LAYERS)
    push.open()
    done = push.commit()
    alone = house.tenants["blue"][2].done
    assert done["stored"] == alone["stored"] > 0
    stored = {stat.key.split("/")[1] for stat in house.closed.store.list("packs/") if push.sid in stat.key}
    assert stored == {"red"}


def test_a_link_is_signed_in_the_tenants_own_domain_and_prefix(red, theirs):
    ref = mapped(theirs)["map"]
    push = Push([red], template=RED, name="red-base", tag="x", layers=[])
    push.open()
    asked = {"objects": [{"kind": "map", "sha256": ref["sha256"], "size": ref["size"]}]}
    (link,) = push.call("POST", f"/sessions/{push.sid}/uploads", asked)["links"]
    assert link["url"].startswith(f"/objects/maps/red/{push.sid}/")


def test_what_a_tenant_says_of_kinds_and_digests_leads_to_no_other_key(house, red):
    push = Push([red], template=RED, name="red-base", tag="x", layers=[])
    push.open()
    for kind in ("heads", "auth", "../heads", "", None, "packs", "pack/../../auth"):
        asked = {"objects": [{"kind": kind, "sha256": "0" * 64, "size": 5}]}
        push.call("POST", f"/sessions/{push.sid}/uploads", asked, 400)
    for digest in ("../" * 21 + "a", "0" * 63 + "/", "A" * 64, "0" * 63, "\u0660" * 64, ""):
        asked = {"objects": [{"kind": "pack", "sha256": digest, "size": 5}]}
        push.call("POST", f"/sessions/{push.sid}/uploads", asked, 400)


@pytest.mark.parametrize("sid", ["..", "%2e%2e", "0" * 31, "0" * 32 + "%00", "%2e%2e%2fkeys", "A" * 32, "*" * 32])
def test_a_session_id_is_an_id(red, sid):
    for method, rest, said in CALLS.values():
        answer = red.open(f"{AT}/sessions/{sid}{rest}", method=method, json=said)
        assert answer.status_code in {400, 404, 405}


def test_an_operation_of_another_tenant_is_not_told_done(house, red, blue):
    operation = "a" * 32
    said = {"operation": operation, "template": BLUE, "name": "blue-renamed"}
    assert blue.post(f"{AT}/rename", json=said).status_code == 200
    assert red.post(f"{AT}/rename", json=said).status_code == 404


@pytest.mark.parametrize(
    "spell", [str.upper, "urn:uuid:{}".format, "{{{}}}".format, lambda text: text.replace("-", "")]
)
def test_no_spelling_of_an_id_is_another_template(red, blue, spell):
    """A UUID has many; rights are for what it means."""
    assert red.get(f"{AT}/template", query_string={"ref": spell(RED)}).status_code == 200
    for client, theirs in ((red, BLUE), (blue, RED)):
        for path in ("/template", "/plan"):
            assert client.get(AT + path, query_string={"ref": spell(theirs)}).status_code == 404
        assert client.delete("/registry/vm", json={"id": spell(theirs)}).status_code == 400


def test_a_template_that_is_named_like_anothers_id_is_only_its_owners(house, red, blue):
    said = {"operation": "b" * 32, "template": RED, "name": BLUE}
    assert red.post(f"{AT}/rename", json=said).status_code == 200
    assert red.get(f"{AT}/template?ref={BLUE}").json["id"] == RED
    assert blue.get(f"{AT}/template?ref={BLUE}").json["id"] == BLUE
    assert red.delete("/registry/vm", json={"id": BLUE}).status_code == 200
    assert [entry["id"] for entry in blue.get(f"{AT}/templates").json["templates"]] == [BLUE]


@pytest.mark.parametrize(
    ("query", "body"),
    [
        (f"?id={RED}", f'{{"id": "{BLUE}"}}'),
        (f"?id={BLUE}", f'{{"id": "{RED}"}}'),
        (f"?id={RED}&id={BLUE}", None),
        (f"?id={RED}&ID={BLUE}", None),
        ("", f'{{"id": "{RED}", "id": "{BLUE}"}}'),
        ("", f'{{"id": "{RED}", "Id": "{BLUE}"}}'),
    ],
)
def test_a_request_that_names_two_templates_is_about_neither(house, red, query, body):
    for path in ("/registry/vm", "/registry/revert", "/api/v1/registry/vm", "/api/v1/registry/revert"):
        assert red.delete(path + query, data=body).status_code == 400
    assert house.unchanged()


def test_a_deleted_template_of_another_tenant_is_not_taken_over(house, red, blue):
    assert blue.delete("/registry/vm", json={"id": BLUE}).status_code == 200
    for more in ({}, {"force": True, "same_name": True, "domain": "red"}):
        answer = red.post(f"{AT}/sessions", json={"template": BLUE, "name": "x", "tag": "x", **more})
        assert answer.status_code == 409
        assert "blue" not in answer.text
    assert blue.post(f"{AT}/sessions", json={"template": BLUE, "name": "x", "tag": "x"}).status_code == 201


def test_an_id_that_another_tenant_takes_meanwhile_is_lost_and_nothing_is_told_of_it(house, red, blue):
    mine = Push([red], template=NEW, name="mine", layers=LAYERS)
    mine.open()
    files = mine.files()
    theirs = Push([blue], template=NEW, name="blue-new", layers=[])
    theirs.run()
    said = {"tag": "v1", "name": "mine", "files": files, "force": True, "same_name": True}
    answer = red.post(f"{AT}/sessions/{mine.sid}/commit", json=said)
    assert answer.status_code == 409
    assert "blue" not in answer.text
    assert [one["id"] for one in red.get(f"{AT}/templates").json["templates"]] == [RED]
    (found,) = (one for one in blue.get(f"{AT}/templates").json["templates"] if one["id"] == NEW)
    assert [version["tag"] for version in found["versions"]] == ["v1"]
    assert found["size"] == 0, "and it is still blue's own"


def test_who_may_push_and_not_pull_learns_nothing_of_what_is_there(house, blue):
    headers, _ = house.key(house.group(ALL, ((BLUE, ("list", "push_tag")),)))
    pusher = house.closed.client(headers)
    opened = pusher.post(f"{AT}/sessions", json={"template": BLUE, "name": "x", "tag": "new"}).json
    assert opened["bases"] == []
    again = pusher.post(
        f"{AT}/sessions/{opened['session']}/bases",
        json={"bases": [{"template": BLUE, "version": house.tenants["blue"][2].done["version"]}]},
    ).json
    assert again["bases"] == []
    assert "url" not in str([opened, again])


LISTS = [
    ("/registry/vm", "body"),
    ("/registry/v2/vm", "body"),
    ("/api/v1/registry/vm", "body"),
    (f"{AT}/templates", "templates"),
]


def test_lists_of_tenants_that_ask_at_once_do_not_mix(house):
    """Answers are put together once for all who are shown the same."""
    wrong = []

    def ask(name, path, key):
        client = house.closed.client(house.key(house.group(ALL, (), ((name, EVERY_ACTION),)))[0])
        start.wait()
        for _ in range(40):
            found = client.get(path).json[key]
            if f"{name}-base" not in str(found) or len(found) != 1:
                wrong.append((name, found))

    asked = [(name, *where) for name in ("red", "blue") for where in LISTS]
    start = threading.Barrier(len(asked))
    threads = [threading.Thread(target=ask, args=one) for one in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


LISTS = [
    ("/registry/vm", "body"),
    ("/registry/v2/vm", "body"),
    ("/api/v1/registry/vm", "body"),
    (f"{AT}/templates", "templates"),
]
