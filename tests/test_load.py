"""bench.load: what wrk is told and what it says, the rows that are made of it, and whose memory is looked at."""

import http.server
import importlib
import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

import servers

HOME = Path(__file__).parents[1]
SAID = {"requests": 1000, "seconds": 2.0, "p50": 1.25, "p99": 7.5, "wrong": 0}
TWO_PROCESSES = """
import subprocess, sys
subprocess.run([sys.executable, "-c", "block = bytearray(b'1') * 30_000_000; print('ready', flush=True); input()"])
"""


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(HOME)
    return importlib.import_module("bench.load")


@pytest.fixture
def wrk(tmp_path, monkeypatch):
    """`wrk(url=said)`: a program of this name that says so when it is asked to ask there, after a line of its own."""

    def put(**said):
        rows = "".join(f"*//{host}) echo '{json.dumps(SAID | told)}';;\n" for host, told in said.items())
        program = tmp_path / "wrk"
        program.write_text(f'#!/bin/sh\nfor url; do :; done\necho Running\ncase "$url" in\n{rows}esac\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.setattr("bench.programs.CACHED", tmp_path / "none")

    return put


def test_wrk_asks_for_all_paths_in_turn_and_tells_how_many_were_not_found(load, tmp_path):
    servers.needs("wrk")
    asked = Counter()

    class Answers(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            asked[self.path] += 1
            self.send_response(404 if self.path == "/none" else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        told = load.Asking(tmp_path, 1, 2).told(f"http://127.0.0.1:{server.server_port}", ["/one", '/"two"', "/none"])
        server.shutdown()
    assert set(asked) == {"/one", '/"two"', "/none"}
    assert max(asked.values()) - min(asked.values()) <= 3
    assert 0 < told.requests <= asked.total()
    assert abs(told.wrong - told.requests / 3) <= 3
    assert 0 < told.p50 <= told.p99
    assert told.rate == told.requests / told.seconds


def test_a_row_has_one_replica_alone_and_both_together(load, wrk, tmp_path):
    wrk(one={}, two={"requests": 500, "p50": 2.0, "p99": 20.0})
    rows = load.rates(["http://one", "http://two"], {"list": ["/"]}, load.Asking(tmp_path, 1, 1))
    assert rows == ["| list | 500/s; 1.2, 8 ms | 750/s; 2.0, 20 ms | 1.50 \N{MULTIPLICATION SIGN} |"]


def test_an_answer_that_is_none_ends_it(load, wrk, tmp_path):
    wrk(one={}, two={"wrong": 3})
    with pytest.raises(SystemExit, match="3 requests for list were not answered with 200"):
        load.rates(["http://one", "http://two"], {"list": ["/"]}, load.Asking(tmp_path, 1, 1))


def test_memory_is_that_of_the_worker_at_its_beginning_and_after_parts_of_all_requests(load, wrk, tmp_path):
    wrk(one={"requests": 40})
    paths = {name: ["/"] for name in load.MIXED}
    with subprocess.Popen(
        [sys.executable, "-c", TWO_PROCESSES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        started = SimpleNamespace(process=process, url="http://one")
        told = load.memory(started, paths, 100, load.Asking(tmp_path, 1, 1))
        process.communicate("\n")
    sizes = re.findall(r"([\d.]+) MiB after (\d+)", told)
    assert [int(requests) for _, requests in sizes] == [0, 40, 80, 120]
    assert all(float(size) > 30 for size, _ in sizes)
