"""The paths of an Anka controller that a registry can answer itself, for readers that have no controller."""

import json
import time

import pytest

import faults
from push_calls import API, TEMPLATE, Layer
from refusals import anka
from s3reg.api import create_app
from s3reg.registry.disk import BOUNDLESS

AT = "/api/v1/registry"


def body(answer):
    assert answer.status_code == 200, answer.text
    assert list(answer.json) == ["status", "body", "message"]
    return answer.json["body"]


def test_its_status_says_that_registry_and_controller_run(http):
    answer = http.get("/api/v1/status")
    assert body(answer) == {
        "status": "Running",
        "version": body(http.get("/registry/status"))["version"],
        "registry_address": "http://localhost",
        "registry_status": "Running",
        "license": "enterprise plus",
    }
    assert answer.headers["Cache-Control"] == "no-store"


def test_its_list_has_sizes_architectures_and_times(http, push):
    other = "22222222-aaaa-4bbb-8ccc-000000000002"
    push(layers=[Layer("a" * 32 + ".ank", b"x" * 5000)])
    push(template=other, name="other", layers=[])
    http.put("/registry/vm/arch", json={"id": TEMPLATE, "arch": "arm64"})
    version = http.get(f"{API}/plan?ref={TEMPLATE}").json["version"]
    http.post(f"{API}/pulls", json={"template": TEMPLATE, "version": version})

    pulled, never = body(http.get(f"{AT}/vm"))

    assert list(pulled) == ["id", "name", "size", "arch", "last_pull", "last_push"]
    assert (pulled["id"], pulled["size"], pulled["arch"]) == (TEMPLATE, 5000, "arm64")
    detail = body(http.get(f"/registry/v2/vm?id={TEMPLATE}"))
    assert (pulled["last_pull"], pulled["last_push"]) == (detail["last_pull"], detail["last_push"])
    assert abs(pulled["last_pull"] - time.time()) < 600
    assert (never["arch"], never["last_pull"]) == ("", 0)
    assert all(type(row[name]) is int for row in (pulled, never) for name in ("size", "last_pull", "last_push"))


def test_its_first_version_lists_ids_and_names(standing):
    assert body(standing.get(f"{AT}/vm?apiVer=v1")) == [{"id": TEMPLATE, "name": "13.1-base"}]


@pytest.mark.parametrize("query", [f"?id={TEMPLATE}", f"?id={TEMPLATE}&apiVer=v1"])
def test_its_template_is_that_of_the_registry(standing, query):
    assert body(standing.get(f"{AT}/vm{query}")) == body(standing.get(f"/registry/v2/vm?id={TEMPLATE}"))


@pytest.mark.parametrize("query", ["", "&tag=a", "&Version=1", "&version=1&tag=b"])
def test_its_info_is_that_of_the_registry(standing, query):
    told = body(standing.get(f"/registry/vm/info?id={TEMPLATE}{query}"))
    assert told["ram"] == "4G"
    assert body(standing.get(f"{AT}/vm?info&id={TEMPLATE}{query}")) == told
    anka(standing.get(f"{AT}/vm?info"), 400)


@pytest.mark.usefixtures("three")
def test_it_reverts_and_deletes_like_the_registry(http):
    assert body(http.delete(f"{AT}/revert?id={TEMPLATE}", data=json.dumps({"tag": "b"}))) is None
    assert len(body(http.get(f"{AT}/vm?id={TEMPLATE}"))["versions"]) == 1
    anka(http.delete(f"{AT}/revert?id={TEMPLATE}&tag=b"), 400)
    answer = http.delete(f"{AT}/vm?id={TEMPLATE}")
    assert (answer.status_code, answer.json) == (200, {"status": "OK", "message": ""})
    anka(http.get(f"{AT}/vm?id={TEMPLATE}"), 400)
    anka(http.delete(f"{AT}/vm?id={TEMPLATE}"), 400)


@pytest.mark.parametrize("path", ["/registry/disk", f"{AT}/disk"])
def test_the_disk_of_a_directory_is_the_one_that_it_lies_on(standing, path):
    told = body(standing.get(path))
    assert set(told) == {"free", "total"}
    assert all(type(value) is int for value in told.values())
    assert 0 <= told["free"] <= told["total"]
    assert told["total"] > 0


class Endless(faults.Wrapped):
    """A store that says, as a bucket does, that it has no end."""

    def room(self):
        return None


def test_s9_of_a_bucket_total_less_free_is_what_the_templates_hold(settings, http, store, push):
    bucket = create_app(settings, Endless(store)).test_client()
    assert body(bucket.get("/registry/disk")) == {"free": BOUNDLESS, "total": BOUNDLESS}
    push(layers=[])
    assert body(bucket.get("/registry/disk")) == {"free": BOUNDLESS, "total": BOUNDLESS}
    push(tag="v2", layers=[Layer("a" * 32 + ".ank", b"x" * 5000)])
    push(template="22222222-aaaa-4bbb-8ccc-000000000002", name="other", layers=[Layer("b.ank", b"y" * 300)])
    told = body(bucket.get("/registry/disk"))
    assert told["total"] - told["free"] == 5300
    assert told["total"] < 1 << 53, "exact in readers whose numbers are floats"
    http.delete(f"/registry/vm?id={TEMPLATE}")
    told = body(bucket.get("/registry/disk"))
    assert told["total"] - told["free"] == 300
