"""The native API, call by call: a push, a plan, and what each refuses."""

import hashlib
import json
import time
import uuid

import pytest

from push_calls import API, TEMPLATE, Layer, Push
from registry.material import change_head
from s3reg import wire
from s3reg.api import create_app
from s3reg.api.transfer import LastPlan
from s3reg.model import maps
from s3reg.model.identity import EVERYONE
from s3reg.registry import Registry
from s3reg.settings import Settings
from s3reg.store.files import FilesStore

ODD_NAMES = [
    "a+b",
    "a b",
    "a%2Bb",
    "100%",
    "ünïcödé",
    "虚拟机",
    "👩‍💻",
    "a&tag=x",
    "a=b;c",
    "a#b",
    "a?b",
    "q\"uo'te",
    "~.-_",
    "<b>",
]
ODD_TAGS = [*ODD_NAMES, "release/2026-01", "a:b", "../../etc", "x" * 255, "😀" * 255]


def get(http, path, **query):
    return http.get(API + path, query_string=query)


def test_what_a_push_sent_a_plan_gives_back(http, push):
    layers = [
        Layer("a" * 32 + ".ank", bytes(range(256)) * 5000),
        Layer("b" * 32 + ".ank", b"x" * 9, parent="a" * 32 + ".ank"),
    ]
    made = push(layers=layers)
    answer = get(http, "/plan", ref="13.1-base")
    assert answer.status_code == 200
    plan = wire.read(wire.PlanAnswerSchema, answer.json)
    assert (plan.template, plan.name, plan.tag, plan.number, plan.domain) == (TEMPLATE, "13.1-base", "v1", 0, "main")
    assert plan.size == sum(len(layer.data) for layer in layers)
    assert plan.now < plan.expires <= plan.now + 3600
    config, *files = plan.files
    assert (config.role, config.inline) == ("config", made.config)
    for file, layer in zip(files, layers, strict=True):
        read = http.get(file.map.url)
        assert hashlib.sha256(read.data).hexdigest() == file.map.sha256
        found = maps.decode(read.data, size=file.size, digest=file.digest)
        pack = next(pack for pack in plan.packs if pack.sha256 == found.packs[0].sha256)
        assert (file.name, file.parent, file.size) == (layer.name, layer.parent, len(layer.data))
        assert hashlib.sha256(http.get(pack.url).data).hexdigest() == pack.sha256
        assert 0 < pack.live <= pack.size


def test_a_second_push_is_offered_the_first_as_a_base(http, push):
    push()
    answer = wire.read(wire.SessionAnswerSchema, Push([http], tag="v2").open())
    (base,) = answer.bases
    (file,) = [file for file in base.files if file.role == "image"]
    assert http.get(file.map.url).status_code == 200
    assert all(file.inline is None for file in base.files)


def test_bases_are_added_and_those_that_may_not_be_used_are_named(http, push):
    first, other = push(), str(uuid.UUID(int=7))
    version = get(http, "/plan", ref=TEMPLATE).json["version"]
    made = Push([http], template=other, name="other")
    assert made.open()["bases"] == []
    asked = [{"template": TEMPLATE, "version": version}, {"template": TEMPLATE, "version": "0" * 32}]
    answer = made.call("POST", f"/sessions/{made.sid}/bases", {"bases": asked})
    assert [base["version"] for base in answer["bases"]] == [version]
    assert [base["version"] for base in answer["dropped"]] == ["0" * 32]
    assert answer["session"] == made.sid != first.sid


def test_listings_hold_every_version_and_describing_its_files(http, push):
    push()
    push(tag="v2")
    (template,) = get(http, "/templates").json["templates"]
    assert [version["tag"] for version in template["versions"]] == ["v1", "v2"]
    assert all(version["files"] == [] for version in template["versions"])
    told = get(http, "/template", ref=TEMPLATE.upper()).json
    assert [version["number"] for version in told["versions"]] == [0, 1]
    for version in told["versions"]:
        assert [file["role"] for file in version["files"]] == ["config", "image"]
        assert all(file["map"] is None and file["inline"] is None for file in version["files"])
    assert get(http, "/plan", ref=TEMPLATE, number="0").json["tag"] == "v1"


def test_a_session_shows_how_far_it_is_and_ends_when_it_is_given_up(http):
    made = Push([http])
    opened = made.open()
    made.put("pack", b"some bytes")
    shown = made.call("GET", f"/sessions/{made.sid}")
    assert (shown["state"], shown["signed"], shown["version"]) == ("open", 10, opened["version"])
    for _ in range(2):
        assert made.call("DELETE", f"/sessions/{made.sid}") == {}
    asked = {"objects": [{"kind": "pack", "sha256": "a" * 64, "size": 1}]}
    answer = made.call("POST", f"/sessions/{made.sid}/uploads", asked, 410)
    assert answer["error"]["code"] in {"session-expired", "session-not-found"}


def test_s5_a_commit_is_safe_to_repeat(http):
    made = Push([http])
    made.open()
    files = made.files()
    assert made.commit(files) == made.commit(files)


