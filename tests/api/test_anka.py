"""The Anka registry's answers, field by field."""

import json
import re
import time
import uuid

import pytest

from push_calls import TEMPLATE, Layer
from s3reg.api import create_app
from s3reg.api.shapes import top_first
from s3reg.model.template import File, Role

BASE, TOP = "a" * 32 + ".ank", "b" * 32 + ".ank"
SECOND = "c" * 32 + ".ank"
STATE, OLD_STATE = "e" * 32 + ".ank", "f" * 32 + ".ank"
BASE_LAYER = Layer(BASE, b"base" * 1000)
TOP_LAYER = Layer(TOP, b"top" * 1000, parent=BASE)


def body(answer):
    """What a success holds. Its envelope has these keys and no others."""
    assert answer.status_code == 200, answer.text
    assert answer.mimetype == "application/json"
    assert list(answer.json) == ["status", "body", "message"]
    assert (answer.json["status"], answer.json["message"]) == ("OK", "")
    return answer.json["body"]


@pytest.fixture
def pushed(push):
    """One template: a stopped version, then one with a second layer, a second drive and a suspended state."""
    push(tag="vanilla", layers=[BASE_LAYER])
    layers = [
        BASE_LAYER,
        Layer(STATE, b"ram" * 999, role="state", drive=None, parent=OLD_STATE),
        Layer(SECOND, b"other drive" * 99, drive=1),
        TOP_LAYER,
        Layer(OLD_STATE, b"old ram" * 99, role="state", drive=None),
    ]
    push(tag="vanilla+ssh", layers=layers)


def test_the_status_says_that_it_runs_and_which_release(http):
    told = body(http.get("/registry/status"))
    assert set(told) == {"status", "version"}
    assert told["status"] == "Running"
    assert re.fullmatch(r"\d+\.\d+\.\d+-[0-9a-f]{8}", told["version"])


def test_an_empty_registry_lists_nothing(http):
    assert body(http.get("/registry/vm")) == []
    assert body(http.get("/registry/v2/vm")) == []


def test_v1_lists_objects_of_one_key_and_v2_lists_sizes(http, push):
    other = str(uuid.UUID(int=2))
    push(name="b-name")
    push(name="a-name", template=other)
    assert body(http.get("/registry/vm")) == [{other: "a-name"}, {TEMPLATE: "b-name"}]
    size = 400_000
    assert body(http.get("/registry/v2/vm")) == [
        {"id": other, "name": "a-name", "size": size},
        {"id": TEMPLATE, "name": "b-name", "size": size},
    ]


@pytest.mark.parametrize("path", ["/registry/vm", "/registry/v2/vm"])
def test_s19_a_template_has_every_field_of_every_release_and_each_version_its_own_size(http, pushed, path):
    told = body(http.get(path, query_string={"id": TEMPLATE}))
    old, new = told.pop("versions")
    assert told.pop("last_push") == new["creation_date"]
    first, second = 4000, 4000 + 3000 + 1089 + 2997 + 693
    assert told == {"id": TEMPLATE, "name": "13.1-base", "size": second, "arch": "", "last_pull": 0}
    for version in (old, new):
        assert version.pop("creation_date") == version.pop("last_push")
    constant = {"config_file": f"{TEMPLATE}.yaml", "nvram": "nvram", "description": "", "arch": "", "last_pull": 0}
    assert old == {
        **constant, "number": 0, "tag": "vanilla", "images": [BASE], "state_files": [], "state_file": "", "size": first,
    }  # fmt: skip
    assert new == {
        **constant, "number": 1, "tag": "vanilla+ssh", "images": [TOP, BASE, SECOND], "size": second,
        "state_files": [STATE, OLD_STATE], "state_file": STATE,
    }  # fmt: skip


def test_times_and_sizes_are_whole_numbers(http, pushed):
    told = body(http.get(f"/registry/v2/vm?id={TEMPLATE}"))
    for holder in (told, *told["versions"]):
        for name in ("size", "last_pull", "last_push", "creation_date"):
            if name != "creation_date" or holder is not told:
                assert type(holder[name]) is int, name
    assert abs(told["last_push"] - time.time()) < 600


def test_a_reported_pull_shows_as_last_pull_of_version_and_template(http, pushed):
    plan = http.get(f"/transfer/v1/plan?ref={TEMPLATE}&tag=vanilla").json
    assert plan["tag"] == "vanilla"
    http.post("/transfer/v1/pulls", json={"template": TEMPLATE, "version": plan["version"]})
    told = body(http.get(f"/registry/v2/vm?id={TEMPLATE}"))
    assert told["versions"][0]["last_pull"] == told["last_pull"] > 0
    assert told["versions"][1]["last_pull"] == 0


