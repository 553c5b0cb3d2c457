"""Clients that are slow, on purpose or not, at a server of few threads: none of them keeps a thread from the others.

The worker is gunicorn's with ours around it, run in this process by hand: its limits can be short then.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.client
import itertools
import json
import os
import resource
import secrets
import selectors
import socket
import ssl
import struct
import threading
from types import SimpleNamespace

import pytest
import urllib3
from gunicorn.config import Config
from gunicorn.glogging import Logger

import pki
from push_calls import API, TEMPLATE
from s3reg import telemetry
from s3reg.api import create_app, headers
from s3reg.api.audit import TOLD_EACH
from s3reg.cli import caller, patience, serving
from s3reg.model.identity import ROOT
from s3reg.registry import Registry, Wanted
from s3reg.settings import Settings
from s3reg.store.files import FilesStore
from secrets_seen import keep

SECONDS = 60
THREADS = 4
IDLE = 1000
"""Connections that a worker may have besides its threads: as serving.py says to gunicorn."""
QUICK = caller.Limits(
    head_seconds=0.3, body_seconds=0.3, stall_seconds=0.3, linger_seconds=0.3, linger_bytes=1 << 20, tick_seconds=0.05
)
SLOW = dataclasses.replace(
    QUICK, head_seconds=SECONDS, body_seconds=SECONDS, stall_seconds=SECONDS, linger_seconds=SECONDS
)
"""Nobody is cut within a test: what works, works although they are there."""
SMALL = b"DELETE /registry/revert HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\n{"
CHUNKED = b"DELETE /registry/revert HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
BARE = b"GET /registry/vm HTTP/1.1\nHost: x\n\n"
BEGINNINGS = {
    "nothing": b"",
    "a request line": b"GET /registry/vm HT",
    "headers": b"GET /registry/vm HTTP/1.1\r\nHost: x\r\nX-",
    "a body": SMALL,
    "a body after 100": SMALL.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"),
    "a body whose length begins with zeros": SMALL.replace(b"40", b"40".zfill(19)),
    "chunks": CHUNKED + b"5\r\n{",
    "a chunk that looks like the last one inside": CHUNKED + b"9\r\n{\r\n0\r\n",
    "chunks up to the last one": CHUNKED + b"2\r\n{}\r\n0\r\n",
    "chunks up to a trailer": CHUNKED + b"2\r\n{}\r\n0\r\nX: ",
    "a chunk whose size begins with zeros": CHUNKED + b"5".zfill(200) + b"\r\n{",
    "a chunk behind a large head": CHUNKED.replace(b"Host", 2 * (b"X: " + bytes([97]) * 32_000 + b"\r\n") + b"Host")
    + b"5\r\n{",
}
"""Where a client may stop so that its request is none yet."""
ALL_BUT_DATA = {
    "sizes and extensions": 3 * (b"1;x=" + bytes([97]) * 30_000 + b"\r\n{\r\n"),
    "a trailer": b"2\r\n{}\r\n0\r\n" + 3 * (b"X: " + bytes([97]) * 30_000 + b"\r\n"),
}
"""What may come with chunks, so much of it that nobody honest sends it."""


@contextlib.contextmanager
def served(folder, limits, context=None, **settings):
    """A worker of four threads over the directory: its port. `settings` are further fields of Settings."""
    config = Config()
    options = {
        "threads": THREADS,
        "worker_connections": IDLE + THREADS,
        "limit_request_line": serving.LONGEST_REQUEST_LINE,
    }
    if context is not None:
        options |= {"certfile": os.devnull, "ssl_context": lambda config, default: context}
    for name, value in options.items():
        config.set(name, value)
    app = create_app(Settings(store=str(folder), **settings), FilesStore(folder))
    with socket.create_server(("127.0.0.1", 0), backlog=IDLE) as listener:
        worker = type("Worker", (patience.PatientWorker,), {"limits": limits})(
            1, os.getppid(), [listener], SimpleNamespace(wsgi=lambda: app), SECONDS, config, Logger(config)
        )
        # What init_process does besides belongs to a process: signals, and who it runs as.
        worker.tpool, worker.poller = worker.get_thread_pool(), selectors.DefaultSelector()
        worker.method_queue.init()
        worker.load_wsgi()
        port = listener.getsockname()[1]
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            yield port
        finally:
            worker.cfg.set("graceful_timeout", 0)
            worker.alive = False
            worker.method_queue.defer(lambda: None)
            thread.join()
            worker.tmp.close()


def begun(port, data=b"", room=None):
    """A connection that has sent this; `room`: bytes that its end takes before somebody reads."""
    made = socket.socket()
    made.settimeout(SECONDS)
    if room is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    made.connect(("127.0.0.1", port))
    made.sendall(data)
    return made


def status(sock):
    """The status of the next answer, which is read."""
    with http.client.HTTPResponse(sock) as answer:
        answer.begin()
        answer.read()
        return answer.status


def everything(sock):
    """All that comes until the other end hangs up."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while more := sock.recv(1 << 16):
            data += more
    return data


