"""The way from a certificate up to a CA that is trusted: RFC 5280 §6, as far as clients need it.

Lenient where OpenSSL is: a certificate that `openssl req` and `openssl x509` make without any extension passes. Strict
otherwise: whatever is critical and not known here refuses, and so does a signature by SHA-1 or MD5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

LONGEST_PATH = 8
"""Certificates from a client's to the last."""
MOST_TRIES = 64
"""Signatures that are tried for one certificate: whoever sends a chain chooses how many there are."""
SOUND = (hashes.SHA224, hashes.SHA256, hashes.SHA384, hashes.SHA512, hashes.SHA3_256, hashes.SHA3_384, hashes.SHA3_512)
_LOOKED_AT = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.CERTIFICATE_POLICIES,
    }
)
"""Critical ones that change nothing more here; one that is critical and not among them is a reason to refuse."""

_Kind = TypeVar("_Kind", bound=x509.ExtensionType)


class Refused(Exception):
    """Why a certificate, or a way from it to a CA, is no good."""


def path(
    leaf: x509.Certificate,
    chain: Sequence[x509.Certificate],
    anchors: Sequence[x509.Certificate],
    now: datetime,
    *,
    checked: bool,
) -> list[x509.Certificate]:
    """The certificates from `leaf` to the highest of `anchors`, each issued by the next. Raises Refused.

    `chain`: intermediates that are not trusted for themselves. `checked`: TLS has done it before, name constraints included.
    """
    _check_dates(leaf, now)
    extensions = _extensions(leaf)
    usage = _one(extensions, x509.KeyUsage)
    if usage is not None and not (usage.digital_signature or usage.key_agreement):
        raise Refused("its key may not be used to prove who one is")
    _check_purpose(leaf, extensions)
    _check_critical(leaf, extensions)
    return _Search(anchors, chain, now, checked=checked).above([leaf])


def named(name: x509.Name) -> str:
    """As RFC 4514 writes it, in quotation marks."""
    return repr(name.rfc4514_string())


class _Search:
    """Looks for a way from a certificate up to one that is trusted."""

    def __init__(
        self, anchors: Sequence[x509.Certificate], chain: Sequence[x509.Certificate], now: datetime, *, checked: bool
    ) -> None:
        self._anchors = anchors
        self._known = [*anchors, *(one for one in chain if one not in anchors)]
        self._now = now
        self._checked = checked
        self._tries = 0

    def above(self, found: list[x509.Certificate]) -> list[x509.Certificate]:
        """`found`, and what leads on from its last to the highest that is trusted."""
        last = found[-1]
        trusted = last in self._anchors
        if trusted and (last.issuer == last.subject or not is_sound(last)):
            return found
        _check_signed_soundly(last)
        reason: Refused | None = None
        for issuer in self._issuers(last, found):
            try:
                self._check_issuer(issuer, found)
                return self.above([*found, issuer])
            except Refused as e:
                reason = e
        if reason is not None:
            raise reason
        if trusted:
            return found
        raise Refused(
            f"{named(last.subject)} was issued by {named(last.issuer)}, which is none of the CAs that are taken"
        )

    def _issuers(self, last: x509.Certificate, found: list[x509.Certificate]) -> Iterator[x509.Certificate]:
        for one in self._known:
            if one.subject != last.issuer or one in found or len(found) >= LONGEST_PATH:
                continue
            self._tries += 1
            if self._tries > MOST_TRIES:
                raise Refused("its chain leads nowhere")
            if _issued(last, one):
                yield one

    def _check_issuer(self, issuer: x509.Certificate, found: list[x509.Certificate]) -> None:
        """Whether it may have issued the last of `found`."""
        _check_dates(issuer, self._now)
        trusted = issuer in self._anchors
        extensions = _extensions(issuer)
        basic = _one(extensions, x509.BasicConstraints)
        # A CA of X.509's first version has no extensions: it is one because somebody has put it into the file.
        if not trusted if basic is None else not basic.ca:
            raise Refused(f"{named(issuer.subject)} is no CA")
        below = sum(one.issuer != one.subject for one in found[1:])
        if basic is not None and basic.path_length is not None and below > basic.path_length:
            raise Refused(f"{named(issuer.subject)} may not have so many CAs below it")
        usage = _one(extensions, x509.KeyUsage)
        if usage is not None and not usage.key_cert_sign:
            raise Refused(f"the key of {named(issuer.subject)} may not sign certificates")
        if not trusted:
            _check_purpose(issuer, extensions)
        if not self._checked:
            if _one(extensions, x509.NameConstraints) is not None:
                raise Refused(f"{named(issuer.subject)} has name constraints, which only TLS served directly checks")
            _check_critical(issuer, extensions)


def _check_dates(one: x509.Certificate, now: datetime) -> None:
    if now < one.not_valid_before_utc:
        raise Refused(f"{named(one.subject)} is not valid before {one.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC")
    if now > one.not_valid_after_utc:
        raise Refused(f"{named(one.subject)} expired on {one.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC")


def _check_signed_soundly(one: x509.Certificate) -> None:
    if not is_sound(one):
        raise Refused(f"{named(one.subject)} is signed with {_algorithm(one)}, which can be forged")


def is_sound(one: x509.Certificate | x509.CertificateRevocationList) -> bool:
    """Whether its signature is of a kind that cannot be forged today."""
    try:
        algorithm = one.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return False
    # None: Ed25519 and Ed448, which bring their own.
    return algorithm is None or isinstance(algorithm, SOUND)


def _algorithm(one: x509.Certificate) -> str:
    try:
        algorithm = one.signature_hash_algorithm
    except UnsupportedAlgorithm:
        algorithm = None
    return algorithm.name.upper() if algorithm else one.signature_algorithm_oid.dotted_string


def _check_purpose(one: x509.Certificate, extensions: x509.Extensions) -> None:
    purposes = _one(extensions, x509.ExtendedKeyUsage)
    wanted = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    if purposes is not None and not wanted & set(purposes):
        raise Refused(f"{named(one.subject)} is not for clients")


def _check_critical(one: x509.Certificate, extensions: x509.Extensions) -> None:
    for extension in extensions:
        if extension.critical and extension.oid not in _LOOKED_AT:
            oid = extension.oid.dotted_string
            raise Refused(f"{named(one.subject)} has a critical extension that is not known: {oid}")


def _issued(one: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        one.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def _extensions(one: x509.Certificate) -> x509.Extensions:
    try:
        return one.extensions
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise Refused(f"{named(one.subject)} has extensions that cannot be read") from None


def _one(extensions: x509.Extensions, kind: type[_Kind]) -> _Kind | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
