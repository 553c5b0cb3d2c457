"""Who is asking. Until there is access control, everyone may do everything: so nobody but this machine is served unasked."""

from __future__ import annotations

import ipaddress
import socket

from s3reg.errors import ListenFailed, Unguarded
from s3reg.model.identity import EVERYONE, Identity


def asker() -> Identity:
    """The identity behind the request at hand."""
    return EVERYONE


def check_exposure(host: str, listen: str, *, no_auth: bool) -> None:
    """Raise Unguarded if other machines could reach `host` although nobody is asked who they are."""
    if not no_auth and not _is_loopback(host, listen):
        raise Unguarded(listen=listen)


def _is_loopback(host: str, listen: str) -> bool:
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError as e:
        raise ListenFailed(listen=listen, reason=e.strerror) from e
    return all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in found)
