"""Whether other machines are served, and whether they are asked who they are."""

from __future__ import annotations

import ipaddress
import logging
import socket
from typing import TYPE_CHECKING

from s3reg.errors import ListenFailed, Unguarded
from s3reg.settings import address
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from s3reg.settings import Settings


def check_exposure(settings: Settings) -> None:
    """Raise Unguarded if other machines could reach the registry although nobody is asked who they are.

    Warns if they are asked, and their tokens cross the line in clear.
    """
    if not settings.guarded:
        if not settings.no_auth and not _is_loopback(settings.listen):
            raise Unguarded(listen=settings.listen)
    elif (reason := in_clear(settings)) is not None:
        emit("credentials-in-clear", level=logging.WARNING, listen=settings.listen, reason=reason)


def in_clear(settings: Settings) -> str | None:
    """Why other machines' tokens would cross the line in clear; None: they would not. Raises ListenFailed."""
    if not settings.guarded or settings.tls_cert is not None or settings.proxies or _is_loopback(settings.listen):
        return None
    return "tokens cross the line unencrypted, unless something before the registry does TLS; set S3REG_TLS_CERT"


def _is_loopback(listen: str) -> bool:
    try:
        found = {info[4][0] for info in socket.getaddrinfo(address(listen).host, None)}
    except OSError as e:
        raise ListenFailed(listen=listen, reason=e.strerror) from e
    return all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in found)
