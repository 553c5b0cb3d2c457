"""From where a request comes, and which certificate it brings: what the socket says, or a proxy that is known.

Whatever a header says of that is believed from the configured proxies only.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import ssl
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from flask import current_app, request

from s3reg.api.wiring import wiring
from s3reg.auth.certificates import Presented
from s3reg.errors import CertificateRefused
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

QUIET_SECONDS = 60.0
"""Between two lines about headers from strangers."""
MOST_HOPS = 32
"""Entries of X-Forwarded-For that are looked at."""
_CHAIN = "X-Amzn-Mtls-Clientcert"
_LEAF = "X-Amzn-Mtls-Clientcert-Leaf"
_NGINX = "Ssl-Client-Cert"
_WITH_PORT = re.compile(r"\[([^\]]*)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")


def install(app: Flask, clock: Callable[[], float] = time.time) -> None:
    """Let strangers' headers be told of by this clock."""
    app.extensions["s3reg-strangers"] = Strangers(clock)


def address() -> str:
    """The client's address: the socket's, or what the configured proxies say of it.

    Each proxy appends where it was asked from, so the list is read from the right, up to the first that is no proxy of
    ours: whatever stands before that anybody may have written.
    """
    nearest = str(_parsed(request.remote_addr or "") or request.remote_addr or "")
    hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",")]
    for hop in hops[: -MOST_HOPS - 1 : -1]:
        if not _is_proxy(nearest):
            break
        told = _parsed(hop)
        if told is None:
            break
        nearest = str(told)
    return nearest


def origin() -> str:
    """The registry's address as the client has it: `https` too where a configured proxy says so."""
    told = request.headers.get("X-Forwarded-Proto", "")
    known = told in {"http", "https"} and _is_proxy(request.remote_addr or "")
    return f"{told if known else request.scheme}://{request.host}"


def presented() -> Presented | None:
    """The certificate that the request brings, if any. Raises CertificateRefused for what is none.

    Where proxies hand certificates on, one of a proxy's own proves nothing of who asks.
    """
    form = wiring().settings.proxy_certificates
    if form and _is_proxy(request.remote_addr or ""):
        return _FORMS[form]()
    for name in (_NGINX, _LEAF, _CHAIN):
        if name in request.headers:
            strangers: Strangers = current_app.extensions["s3reg-strangers"]
            strangers.seen(request.remote_addr, name)
            break
    return _of_socket()


def _of_socket() -> Presented | None:
    sock = request.environ.get("gunicorn.socket")
    if not isinstance(sock, ssl.SSLSocket):
        return None
    leaf = sock.getpeercert(binary_form=True)
    if not leaf:
        return None
    # Python's own from 3.13 on; before that, of the sockets that cli/tls.py makes.
    chain: list[bytes] = getattr(sock, "get_unverified_chain", list)()
    return Presented(leaf, tuple(chain[1:]), checked=True)


def _of_nginx() -> Presented | None:
    """`$ssl_client_verify` and `$ssl_client_escaped_cert` (nginx, ngx_http_ssl_module)."""
    verified = request.headers.get("Ssl-Client-Verify", "")
    text = request.headers.get(_NGINX, "")
    if verified in {"", "NONE"} and not text:
        return None
    if verified != "SUCCESS":
        raise CertificateRefused(reason="the proxy has not verified it")
    return _of_text(text)


def _of_alb(name: str) -> Presented | None:
    """Mutual TLS of an Application Load Balancer: in the mode `verify` it sends the leaf, in `passthrough` the chain.

    URL-encoded, with `+`, `=` and `/` as they are: a plus is no blank. Only the header of the mode in use is looked at: that
    a balancer takes away what a client sends under the name of the other one, nothing says.
    """
    text = request.headers.get(name)
    return _of_text(text) if text else None


_FORMS: dict[str, Callable[[], Presented | None]] = {
    "nginx": _of_nginx,
    "alb-verify": functools.partial(_of_alb, _LEAF),
    "alb-passthrough": functools.partial(_of_alb, _CHAIN),
}


def _of_text(text: str) -> Presented:
    return Presented(unquote_to_bytes(text.encode("latin-1", "replace")))


def _is_proxy(text: str) -> bool:
    found = _parsed(text)
    return found is not None and any(found in network for network in wiring().settings.proxies)


def _parsed(text: str) -> Address | None:
    """An address as sockets and proxies write it: with a port, in brackets, with a zone; None for what is none."""
    match = _WITH_PORT.fullmatch(text)
    try:
        found = ipaddress.ip_address((match[1] or match[2]) if match else text)
    except ValueError:
        return None
    # What a socket for both families says of an IPv4 client.
    return getattr(found, "ipv4_mapped", None) or found


class Strangers:
    """Whoever sends what only a proxy may say: told of once a minute. Safe between threads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._told: float | None = None

    def seen(self, address: str | None, header: str) -> None:
        """One of them sent this header."""
        now = self._clock()
        with self._lock:
            if self._told is not None and self._told <= now < self._told + QUIET_SECONDS:
                return
            self._told = now
        emit("certificate-header-ignored", header=header, peer=address, reason="it does not come from a known proxy")
