"""A registry for one command: served inside its process, on loopback, to whoever has a token made for it."""

from __future__ import annotations

import contextlib
import secrets
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from werkzeug.serving import WSGIRequestHandler, make_server

from s3reg.api import create_app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3reg.settings import Settings
    from s3reg.store import ObjectStore


class Served(NamedTuple):
    """How to reach it."""

    url: str
    token: str
    """The root token. Never shown."""


class _Quiet(WSGIRequestHandler):
    """A command's stderr is for people."""

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002 - the name is werkzeug's
        """Nothing."""


@contextlib.contextmanager
def served(settings: Settings, store: ObjectStore) -> Iterator[Served]:
    """A registry over the store, until the end of the `with`."""
    token = secrets.token_urlsafe(32)
    ours = replace(
        settings,
        root_token=token,
        root_token_previous=None,
        root_token_file=None,
        root_token_secret=None,
        root_token_parameter=None,
        client_ca=None,
        client_crl=None,
        authorization=False,
    )
    server = make_server("127.0.0.1", 0, create_app(ours, store), threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield Served(f"http://127.0.0.1:{server.server_port}", token)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
