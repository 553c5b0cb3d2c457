"""Attacks on signed links: for another key, method, size or time, and by another way to write the path."""

import hashlib
import time
from urllib.parse import parse_qsl, quote, urlencode

import pytest

from access_kit import basic
from push_calls import Layer, Push
from s3reg import crypto
from s3reg.model import format as fmt

AT = "/transfer/v1"
PACK = b"pack bytes as far as anybody knows" * 10
SECRET_KEYS = ["auth/signing.json", "format.json", ".locks/clock", ".tmp/x"]


@pytest.fixture
def root(closed):
    return closed.client(closed.root)


@pytest.fixture
def push(root):
    made = Push([root], layers=[Layer("a" * 32 + ".ank", b"disk" * 1000)])
    made.run()
    return made


@pytest.fixture
def link(push):
    """A link that reads a pack."""
    return push.call("GET", f"/plan?ref={push.template}")["packs"][0]["url"]


@pytest.fixture
def upload(root):
    """A link that uploads PACK, with the session that it is for."""
    push = Push([root], template="22222222-aaaa-4bbb-8ccc-000000000002", name="other")
    push.open()
    asked = {"objects": [{"kind": "pack", "sha256": hashlib.sha256(PACK).hexdigest(), "size": len(PACK)}]}
    return push.call("POST", f"/sessions/{push.sid}/uploads", asked)["links"][0]["url"]


def altered(url, **changes):
    """The link with other fields; None: without."""
    path, _, query = url.partition("?")
    fields = {**dict(parse_qsl(query)), **changes}
    return f"{path}?{urlencode({name: value for name, value in fields.items() if value is not None})}"


def everything(closed):
    return {stat.key: stat.etag for stat in closed.store.list("") if not stat.key.startswith("events/")}


def test_a_link_is_enough_and_no_other_credential_is_looked_at(closed, link):
    for headers in ({}, basic("x" * 20), closed.root, {"Authorization": "Bearer !"}):
        assert closed.exactly(link, headers=headers).status_code == 200


def test_a_link_to_read_reads(closed, link):
    before = everything(closed)
    for method in ("PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"):
        answer = closed.exactly(link, method, data=b"x")
        assert answer.status_code in {401, 403, 405}, method
    assert everything(closed) == before


def test_a_link_to_write_writes_its_bytes_once(closed, upload):
    assert closed.exactly(upload).status_code == 403
    for data in (b"", PACK[:-1], PACK + b"x", b"x" * len(PACK)):
        assert closed.exactly(upload, "PUT", data=data).status_code in {400, 403}
    assert closed.exactly(upload, "PUT", data=PACK).status_code == 200
    assert closed.exactly(upload, "PUT", data=PACK).status_code in {403, 409, 412}


def test_no_field_of_a_link_may_be_another_one(closed, link, upload):
    now = int(time.time())
    before = everything(closed)
    for url, method in ((link, "GET"), (upload, "PUT")):
        fields = dict(parse_qsl(url.partition("?")[2]))
        for change in (
            {"expires": str(now + 10**6)},
            {"expires": "9" * 30},
            {"expires": "-1"},
            {"expires": fields["expires"] + " "},
            {"expires": "+" + fields["expires"]},
            {"expires": "0" + fields["expires"]},
            {"expires": None},
            {"signature": None},
            {"signature": ""},
            {"signature": fields["signature"] + "="},
            {"signature": fields["signature"].swapcase()},
            {"signature": "A" * 43},
            {"size": str(len(PACK) + 1)},
            {"size": "0"},
            {"size": "9" * 5000},
            {"sha256": "0" * 64},
            {"more": "x"},
            {"key": "format.json"},
        ):
            assert closed.exactly(altered(url, **change), method, data=PACK).status_code == 403, change
        text = fields["signature"]
        for place in range(len(text)):
            for other in ("A", "B", "-"):
                if text[place] != other:
                    spoiled = altered(url, signature=text[:place] + other + text[place + 1 :])
                    assert closed.exactly(spoiled, method, data=PACK).status_code == 403
    assert everything(closed) == before


def test_a_link_that_ended_is_refused(closed, push):
    url = closed.store.sign_get(fmt.FORMAT_KEY, seconds=-1).url
    assert closed.exactly(url).status_code == 403
    url = closed.store.sign_put("packs/main/x/y", size=1, sha256="0" * 64, seconds=-1).url
    assert closed.exactly(url, "PUT", data=b"x").status_code == 403