def test_s28_nothing_but_a_reported_pull_moves_last_pull(http, pushed, store):
    for path in (
        "/registry/vm",
        "/registry/v2/vm",
        f"/registry/v2/vm?id={TEMPLATE}",
        f"/registry/vm/info?id={TEMPLATE}",
        "/registry/disk",
        "/api/v1/registry/vm",
    ):
        body(http.get(path))
    for path in (
        f"/transfer/v1/plan?ref={TEMPLATE}",
        f"/transfer/v1/template?ref={TEMPLATE}",
        "/transfer/v1/templates",
    ):
        assert http.get(path).status_code == 200
    body(http.put("/registry/vm/arch", json={"id": TEMPLATE, "arch": "arm64"}))
    body(http.delete(f"/registry/revert?id={TEMPLATE}"))
    assert body(http.get(f"/registry/v2/vm?id={TEMPLATE}"))["last_pull"] == 0
    assert list(store.list("pulls/")) == []


def test_last_pull_of_a_template_is_that_of_its_versions_which_are_left(http, pushed):
    for tag in ("vanilla", "vanilla%2Bssh"):
        version = http.get(f"/transfer/v1/plan?ref={TEMPLATE}&tag={tag}").json["version"]
        http.post("/transfer/v1/pulls", json={"template": TEMPLATE, "version": version})
    old, new = (version["last_pull"] for version in body(http.get(f"/registry/v2/vm?id={TEMPLATE}"))["versions"])
    assert 0 < old <= new
    body(http.delete(f"/registry/revert?id={TEMPLATE}"))
    assert body(http.get(f"/registry/v2/vm?id={TEMPLATE}"))["last_pull"] == old


def test_s8_s34_what_was_pushed_or_removed_is_so_in_the_next_list_of_every_replica(http, settings, store, push):
    other = create_app(settings, store).test_client()
    for at in (http, other):
        assert body(at.get("/registry/v2/vm")) == []
    push()
    assert [row["id"] for row in body(other.get("/registry/v2/vm"))] == [TEMPLATE]
    push(tag="v2", layers=[])
    body(http.delete(f"/registry/revert?id={TEMPLATE}&tag=v2"))
    assert len(body(other.get(f"/registry/vm?id={TEMPLATE}"))["versions"]) == 1
    body(other.delete(f"/registry/vm?id={TEMPLATE}"))
    for at in (http, other):
        assert (
            body(at.get("/registry/v2/vm")) == body(at.get("/registry/vm")) == body(at.get("/api/v1/registry/vm")) == []
        )


def test_s9_a_version_without_any_layer_is_listed_with_size_0(http, push):
    push(tag="empty", layers=[])
    assert [row["size"] for row in body(http.get("/registry/v2/vm"))] == [0]
    (told,) = body(http.get(f"/registry/vm?id={TEMPLATE}"))["versions"]
    assert (told["size"], told["images"], told["state_files"], told["state_file"]) == (0, [], [], "")
    push(tag="full", layers=[BASE_LAYER])
    assert [row["size"] for row in body(http.get("/registry/v2/vm"))] == [4000]


@pytest.mark.parametrize("path", ["/registry/vm/info?", "/api/v1/registry/vm?info&"])
def test_t7_a_missing_tag_is_400_with_one_text_and_nothing_is_given_in_its_place(standing, path):
    for selector, told in (("tag=nix", "nix"), ("tag=latest", "latest"), ("tag=A", "A"), ("version=3", "3")):
        answer = standing.get(f"{path}id={TEMPLATE}&{selector}")
        assert answer.status_code == 400
        assert answer.json == {"status": "FAIL", "message": f"Did not find any versions with tag {told}"}


def test_info_is_the_config_of_a_version_as_json(http, push):
    push(tag="v1", config=b"name: base\nram: 4G\ncpu: {cores: 4}\nnvram: true\n")
    push(tag="v+2/x", config=b"name: base\nram: 8G\nhard_drives: [{pci_slot: 4, file: x.ank}]\n")
    at = f"/registry/vm/info?id={TEMPLATE}"
    newest = {"name": "base", "ram": "8G", "hard_drives": [{"pci_slot": 4, "file": "x.ank"}]}
    oldest = {"name": "base", "ram": "4G", "cpu": {"cores": 4}, "nvram": True}
    assert body(http.get(at)) == newest
    assert body(http.get(at + "&tag=v%2B2/x")) == newest
    assert body(http.get(at + "&tag=v1")) == oldest
    assert body(http.get(at + "&version=0")) == oldest
    assert body(http.get(at + "&version=1&tag=v%2B2%2Fx")) == newest


