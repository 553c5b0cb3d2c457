"""Attacks by way of groups: names that look alike, more of them than anybody has, and rights that come and go."""

import pytest

from access.house import ALL, EVERY_ACTION, OPEN, House
from access_kit import Closed
from push_calls import TEMPLATE, Push
from s3reg.errors import NameInvalid
from s3reg.model import format_access as fmt

AT = "/transfer/v1"
OVER = 2.001
NOBODY = "99999999-aaaa-4bbb-8ccc-000000000009"


def status(closed, headers, path="/registry/vm"):
    return closed.http.get(path, headers=headers).status_code


@pytest.fixture
def pushed(strict):
    """A registry with one template."""
    Push([strict.client(strict.root)], layers=[]).run()
    return strict


ALIKE = ["Admins", "ADMINS", "admins2", "admin", "adm\N{LATIN SMALL LETTER DOTLESS I}ns", "admins\N{ZERO WIDTH SPACE}",
         "\N{CYRILLIC SMALL LETTER A}dmins", "\N{FULLWIDTH LATIN SMALL LETTER A}dmins", "admin\N{LATIN SMALL LETTER LONG S}",
         "admins,admins", "*", "%", "admins/", "../admins", "admins.json"]  # fmt: skip


@pytest.mark.parametrize("name", ALIKE, ids=ascii)
def test_a_group_that_looks_like_another_is_another(strict, name):
    """Upper case, Unicode's compatible forms, letters of other scripts."""
    strict.group("admins", *ALL)
    try:
        headers = strict.key("ci", [name])
    except NameInvalid:
        return
    assert status(strict, headers) == 403
    strict.group(name, "index")
    assert status(strict, headers) == 403
    assert status(strict, headers, "/registry/status") == 200


def test_two_spellings_of_one_name_are_one_group(strict):
    """NFC: they cannot be told apart, so they must not be two."""
    strict.group("caf\N{LATIN SMALL LETTER E WITH ACUTE}", "list_vms")
    headers = strict.key("ci", ["cafe\N{COMBINING ACUTE ACCENT}"])
    assert status(strict, headers) == 200
    strict.group("cafe\N{COMBINING ACUTE ACCENT}", "index")
    assert len(strict.gate.groups.all()) == 1


def test_a_group_named_twice_gives_what_it_gives_once(strict):
    strict.group("readers", "list_vms")
    new = {"id": "ci", "ttl": 60, "groups": ["readers"] * 100}
    answer = strict.http.post("/v1/apikey", headers=strict.root, json=new)
    assert answer.status_code == 200
    assert strict.gate.keys.find("ci").groups == ("readers",)


@pytest.mark.parametrize("path", ["/v1/apikey", f"{AT}/keys"])
def test_ten_thousand_groups_are_more_than_a_key_is_in(strict, path):
    many = [f"g{number}" for number in range(10_000)]
    answer = strict.http.post(path, headers=strict.root, json={"id": "ci", "ttl": 60, "groups": many})
    assert answer.status_code == 400
    assert strict.gate.keys.all() == []
    strict.make("ci")
    change = strict.http.put("/v1/apikey", headers=strict.root, json={"id": "ci", "groups": ",".join(many)})
    assert change.status_code == 400
    assert strict.gate.keys.find("ci").groups == ()


def test_rights_for_a_template_that_there_is_not_are_rights_once_it_is_there(pushed):
    pushed.group("future", *ALL, templates={NOBODY: ["list", "pull"]})
    headers = pushed.key("ci", ["future"])
    assert pushed.http.get(f"{AT}/templates", headers=headers).json == {"templates": []}
    assert status(pushed, headers, f"{AT}/plan?ref={NOBODY}") == 404
    answer = pushed.http.post(f"{AT}/sessions", headers=headers, json={"template": NOBODY, "name": "x", "tag": "x"})
    assert answer.status_code == 403, "it may be pulled, and not be made"
    Push([pushed.client(pushed.root)], template=NOBODY, name="future", layers=[]).run()
    assert status(pushed, headers, f"{AT}/plan?ref={NOBODY}") == 200
    assert status(pushed, headers, f"{AT}/plan?ref={TEMPLATE}") == 404


