"""Message authentication with one secret: what signs the directory store's links, and whatever else must not be forged.

And both halves of an API key: RSA, of which one seals what the other opens.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets

SECRET_BYTES = 32
RSA_BITS = 2048
MOST_RSA_BITS = 8192
LARGEST_PUBLIC_KEY = 16 * 1024
"""Bytes, however it is written."""
_PEM = b"-----BEGIN "


def new_secret() -> bytes:
    """A fresh random secret of 32 bytes."""
    return secrets.token_bytes(SECRET_BYTES)


def mac(secret: bytes, *parts: str) -> str:
    """The HMAC-SHA256 (RFC 2104) of `parts` in this order, in URL-safe base64 without padding: 43 characters.

    Each part goes in behind its length, so that ("ab", "c") and ("a", "bc") differ. Lone surrogates are signed like any
    other character: text from outside must not raise here.
    """
    signed = bytearray()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        signed += len(data).to_bytes(8, "little")
        signed += data
    return base64.urlsafe_b64encode(hmac.digest(secret, signed, "sha256")).rstrip(b"=").decode()


def same(a: str, b: str) -> bool:
    """Whether both are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(a.encode("utf-8", "surrogatepass"), b.encode("utf-8", "surrogatepass"))


class PrivateKey:
    """An RSA key that opens what its public half sealed: OAEP with SHA-256, and no label."""

    def __init__(self, data: bytes) -> None:
        """`data`: PEM or DER, PKCS #1 or #8, or such DER in base64, as a registry prints it.

        Raises ValueError with what is wrong with it; nothing of the key is in its words.
        """
        # Not above: it takes a tenth of what a command needs to start, and most use no key.
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
        from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import padding, rsa  # noqa: PLC0415

        try:
            if _PEM in data:
                key = serialization.load_pem_private_key(data, None)
            else:
                key = serialization.load_der_private_key(_unprinted(data), None)
        except TypeError:
            raise ValueError("it is encrypted, and nobody could be asked for its password") from None
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError("it is no private key in PEM, or in base64 as a registry prints it") from None
        if not isinstance(key, rsa.RSAPrivateKey):
            raise ValueError("it is no RSA key")  # noqa: TRY004 - of the type that was asked for, and not usable
        self._key = key
        self._padding = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)

    def open(self, sealed: bytes) -> bytes:
        """What was sealed for this key. Raises ValueError if it was for another one."""
        return self._key.decrypt(sealed, self._padding)


class PublicKey:
    """An RSA key of 2048 to 8192 bits that seals what its private half opens: OAEP with SHA-256, and no label."""

    def __init__(self, data: bytes) -> None:
        """`data`: SubjectPublicKeyInfo (RFC 5280) in DER, in base64 with or without line breaks, or in PEM.

        Raises ValueError with what is wrong with it.
        """
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - as above
        from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import padding, rsa  # noqa: PLC0415

        if len(data) > LARGEST_PUBLIC_KEY:
            raise ValueError("it is larger than any public key")
        try:
            if _PEM in data:
                key = serialization.load_pem_public_key(data)
            else:
                key = serialization.load_der_public_key(_unprinted(data))
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError("it is no public key in PEM, or in base64 of its DER (SubjectPublicKeyInfo)") from None
        if not isinstance(key, rsa.RSAPublicKey):
            raise ValueError("it is no RSA key")  # noqa: TRY004 - of the type that was asked for, and not usable
        if not RSA_BITS <= key.key_size <= MOST_RSA_BITS:
            raise ValueError(f"it has {key.key_size} bits; use {RSA_BITS} to {MOST_RSA_BITS}")
        self._key = key
        self._padding = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        self.der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        """SubjectPublicKeyInfo."""

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of its DER, in hex: what `openssl rsa -pubin -outform der | sha256sum` says."""
        return hashlib.sha256(self.der).hexdigest()

    def seal(self, data: bytes) -> bytes:
        """`data`, at most 190 bytes of it, so that only the private half opens it."""
        return self._key.encrypt(data, self._padding)


def new_key() -> tuple[bytes, bytes]:
    """A fresh RSA key of 2048 bits: its private half (PKCS #1, DER) and its public one (SubjectPublicKeyInfo, DER)."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415

    key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    private = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private, public


def _unprinted(data: bytes) -> bytes:
    """DER, out of base64 if it is printed so."""
    try:
        return base64.b64decode(b"".join(data.split()), validate=True)
    except binascii.Error:
        return data
