"""The part of the store's contract that is about signed links."""

from __future__ import annotations

import base64
import hashlib
import time
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import pytest

from contracts.promises import Promises, at_once, promise

OLD, NEW = b"the bytes that were signed for", b"other bytes of the same length"
ODD_KEY = "odd/a@b=c+d~e_f.g-H"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def sign_put(store, key, data, seconds=300):
    return store.sign_put(key, size=len(data), sha256=sha256(data), seconds=seconds)


def altered(url, name_end, change):
    """`url` with the value of the query's field whose name ends so, whatever its case, changed."""
    parts = urlsplit(url)
    fields = parse_qsl(parts.query, keep_blank_values=True)
    assert any(name.lower().endswith(name_end) for name, _ in fields)
    query = [(name, change(value) if name.lower().endswith(name_end) else value) for name, value in fields]
    return urlunsplit(parts._replace(query=urlencode(query)))


def another_end(value):
    # Not the very last character: base64 keeps bits there that mean nothing.
    return value[:-2] + ("A" if value[-2] != "A" else "B") + value[-1]


class SignedLinks(Promises):
    """A link works without a credential until it expires, for one method and one key."""

    keeps_checksums = True
    """Whether the store keeps the SHA-256 that a signed PUT came with."""

    def test_a_link_reads_the_object(self, store, opener):
        for key in ("a", ODD_KEY):
            store.put(key, OLD)
            link = store.sign_get(key, seconds=300)
            status, _, body = opener("GET", link.url, link.headers, b"")
            assert (status, body) == (200, OLD)

    def test_links_signed_together_read_each_its_own(self, store, opener):
        keys = ["a", ODD_KEY, "links/one"]
        for key in keys:
            store.put(key, key.encode())
        for key, link in zip(keys, store.sign_gets(iter(keys), seconds=300), strict=True):
            status, _, body = opener("GET", link.url, link.headers, b"")
            assert (status, body) == (200, key.encode())
            assert time.time() < link.expires <= time.time() + 301
        assert not store.sign_gets([], seconds=300)

    def test_a_link_reads_any_single_range(self, store, opener):
        store.put("a", b"0123456789")
        link = store.sign_get("a", seconds=300)
        for asked, expected in (("0-0", b"0"), ("2-4", b"234"), ("7-", b"789"), ("-3", b"789"), ("8-99", b"89")):
            status, _, body = opener("GET", link.url, {**link.headers, "Range": f"bytes={asked}"}, b"")
            assert (status, body) == (206, expected), asked

    def test_a_link_says_when_it_expires_and_does_not_show_itself(self, store):
        for link in (store.sign_get("a", seconds=300), sign_put(store, "a", b"", seconds=300)):
            assert time.time() < link.expires <= time.time() + 301
            assert link.url not in repr(link)

    @promise("signatures")
    @pytest.mark.parametrize("name_end", ["signature", "expires"])
    def test_an_altered_link_is_refused(self, store, opener, name_end):
        store.put("a", OLD)
        change = another_end if name_end == "signature" else (lambda value: str(int(value) + 1))
        read = store.sign_get("a", seconds=300)
        status, _, body = opener("GET", altered(read.url, name_end, change), read.headers, b"")
        assert 400 <= status < 500
        assert OLD not in body
        write = sign_put(store, "b", NEW)
        status, _, _ = opener("PUT", altered(write.url, name_end, change), write.headers, NEW)
        assert 400 <= status < 500
        assert [item.key for item in store.list("")] == ["a"]

    @promise("signatures")
    def test_a_link_is_for_one_key(self, store, opener):
        store.put("links/one", OLD)
        store.put("links/two", NEW)
        read = store.sign_get("links/one", seconds=300)
        status, _, body = opener("GET", read.url.replace("links/one", "links/two"), read.headers, b"")
        assert 400 <= status < 500
        assert NEW not in body
        write = sign_put(store, "links/three", NEW)
        status, _, _ = opener("PUT", write.url.replace("links/three", "links/four"), write.headers, NEW)
        assert 400 <= status < 500
        assert [item.key for item in store.list("")] == ["links/one", "links/two"]

    @promise("signatures")
    def test_a_link_is_for_one_method(self, store, opener):
        store.put("a", OLD)
        read = store.sign_get("a", seconds=300)
        for method in ("PUT", "DELETE", "POST"):
            status, _, _ = opener(method, read.url, read.headers, NEW if method == "PUT" else b"")
            assert 400 <= status < 500, method
        write = sign_put(store, "a", NEW)
        for method in ("GET", "DELETE"):
            status, _, body = opener(method, write.url, write.headers, b"")
            assert 400 <= status < 500, method
            assert OLD not in body
        assert store.get("a").data == OLD

    @promise("signed-expiry")
    def test_a_link_that_has_expired_is_refused(self, store, opener):
        store.put("a", OLD)
        read, write = store.sign_get("a", seconds=1), sign_put(store, "b", NEW, seconds=1)
        while time.time() < max(read.expires, write.expires) + 1:
            time.sleep(0.1)
        status, _, body = opener("GET", read.url, read.headers, b"")
        assert 400 <= status < 500
        assert OLD not in body
        status, _, _ = opener("PUT", write.url, write.headers, NEW)
        assert 400 <= status < 500
        assert [item.key for item in store.list("")] == ["a"]

    @pytest.mark.parametrize("data", [OLD, b"", bytes(range(256)) * 32768], ids=["small", "empty", "8 MiB"])
    def test_a_link_creates_the_object_from_the_signed_bytes(self, store, second, opener, data):
        link = sign_put(store, ODD_KEY, data)
        status, _, _ = opener("PUT", link.url, link.headers, data)
        assert status in {200, 201, 204}
        found = second.get(ODD_KEY)
        assert found.data == data
        assert [item.etag for item in second.list("")] == [found.stat.etag]

    @promise("signed-once")
    def test_a_link_creates_once_and_never_replaces(self, store, opener):
        first, other = sign_put(store, "packs/a", OLD), sign_put(store, "packs/a", NEW)
        assert opener("PUT", first.url, first.headers, OLD)[0] in {200, 201, 204}
        etag = store.stat("packs/a").etag
        for link, data in ((first, OLD), (other, NEW)):
            status, _, _ = opener("PUT", link.url, link.headers, data)
            assert 400 <= status < 500
            assert store.get("packs/a").data == OLD
            assert store.stat("packs/a").etag == etag

    @promise("signed-once")
    def test_of_many_that_create_with_a_link_at_once_one_wins(self, store, opener):
        for turn in range(5):
            key = f"packs/{turn}"
            contents = [b"by %d" % number for number in range(8)]
            signed = [sign_put(store, key, data) for data in contents]
            answers = at_once(
                lambda n, signed=signed, contents=contents: opener(
                    "PUT", signed[n].url, signed[n].headers, contents[n]
                )[0]
            )
            winners = [number for number, status in enumerate(answers) if status < 300]
            assert len(winners) == 1, answers
            assert store.get(key).data == contents[winners[0]]

    @promise("signed-checksum")
    def test_wrong_bytes_are_refused_and_nothing_appears(self, store, opener):
        link = sign_put(store, "packs/a", OLD)
        assert len(OLD) == len(NEW)
        assert 400 <= opener("PUT", link.url, link.headers, NEW)[0] < 500
        assert list(store.list("")) == []
        # The checksum of the wrong bytes does not make them right: it is signed.
        said = base64.b64encode(hashlib.sha256(NEW).digest()).decode()
        honest = {name: said if name.lower().endswith("sha256") else value for name, value in link.headers.items()}
        assert 400 <= opener("PUT", link.url, honest, NEW)[0] < 500
        assert list(store.list("")) == []

    def test_the_checksum_that_the_store_keeps_is_that_of_the_bytes(self, store, opener):
        link = sign_put(store, "packs/a", OLD)
        assert opener("PUT", link.url, link.headers, OLD)[0] < 300
        assert store.stat("packs/a").sha256 == (sha256(OLD) if self.keeps_checksums else None)
        store.put("packs/a", NEW)
        assert store.stat("packs/a").sha256 in {None, sha256(NEW)}

    @promise("signed-length")
    @pytest.mark.parametrize(
        "data", [b"", OLD[:-1], OLD + b"\0", OLD * 1000], ids=["none", "short", "long", "far too long"]
    )
    def test_s10_another_number_of_bytes_is_refused_and_nothing_appears(self, store, opener, data):
        link = sign_put(store, "packs/a", OLD)
        headers = {name: value for name, value in link.headers.items() if name.lower() != "content-length"}
        assert 400 <= opener("PUT", link.url, headers, data)[0] < 500
        assert list(store.list("")) == []

    @promise("signed-headers")
    def test_a_header_of_the_link_that_is_missing_or_changed_is_refused(self, store, opener):
        link = sign_put(store, "packs/a", OLD)
        for name in link.headers:
            if name.lower() == "content-length":
                continue  # every client sends the true one
            without = {other: value for other, value in link.headers.items() if other != name}
            assert 400 <= opener("PUT", link.url, without, OLD)[0] < 500, f"without {name}"
            changed = {**link.headers, name: "x" + link.headers[name][1:]}
            assert 400 <= opener("PUT", link.url, changed, OLD)[0] < 500, f"another {name}"
        assert list(store.list("")) == []
