"""Forks commands of s3reg on demand, having imported everything once; `campaign.forks` starts it and talks to it.

stdin has one JSON object a line for each command; stdout tells its process id, and how it ended. When stdin ends, everybody
ends. A command may be made to die as by kill -9 at a call of its store, of whatever adapter, without the product knowing of
it; its whole group goes, so a registry dies workers and all. What one waits for on a bad line is shortened, not left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_PAUSE = 0.05
"""Seconds between two tries."""
VERBS = ("get", "stat", "put", "delete", "list", "relist", "receive")
"""Of a store: those at which a process may die."""
MOMENTS = ("before", "behind")


def _fork_on_demand() -> None:
    """Fork what is asked for on stdin, tell on stdout who ended how; end everybody when stdin ends."""
    # Everything that a command will want, once.
    import boto3  # noqa: F401
    import botocore.endpoint  # noqa: F401
    import flask  # noqa: F401
    import gunicorn.app.base  # noqa: F401

    import s3reg.cli.patience
    import s3reg.cli.server
    import s3reg.client.pull
    import s3reg.client.push
    import s3reg.store.s3  # noqa: F401

    receiving, sending = os.pipe()
    os.set_blocking(sending, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(sending, warn_on_full_buffer=False)
    alive: dict[int, int] = {}
    left = b""
    with selectors.DefaultSelector() as ready:
        ready.register(0, selectors.EVENT_READ)
        ready.register(receiving, selectors.EVENT_READ)
        while True:
            found = {key.fd for key, _ in ready.select()}
            if receiving in found:
                os.read(receiving, 4096)
                _reap(alive)
            if 0 in found:
                came = os.read(0, 1 << 20)
                if not came:
                    break
                *lines, left = (left + came).split(b"\n")
                for line in lines:
                    row = json.loads(line)
                    pid = os.fork()
                    if pid == 0:
                        _become(row, [receiving, sending])
                    alive[pid] = row["number"]
                    _tell(number=row["number"], pid=pid)
    for pid in alive:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def _reap(alive: dict[int, int]) -> None:
    for pid in list(alive):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            # Whatever it left behind, workers for instance, goes too.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            _tell(number=alive.pop(pid), code=os.waitstatus_to_exitcode(status))


def _tell(**row: int) -> None:
    os.write(1, json.dumps(row).encode() + b"\n")


def _become(row: dict[str, Any], inherited: list[int]) -> NoReturn:
    """The command, in this process."""
    code: object = 1
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        folder = Path(row["folder"])
        for fd in inherited:
            os.close(fd)
        for fd, path, flags in (
            (0, Path(os.devnull), os.O_RDONLY),
            (1, folder / "out", os.O_WRONLY | os.O_CREAT | os.O_APPEND),
            (2, folder / "err", os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        ):
            opened = os.open(path, flags, 0o600)
            os.dup2(opened, fd)
            os.close(opened)
        os.environ.clear()
        os.environ.update(row["environment"])
        _impatient(row["patience"])
        if row["dies"] is not None:
            _mortal(*row["dies"])
        from s3reg.cli.main import main

        sys.argv = ["s3reg", *row["arguments"]]
        try:
            main()
        except SystemExit as e:
            code = e.code
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _impatient(seconds: float) -> None:
    """A node waits so long for a silent server, a registry for its store; between two tries hardly at all."""
    from s3reg.client.connection import Connection
    from s3reg.store.s3 import S3Store

    def pause(stop: threading.Event, seconds: float) -> None:
        stop.wait(min(seconds, LONGEST_PAUSE))

    Connection.__init__.__kwdefaults__.update(stall=seconds, pause=pause)
    S3Store.__init__.__kwdefaults__.update(read_seconds=seconds)


def _mortal(n: int, moment: str) -> None:
    """This process, and its group, dies at the n-th call of a store's verb, from 1."""
    from s3reg.store.files import FilesStore
    from s3reg.store.s3 import S3Store

    seen = 0
    lock = threading.Lock()

    def dying(verb: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **named: Any) -> Any:
            nonlocal seen
            with lock:
                seen += 1
                here = seen == n
            if here and moment == "before":
                os.killpg(0, signal.SIGKILL)
            try:
                return verb(*args, **named)
            finally:
                if here:
                    os.killpg(0, signal.SIGKILL)

        return called

    for adapter in (FilesStore, S3Store):
        for verb in VERBS:
            if hasattr(adapter, verb):
                setattr(adapter, verb, dying(getattr(adapter, verb)))


if __name__ == "__main__":
    _fork_on_demand()
