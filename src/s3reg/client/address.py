"""A registry's address, in all the forms that people write and paste; and the user and password that some put into it."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from s3reg.errors import NameInvalid

_SCHEMES = ("http", "https")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a registry is."""

    url: str
    """Scheme and host in lower case, no slash at the end, and nobody's password: one registry has one."""
    user: str | None = None
    password: str | None = field(default=None, repr=False)


def address_of(text: str) -> Address:
    """`text` as an address: `http://` if it names no scheme; `http://USER:PASSWORD@HOST` as curl takes it.

    Raises NameInvalid, which shows nothing of what stands before an @.
    """
    text = text.strip()
    parts = _parts(text)
    for bad, reason in (
        (not text.isprintable() or " " in text, "it has blanks or control characters"),
        (parts.scheme not in _SCHEMES, "it begins with neither http:// nor https://"),
        (not parts.host or parts.port == 0, "it has no host or a strange port"),
        (bool(parts.query or parts.fragment), "it has a question mark or a hash sign"),
        ("@" in (parts.path or ""), "it has a slash before an @; in a password, write %2F for it"),
    ):
        if bad:
            shown = text.rpartition("@")[2][:80]
            raise NameInvalid(what="registry address", text=shown, reason=f"{reason}; one is http://registry:8089")
    bare = Url(parts.scheme, None, parts.host, parts.port, (parts.path or "").rstrip("/") or None)
    if parts.auth is None:
        return Address(bare.url)
    user, _, password = parts.auth.partition(":")
    return Address(bare.url, unquote(user), unquote(password))


def _parts(text: str) -> Url:
    if "://" not in text and text.lower().startswith(tuple(f"{scheme}:/" for scheme in _SCHEMES)):
        return Url("http")  # a slash was lost: `http:` is no host
    try:
        return parse_url(text if "://" in text else f"http://{text}")
    except LocationParseError:
        return Url("http")
