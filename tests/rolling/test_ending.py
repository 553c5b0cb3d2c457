"""How a replica ends, and how its processes are replaced: clients that come all the while lose no answer."""

import contextlib
import http.client
import os
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import urllib3
from gunicorn.errors import HaltServer

import running
from rolling.replicas import Forked, Replica, status, workers
from s3reg.cli import serving
from s3reg.cli.arbiter import Pause
from s3reg.cli.arbiter import Replica as Arbiter
from s3reg.settings import Settings

QUICK_TO_DESPAIR = "import s3reg.cli.serving as s; s.HUNG_SECONDS = 4; from s3reg.cli.main import main; main()"
CALLERS = 6


def until(is_so, what):
    """Ask until it is."""
    deadline = time.monotonic() + running.SECONDS
    while not (found := is_so()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return found


@pytest.fixture
def replica(launch, tmp_path):
    """`replica(SETTING=…)` starts one over a directory."""
    with contextlib.ExitStack() as stack:

        def start(**settings):
            told = {f"S3REG_{name}": value for name, value in settings.items()}
            made = Forked(launch, tmp_path, ["--store", tmp_path / "store"], told)
            made.start()
            stack.callback(made.stop)
            return made

        yield start


def test_one_that_is_told_to_end_says_so_and_serves_on_until_balancers_have_seen_it(replica):
    one = replica(DRAIN_SECONDS="3600", WORKERS="2")
    assert one.ready()
    os.kill(one.pid, signal.SIGTERM)
    with urllib3.PoolManager(retries=False, timeout=running.SECONDS) as web:

        def told():
            answer = web.request("GET", f"{one.url}/readyz")
            return answer.status == 503 and answer

        answer = until(told, "it does not say that it ends")
        assert answer.json()["body"]["reason"] == "ending"
        for path in ("/livez", "/registry/vm"):
            answer = web.request("GET", one.url + path)
            assert (answer.status, answer.headers["connection"]) == (200, "close")  # the next goes elsewhere
    one.stop()  # whoever says it twice does not wait
    assert status(f"{one.url}/livez") == 0


def newcomer(address, stop):
    """Ask over a fresh connection each time; what came of it that was neither an answer nor a refusal to connect."""
    host, port = address.split(":")
    lost = []
    while not stop.is_set():
        try:
            sock = socket.create_connection((host, int(port)), timeout=running.SECONDS)
        except ConnectionRefusedError:
            continue
        with sock:
            try:
                sock.sendall(b"POST /log HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
                with http.client.HTTPResponse(sock) as answer:
                    answer.begin()
                    assert (answer.status, bool(answer.read())) == (200, True)
            except (OSError, http.client.HTTPException) as e:
                lost.append(repr(e))
    return lost


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a connection may be reset in the last microseconds")
def test_whoever_has_come_in_when_it_ends_is_answered_and_all_others_are_refused(replica):
    stop = threading.Event()
    one = replica(WORKERS="2", THREADS="2")
    with ThreadPoolExecutor(CALLERS) as pool:
        asked = [pool.submit(newcomer, one.address, stop) for _ in range(CALLERS)]
        try:
            for _ in range(2):
                one.stop()
                one.start()
        finally:
            stop.set()
        assert [found.result() for found in asked] == [[]] * CALLERS


def stayer(address, count):
    """Ask so often over connections that are kept until the registry says that they end; nothing is tried again."""
    host, port = address.split(":")
    statuses = set()
    line = http.client.HTTPConnection(host, int(port), timeout=running.SECONDS)
    with contextlib.closing(line):
        for number in range(count):
            line.request(*(("GET", "/registry/vm") if number % 2 else ("POST", "/log", b"{}")))
            with line.getresponse() as answer:
                answer.read()
                statuses.add(answer.status)
    return statuses


def test_processes_are_replaced_after_so_many_requests_and_nobody_notices(replica):
    one = replica(WORKERS="2", MAX_REQUESTS="40")
    before = workers(one.pid)
    with ThreadPoolExecutor(CALLERS) as pool:
        while set(before) & set(workers(one.pid)):
            for found in pool.map(stayer, [one.address] * CALLERS, [40] * CALLERS):
                assert found == {200}


def test_a_process_that_is_replaced_answers_what_it_has_begun_to_receive_and_others_are_served_meanwhile(replica):
    one = replica(WORKERS="1", MAX_REQUESTS="1")
    host, port = one.address.split(":")
    with socket.create_connection((host, int(port)), timeout=running.SECONDS) as slow:
        slow.sendall(b"POST /log HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{")
        (first,) = until(lambda: workers(one.pid), "no worker")
        assert status(f"{one.url}/livez") == 200  # it has answered as many as it may
        until(lambda: len(workers(one.pid)) > 1, "no other worker came")
        for _ in range(3):
            assert status(f"{one.url}/livez") == 200
        assert first in workers(one.pid)
        slow.sendall(b"}")
        with http.client.HTTPResponse(slow) as answer:
            answer.begin()
            assert (answer.status, bool(answer.read())) == (200, True)
    until(lambda: first not in workers(one.pid), "it has not ended")


def test_sighup_replaces_all_processes_one_by_one_and_the_registry_goes_on(replica):
    one = replica(WORKERS="2")
    before = until(lambda: len(found := workers(one.pid)) == 2 and found, "no two workers")
    os.kill(one.pid, signal.SIGHUP)
    until(lambda: not set(before) & set(workers(one.pid)), "somebody has stayed")
    assert stayer(one.address, 4) == {200}


def test_a_container_gets_as_many_processes_as_it_may_use_processors(tmp_path):
    share = tmp_path / "cpu.max"
    everything = serving.cores(share)
    for written, count in (("max 100000", everything), ("25000 100000", 1), ("150000 100000", min(2, everything))):
        share.write_text(f"{written}\n")
        assert serving.cores(share) == count


def test_a_process_that_was_killed_is_replaced(replica):
    one = replica(WORKERS="2")
    before = until(lambda: len(found := workers(one.pid)) == 2 and found, "no two workers")
    os.kill(before[0], signal.SIGKILL)
    until(lambda: len(set(workers(one.pid)) - set(before)) == 1, "no other worker came")
    assert status(f"{one.url}/registry/vm") == 200


@contextlib.contextmanager
def away(store):
    """No process can start over this store meanwhile."""
    elsewhere = store.rename(store.parent / "elsewhere")
    store.touch()
    yield
    store.unlink()
    elsewhere.rename(store)


def test_while_a_process_cannot_be_replaced_the_others_serve_on_and_later_it_is(replica, tmp_path):
    one = replica(WORKERS="2")
    before = until(lambda: len(found := workers(one.pid)) == 2 and found, "no two workers")
    assert one.ready()
    with away(tmp_path / "store"):
        os.kill(before[0], signal.SIGKILL)
        (told,) = until(lambda: one.logged("worker-not-started"), "no other worker was tried")
        assert "is a file, not a directory" in told
        assert status(f"{one.url}/livez") == 200
    until(lambda: len(set(workers(one.pid)) - set(before)) == 1, "no other worker came")
    assert set(one.logged("")) - {told} == set(one.logged("gunicorn.error: 'Worker (pid:"))  # that one was killed


def test_when_none_of_its_processes_can_start_it_ends_and_has_said_why(replica, tmp_path):
    one = replica(WORKERS="1")
    (only,) = until(lambda: workers(one.pid), "no worker")
    assert one.ready()
    with away(tmp_path / "store"):
        os.kill(only, signal.SIGKILL)
        assert one.outcome().code == 3
    (told,) = one.logged("worker-not-started")
    assert "is a file, not a directory" in told


def worker(**more):
    return SimpleNamespace(**{"serves": False, "is_leaving": False, "could_not_start": False, **more})


@pytest.mark.parametrize(
    ("gone", "others", "told", "ends", "waits"),
    [
        (worker(could_not_start=True), [], False, True, True),
        (worker(could_not_start=True), [worker()], False, True, True),
        (worker(could_not_start=True), [worker(serves=True)], False, False, True),
        (worker(could_not_start=True), [worker(serves=True, is_leaving=True)], False, True, True),
        (worker(could_not_start=True), [], True, False, True),
        (worker(), [], False, False, True),
        (worker(serves=True), [], False, False, False),
        (worker(is_leaving=True), [], False, False, False),
    ],
    ids=["first", "first of two", "successor", "after a leaving one", "drained", "killed early", "killed", "left"],
)
def test_what_follows_from_the_end_of_a_process(gone, others, told, ends, waits):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        one = Arbiter(serving._Server(Settings(workers=1), sock.dup(), None, lambda: None, None), 0)
    one.WORKERS = dict(enumerate(others))
    if told:
        one.ending.told.set()
    with pytest.raises(HaltServer) if ends else contextlib.nullcontext():
        one.judge([gone])
    assert bool(one._pause) == waits
    os.close(int(one.cfg.bind[0].removeprefix("fd://")))


def test_each_process_that_could_not_start_is_waited_for_twice_as_long_as_the_one_before():
    now = 0.0
    pause = Pause(lambda: now)
    assert not pause
    for seconds in (1, 2, 4, 8, 16, 32, 60, 60):
        pause.lengthen()
        now += seconds - 0.001
        assert pause
        now += 0.001
        assert not pause
    pause.lengthen()
    pause.end()
    assert not pause
    pause.lengthen()
    now += 1
    assert not pause


def test_a_process_that_hangs_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "PROGRAM", [sys.executable, "-c", QUICK_TO_DESPAIR])
    one = Replica(tmp_path, ["--store", tmp_path / "store"], {"S3REG_WORKERS": "1"})
    one.start()
    try:
        assert one.ready()  # gunicorn waits for one that has not begun to serve
        (hung,) = workers(one.pid)
        os.kill(hung, signal.SIGSTOP)
        until(lambda: set(workers(one.pid)) - {hung}, "no other worker came")
        assert status(f"{one.url}/registry/vm") == 200
    finally:
        one.stop()


def test_processes_whose_first_one_was_killed_end_by_themselves_and_free_the_port(replica):
    one = replica(WORKERS="2")
    until(lambda: len(workers(one.pid)) == 2, "no two workers")
    os.kill(one.pid, signal.SIGKILL)
    until(lambda: status(f"{one.url}/livez") == 0, "somebody still answers")
    one.stop()
    one.start()
    assert one.ready()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells whose a connection is")
def test_no_two_processes_share_a_connection_to_the_store(launch, minio, bucket, tmp_path):
    store = ["--store", f"s3://{bucket(minio)}", "--s3-endpoint", minio.endpoint]
    one = Forked(launch, tmp_path, store, {**minio.environment(), "S3REG_WORKERS": "2"})
    one.start()
    try:
        first, port = one.pid, int(minio.endpoint.rpartition(":")[2])

        def each():
            with ThreadPoolExecutor(CALLERS) as pool:
                assert set(pool.map(status, [f"{one.url}/registry/vm"] * CALLERS)) == {200}
            found = [connections(pid, port) for pid in workers(first)]
            return len(found) == 2 and all(found) and found

        assert not set.intersection(*until(each, "two workers that have asked the store"))
        assert not connections(first, port)
    finally:
        one.stop()


def connections(pid, port):
    """The inodes of a process's TCP connections to a port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    there = {row[9] for row in rows if int(row[2].rpartition(":")[2], 16) == port}
    held = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            held.add(str(file.readlink()).removeprefix("socket:[").removesuffix("]"))
    return held & there
