"""`/metrics` of `s3reg serve`: what all of its processes counted, those too that are gone; and the port of its own."""

import contextlib
import os
import select
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import urllib3

import running
import servers
from push_calls import API, link_to_put
from s3reg.cli import beside, serving
from s3reg.errors import ListenFailed
from s3reg.settings import Settings
from scraped import scraped

SECONDS = 60
REQUESTS = "s3reg_requests_total"


def ask(url):
    """The answer over a connection of its own, so that any worker may give it."""
    with urllib3.PoolManager(retries=False, timeout=SECONDS) as pool:
        return pool.request("GET", url, headers={"Connection": "close"})


def workers_of(registry):
    pid = registry.process.pid
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def test_counts_of_workers_that_were_replaced_or_killed_stay_and_whoever_answers_adds_up_all(tmp_path):
    if not Path("/proc/self/task").is_dir():
        servers.lacking("/proc, to find the processes of a registry (Linux)")
    told = ("--store", tmp_path / "store", "--workers", 3, "--max-requests", 20, "--log-level", "warning")
    answered = 0

    def counted():
        answer = ask(f"{registry.url}/metrics")
        assert answer.status == 200
        return scraped(answer.data.decode())

    with running.serving(tmp_path, *told) as registry, ThreadPoolExecutor(4) as pool:
        seen, killed = set(), 0
        for _ in range(3):
            found = list(pool.map(ask, [f"{registry.url}/registry/vm"] * 30))
            assert [answer.status for answer in found] == [200] * 30
            answered += 30
            for _ in range(4):
                assert counted().value(REQUESTS, route="/registry/vm", method="GET", status="200") == answered
            seen |= workers_of(registry)
            os.kill(max(workers_of(registry)), signal.SIGKILL)
            killed += 1
        while len(seen) <= 3 + killed:  # one for each that was killed, and one at least whose requests were enough
            assert ask(f"{registry.url}/livez").status == 200
            seen |= workers_of(registry)
        last = counted()
        assert last.value(REQUESTS, route="/registry/vm", method="GET", status="200") == answered
        assert last.value("s3reg_request_seconds_count", route="/registry/vm") == answered
        assert last.value(REQUESTS, route="/metrics", method="GET", status="200") == 12


def test_no_two_processes_that_are_there_at_once_count_in_one_place():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        server = serving._Server(Settings(workers=2), sock.dup(), None, lambda: None, None)
    arbiter = SimpleNamespace(ending=None, WORKERS={})

    def fork(pid):
        worker = arbiter.WORKERS[pid] = SimpleNamespace()
        others = {other: forked for other, forked in arbiter.WORKERS.items() if other != pid}
        server._share(SimpleNamespace(ending=None, WORKERS=others), worker)
        assert server._part == worker.part
        return worker.part

    assert [fork(pid) for pid in range(4)] == [0, 1, 2, 3]
    del arbiter.WORKERS[1]
    assert fork(4) == 1
    os.close(int(server.cfg.bind[0].removeprefix("fd://")))


def test_the_port_of_its_own_answers_while_every_thread_of_the_api_is_busy(tmp_path):
    port = servers.free_port()
    own = f"http://127.0.0.1:{port}"
    told = ("--store", tmp_path / "store", "--workers", 1, "--threads", 1, "--metrics-listen", f"127.0.0.1:{port}")
    size = 4 * 1024**2
    with running.serving(tmp_path, *told) as registry, contextlib.ExitStack() as stack:
        assert ask(f"{registry.url}/metrics").status == 404
        with connected(registry.url) as malformed:
            malformed.sendall(b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            assert malformed.recv(12) == b"HTTP/1.1 414"
        with urllib3.PoolManager(retries=False, timeout=SECONDS) as web:
            link = link_to_put(web, registry.url, size)
        busy, waits = (stack.enter_context(connected(registry.url)) for _ in range(2))
        headers = "".join(f"{name}: {value}\r\n" for name, value in {**link["headers"], "content-length": size}.items())
        # More than the poller keeps until it is whole: the only thread waits for the rest.
        busy.sendall(f"PUT {link['url']} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode() + bytes(size // 2))
        waits.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(3):
            found = scraped(ask(f"{own}/metrics").data.decode())
            assert found.value("anka_registry_state_count", state="Running") == 1
        assert found.value(REQUESTS, route="other", method="other", status="414") == 1
        assert ask(f"{own}/livez").status == ask(f"{own}/readyz").status == 200
        assert ask(f"{own}{API}/templates").status == 404
        assert select.select([waits], [], [], 0)[0] == [], "the thread was not busy"
        busy.sendall(bytes(size - size // 2))
        for sock in (busy, waits):
            assert sock.recv(12) == b"HTTP/1.1 200"


def connected(url):
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=SECONDS)


def test_a_port_of_its_own_that_is_taken_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ListenFailed, match=listen), serving.listening_beside(Settings(metrics_listen=listen)):
            pass
    with serving.listening_beside(Settings()) as none:
        assert none is None


def test_callers_that_stay_take_no_more_than_their_places_and_are_let_go():
    entered, leave = threading.Semaphore(0), threading.Event()

    def app(environ, start):
        if environ["PATH_INFO"] == "/stay":
            entered.release()
            assert leave.wait(SECONDS)
        start("200 OK", [("Content-Type", "text/plain")])
        return [b"here"]

    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        beside.serve(sock, app)
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        assert ask(url).data == b"here"
        pool = stack.enter_context(ThreadPoolExecutor(beside.AT_ONCE))
        staying = [pool.submit(ask, f"{url}/stay") for _ in range(beside.AT_ONCE)]
        for _ in staying:
            assert entered.acquire(timeout=SECONDS)
        with pytest.raises(urllib3.exceptions.HTTPError):
            ask(url)
        leave.set()
        assert [one.result(SECONDS).data for one in staying] == [b"here"] * beside.AT_ONCE
        assert _again(url).data == b"here"


def test_what_goes_wrong_there_is_one_event_of_the_log_and_nothing_beside_it(caplog, capfd):
    def app(environ, start):
        write = start("200 OK", [("Content-Type", "text/plain")])
        if environ["PATH_INFO"] == "/slow":
            write(b"begun")
            raise TimeoutError  # as writing more would, to a caller that reads none of it
        raise OSError(environ["PATH_INFO"])

    with socket.create_server(("127.0.0.1", 0)) as sock:
        beside.serve(sock, app)
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        assert ask(f"{url}/slow").data == b"begun"
        assert ask(f"{url}/metrics").status == 500
    (record,) = caplog.records
    assert (record.event, record.levelname) == ("metrics-port-failed", "ERROR")
    assert str(record.exc_info[1]) == "/metrics"
    assert capfd.readouterr() == ("", "")


def _again(url):
    """An answer, as soon as a place is free: a thread gives its own back just after its caller has the answer."""
    while True:
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            return ask(url)
