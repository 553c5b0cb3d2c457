"""A registry over a directory, served on a free port, and the program run in this process as `s3reg` would run."""

from __future__ import annotations

import json
import os
import pty
import signal
import threading
from dataclasses import dataclass

import pytest
from werkzeug.serving import WSGIRequestHandler, make_server

from s3reg.api import create_app
from s3reg.cli.main import run
from s3reg.settings import Settings
from s3reg.store.files import FilesStore


class Quiet(WSGIRequestHandler):
    """It shares stderr with the program under test."""

    def log(self, *_):
        pass


@dataclass
class Done:
    """What a run of the program came to."""

    code: int
    out: str
    err: str

    @property
    def answer(self):
        """What a program reads: the last line, which no newline ends."""
        assert not self.out.endswith("\n")
        return json.loads(self.out.splitlines()[-1])


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    """A node's own: nothing of this machine's user is read or written."""
    for name in [name for name in os.environ if name.startswith(("S3REG_", "ANKA_")) and name != "S3REG_MINIO"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("S3REG_REMOTES", str(tmp_path / "remotes.yaml"))
    monkeypatch.setenv("S3REG_LIBRARY", str(tmp_path / "library"))


@pytest.fixture
def s3reg(capsys):
    """Runs the program with the given arguments."""
    before = signal.getsignal(signal.SIGTERM)

    def program(*arguments):
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Done(code, out, err)

    yield program
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def terminal(monkeypatch):
    """`terminal(text)`: somebody at a terminal types it."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "r") as keyboard:

        def types(text):
            os.write(ours, text.encode())
            monkeypatch.setattr("sys.stdin", keyboard)

        yield types
    os.close(ours)


@pytest.fixture
def registry(tmp_path):
    """The address of an empty registry."""
    store = FilesStore(tmp_path / "store")
    app = create_app(Settings(store=str(tmp_path / "store")), store)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def disk(tmp_path):
    """A small disk: data, a hole, data."""
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.write(b"system" * 200_000)
        file.seek(8 * 1024**2)
        file.write(b"end")
    return path
