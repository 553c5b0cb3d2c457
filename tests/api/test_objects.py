"""Signed links of a directory store, as the API serves them: the store's own contract, and what HTTP adds."""

import logging
import tracemalloc
from pathlib import Path

import pytest

from contracts.signed_links import SignedLinks, altered, another_end, sha256, sign_put
from s3reg.api import create_app
from s3reg.settings import Settings
from s3reg.store.files import FilesStore

OWN = {"format.json", "auth/signing.json"}
DATA = bytes(range(256)) * 40


class OnlyTheTests(FilesStore):
    """Lists what a test wrote, without the records that a registry makes for itself."""

    def list(self, prefix, *, after=""):
        return (item for item in super().list(prefix, after=after) if item.key not in OWN)


class TestServedLinks(SignedLinks):
    keeps_checksums = False

    @pytest.fixture
    def store(self, tmp_path):
        return OnlyTheTests(tmp_path / "store", secret=b"of its own")

    @pytest.fixture
    def opener(self, store):
        app = create_app(Settings(), store)
        app.extensions["s3reg"].registry()  # a served store has its secret

        def opener(method, url, headers, body):
            with app.test_client() as http:
                answer = http.open(url, method=method, headers=headers, data=body)
                return answer.status_code, dict(answer.headers), answer.data

        return opener


@pytest.fixture
def link(http, store):
    """The URL of an object with DATA."""
    http.get("/readyz")
    store.put("packs/main/a", DATA)
    return store.sign_get("packs/main/a", seconds=300).url


@pytest.mark.parametrize(
    ("asked", "first", "length"),
    [
        ("0-0", 0, 1),
        ("10-19", 10, 10),
        ("10000-", 10000, 240),
        ("-5", 10235, 5),
        ("-99999", 0, 10240),
        ("0-99999", 0, 10240),
    ],
)
def test_a_single_range_is_answered_with_206_and_its_place(http, link, asked, first, length):
    answer = http.get(link, headers={"Range": f"bytes={asked}"})
    assert answer.status_code == 206
    assert answer.data == DATA[first : first + length]
    assert answer.headers["Content-Range"] == f"bytes {first}-{first + length - 1}/{len(DATA)}"
    assert answer.headers["Content-Length"] == str(length)


@pytest.mark.parametrize("asked", ["bytes=10240-", "bytes=99999-100000", "bytes=-0", "bytes=99999999999999999999-"])
def test_a_range_beyond_the_end_is_416_and_says_how_long_the_object_is(http, link, asked):
    answer = http.get(link, headers={"Range": asked})
    assert (answer.status_code, answer.data) == (416, b"")
    assert answer.headers["Content-Range"] == f"bytes */{len(DATA)}"


@pytest.mark.parametrize(
    "asked",
    ["bytes=0-1,5-6", "lines=1-2", "bytes=5-2", "bytes=x", "0-1", "bytes=-", "bytes=0-" + "9" * 5000, "bytes=1-٢"],
)
def test_what_is_not_one_range_of_bytes_gets_the_whole(http, link, asked):
    answer = http.get(link, headers={"Range": asked})
    assert (answer.status_code, answer.data) == (200, DATA)
    assert "Content-Range" not in answer.headers


def test_a_head_is_refused(http, link):
    assert http.head(link).status_code == 403


def test_an_object_that_is_gone_is_404(http, link, store):
    store.delete(["packs/main/a"])
    answer = http.get(link)
    assert (answer.status_code, answer.json["error"]["code"]) == (404, "object-not-found")


def test_refusals_are_told_apart(http, link, store):
    altered_one = http.get(altered(link, "signature", another_end))
    assert (altered_one.status_code, altered_one.json["error"]["code"]) == (403, "link-refused")
    assert http.get(link.partition("?")[0]).status_code == 403
    put = sign_put(store, "packs/main/b", DATA)
    wrong = http.put(put.url, data=DATA[:-1] + b"x", headers=put.headers)
    assert (wrong.status_code, wrong.json["error"]["code"]) == (400, "checksum-mismatch")
    assert http.put(put.url, data=DATA, headers=put.headers).status_code == 200
    again = http.put(put.url, data=DATA, headers=put.headers)
    assert (again.status_code, again.json["error"]["code"]) == (412, "precondition-failed")


def test_a_link_needs_no_credential_and_leaves_none_in_the_log(http, link, caplog):
    caplog.set_level(logging.DEBUG)
    http.get(link)
    http.get(altered(link, "signature", another_end))
    assert caplog.text.count("/objects/packs/main/a") >= 2
    assert "signature" not in caplog.text
    assert "expires=" not in caplog.text


def test_a_pack_streams_both_ways_in_bounded_memory(http, store, tmp_path):
    http.get("/readyz")
    size = 64 * 1024**2
    body = tmp_path / "body"
    with body.open("wb") as file:
        file.truncate(size)
    put = store.sign_put("packs/main/large", size=size, sha256=sha256(bytes(size)), seconds=300)
    tracemalloc.start()
    try:
        with body.open("rb") as file:
            assert http.put(put.url, input_stream=file, headers=put.headers).status_code == 200
        got = 0
        with http.get(store.sign_get("packs/main/large", seconds=300).url, buffered=False) as answer:
            for piece in answer.response:
                got += len(piece)
        assert got == size
        assert tracemalloc.get_traced_memory()[1] < 8 * 1024**2
    finally:
        tracemalloc.stop()


def test_an_answer_that_nobody_reads_closes_its_file(http, link):
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(5):
        http.get(link, buffered=False).close()
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_without_a_directory_there_are_no_objects_to_serve(settings, store):
    import faults

    http = create_app(settings, faults.Wrapped(store)).test_client()
    answer = http.get("/objects/packs/main/a?expires=1&signature=x")
    assert (answer.status_code, answer.json["error"]["code"]) == (404, "route-not-found")