def test_rights_with_a_template_that_was_deleted_are_not_those_of_another_one_of_its_name(pushed):
    pushed.group("some", *ALL, templates={TEMPLATE: EVERY_ACTION})
    headers = pushed.key("ci", ["some"])
    root = pushed.client(pushed.root)
    root.delete(f"/registry/vm?id={TEMPLATE}")
    Push([root], template=NOBODY, layers=[]).run()
    assert status(pushed, headers, f"{AT}/plan?ref=13.1-base") == 404
    assert pushed.http.get(f"{AT}/templates", headers=headers).json == {"templates": []}


# --- Escalation ------------------------------------------------------------------------------------------------------


def attempts(victim):
    """Ways to have more than one has."""
    everything = {"name": "mine", "permissions": sorted(ALL), "templates": None, "domains": [], "gen": None}
    yield "POST", f"{AT}/groups", everything
    yield "POST", f"{AT}/groups", {**everything, "name": victim, "gen": 1}
    yield "POST", f"{AT}/groups/delete", {"name": victim}
    yield "POST", f"{AT}/keys", {"id": "more", "ttl": None, "groups": ["admins"]}
    yield "POST", f"{AT}/keys/change", {"id": "ci", "groups": ["admins"]}
    yield "POST", f"{AT}/keys/revoke", {"id": "boss"}
    for path in ("/v1/apikey", "/api/v1/apikey"):
        yield "POST", path, {"id": "more", "ttl": 60, "groups": ["admins"]}
        yield "PUT", path, {"id": "ci", "groups": ["admins"]}
        yield "DELETE", path, {"id": "boss"}
    for path in ("/admin/api/v1", "/admin/v1/api"):
        for name in (victim, "admins", "mine"):
            yield "POST", f"{path}/permission/group/{name}/resources", []


@pytest.mark.parametrize("has", [("list_vms", "push_vm", "head_push_vm", "pull_vm", "download_vm", "delete_vm", "revert"),
                                 ("view_permissions", "view_prmission_groups"), ("delete_permission_groups",)])  # fmt: skip
def test_nobody_gives_himself_more_who_may_not_change_groups(strict, has):
    strict.group("admins", *ALL)
    strict.group("own", *has)
    strict.make("boss", ["admins"])
    headers = strict.key("ci", ["own"])
    for method, path, said in attempts("own"):
        if "delete" in path or "revoke" in path or method == "DELETE":
            continue
        answer = strict.http.open(path, method=method, headers=headers, json=said)
        assert answer.status_code == 403, (method, path, answer.text)
        assert "update_permission_groups" in answer.text
    assert strict.gate.groups.find("own").permissions == set(has)
    assert [key.id for key in strict.gate.keys.all()] == ["boss", "ci"]


def test_nobody_deletes_who_may_not(strict):
    strict.group("admins", *ALL)
    strict.group("own", *(ALL - {"delete_permission_groups"}))
    strict.make("boss", ["admins"])
    headers = strict.key("ci", ["own"])
    for method, path, said in attempts("own"):
        if "delete" in path or "revoke" in path or method == "DELETE":
            answer = strict.http.open(path, method=method, headers=headers, json=said)
            assert answer.status_code == 403
    assert [key.id for key in strict.gate.keys.all()] == ["boss", "ci"]


def test_who_may_change_groups_may_give_himself_everything_and_that_is_what_it_means(strict):
    strict.group("own", "update_permission_groups", templates={})
    headers = strict.key("ci", ["own"])
    group = strict.gate.groups.find("own")
    entry = {"name": "own", "permissions": sorted(ALL), "templates": None, "domains": [], "gen": group.gen}
    assert strict.http.post(f"{AT}/groups", headers=headers, json=entry).status_code == 200
    assert status(strict, headers) == 200