@pytest.fixture
def web():
    with urllib3.PoolManager(retries=False, timeout=SECONDS) as pool:
        yield pool


@pytest.fixture
def cut(monkeypatch):
    """Released for each client that was too slow for its answer, once it is told with its request's id."""
    told = threading.Semaphore(0)

    def emit(event, **_):
        if event == "client-too-slow" and telemetry.request_id() is not None:
            told.release()

    monkeypatch.setattr(patience, "emit", emit)
    return told


@pytest.mark.parametrize("beginning", [*BEGINNINGS.values(), BARE], ids=[*BEGINNINGS, "bare line ends"])
def test_a_hundred_that_stop_in_the_middle_keep_no_thread_from_others(tmp_path, web, beginning):
    with served(tmp_path, SLOW) as port, contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(begun(port, beginning))
        for _ in range(3 * THREADS):
            assert web.request("GET", f"http://127.0.0.1:{port}/registry/vm").status == 200


@pytest.fixture
def many_files():
    """Both ends of a thousand connections are this process's."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * IDLE)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_that_say_nothing_keep_nobody_from_being_served(tmp_path, web, many_files):
    with served(tmp_path, SLOW) as port, contextlib.ExitStack() as stack:
        for _ in range(IDLE):
            stack.enter_context(begun(port))
        for _ in range(3 * THREADS):
            assert web.request("GET", f"http://127.0.0.1:{port}/registry/vm").status == 200


def gone(sock):
    """Hang up as a machine does that loses its line's other end: what is under way is reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def test_those_who_disappear_in_the_middle_of_a_request_or_of_an_answer_leave_no_connection_behind(tmp_path, web):
    size = 2 << 20
    with served(tmp_path, SLOW) as port:
        url = f"http://127.0.0.1:{port}"
        given = link(web, url, size)
        assert web.request("PUT", url + given["url"], body=bytes(size), headers=given["headers"]).status == 200
        asked = f"GET {readable(tmp_path)} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        # More of them than a worker has connections for.
        for number, beginning in zip(range(IDLE + 2 * THREADS), itertools.cycle(BEGINNINGS.values())):
            gone(begun(port, beginning))
            if number % 50 == 0:
                sock = begun(port, asked, room=4096)
                assert sock.recv(10)
                gone(sock)
        assert web.request("GET", f"{url}/registry/vm").status == 200


@pytest.mark.parametrize("rest", ALL_BUT_DATA.values(), ids=ALL_BUT_DATA)
def test_chunks_that_are_all_but_data_keep_no_thread_either(tmp_path, web, rest):
    with served(tmp_path, SLOW) as port, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(begun(port, CHUNKED + rest)) for _ in range(2 * THREADS)]
        for _ in range(3 * THREADS):
            assert web.request("GET", f"http://127.0.0.1:{port}/registry/vm").status == 200
        assert {status(sock) for sock in slow} == {431}


def test_a_hundred_without_a_credential_that_promise_a_large_body_keep_no_thread_from_others(tmp_path, web):
    token = keep(secrets.token_urlsafe(24))
    promise = b"POST /registry/revert HTTP/1.1\r\nHost: x\r\nContent-Length: 8000000\r\n\r\n{"
    with served(tmp_path, SLOW, root_token=token) as port, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(begun(port, promise)) for _ in range(100)]
        asked = urllib3.make_headers(basic_auth=f"root:{token}")
        for _ in range(3 * THREADS):
            assert web.request("GET", f"http://127.0.0.1:{port}/registry/vm", headers=asked).status == 200
        assert {status(sock) for sock in slow} == {401}


def test_a_worker_that_ends_tells_what_it_had_only_counted_and_gives_the_store_its_events(tmp_path, web):
    with served(tmp_path, SLOW, root_token=keep(secrets.token_urlsafe(24))) as port:
        for _ in range(TOLD_EACH + 5):
            assert web.request("GET", f"http://127.0.0.1:{port}/registry/vm").status == 401
    found = Registry(FilesStore(tmp_path)).events(ROOT, Wanted(0, 1 << 40, 100))
    assert [one.said.get("more") for one in found] == [None] * TOLD_EACH + [5]


@pytest.mark.parametrize("beginning", BEGINNINGS.values(), ids=BEGINNINGS)
def test_who_stops_in_the_middle_is_cut(tmp_path, beginning):
    with served(tmp_path, QUICK) as port, begun(port, beginning) as slow:
        assert everything(slow) in {b"", b"HTTP/1.1 100 Continue\r\n\r\n"}


