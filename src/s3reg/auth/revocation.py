"""Certificate revocation lists (RFC 5280 §5): a file of them, and whether one of them speaks against a certificate.

It fails closed: a list that has ended, is missing or cannot be read refuses whatever it should speak about.
"""

from __future__ import annotations

import logging
import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from s3reg.auth.chain import Refused, is_sound, named
from s3reg.auth.reread import Reread
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

_PEM = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)


@dataclass(eq=False)
class _List:
    """One list, read once."""

    crl: x509.CertificateRevocationList
    serials: frozenset[int]
    whole: bool
    """It speaks of all that its issuer has issued: no critical extension says that it is a part, or a difference."""
    signers: dict[bytes, bool] = field(default_factory=dict)
    """Issuers, by their certificate: whether it is theirs. A list of megabytes must not be hashed at each request."""


class Revocation:
    """The lists of one file, read again when it changes. Safe between threads."""

    def __init__(self, path: Path) -> None:
        self._kept = Reread(_lists, path)
        self._path = path
        self._told: tuple[Sequence[_List], set[str]] = ((), set())
        self._lock = threading.Lock()

    def problem(self) -> str | None:
        """What is wrong with the file."""
        return self._kept.look()[1]

    def check(self, certificate: x509.Certificate, issuer: x509.Certificate, now: datetime) -> None:
        """Raise Refused if the certificate is revoked, or nobody can tell."""
        lists, problem = self._kept.look()
        if lists is None or problem is not None:
            raise Refused(f"the CRL file cannot be used: {problem}")
        known = [one for one in lists if one.crl.issuer == issuer.subject and _signed(one, issuer)]
        if any(certificate.serial_number in one.serials for one in known):
            raise Refused(f"{named(certificate.subject)} is revoked")
        reasons = [_unusable(one, now) for one in known] or ["there is none that it has signed"]
        if None not in reasons:
            reason = f"the CRL of {named(issuer.subject)} cannot be relied on: {reasons[0]}"
            self._tell(lists, reason)
            raise Refused(reason)

    def _tell(self, lists: Sequence[_List], reason: str) -> None:
        """Log it, once for what the file holds."""
        with self._lock:
            if self._told[0] is not lists:
                self._told = (lists, set())
            if reason in self._told[1]:
                return
            self._told[1].add(reason)
        emit("crl-not-usable", level=logging.WARNING, file=str(self._path), reason=reason)


def _unusable(one: _List, now: datetime) -> str | None:
    """Why the list says nothing of certificates that it does not name; None if it does."""
    ends = one.crl.next_update_utc
    if not one.whole:
        return "it is a part of a list"
    if now < one.crl.last_update_utc:
        return f"it is not valid before {one.crl.last_update_utc:%Y-%m-%d %H:%M:%S} UTC"
    if ends is None:
        return "it does not say when it ends"
    if now > ends:
        return f"it ended on {ends:%Y-%m-%d %H:%M:%S} UTC"
    return None


def _signed(one: _List, issuer: x509.Certificate) -> bool:
    key = issuer.tbs_certificate_bytes
    if key not in one.signers:
        one.signers[key] = _verified(one.crl, issuer)
    return one.signers[key]


def _verified(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
        if not usage.crl_sign:
            return False
    except x509.ExtensionNotFound:
        pass  # no extension, no limit
    try:
        return is_sound(crl) and crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False


def _lists(data: bytes) -> Sequence[_List]:
    """Those of a file. Raises ValueError."""
    try:
        if data.lstrip().startswith(b"0"):
            crls = [x509.load_der_x509_crl(data)]
        else:
            crls = [x509.load_pem_x509_crl(block) for block in _PEM.findall(data)]
        found = [
            _List(crl, frozenset(one.serial_number for one in crl), not any(more.critical for more in crl.extensions))
            for crl in crls
        ]
    except (ValueError, x509.DuplicateExtension):
        raise ValueError("it holds a list that cannot be read") from None
    if not found:
        raise ValueError("it holds no CRL in PEM or DER")
    return found