@pytest.mark.parametrize(
    "path",
    [
        "/registry/vm?id=22222222-aaaa-4bbb-8ccc-000000000009",
        "/registry/v2/vm?id=../format",
        "/registry/vm/info?id=22222222-aaaa-4bbb-8ccc-000000000009",
        "/registry/vm/info",
        f"/registry/vm/info?id={TEMPLATE}&tag=nix",
        f"/registry/vm/info?id={TEMPLATE}&version=7",
        f"/registry/vm/info?id={TEMPLATE}&version=-1",
        f"/registry/vm/info?id={TEMPLATE}&version=one",
        f"/registry/vm/info?id={TEMPLATE}&version=1&tag=vanilla",
        "/registry/v2/vm?id=%00%FF",
    ],
)
def test_what_is_not_there_is_400_with_a_message_and_no_body(http, pushed, path):
    answer = http.get(path)
    assert answer.status_code == 400
    assert set(answer.json) == {"status", "message"}
    assert answer.json["status"] == "FAIL"
    assert answer.json["message"]


@pytest.mark.parametrize(
    "path", ["//registry/v2/vm", "/registry//v2/vm/", "/registry/v2/vm/", "///registry///v2///vm///"]
)
def test_naively_joined_paths_are_taken_as_they_are_meant(http, pushed, path):
    # The path goes in as the server would give it: a client's URL parser would take // for a host.
    answer = http.get("/", query_string={"id": TEMPLATE}, environ_overrides={"PATH_INFO": path})
    assert body(answer)["id"] == TEMPLATE


def test_an_empty_id_lists(http, pushed):
    assert len(body(http.get("/registry/v2/vm?id="))) == 1


def test_s20_a_version_whose_record_is_damaged_shows_what_the_head_knows(settings, pushed, store):
    keys = sorted((item.modified, item.key) for item in store.list("versions/"))
    store.put(keys[0][1], b"{ damaged")
    restarted = create_app(settings, store).test_client()  # a record never changes, so a process reads it once
    damaged, whole = body(restarted.get(f"/registry/v2/vm?id={TEMPLATE}"))["versions"]
    assert (damaged["tag"], damaged["images"], damaged["size"]) == ("vanilla", [], 4000)
    assert whole["images"] == [TOP, BASE, SECOND]


@pytest.mark.parametrize("data", [b"", b"{", b'{"v":1,"name":"x"}'])
@pytest.mark.usefixtures("three")
def test_s20_s21_neither_a_head_that_is_no_record_nor_foreign_files_break_a_list(http, store, data):
    other = "22222222-aaaa-4bbb-8ccc-000000000002"
    store.put(f"heads/{other}.json", data)
    for key in ("heads/.DS_Store", ".DS_Store", f"versions/{TEMPLATE}/.DS_Store", f"pulls/{TEMPLATE}/.DS_Store"):
        store.put(key, b"\0\0\0\1Bud1")
    assert body(http.get("/registry/vm")) == [{TEMPLATE: "13.1-base"}]
    assert [row["id"] for row in body(http.get("/registry/v2/vm"))] == [TEMPLATE]
    assert [row["id"] for row in body(http.get("/api/v1/registry/vm"))] == [TEMPLATE]
    assert len(body(http.get(f"/registry/v2/vm?id={TEMPLATE}"))["versions"]) == 3
    body(http.get("/registry/disk"))
    for path in (f"/registry/v2/vm?id={other}", f"/registry/vm/info?id={other}"):
        answer = http.get(path)
        assert (answer.status_code, answer.json["status"]) == (500, "FAIL")
        assert "damaged" in answer.json["message"]


def test_s20_a_template_whose_head_is_damaged_in_part_is_shown_in_part(http, three):
    key = f"heads/{TEMPLATE}.json"
    raw = json.loads(three.get(key).data)
    raw["versions"][2]["created"] = "yesterday"
    three.put(key, json.dumps(raw).encode())
    assert body(http.get("/registry/vm")) == [{TEMPLATE: "13.1-base"}]
    told = body(http.get(f"/registry/v2/vm?id={TEMPLATE}"))
    assert [(version["number"], version["tag"]) for version in told["versions"]] == [(0, "a"), (1, "b")]
    for path in (f"/registry/revert?id={TEMPLATE}", f"/registry/vm?id={TEMPLATE}"):
        assert "damaged" in http.delete(path).json["message"]
    assert json.loads(three.get(key).data) == raw


def layer(name, parent=None, drive=0):
    return File(name, Role.IMAGE, 1, "0" * 64, drive=drive, parent=parent)


@pytest.mark.parametrize(
    ("layers", "order"),
    [
        ([], ""),
        ([layer("a"), layer("b", "a"), layer("c", "b")], "cba"),
        ([layer("x", drive=1), layer("a"), layer("y", "x", 1), layer("b", "a")], "bayx"),
        ([layer("b", "gone"), layer("a")], "ba"),
        ([layer("a", "b"), layer("b", "a")], "ab"),
        ([layer("a", "a")], "a"),
        ([layer("a"), layer("b", "a"), layer("c", "a")], "bac"),
        ([layer("z", drive=None), layer("a")], "az"),
    ],
)
def test_layers_come_drive_by_drive_from_the_top(layers, order):
    assert top_first(layers) == list(order)