def test_who_sends_a_byte_now_and_then_is_cut(tmp_path):
    with served(tmp_path, QUICK) as port, begun(port) as slow:
        slow.settimeout(0.02)
        for byte in itertools.cycle(b"G"):
            try:
                slow.sendall(bytes([byte]))
                assert slow.recv(1) == b""
            except TimeoutError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                pass
            break


def test_who_comes_again_on_a_connection_has_as_long_as_before_and_no_longer(tmp_path):
    with served(tmp_path, QUICK) as port, begun(port, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n") as kept:
        assert status(kept) == 200
        kept.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status(kept) == 200
        kept.sendall(b"GET /livez")
        assert everything(kept) == b""


def test_requests_that_come_together_are_answered_in_turn(tmp_path):
    one = b"POST /log HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    last = one.replace(b"Host", b"Connection: close\r\nHost")
    with served(tmp_path, SLOW) as port, begun(port, one * 5 + last) as sock:
        assert everything(sock).count(b'{"status":"OK"') == 6


def link(web, url, size):
    """A link for `size` zeros."""
    body = {"template": TEMPLATE, "name": "base", "tag": "v1"}
    sid = web.request("POST", f"{url}{API}/sessions", json=body).json()["session"]
    asked = {"objects": [{"kind": "pack", "sha256": hashlib.sha256(bytes(size)).hexdigest(), "size": size}]}
    return web.request("POST", f"{url}{API}/sessions/{sid}/uploads", json=asked).json()["links"][0]


def readable(folder):
    """A link to the only pack of the store."""
    store = FilesStore(folder)
    store.sign_with(Registry(store).signing_secret())
    return store.sign_get(next(store.list("packs/")).key, seconds=300).url


def put(port, web, size):
    """The head of a PUT of so many bytes."""
    given = link(web, f"http://127.0.0.1:{port}", size)
    lines = [f"PUT {given['url']} HTTP/1.1", "Host: x", f"Content-Length: {size}"]
    lines += [f"{name}: {value}" for name, value in given["headers"].items() if name.lower() != "content-length"]
    return "\r\n".join([*lines, "", ""]).encode()


def test_a_connection_is_kept_after_a_large_body_and_after_one_that_nobody_read(tmp_path, web):
    size = 1 << 20
    unread = b"POST /none HTTP/1.1\r\nHost: x\r\nContent-Length: 30000\r\n\r\n" + bytes(30_000)
    with served(tmp_path, SLOW) as port, begun(port, put(port, web, size) + bytes(size)) as sock:
        assert status(sock) == 200
        sock.sendall(unread)
        assert status(sock) == 404
        sock.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status(sock) == 200


def test_a_large_body_that_stands_still_is_cut_and_leaves_nothing(tmp_path, web):
    size = 1 << 20
    with served(tmp_path, QUICK) as port, begun(port, put(port, web, size) + bytes(size // 2)) as slow:
        answer = everything(slow)
    assert b"200 OK" not in answer
    assert b"Traceback" not in answer
    assert not list(tmp_path.glob("packs/**/*-*"))


def test_a_body_may_take_as_long_as_it_moves_and_its_grace():
    """By a clock of the test's, on which each read takes 100 s; the grace is 30 s."""
    now = itertools.count(step=100)
    here, there = socket.socketpair()
    with here, there:
        body = caller.Steady(there, caller.Limits(), lambda: next(now))
        for size in (71 * 1024, 100 * 1024, 1):
            here.sendall(bytes(size))
            assert len(body.chunk(size)) == size
        with pytest.raises(TimeoutError):
            body.chunk()
        body.begin()
        here.sendall(b"another")
        assert body.chunk() == b"another"


def test_who_does_not_read_its_answer_is_cut(tmp_path, web, cut):
    size = 8 << 20
    with served(tmp_path, QUICK) as port:
        url = f"http://127.0.0.1:{port}"
        given = link(web, url, size)
        assert web.request("PUT", url + given["url"], body=bytes(size), headers=given["headers"]).status == 200
        read = readable(tmp_path)
        with contextlib.ExitStack() as stack:
            asked = f"GET {read} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            deaf = [stack.enter_context(begun(port, asked, room=4096)) for _ in range(THREADS)]
            for _ in deaf:
                assert cut.acquire(timeout=SECONDS)
            assert web.request("GET", f"{url}/registry/vm").status == 200
            assert all(len(everything(sock)) < size for sock in deaf)


def test_who_hangs_up_late_keeps_nobody_waiting_and_reads_its_answer(tmp_path, web):
    asked = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with served(tmp_path, SLOW) as port, contextlib.ExitStack() as stack:
        late = [stack.enter_context(begun(port, asked)) for _ in range(50)]
        assert web.request("GET", f"http://127.0.0.1:{port}/livez").status == 200
        assert all(everything(sock).startswith(b"HTTP/1.1 200") for sock in late)


def test_a_body_that_is_too_large_is_refused_unread_and_the_answer_arrives(tmp_path):
    size = 1 << 40
    head = f"POST {API}/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()
    with served(tmp_path, QUICK) as port, begun(port, head + bytes(200_000)) as sock:
        answer = everything(sock)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"\r\nConnection: close\r\n" in answer  # else its client would send the next request there
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "request-too-large"


def test_of_chunks_no_more_is_read_than_a_body_may_have(tmp_path):
    head = f"POST {API}/sessions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    chunk = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
    with served(tmp_path, dataclasses.replace(QUICK, linger_seconds=SECONDS)) as port, begun(port, head) as sock:
        sent = 0
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while sent < 64:
                sock.sendall(chunk)
                sent += 1
        assert sent < 64
    with served(tmp_path, QUICK) as port, begun(port, head + chunk * 9) as sock:
        assert everything(sock).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * 9000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nX: " + b"y" * (caller.LARGEST_HEAD + 10), 431),
        (b"GET / HTTP/1.1\nHost: x\n\n", 400),
        (b"GET /?signature=SeCrEt\x01 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: strange\r\n\r\n0\r\n\r\n", 501),
    ],
)
def test_a_head_that_is_none_is_refused_without_repeating_it(tmp_path, caplog, head, status):
    with served(tmp_path, QUICK) as port, begun(port, head) as sock:
        answer = everything(sock)
    top, _, body = answer.partition(b"\r\n\r\n")
    assert top.startswith(b"HTTP/1.1 %d " % status)
    assert json.loads(body)["status"] == "FAIL"
    told = dict(line.split(": ", 1) for line in top.decode().splitlines()[1:])
    assert told.items() >= headers.ALWAYS.items()
    assert "Server" not in told
    assert "SeCrEt" not in caplog.text + answer.decode()


def test_what_is_no_http_is_told_so_at_once(tmp_path):
    """Else a client that begins with TLS could not tell this from a line that broke."""
    with served(tmp_path, SLOW) as port, begun(port, b"\x16\x03\x01\x02\x00\x01\x00") as sock:
        assert everything(sock).startswith(b"HTTP/1.1 400 ")


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority():
    return pki.Authority()


@pytest.fixture(scope="module")
def context(authority, tmp_path_factory):
    """What a server of TLS has."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*authority.server("127.0.0.1").write(tmp_path_factory.mktemp("tls") / "server"))
    return made


@pytest.fixture
def trusting(authority, tmp_path):
    """Asks over TLS."""
    with urllib3.PoolManager(
        retries=False, timeout=SECONDS, ca_certs=str(authority.write(tmp_path / "ca.pem"))
    ) as pool:
        yield pool


def shaken(port):
    """A TLS connection."""
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    return anybody.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=SECONDS))


@pytest.mark.parametrize(
    "said", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"], ids=["nothing", "half a hello"]
)
def test_a_handshake_that_stops_keeps_no_thread_and_is_cut(tmp_path, trusting, context, said):
    with served(tmp_path, SLOW, context) as port, contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(begun(port, said))
        assert trusting.request("GET", f"https://127.0.0.1:{port}/livez").status == 200
    with served(tmp_path, QUICK, context) as port, begun(port, said) as slow:
        everything(slow)


def test_a_head_that_stops_behind_a_handshake_keeps_no_thread_and_is_cut(tmp_path, trusting, context):
    with served(tmp_path, SLOW, context) as port, contextlib.ExitStack() as stack:
        for _ in range(THREADS + 1):
            stack.enter_context(shaken(port)).sendall(b"GET /livez HT")
        assert trusting.request("GET", f"https://127.0.0.1:{port}/livez").status == 200
    with served(tmp_path, QUICK, context) as port, shaken(port) as slow:
        slow.sendall(b"GET /livez HT")
        with contextlib.suppress(ssl.SSLEOFError):
            assert slow.recv(100) == b""


def test_a_pack_goes_through_tls_whole_there_and_back(tmp_path, trusting, context):
    size = 8 << 20
    with served(tmp_path, QUICK, context) as port:
        url = f"https://127.0.0.1:{port}"
        given = link(trusting, url, size)
        assert trusting.request("PUT", url + given["url"], body=bytes(size), headers=given["headers"]).status == 200
        read = readable(tmp_path)
        answer = trusting.request("GET", url + read)
    assert answer.data == bytes(size)
    assert answer.headers["Strict-Transport-Security"] == headers.OVER_TLS


def test_who_speaks_no_tls_is_hung_up_on(tmp_path, context):
    with served(tmp_path, SLOW, context) as port, begun(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") as sock:
        assert b"HTTP" not in everything(sock)
