"""What may lie between a client and its server: a TCP proxy that loses answers or speaks TLS, and certificates for it."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import selectors
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Proxy:
    """Passes bytes between its own port and the server at `endpoint`; use it in a `with`.

    `loses(first bytes of a request)` says whether the answer to that request is lost: the server has done its work, and
    the connection ends. `cuts_after` so many bytes of answers a connection ends too, the first `cuts` times.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        loses: Callable[[bytes], bool] | None = None,
        cuts_after: int | None = None,
        cuts: int = 1,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(endpoint)
        self._server = (parts.hostname, parts.port)
        self._loses = loses or (lambda _: False)
        self._cuts_after = cuts_after
        self._cuts = cuts
        self._tls = tls
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(0.05)
        self.endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{self._listening.getsockname()[1]}"
        self.lost = 0

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(10)
        self._listening.close()

    def _start(self, act: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=act, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                self._start(self._serve, self._listening.accept()[0])

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(plain)
            plain.settimeout(10)
            client = plain if self._tls is None else stack.enter_context(self._tls.wrap_socket(plain, server_side=True))
            server = stack.enter_context(socket.create_connection(self._server))
            self._pass(client, server, stack.enter_context(selectors.DefaultSelector()))

    def _pass(self, client: socket.socket, server: socket.socket, ready: selectors.BaseSelector) -> None:
        ready.register(client, selectors.EVENT_READ)
        ready.register(server, selectors.EVENT_READ)
        losing, answered = False, 0
        while not self._ended.is_set():
            # What TLS has decrypted already makes no socket readable.
            waiting = isinstance(client, ssl.SSLSocket) and client.pending()
            readable = {client} if waiting else {key.fileobj for key, _ in ready.select(0.05)}
            for source in readable:
                data = source.recv(65536)
                if not data:
                    return
                if source is client:
                    losing = losing or self._loses(data)
                    server.sendall(data)
                elif losing or (
                    self._cuts_after is not None and answered > self._cuts_after and self.lost < self._cuts
                ):
                    self.lost += 1
                    return
                else:
                    client.sendall(data)
                    answered += len(data)


def certificate(folder: Path, *, days: int = 1) -> tuple[ssl.SSLContext, Path]:
    """A TLS context for a server at 127.0.0.1, and the file with the CA that vouches for it and that nobody else trusts.

    It is good for so many days more; fewer than none: it has ended.
    """
    key, ca_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA of the tests")])
    with_name = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    ca = _signed(_built(ca_name, ca_name, ca_key).add_extension(x509.BasicConstraints(True, None), True), ca_key)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    leaf = _signed(_built(name, ca_name, key, days).add_extension(with_name, False), ca_key)
    ca_file, leaf_file, key_file = (folder / name for name in ("ca.pem", "leaf.pem", "key.pem"))
    ca_file.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    leaf_file.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf_file, key_file)
    return context, ca_file


def _built(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int = 1
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=30))
        .not_valid_after(now + dt.timedelta(days=days))
    )


def _signed(builder: x509.CertificateBuilder, ca_key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    return builder.sign(ca_key, hashes.SHA256())


@contextlib.contextmanager
def silent_port() -> Iterator[str]:
    """The address of a port where connections are taken and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