def test_a_taken_tag_is_409_and_says_what_to_do(http, push):
    push()
    answer = http.post(f"{API}/sessions", json={"template": TEMPLATE, "name": "13.1-base", "tag": "v1"})
    assert answer.status_code == 409
    assert answer.json["error"]["code"] == "tag-taken"
    assert "--force" in answer.json["error"]["remedy"]
    assert (
        http.post(f"{API}/sessions", json={"template": TEMPLATE, "name": "x", "tag": "v1", "force": True}).status_code
        == 201
    )


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/template?ref=nix", 404, "template-not-found"),
        ("/plan?ref=13.1-base&tag=nix", 404, "tag-not-found"),
        ("/plan?ref=13.1-base&number=5", 404, "version-not-found"),
        ("/plan?ref=13.1-base&number=-1", 400, "request-invalid"),
        ("/plan?ref=13.1-base&number=1e3", 400, "request-invalid"),
        ("/plan?ref=13.1-base&number=" + "9" * 4000, 400, "request-invalid"),
        ("/plan?tag=v1", 400, "request-invalid"),
        ("/template?ref=", 400, "request-invalid"),
        ("/template?ref=%00", 404, "template-not-found"),
        ("/template?ref=%FF%FE", 404, "template-not-found"),
        ("/template?ref=..%2F..%2Fformat.json", 404, "template-not-found"),
        ("/sessions/" + "0" * 32, 410, "session-not-found"),
    ],
)
def test_what_is_not_there_is_told_by_its_code(http, push, path, status, code):
    push()
    answer = http.get(API + path)
    assert (answer.status_code, answer.json["error"]["code"]) == (status, code)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_that_a_template_may_have_finds_it(http, name):
    made = Push([http], name=name)
    made.run()
    assert get(http, "/template", ref=name).json["name"] == name
    assert http.get("/registry/v2/vm", query_string={"id": name}).json["body"]["name"] == name


def test_any_tag_that_a_version_may_have_finds_it(http):
    # One version each, of one template with hardly any bytes.
    for tag in ODD_TAGS:
        Push([http], tag=tag, layers=[]).run()
    for number, tag in enumerate(ODD_TAGS):
        plan = get(http, "/plan", ref=TEMPLATE, tag=tag).json
        assert (plan["tag"], plan["number"]) == (tag, number)
        assert http.get("/registry/vm/info", query_string={"id": TEMPLATE, "tag": tag}).status_code == 200


@pytest.mark.parametrize(
    "more",
    [
        {"name": "a/b"}, {"name": ".."}, {"name": "a\0b"}, {"name": "a\nb"}, {"name": "x" * 300}, {"name": ""},
        {"name": " a"}, {"name": "\ud800"}, {"name": 7}, {"tag": "a\0b"}, {"tag": "a\nb"}, {"tag": "x" * 300}, {"tag": None},
        {"template": "../heads"}, {"template": "x" * 300}, {"domain": "../x"}, {"domain": "A"}, {"arch": "mips"},
        {"bases": [{"template": TEMPLATE, "version": "../x"}]}, {"bases": [{}] * 65}, {"force": []},
    ],
)  # fmt: skip
def test_a_name_that_is_none_is_refused_before_anything_is_written(http, store, more):
    http.get("/readyz")
    # The audit's event may come between: it is written when the request is over.
    before = [item.key for item in store.list("") if not item.key.startswith("events/")]
    answer = http.post(f"{API}/sessions", json={"template": TEMPLATE, "name": "a", "tag": "t", **more})
    assert answer.status_code == 400
    assert answer.json["error"]["code"] == "request-invalid"
    assert [item.key for item in store.list("") if not item.key.startswith("events/")] == before


def test_two_replicas_serve_one_push(settings, store, tmp_path):
    one = create_app(settings, store).test_client()
    two = create_app(settings, FilesStore(tmp_path / "store")).test_client()
    Push([one, two]).run()
    late = Push([one], tag="v3")
    late.open()
    late.https = [two, one]
    files = late.files()  # links from both, in turn
    Push([two], tag="v2", layers=[]).run()  # meanwhile the second writes the same head
    late.https = [one]
    assert late.commit(files)["number"] == 2
    for http in (one, two):
        tags = [version["tag"] for version in get(http, "/template", ref=TEMPLATE).json["versions"]]
        assert tags == ["v1", "v2", "v3"]
        for pack in get(http, "/plan", ref=TEMPLATE, tag="v3").json["packs"]:
            assert {replica.get(pack["url"]).status_code for replica in (one, two)} == {200}


class Steady(FilesStore):
    """Gives the same links for the same keys for ever, as one second of a bucket's, until it is told to sign anew."""

    def __init__(self, root):
        super().__init__(root)
        self.given = {}

    def sign_gets(self, keys, *, seconds):
        asked = tuple(keys)
        if asked not in self.given:
            self.given[asked] = super().sign_gets(asked, seconds=seconds + len(self.given))
        return self.given[asked]


def test_a_plan_that_was_kept_is_given_for_the_same_head_version_and_links_only(tmp_path):
    now, store = time.time(), Steady(tmp_path)
    http = create_app(Settings(store=str(tmp_path)), store).test_client()
    registry, last = Registry(store, clock=lambda: now), LastPlan()

    def text(ref):
        return last.text(registry.plan(EVERYONE, ref))

    Push([http], tag="v1").run()
    first = text(TEMPLATE)
    assert text(TEMPLATE) is first
    store.given.popitem()
    store.given["signed anew"] = []
    signed_anew = text(TEMPLATE)
    assert signed_anew != first
    other = str(uuid.UUID(int=7))
    Push([http], tag="v1", template=other, name="other").run()
    assert json.loads(text(other))["name"] == "other"
    assert text(TEMPLATE) == signed_anew
    change_head(store, TEMPLATE, name="renamed")
    assert json.loads(text(TEMPLATE))["name"] == "renamed"
    Push([http], tag="v2").run()
    assert json.loads(text(TEMPLATE))["tag"] == "v2"
    now += 1
    assert json.loads(text(TEMPLATE))["now"] == int(now)
