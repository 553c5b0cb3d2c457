"""Whether other machines are served, and whether they are asked who they are."""

from __future__ import annotations

import ipaddress
import logging
import socket
from typing import TYPE_CHECKING

from s3reg.errors import ListenFailed, Unguarded
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from s3reg.settings import Settings


def check_exposure(host: str, settings: Settings) -> None:
    """Raise Unguarded if other machines could reach `host` although nobody is asked who they are.

    Warns if they are asked, and their tokens cross the line in clear.
    """
    if _is_loopback(host, settings.listen):
        return
    if not settings.guarded:
        if not settings.no_auth:
            raise Unguarded(listen=settings.listen)
    elif settings.tls_cert is None and not settings.proxies:
        emit(
            "credentials-in-clear",
            level=logging.WARNING,
            listen=settings.listen,
            reason="tokens cross the line unencrypted, unless something before the registry does TLS; set S3REG_TLS_CERT",
        )


def _is_loopback(host: str, listen: str) -> bool:
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError as e:
        raise ListenFailed(listen=listen, reason=e.strerror) from e
    return all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in found)