def test_who_deletes_his_own_group_has_nothing_left(strict, clock):
    strict.group("own", *ALL)
    headers = strict.key("ci", ["own"])
    other = strict.replica()
    assert status(other, headers) == 200
    assert strict.http.post(f"{AT}/groups/delete", headers=headers, json={"name": "own"}).status_code == 200
    assert status(strict, headers) == 403
    clock.ahead += OVER
    assert status(other, headers) == 403
    strict.group("own", "list_vms", templates={})
    assert status(other, headers) == 200, "a group made again gives what it gives now"


def test_a_revoked_key_cannot_undo_that(strict, clock):
    strict.group("own", *ALL)
    headers = strict.key("ci", ["own"])
    assert strict.http.post(f"{AT}/keys/revoke", headers=headers, json={"id": "ci"}).status_code == 200
    for method, path, said in attempts("own"):
        assert strict.http.open(path, method=method, headers=headers, json=said).status_code == 401
    other = strict.replica()
    assert status(other, headers) == 401


def test_a_permission_of_no_meaning_is_refused_and_one_of_another_product_opens_nothing(strict):
    for name in ("root", "everything", "*", "list_vms ", "LIST_VMS", "", "registry_list", None, 5):
        entry = {"name": "odd", "permissions": [name], "templates": [], "domains": [], "gen": None}
        assert strict.http.post(f"{AT}/groups", headers=strict.root, json=entry).status_code == 400, name
    strict.group("odd", "upload_file", "download_file", "get_streamer", "stream_log", "send_log")
    assert status(strict, strict.key("ci", ["odd"])) == 403


def test_without_authorization_groups_are_no_matter_but_a_credential_is(closed):
    closed.group("none", templates={})
    headers = closed.key("ci", ["none", "unknown"])
    assert status(closed, headers) == 200
    assert status(closed, headers, "/v1/apikey") == 200
    assert status(closed, {}) == 401


# --- What a call asks for is what it does -----------------------------------------------------------------------------


@pytest.mark.parametrize("said", [True, "true", "false", "no", "0", 0, 1, "on", "off", None, [], {}, "False"])
def test_what_a_revert_asks_for_is_what_it_needs(pushed, said):
    """Everything needs `delete_vm`, one version `revert`: however `everything` is spelled, the same reading counts."""
    Push([pushed.client(pushed.root)], tag="v2", layers=[]).run()
    askers = {name: pushed.key(name, [pushed.group(name, name)]) for name in ("delete_vm", "revert")}
    body = {"template": TEMPLATE, "everything": said}
    for number, (name, headers) in enumerate(askers.items()):
        answer = pushed.http.post(f"{AT}/revert", headers=headers, json={**body, "operation": f"{number}" * 32})
        assert answer.status_code in {200, 400, 403}
        if answer.status_code == 200:
            assert answer.json["deleted"] == (name == "delete_vm"), "with what it has it may do the one thing only"
            break


@pytest.mark.parametrize(
    "body",
    [
        '{"operation": "%s", "template": "%s", "everything": false, "everything": true}',
        '{"operation": "%s", "template": "%s", "everything": true, "everything": false}',
        '{"everything": true, "operation": "%s", "template": "%s", "Everything": false}',
    ],
)
def test_a_name_that_comes_twice_is_read_once(pushed, body):
    askers = {name: pushed.key(name, [pushed.group(name, name)]) for name in ("delete_vm", "revert")}
    Push([pushed.client(pushed.root)], tag="v2", layers=[]).run()
    for number, (name, headers) in enumerate(askers.items()):
        answer = pushed.http.post(f"{AT}/revert", headers=headers, data=body % (f"{number}" * 32, TEMPLATE))
        if answer.status_code == 200:
            assert answer.json["deleted"] == (name == "delete_vm")
            break


@pytest.mark.parametrize(
    "query", ["info", "info=", "info=1", "INFO", "Info=1", "info=0&info", "apiVer=v1&info", "id=x&info"]
)
def test_a_list_that_asks_for_a_configuration_needs_what_that_needs(pushed, query):
    headers = pushed.key("ci", [pushed.group("readers", "list_vms")])
    answer = pushed.http.get(f"/api/v1/registry/vm?{query}&id={TEMPLATE}", headers=headers)
    assert answer.status_code in {200, 400, 403}
    assert '"ram"' not in answer.text


