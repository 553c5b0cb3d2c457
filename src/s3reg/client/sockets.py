"""The sockets below a connection: how urllib3 is to make them, how long each took to come about, and ending them all."""

from __future__ import annotations

import contextlib
import functools
import socket
import ssl
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import urllib3
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util import Timeout

from s3reg.errors import LocalDenied

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3reg.client.connection import Access

CONNECT_SECONDS = 20.0
"""Also the longest that one slice of an upload may take to leave."""
_PLAINLY = {
    "": "it lacks a certificate, or its key, in PEM",
    "KEY_VALUES_MISMATCH": "the key is of another one; --key names the key's file",
    "CA_MD_TOO_WEAK": "it is signed with SHA-1, or MD5",
}
"""OpenSSL's reasons against a certificate's file, in words; where there is nothing in the file, it names none."""


class Sockets:
    """The open ones, wherever urllib3 has them at the moment.

    `heard(host, seconds)` is told how long a TCP connection took to come about.
    """

    def __init__(self, heard: Callable[[str, float], None]) -> None:
        self._heard = heard
        self._open: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._ends = 0

    def end(self) -> None:
        """End them all, those included that are on their way."""
        with self._lock:
            self._ends += 1
            ending = list(self._open)
        for one in ending:
            _shut(one)

    def pools(self, tls: Callable[[], ssl.SSLContext]) -> dict[str, type[HTTPConnectionPool]]:
        """urllib3's pools by scheme, of connections whose sockets are known here; the first encrypted one asks for `tls`."""
        sockets = self

        class Known(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                began = time.monotonic()
                made = super()._new_conn()
                sockets._heard(self.host, time.monotonic() - began)
                sockets._add(made)
                return made

            def connect(self) -> None:
                ends = sockets._ends
                super().connect()
                # It may have been ended while TLS made another one of it.
                sockets._add(self.sock, ends)

        class Encrypted(Known, HTTPSConnection):
            pass

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Known

        class EncryptedPool(HTTPSConnectionPool):
            ConnectionCls = Encrypted

            def __init__(self, *where: Any, **more: Any) -> None:
                super().__init__(*where, ssl_context=tls(), **more)

        return {"http": PlainPool, "https": EncryptedPool}

    def encrypted(self) -> type[ssl.SSLSocket]:
        """What TLS makes of a socket: known here before its handshake, which a silent server never ends."""
        sockets = self

        class Encrypted(ssl.SSLSocket):
            def do_handshake(self, block: bool = False) -> None:
                sockets._add(self)
                super().do_handshake(block)

        return Encrypted

    def _add(self, one: socket.socket | None, ends: int | None = None) -> None:
        if one is None:
            return
        with self._lock:
            self._open.add(one)
            late = ends is not None and ends != self._ends
        if late:
            _shut(one)


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # Not SSLSocket's own, which takes the connection apart under the hands of the thread that reads.
        socket.socket.shutdown(one, socket.SHUT_RDWR)


def pool(access: Access, connections: int, stall: float, sockets: Sockets) -> urllib3.PoolManager:
    """urllib3's connections as `access` wants them. Raises LocalDenied if a certificate is not usable."""

    @functools.cache
    def tls() -> ssl.SSLContext:
        return _tls(access, sockets)

    if access.ca_bundle or access.certificate:
        # A file that is not usable is met before anybody is asked. Else nothing is read that is not needed: the machine's
        # authorities take longer than a whole call.
        tls()
    if access.insecure:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    manager = urllib3.PoolManager(
        num_pools=8,
        maxsize=connections,
        block=False,
        timeout=Timeout(connect=min(CONNECT_SECONDS, stall), read=stall),
        headers={"accept-encoding": "identity"},
    )
    manager.pool_classes_by_scheme = sockets.pools(tls)
    return manager


def _tls(access: Access, sockets: Sockets) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.sslsocket_class = sockets.encrypted()
    if access.ca_bundle:
        with _usable(access.ca_bundle):
            context.load_verify_locations(access.ca_bundle)
    if access.certificate:
        with _usable(access.certificate):
            context.load_cert_chain(access.certificate, access.key)
    if access.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@contextlib.contextmanager
def _usable(file: str) -> Iterator[None]:
    try:
        yield
    except OSError as e:  # an SSLError is one too
        why = e.strerror or str(e)
        if isinstance(e, ssl.SSLError):
            why = _PLAINLY.get(e.reason or "", why)
        raise LocalDenied(file=file, reason=f"it is not a usable certificate ({why})") from e
