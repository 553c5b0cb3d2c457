"""Message authentication with one secret: what signs the directory store's links, and whatever else must not be forged."""

from __future__ import annotations

import base64
import hmac
import secrets

SECRET_BYTES = 32


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
