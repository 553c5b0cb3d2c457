"""A system that has no thread or process to spare for a moment: what wanted one gets it later, and nothing stays broken."""

import contextlib
import errno
import os
import resource
import socket
import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from s3reg.api.readiness import Readiness
from s3reg.api.stock import Seen, Stock
from s3reg.cli import beside, patience, serving
from s3reg.cli.arbiter import Replica
from s3reg.model import format as fmt
from s3reg.registry import Registry
from s3reg.settings import Settings
from s3reg.store.breaker import ASK_SECONDS, IN_A_ROW, Breaker
from s3reg.store.credentials import EARLY_SECONDS, Lasting
from s3reg.store.files import FilesStore

SECONDS = 60


@pytest.fixture
def short(monkeypatch):
    """The system is short of threads, for as long as `now`."""
    told, start = SimpleNamespace(now=True), threading.Thread.start

    def started(thread):
        if told.now:
            raise RuntimeError("can't start new thread")  # CPython's own words
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", started)
    return told


def test_a_store_that_could_not_be_asked_is_asked_a_second_later_and_is_not_away_for_ever(short):
    asked, clock = threading.Event(), SimpleNamespace(now=100.0)

    def answers():
        asked.set()
        return True

    breaker = Breaker(answers, clock=lambda: clock.now)
    for _ in range(IN_A_ROW):
        breaker.failed("no answer in time", slowly=True)  # raises nothing: its caller has another error to tell
    assert breaker.refusal()
    short.now = False
    clock.now += ASK_SECONDS
    breaker.refusal()
    assert asked.wait(SECONDS)


def test_credentials_that_could_not_be_asked_for_are_asked_for_later_and_the_old_are_used_meanwhile(short):
    clock = SimpleNamespace(now=1_000_000.0)

    class Source:
        def gives(self, token):
            self.token = token
            self._expiry_time = datetime.fromtimestamp(clock.now, UTC) + timedelta(seconds=EARLY_SECONDS - 60)

        def get_frozen_credentials(self):
            return SimpleNamespace(token=self.token)

    source = Source()
    source.gives("old")
    lasting = Lasting(lambda: source, "s3://b", repr, lambda: clock.now)
    short.now = False
    assert lasting.now().frozen.token == "old"
    source.gives("new")
    short.now = True
    clock.now += 60
    assert lasting.now().frozen.token == "old"
    short.now = False
    assert lasting._ask(clock.now, 0).wait(SECONDS)
    assert lasting.now().frozen.token == "new"


def test_a_look_at_the_store_that_could_not_begin_makes_no_replica_unready_for_ever(short):
    ready = Readiness(lambda: None, wait_seconds=SECONDS)
    with pytest.raises(RuntimeError):
        ready.now()
    short.now = False
    ready._wait_seconds = SECONDS
    assert ready.now().ready


def test_a_look_at_what_there_is_that_could_not_begin_is_begun_later(short):
    stock = Stock(lambda: Seen((), None, None), wait_seconds=1)
    with pytest.raises(RuntimeError):
        stock.seen()
    short.now = False
    stock._wait_seconds = SECONDS
    assert stock.seen() is not None


def test_an_event_whose_writer_could_not_begin_is_written_with_the_next(short, tmp_path):
    store = FilesStore(tmp_path)
    registry = Registry(store)
    assert registry.note("key:ci", {"deed": "push"})
    short.now = False
    assert registry.note("key:ci", {"deed": "pull"})
    registry.finish(SECONDS)
    written = [
        event for stat in store.list(fmt.EVENTS) for event in fmt.read_events(store.get(stat.key).data, stat.key)
    ]
    assert [event.said["deed"] for event in written] == ["push", "pull"]


def test_callers_beside_that_could_not_be_served_give_their_places_back(short):
    def app(environ, start):
        start("200 OK", [("Content-Type", "text/plain")])
        return [b"here"]

    with socket.create_server(("127.0.0.1", 0)) as sock, contextlib.ExitStack() as stack:
        server = stack.enter_context(beside._Server(sock, app))
        for _ in range(beside.AT_ONCE):
            with socket.create_connection(sock.getsockname(), timeout=SECONDS) as caller:
                server.handle_request()
                assert not caller.recv(1)
        short.now = False
        with socket.create_connection(sock.getsockname(), timeout=SECONDS) as caller:
            caller.sendall(b"GET / HTTP/1.0\r\n\r\n")
            server.handle_request()
            assert caller.recv(12) == b"HTTP/1.0 200"


def test_a_replica_goes_on_with_the_processes_it_has_while_no_other_can_be_made(monkeypatch):
    def fork():
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", fork)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        replica = Replica(serving._Server(Settings(workers=1), sock.dup(), None, lambda: None, None), 0)
    replica.pid, replica.worker_class = os.getpid(), lambda *_: SimpleNamespace()
    with pytest.raises(BlockingIOError):
        replica.manage_workers()  # nobody serves: whoever started it is to know
    replica.WORKERS = {1: SimpleNamespace(part=0, serves=True, is_spent=True, is_leaving=False, age=1)}
    replica.manage_workers()
    assert [worker.is_leaving for worker in replica.WORKERS.values()] == [False]
    os.close(int(replica.cfg.bind[0].removeprefix("fd://")))


def test_a_system_that_gives_no_more_files_is_served_with_those_that_it_gives(monkeypatch):
    def refused(*_):
        raise ValueError("current limit exceeds maximum limit")  # macOS, of more than kern.maxfilesperproc

    monkeypatch.setattr(resource, "setrlimit", refused)
    patience.more_files()
