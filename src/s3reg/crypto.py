"""Message authentication with one secret: what signs the directory store's links, and whatever else must not be forged.

And the private half of an API key: RSA, which opens what was sealed for it.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets

SECRET_BYTES = 32
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


def _unprinted(data: bytes) -> bytes:
    """DER, out of base64 if it is printed so."""
    try:
        return base64.b64decode(b"".join(data.split()), validate=True)
    except binascii.Error:
        return data