def others_of(key):
    """Ways to write a path that might mean another object, with the signature of `key`."""
    folder, _, name = key.rpartition("/")
    for other in SECRET_KEYS:
        yield other
        yield f"{folder}/../../../../{other}"
        yield f"{key}/../../../../{other}"
        yield f"{key}/%2e%2e/%2e%2e/{other}"
        yield f"{key}%2f..%2f..%2f{other}"
        yield f"..%252f{other}"
    yield from (
        f"/{key}", f"./{key}", f"{folder}/./{name}", f"{folder}//{name}", f"{key}/", f"{key}.", f"{key} ", f"{key}\0",
        f"{key}%00", key.upper(), key.swapcase(), key.replace("/", "\\"), key.replace("/", "%2f"),
        key.replace("/", "%252f"), key.replace("/", ".d/"), f"packs.d/../{key}", key[:-1], key + "0", "", ".", "..", "/",
        quote(key, safe=""), "~", "\u0660" * 64, key.replace("main", "ma\u0131n"),
    )  # fmt: skip


def test_a_signature_is_for_one_key_however_the_path_is_written(closed, link):
    path, _, query = link.partition("?")
    key = path.removeprefix("/objects/")
    before = everything(closed)
    for other in others_of(key):
        for method in ("GET", "PUT"):
            answer = closed.exactly(f"/objects/{other}?{query}", method, data=b"x")
            assert answer.status_code in {400, 401, 403, 404, 405}, other
            assert b"secret" not in answer.data
    assert everything(closed) == before
    assert closed.exactly(link).status_code == 200


def test_an_upload_link_writes_under_no_other_key(closed, upload):
    path, _, query = upload.partition("?")
    before = everything(closed)
    for other in others_of(path.removeprefix("/objects/")):
        answer = closed.exactly(f"/objects/{other}?{query}", "PUT", data=PACK)
        assert answer.status_code in {400, 401, 403, 404, 405}, other
    assert everything(closed) == before


@pytest.mark.parametrize(
    "key", ["../outside", "a/../../outside", "/etc/passwd", "auth/../auth/signing.json", "a//b", ".."]
)
def test_not_even_a_good_signature_leads_out_of_the_store(closed, push, key):
    """As if the code that signs had a defect: the store's own grammar of keys is a second wall."""
    from s3reg.store import links

    secret = closed.app.extensions["s3reg"].registry().signing_secret()
    url = links.sign(secret, "GET", key, expires=str(int(time.time()) + 60))
    answer = closed.exactly(url)
    assert answer.status_code in {401, 500}
    assert b"KeyInvalid" not in answer.data


@pytest.mark.parametrize("secret", [b"", b"\0" * 32, b"s3reg", b"secret"])
def test_a_link_of_another_secret_is_refused(closed, push, secret):
    from s3reg.store import links

    url = links.sign(secret, "GET", "auth/signing.json", expires=str(int(time.time()) + 60))
    assert closed.exactly(url).status_code == 403


def test_no_link_is_ever_signed_for_what_access_control_keeps(closed, root, push):
    """Everything that a root can have signed lies under packs/ and maps/."""
    opened = root.post(f"{AT}/sessions", json={"template": push.template, "name": "x", "tag": "t"}).json
    found = [link["url"] for link in root.get(f"{AT}/plan?ref={push.template}").json["packs"]]
    found += [file["map"]["url"] for base in opened["bases"] for file in base["files"] if file["map"]]
    for kind in ("pack", "map"):
        asked = {"objects": [{"kind": kind, "sha256": "0" * 64, "size": 5}]}
        answer = root.post(f"{AT}/sessions/{opened['session']}/uploads", json=asked)
        found += [link["url"] for link in answer.json["links"]]
    assert len(found) == 4
    assert all(url.startswith(("/objects/packs/", "/objects/maps/")) for url in found)


def test_a_signature_says_nothing_of_another_purpose(closed, push):
    """The same parts in the same order, under no purpose or another one."""
    secret = closed.app.extensions["s3reg"].registry().signing_secret()
    expires = str(int(time.time()) + 60)
    for parts in (("GET", "format.json", expires), ("", "GET", "format.json", expires), ("GETformat.json", expires)):
        url = f"/objects/format.json?expires={expires}&signature={crypto.mac(secret, *parts)}"
        assert closed.exactly(url).status_code == 403
