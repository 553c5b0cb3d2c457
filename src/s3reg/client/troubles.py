"""What went wrong on a line, in words that help, and whether trying again can."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from http.client import BadStatusLine, RemoteDisconnected
from typing import TYPE_CHECKING

from urllib3.exceptions import LocationParseError, NameResolutionError
from urllib3.util import parse_url

if TYPE_CHECKING:
    from collections.abc import Iterator

SPEAKS_TLS = "it speaks TLS there; its address may begin with https://"
PROBE_SECONDS = 2.0
_CA_UNKNOWN = {2, 18, 19, 20, 21}
"""OpenSSL's X509_V_ERR_… of a certificate that nobody known vouches for."""
_NO_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"}
"""OpenSSL's words for an answer that is none of TLS."""
_OF_CERTIFICATES = {
    "BAD_CERTIFICATE",
    "UNSUPPORTED_CERTIFICATE",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_UNKNOWN",
    "UNKNOWN_CA",
    "DECRYPT_ERROR",
}
"""The alerts of TLS about a client's certificate (RFC 8446 §6.2), as OpenSSL's names of errors end."""
_TLS_ALERT = "\x15\x03"
"""How a TLS record begins that says what the other end did wrong (RFC 8446 §5.1, §6)."""
_NO_SUCH_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
_ERRNO = re.compile(r"\[Errno -?\d+\] ")


def lasting(error: BaseException) -> str:
    """What is wrong with an address or a server's TLS, or nothing: no retry helps against that."""
    for reason in _reasons(error):
        if isinstance(reason, ssl.SSLCertVerificationError):
            advice = "; give its CA with --cacert" if reason.verify_code in _CA_UNKNOWN else ""
            return f"its certificate is refused ({reason.verify_message.rstrip('.')}){advice}"
        if isinstance(reason, ssl.SSLError) and reason.reason in _NO_TLS:
            return "it does not speak TLS there; its address may begin with http://"
        if isinstance(reason, BadStatusLine) and str(reason).startswith(_TLS_ALERT):
            return SPEAKS_TLS
        if isinstance(reason, LocationParseError):
            return "its name is none that a host can have"
    return ""


def against_certificate(error: BaseException) -> str:
    """What the other end has against the client's certificate, or nothing: no retry helps against that."""
    for reason in _reasons(error):
        if isinstance(reason, ssl.SSLError) and not isinstance(reason, ssl.SSLCertVerificationError):
            alert = (reason.reason or "").partition("_ALERT_")[2]
            if alert in _OF_CERTIFICATES:
                return alert.replace("_", " ").lower()
    return ""


def is_no_such_name(error: BaseException) -> bool:
    """Whether the name service says that there is no such host; a name service that does not answer says nothing."""
    return any(
        isinstance(reason, NameResolutionError)
        and isinstance(reason.__cause__, socket.gaierror)
        and reason.__cause__.errno in _NO_SUCH_NAME
        for reason in _reasons(error)
    )


def is_hang_up(error: BaseException) -> bool:
    """Whether the other end ended the connection instead of answering."""
    return any(isinstance(reason, RemoteDisconnected | ConnectionResetError) for reason in _reasons(error))


def plain(error: BaseException) -> str:
    """What went wrong on the line, without the URL that urllib3 likes to add."""
    *_, innermost = _reasons(error)
    words = _ERRNO.sub("", str(innermost).rpartition(": ")[2]) or type(innermost).__name__
    return words if "?" not in words and "://" not in words else type(innermost).__name__


def speaks_tls(url: str) -> bool:
    """Whether a server that ends plain connections takes encrypted ones, at this address that begins with http://.

    It is tried: nothing is said to it, and nothing that it says is believed.
    """
    parts = parse_url(url)
    if parts.scheme != "http" or parts.host is None:
        return False
    host = parts.host.strip("[]")
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        contextlib.suppress(OSError),
        socket.create_connection((host, parts.port or 80), PROBE_SECONDS) as bare,
        context.wrap_socket(bare, server_hostname=host),
    ):
        return True
    return False


def _reasons(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was made of, as urllib3 wraps them: in `reason`, or among the arguments."""
    inner: object = error
    while isinstance(inner, BaseException):
        yield inner
        parts = (getattr(inner, "reason", None), *inner.args)
        inner = next((part for part in parts if isinstance(part, BaseException)), None)
