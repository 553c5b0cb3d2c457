"""Client certificates: whether one is good now, and whom it stands for.

Each request looks anew, because a connection may outlive a certificate, its CA and its CRL.
"""

from __future__ import annotations

import itertools
import time
import unicodedata
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import NameOID

from s3reg.auth.chain import Refused, path
from s3reg.auth.reread import Reread
from s3reg.auth.revocation import Revocation
from s3reg.errors import CertificateRefused, SettingInvalid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MOST_BYTES = 256 * 1024
"""Of a certificate and all that is shown with it."""
_NOT_IN_NAMES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of what is not seen, or begins a new line: two names must not look the same."""


@dataclass(frozen=True, slots=True)
class Presented:
    """A certificate that somebody showed, and with which others."""

    leaf: bytes = field(repr=False)
    """DER or PEM; what follows the first in PEM belongs to the chain."""
    chain: tuple[bytes, ...] = field(default=(), repr=False)
    """Intermediates, in any order, DER or PEM."""
    checked: bool = False
    """TLS has checked it once already, and what a CA may sign (name constraints) with it."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a certificate stands for."""

    user: str
    """The subject's CN; of several the last, which is the most specific."""
    groups: tuple[str, ...]
    """The subject's OU values, or its O values where there is no OU."""


class Certificates:
    """Knows whose client certificates are taken. Safe between threads.

    `ca`: a file of CAs, in PEM; intermediates may be among them. `crl`: a file with the revocation list of each CA that
    issued a certificate on the way from a client's to the highest of these CAs.
    """

    def __init__(self, ca: Path, crl: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self._ca = ca
        self._crl = crl
        self._clock = clock
        self._anchors = Reread(_authorities, ca)
        self._revocation = Revocation(crl) if crl is not None else None

    def check(self) -> None:
        """Raise SettingInvalid if the files cannot be used."""
        for problem in self.problems():
            raise problem

    def problems(self) -> Iterator[SettingInvalid]:
        """What is wrong with each of the files."""
        _, problem = self._anchors.look()
        if problem is not None:
            yield SettingInvalid(name="S3REG_CLIENT_CA", reason=f"{self._ca}: {problem}")
        problem = self._revocation.problem() if self._revocation is not None else None
        if problem is not None:
            yield SettingInvalid(name="S3REG_CLIENT_CRL", reason=f"{self._crl}: {problem}")

    def holder(self, presented: Presented) -> Holder:
        """Whom it stands for, if it is good now. Raises CertificateRefused."""
        try:
            return self._holder(presented, datetime.fromtimestamp(self._clock(), UTC))
        except Refused as e:
            raise CertificateRefused(reason=str(e)) from None

    def _holder(self, presented: Presented, now: datetime) -> Holder:
        anchors, problem = self._anchors.look()
        if anchors is None:
            raise Refused(f"the file of CAs cannot be used: {problem}")
        leaf, *chain = _parsed(presented)
        above = path(leaf, chain, anchors, now, checked=presented.checked)
        if self._revocation is not None:
            for one, issuer in itertools.pairwise(above):
                self._revocation.check(one, issuer, now)
        return Holder(_user(leaf), _groups(leaf))


def _parsed(presented: Presented) -> list[x509.Certificate]:
    """The leaf, then the others."""
    found: list[x509.Certificate] = []
    if len(presented.leaf) + sum(map(len, presented.chain)) > MOST_BYTES:
        raise Refused("it is too large")
    try:
        for data in (presented.leaf, *presented.chain):
            if data.lstrip().startswith(b"-----"):
                found += x509.load_pem_x509_certificates(data)
            else:
                found.append(x509.load_der_x509_certificate(data))
        for one in found:
            _ = (one.subject, one.issuer)  # parsed only when asked for
    except ValueError:
        raise Refused("it cannot be read as a certificate") from None
    return found


def _authorities(data: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates of a file. Raises ValueError."""
    try:
        found = tuple(x509.load_pem_x509_certificates(data))
        for one in found:
            _ = (one.subject, one.issuer)
    except ValueError:
        raise ValueError("it holds no certificates in PEM, or one that cannot be read") from None
    return found


def _user(leaf: x509.Certificate) -> str:
    names = _values(leaf, NameOID.COMMON_NAME)
    if not names:
        raise Refused("it has no common name (CN)")
    return names[-1]


def _groups(leaf: x509.Certificate) -> tuple[str, ...]:
    found = _values(leaf, NameOID.ORGANIZATIONAL_UNIT_NAME) or _values(leaf, NameOID.ORGANIZATION_NAME)
    return tuple(dict.fromkeys(found))


def _values(leaf: x509.Certificate, kind: x509.ObjectIdentifier) -> list[str]:
    """What the subject has under `kind`, in order, blank ones left out."""
    found = []
    for one in leaf.subject.get_attributes_for_oid(kind):
        if not isinstance(one.value, str) or any(unicodedata.category(c) in _NOT_IN_NAMES for c in one.value):
            raise Refused("its subject has characters that cannot be seen")
        if one.value.strip():
            found.append(one.value)
    return found
