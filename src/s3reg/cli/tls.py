"""TLS, served directly: contexts made of the server's files, made again when these change, and who was refused and why."""

from __future__ import annotations

import contextlib
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from s3reg.auth.reread import Reread
from s3reg.errors import SettingInvalid
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from s3reg.settings import Settings

_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_KEY = b"PRIVATE KEY-----"
_WRONG = {
    "KEY_VALUES_MISMATCH": "the key does not belong to the certificate",
    "NO_CERTIFICATE_ASSIGNED": "the key does not belong to the certificate",  # it is of another kind
    "EE_KEY_TOO_SMALL": "the certificate's key is too short",
    "CA_KEY_TOO_SMALL": "the key of a CA is too short",
    "EE_MD_TOO_WEAK": "the certificate is signed with SHA-1 or MD5, which can be forged",
    "CA_MD_TOO_WEAK": "a certificate is signed with SHA-1 or MD5, which can be forged",
}
"""What OpenSSL calls it, and what it means to whoever wrote the files."""


class _EncryptedError(Exception):
    """A key has a password."""


class Tls:
    """The server's side of TLS. Safe between threads.

    `certificate`: a file of the server's certificate and its intermediates. `key`: of its key; None: in the same file.
    `client_ca`: of the CAs whose client certificates are asked for; who has none is served all the same.
    """

    def __init__(self, certificate: Path, key: Path | None = None, client_ca: Path | None = None) -> None:
        self._certificate = certificate
        self._key = key or certificate
        self._client_ca = client_ca
        self._files = tuple(file for file in (certificate, self._key, client_ca) if file is not None)
        self._kept = Reread(self._make, *self._files)

    @classmethod
    def named(cls, settings: Settings) -> Self | None:
        """As the settings say; None: TLS is not served. Raises SettingInvalid if it cannot be."""
        if settings.tls_cert is None:
            return None
        key = Path(settings.tls_key) if settings.tls_key else None
        ca = Path(settings.client_ca) if settings.client_ca else None
        made = cls(Path(settings.tls_cert), key, ca)
        _, problem = made._kept.look()
        if problem is not None:
            files = {"S3REG_CLIENT_CA": settings.client_ca, "S3REG_TLS_KEY": settings.tls_key}
            wrong = (name for name, file in files.items() if problem.startswith(f"{file}: "))
            raise SettingInvalid(name=next(wrong, "S3REG_TLS_CERT"), reason=problem)
        return made

    def context(self) -> ssl.SSLContext:
        """For the next connection: of the files as they are now, or as they last fitted together."""
        found, problem = self._kept.look()
        if found is None:
            raise SettingInvalid(name="S3REG_TLS_CERT", reason=problem)
        return found

    def _make(self, *contents: bytes) -> ssl.SSLContext:
        """Raises ValueError."""
        holds = dict(zip(self._files, contents, strict=True))
        for file, armour, what in (
            (self._certificate, _CERTIFICATE, "certificate"),
            (self._key, _KEY, "private key"),
            (self._client_ca, _CERTIFICATE, "certificate"),
        ):
            if file is not None and armour not in holds[file]:
                raise ValueError(f"{file}: it holds no {what} in PEM")
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        made.options |= ssl.OP_NO_RENEGOTIATION
        made.sslsocket_class = Socket
        try:
            made.load_cert_chain(self._certificate, self._key, password=_no_password)
        except ssl.SSLError as e:
            raise ValueError(f"{self._certificate}, {self._key}: {_said(e)}") from None
        except _EncryptedError:
            raise ValueError(f"{self._key}: the key is encrypted, and nobody could be asked for its password") from None
        if self._client_ca is not None:
            _ask_for_certificates(made, self._client_ca)
        return made


class Socket(ssl.SSLSocket):
    """A connection whose handshake leaves a line in the log if it fails."""

    _peer: str | None = None

    def do_handshake(self, block: bool = False) -> None:
        """Raises what `ssl.SSLSocket` does."""
        with contextlib.suppress(OSError):  # it went away: whose it was is known from before
            self._peer = str(self.getpeername()[0])
        try:
            super().do_handshake(block)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            raise  # not over yet; or it went away, as those do who look whether somebody listens
        except ssl.SSLCertVerificationError as e:
            self._tell(f"the client's certificate: {e.verify_message}")
            raise
        except ssl.SSLError as e:
            self._tell(_said(e))
            raise

    if sys.version_info < (3, 13):

        def get_unverified_chain(self) -> list[bytes]:
            """The certificates that the client has sent, its own first; as `ssl.SSLSocket` has it from Python 3.13 on."""
            shaken: Any = self._sslobj  # type: ignore[attr-defined]
            chain = shaken.get_unverified_chain() if shaken is not None else None
            return [ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in chain or []]

    def _tell(self, reason: str) -> None:
        emit("tls-refused", peer=self._peer, reason=reason)


def _ask_for_certificates(context: ssl.SSLContext, ca: Path) -> None:
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as e:
        raise ValueError(f"{ca}: {_said(e)}") from None
    context.verify_mode = ssl.CERT_OPTIONAL
    # Whatever is in the file is trusted, an intermediate without the CA above it too: as in auth/chain.py.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # A resumed session brings the client's certificate without those that lead from it to a CA.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0


def _no_password() -> str:
    raise _EncryptedError


def _said(e: ssl.SSLError) -> str:
    reason = str(e.reason or e.strerror or "it cannot be read")
    return _WRONG.get(reason, reason.lower().replace("_", " "))
