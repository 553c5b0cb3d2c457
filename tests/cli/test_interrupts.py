"""Ctrl-C ends a command soon, whatever it waits for, and the next run goes on."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest
from werkzeug.serving import make_server

import machines
import running
from s3reg.api import create_app
from s3reg.settings import Settings
from s3reg.store.files import FilesStore
from servers import lacking, needs
from sites import Quiet

PROGRAM = [sys.executable, "-m", "s3reg.cli.main"]
NAMESERVER = "127.83.0.1"


class Stuck:
    """A registry that is served, and whose store answers so many requests of one kind, and no more until it is `over`."""

    def __init__(self, store, method, answers):
        app = create_app(Settings(store=str(store)), FilesStore(store))
        self.reached, self.over = threading.Event(), threading.Event()
        self.taken = 0

        def answer(environ, start):
            if environ["REQUEST_METHOD"] == method and "/objects/" in environ["PATH_INFO"]:
                self.taken += 1
                if self.taken > answers and not self.over.is_set():
                    self.reached.set()
                    self.over.wait()
            return app(environ, start)

        self.server = make_server("127.0.0.1", 0, answer, threaded=True, request_handler=Quiet)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@contextlib.contextmanager
def stuck(store, method, answers):
    site = Stuck(store, method, answers)
    thread = threading.Thread(target=site.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        site.over.set()
        site.server.shutdown()
        thread.join()
        site.server.server_close()


def ended(process, number=signal.SIGINT):
    with process:
        process.send_signal(number)
        return process.communicate(timeout=running.SECONDS)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_push_into_a_store_that_is_silent_ends_and_the_next_goes_on(number, tmp_path):
    with stuck(tmp_path / "store", "PUT", 1) as site:
        node = running.Node(tmp_path / "node", site.url)
        machine = machines.make(node.library, state_size=0)
        process = node.start("push", machine.name, "-t", "v1")
        assert site.reached.wait(running.SECONDS)
        _, err = ended(process, number)
        assert process.returncode == 128 + number
        assert not site.over.is_set()
        assert "s3reg: interrupted\n       repeat the command to go on where it was\n" in err
        assert "Traceback" not in err
        site.over.set()
        again = node.run("push", machine.name, "-t", "v1")
        assert again.code == 0
        assert "going on where an earlier push was interrupted" in again.err


def test_a_pull_from_a_store_that_is_silent_ends_with_an_answer_for_programs(tmp_path):
    with stuck(tmp_path / "store", "GET", 2) as site:
        node, other = (running.Node(tmp_path / name, site.url) for name in ("node", "other"))
        machine = machines.make(node.library, state_size=0)
        node.done("push", machine.name, "-t", "v1")
        process = other.start("-j", "pull", machine.name)
        assert site.reached.wait(running.SECONDS)
        out, err = ended(process)
        told = json.loads(out.splitlines()[-1])
        assert (told["status"], told["code"], told["exception_type"]) == ("ERROR", 130, "Interrupted")
        assert process.returncode == 130
        assert "Traceback" not in err
        site.over.set()
        assert other.run("pull", machine.name).code == 0
        assert machines.contents(other.library, machine) == machines.contents(node.library, machine)


def test_looking_up_a_name_that_nobody_answers_ends(tmp_path):
    """The C library looks it up, in one long call during which no handler of Python's runs."""
    unshare = needs("unshare")
    if sys.platform != "linux" or os.geteuid() != 0:
        lacking("mount namespaces (root)")
    resolver = tmp_path / "resolv.conf"
    resolver.write_text(f"nameserver {NAMESERVER}\noptions timeout:30 attempts:2\n")
    program = " ".join(PROGRAM)
    script = f"mount --bind {resolver} /etc/resolv.conf && exec {program} -a http://registry.example:8089 list"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((NAMESERVER, 53))
        silent.settimeout(running.SECONDS)
        process = subprocess.Popen(
            [unshare, "--mount", "--propagation", "private", "sh", "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=running.environment(S3REG_LIBRARY=str(tmp_path)),
        )
        asked = [silent.recv(512)]
        _, err = ended(process)
        silent.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                asked.append(silent.recv(512))
    assert process.returncode == 130
    assert err.startswith("s3reg: interrupted\n")
    assert len(asked) == len(set(asked)), "it ended only after the name was asked for again"


WAITING = """
import signal
from s3reg.cli.interrupts import Watchdog
signal.signal(signal.SIGINT, lambda *_: print("going on", flush=True))
dog = Watchdog(lambda number: print("its last words", flush=True), grace=1_000_000)
dog.arm()
{before}
print("ready", flush=True)
while True:
    signal.pause()
"""


@pytest.mark.parametrize(
    ("before", "said"), [("", True), ("dog.claim()", False)], ids=["nothing said yet", "said already"]
)
def test_a_second_ctrl_c_ends_at_once_and_says_why_unless_that_was_said(before, said):
    with subprocess.Popen(
        [sys.executable, "-c", WAITING.format(before=before)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "going on\n"
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=running.SECONDS)
    assert process.returncode == 130
    assert ("its last words" in out) == said