# --- Rights that come and go -------------------------------------------------------------------------------------------


def test_what_is_granted_counts_at_once_on_every_replica(pushed):
    """Permissions of a group, rights with a template, another group of a key: nobody is refused by what was kept."""
    other = pushed.replica()
    pushed.group("own", "list_vms", templates={})
    headers = pushed.key("ci", ["own"])
    plan = f"{AT}/plan?ref={TEMPLATE}"
    assert (status(other, headers), status(other, headers, plan)) == (200, 403)
    pushed.group("own", "list_vms", "pull_vm", "download_vm", templates={})
    assert status(other, headers, plan) == 404
    pushed.group("own", "list_vms", "pull_vm", "download_vm", templates={TEMPLATE: ["list", "pull"]})
    assert status(other, headers, plan) == 200
    pushed.group("more", "revert", templates={TEMPLATE: ["delete_revert"]})
    pushed.gate.keys.change("ci", groups=("own", "more"))
    answer = other.http.delete("/registry/revert", headers=headers, json={"id": TEMPLATE})
    assert answer.status_code == 200, answer.text


def test_what_is_taken_away_is_gone_on_every_replica_after_two_seconds(pushed, clock):
    other = pushed.replica()
    pushed.group("own", *ALL, templates={TEMPLATE: EVERY_ACTION})
    headers = pushed.key("ci", ["own"])
    plan = f"{AT}/plan?ref={TEMPLATE}"
    assert (status(pushed, headers, plan), status(other, headers, plan)) == (200, 200)
    pushed.group("own", *ALL, templates={TEMPLATE: ["list"]})
    clock.ahead += OVER
    assert (status(pushed, headers, plan), status(other, headers, plan)) == (403, 403)
    pushed.group("own", *ALL, templates={})
    clock.ahead += OVER
    assert (status(pushed, headers, plan), status(other, headers, plan)) == (404, 404)
    pushed.group("own", "list_vms", templates={TEMPLATE: EVERY_ACTION})
    clock.ahead += OVER
    assert (status(pushed, headers, plan), status(other, headers, plan)) == (403, 403)


def test_a_list_shows_what_was_granted_or_taken_after_two_seconds(tmp_path):
    house = House(tmp_path, authorization=True)
    other = house.closed.replica()
    house.closed.group("own", "list_vms", templates={})
    headers = house.closed.key("ci", ["own"])

    def listed():
        return [entry["id"] for entry in other.http.get(f"{AT}/templates", headers=headers).json["templates"]]

    assert listed() == []
    house.closed.group("own", "list_vms", templates={OPEN: ["list"]})
    house.clock.ahead += OVER
    assert listed() == [OPEN]
    house.closed.group("own", "list_vms", templates={})
    house.clock.ahead += OVER
    assert listed() == []


def test_a_group_that_cannot_be_read_gives_nothing_and_takes_nothing(strict, clock):
    strict.group("good", "list_vms")
    strict.group("bad", "index")
    headers = strict.key("ci", ["good", "bad"])
    other = Closed(strict.folder, token=strict.token, clock=clock, authorization=True)
    for data in (b"", b"{}", b'{"v": 99}', b"\xff", b'{"v": 1, "name": "good", "permissions": ["index"]}'):
        strict.store.put(fmt.group_key("bad"), data)
        clock.ahead += OVER
        for one in (strict, other):
            assert status(one, headers) == 200
            assert status(one, headers, "/registry/status") == 403


def test_a_record_under_anothers_key_is_nobodys(strict, clock):
    """Whoever can write to the store can do anything; but a copy by mistake must not make a key of another."""
    strict.group("admins", *ALL)
    strict.group("none")
    strict.make("boss", ["admins"])
    headers = strict.key("ci", ["none"])
    strict.store.put(fmt.group_key("none"), strict.store.get(fmt.group_key("admins")).data)
    strict.store.put(fmt.api_key_key("ci2"), strict.store.get(fmt.api_key_key("boss")).data)
    clock.ahead += OVER
    assert status(strict, headers) == 403
    assert strict.hand("ci2").status_code == 401
