"""What a started registry answers has an id, whatever was asked, and whichever id came with it."""

import json
import re
import socket
from types import SimpleNamespace

import pytest

import running
from s3reg.cli import patience

SECONDS = 60
ID = re.compile(rb"\r\nX-Request-Id: ([A-Za-z0-9._-]{1,64})\r\n")
LINE = b"GET /registry/vm HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    told = ["--store", folder / "store", "--log-format", "json", "--workers", "1", "--threads", "2"]
    with running.serving(folder, *told) as one:
        yield one


def lines(registry):
    """What its log holds: of a line that is being written, nothing."""
    whole = registry.log.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in whole if line.endswith("\n") and line.startswith("{")]


def said(registry, data):
    """All that a client is answered which says this."""
    host, port = registry.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), SECONDS) as sock:
        sock.sendall(data)
        answer = b""
        while more := sock.recv(1 << 16):
            answer += more
    return answer


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/9.9\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01", b"400"),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (LINE + b"X: " + b"y" * 40_000 + b"\r\n\r\n", b"431"),
        (LINE + b"X-Request-Id: a\nb\r\n\r\n", b"400"),
    ],
    ids=["version", "TLS", "line", "header", "line end in an id"],
)
def test_what_never_was_a_request_has_an_id_all_the_same(registry, data, status):
    answer = said(registry, data)
    assert answer.startswith(b"HTTP/1.1 " + status)
    (known,) = ID.findall(answer)
    assert [told["event"] for told in lines(registry) if told.get("request") == known.decode()] == ["request-malformed"]


@pytest.mark.parametrize(
    "ids", [[b"one", b"two"], [b""], [b"x" * 10_240], ["ü".encode()], [b"a b"], [b"../etc"]], ids=range(6)
)
def test_a_hostile_id_is_replaced_once_and_for_all(registry, ids):
    answer = said(registry, LINE + b"".join(b"X-Request-Id: " + one + b"\r\n" for one in ids) + b"\r\n")
    (known,) = ID.findall(answer)
    assert re.fullmatch(b"[0-9a-f]{16}", known)
    assert [told["event"] for told in lines(registry) if told.get("request") == known.decode()] == ["request"]


@pytest.mark.parametrize("said", ["mine-7", "no id", None])
def test_the_application_is_given_the_id_that_the_worker_goes_by(said):
    asked = SimpleNamespace(headers=[("HOST", "x"), *([("X-REQUEST-ID", said)] if said else [])])
    known = patience._named(asked)
    assert known == said or re.fullmatch("[0-9a-f]{16}", known)
    assert asked.headers == [("HOST", "x"), ("X-REQUEST-ID", known)]
