"""Registries that are served inside the tests' own process."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from werkzeug.serving import WSGIRequestHandler, make_server

from s3reg.api import create_app
from s3reg.client.connection import Access, Connection
from s3reg.settings import Settings
from s3reg.store.files import FilesStore

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path


class Quiet(WSGIRequestHandler):
    """It shares stderr with the tests."""

    def log(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def address(store: Path) -> Iterator[str]:
    """The address of the registry over the directory `store`, while it is served."""
    with serving(create_app(Settings(store=str(store)), FilesStore(store))) as url:
        yield url


@contextlib.contextmanager
def serving(app: Any, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The address of `app`, while it is served."""
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet, ssl_context=tls)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def served(store: Path) -> Iterator[Connection]:
    """A connection to it."""
    with address(store) as url, contextlib.closing(Connection(Access(url))) as connection:
        yield connection
