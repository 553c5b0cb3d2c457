"""The file with the private half of an API key: nobody else may read it, and it never takes another file's place."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import textwrap
from typing import TYPE_CHECKING

from s3reg.client import platform
from s3reg.crypto import LARGEST_PUBLIC_KEY, PublicKey
from s3reg.errors import Invalid, KeyFileTaken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_MODE = 0o600
_PRIVATE = b"PRIVATE KEY-----"
_LINE = 64
_UNSAFE = re.compile(r"[^A-Za-z0-9._@+-]")
_LONGEST = 100


def name_for(key_id: str) -> str:
    """What the file of a key is called, unless somebody says otherwise: its id as far as that may stand in a name."""
    safe = _UNSAFE.sub("_", key_id)[:_LONGEST].lstrip(".-")
    return f"{safe or 'api-key'}.pem"


def public_half(file: Path) -> bytes:
    """The public key in `file`, as SubjectPublicKeyInfo in DER. Raises Invalid, LocalDenied."""
    with platform.refusals_named(file), file.open("rb") as opened:
        data = opened.read(LARGEST_PUBLIC_KEY + 1)
    try:
        return PublicKey(data).der
    except ValueError as e:
        reason = "it is a private one; openssl rsa -pubout makes the public half of it" if _PRIVATE in data else str(e)
        raise Invalid(reason=f"the public key {str(file)!r} is not usable: {reason}") from None


@contextlib.contextmanager
def reserved(file: Path, *, keeps: Callable[[BaseException], bool]) -> Iterator[Callable[[bytes], None]]:
    """Take `file` and give what keeps a private half (PKCS #1, DER) in it, as PEM, also after a power cut.

    It goes again with an error, unless `keeps(error)`. Raises KeyFileTaken, LocalDenied.
    """
    with platform.refusals_named(file):
        try:
            # O_EXCL: neither a file that is there nor what a link that is there leads to.
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        except FileExistsError:
            raise KeyFileTaken(file=str(file)) from None

    kept = False

    def keep(private: bytes) -> None:
        nonlocal kept
        with platform.refusals_named(file):
            out.write(_pem(private))
            out.flush()
            platform.sync(out.fileno())
            platform.sync_folder(file.parent)
        kept = True

    with os.fdopen(handle, "wb") as out:
        try:
            yield keep
        except BaseException as e:
            if not (kept and keeps(e)):
                file.unlink(missing_ok=True)
            raise


def _pem(private: bytes) -> bytes:
    """As RFC 7468 and every tool of Anka's want it."""
    lines = textwrap.wrap(base64.b64encode(private).decode(), _LINE)
    return "\n".join(["-----BEGIN RSA PRIVATE KEY-----", *lines, "-----END RSA PRIVATE KEY-----", ""]).encode()
