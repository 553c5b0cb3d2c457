"""Text from outside → names that are safe in a key, a path or a record. The only gate.

Each function returns the name in its one canonical spelling or raises NameInvalid. What comes back may be used without
another look; nothing else may.
"""

from __future__ import annotations

import re
import unicodedata
import uuid
from typing import NewType

from s3reg.errors import NameInvalid

TemplateId = NewType("TemplateId", str)
"""A UUID, lower case, with hyphens."""
VersionId = NewType("VersionId", str)
"""32 lower-case hex digits, random, never reused."""
SessionId = NewType("SessionId", str)
"""32 lower-case hex digits, chosen by the server, never reused."""
Digest = NewType("Digest", str)
"""A SHA-256 as 64 lower-case hex digits."""
Domain = NewType("Domain", str)
"""A set of templates that may share chunks."""

MAIN_DOMAIN = Domain("main")
UNKNOWN_DOMAIN = Domain("")
"""Of a damaged record that does not tell its own: no right is for it."""
LONGEST_NAME = 255
"""Characters of a template name or tag."""
LONGEST_FILE_NAME = 255
"""Bytes in UTF-8: what APFS, ext4 and XFS take."""
LONGEST_DESCRIPTION = 4096
LONGEST_KEY_ID = 128
"""Characters of an API key's id, or of a group's name."""
ARCHES = ("", "amd64", "arm64")

_HEX32 = re.compile(r"[0-9a-f]{32}")
_HEX64 = re.compile(r"[0-9a-f]{64}")
_HYPHENED = "-".join(f"[0-9a-f]{{{digits}}}" for digits in (8, 4, 4, 4, 12))
_UUID = re.compile(rf"(urn:uuid:)?{_HYPHENED}|\{{{_HYPHENED}\}}|[0-9a-f]{{32}}", re.IGNORECASE | re.ASCII)
_DOMAIN = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def template_id(text: object) -> TemplateId:
    """`text` as a template's id: a UUID in any of its usual spellings."""
    # uuid.UUID alone takes what int(…, 16) takes: signs, blanks, underscores, the digits of other scripts.
    return TemplateId(str(uuid.UUID(_match("template id", text, _UUID, "it is not a UUID"))))


def new_template_id() -> TemplateId:
    """A fresh random template id."""
    return TemplateId(str(uuid.uuid4()))


def is_template_id(text: str) -> bool:
    """Whether `text` spells a UUID. A template's *name* may do so too."""
    try:
        template_id(text)
    except NameInvalid:
        return False
    return True


def version_id(text: object) -> VersionId:
    """`text` as a version's id."""
    return VersionId(_match("version id", text, _HEX32, "it is not 32 lower-case hex digits"))


def session_id(text: object) -> SessionId:
    """`text` as a session's id."""
    return SessionId(_match("session id", text, _HEX32, "it is not 32 lower-case hex digits"))


def operation_id(text: object) -> str:
    """`text` as the id that a caller gives one change, so that it is made once however often it is asked for."""
    return _match("operation id", text, _HEX32, "it is not 32 lower-case hex digits")


def serial(text: object) -> str:
    """`text` as an API key's serial."""
    return _match("serial", text, _HEX32, "it is not 32 lower-case hex digits")


def digest(text: object) -> Digest:
    """`text` as a SHA-256 digest."""
    return Digest(_match("digest", text, _HEX64, "it is not 64 lower-case hex digits"))


def domain(text: object) -> Domain:
    """`text` as a domain: lower-case letters, digits and hyphens, at most 63."""
    return Domain(_match("domain", text, _DOMAIN, "use up to 63 lower-case letters, digits and hyphens"))


def template_name(text: object) -> str:
    """`text` as a template's name: 1 to 255 characters in NFC, no control characters, no slash."""
    name = _label("template name", text)
    if "/" in name or name in {".", ".."}:
        raise NameInvalid(what="template name", text=_shown(text), reason="it looks like a path")
    return name


def tag(text: object) -> str:
    """`text` as a tag: 1 to 255 characters in NFC, no control characters; slashes, colons and blanks inside are fine."""
    return _label("tag", text)


def description(text: object) -> str:
    """`text` as a description: up to 4,096 characters, no control characters but tab and newline."""
    words = unicodedata.normalize("NFC", _text("description", text))
    if len(words) > LONGEST_DESCRIPTION:
        raise NameInvalid(what="description", text=_shown(text), reason=f"longer than {LONGEST_DESCRIPTION} characters")
    if _unprintable(words.replace("\n", "").replace("\t", "")):
        raise NameInvalid(what="description", text=_shown(text), reason="it has control characters")
    return words


def key_id(text: object) -> str:
    """`text` as an API key's id: 1 to 128 printable characters in NFC; neither `root` nor `everyone`."""
    name = _visible("API key id", text)
    if name in {"root", "everyone"}:
        raise NameInvalid(what="API key id", text=name, reason="it names somebody who has no key")
    return name


def group_name(text: object) -> str:
    """`text` as a group's name: 1 to 128 printable characters in NFC."""
    return _visible("group name", text)


def arch(text: object) -> str:
    """`text` as an architecture: `arm64`, `amd64`, or empty for not known."""
    if text not in ARCHES:
        raise NameInvalid(what="architecture", text=_shown(text), reason="it is neither arm64 nor amd64")
    return str(text)


def file_name(text: object) -> str:
    """`text` as a file's name: one path component in NFC, not hidden, no control characters, at most 255 bytes.

    Checked at commit and again at pull, because a hostile name would write outside the library.
    """
    name = _text("file name", text)
    for bad, reason in (
        (not name, "it is empty"),
        (name != unicodedata.normalize("NFC", name), "it is not in Unicode's NFC"),
        (_unprintable(name), "it has control characters"),
        ("/" in name or "\\" in name, "it is not one path component"),
        (name.startswith("."), "it is hidden, or a directory"),
        (name != name.strip(), "it begins or ends with a blank"),
        (len(name.encode("utf-8", "surrogatepass")) > LONGEST_FILE_NAME, f"longer than {LONGEST_FILE_NAME} bytes"),
    ):
        if bad:
            raise NameInvalid(what="file name", text=_shown(text), reason=reason)
    return name


def folded(name: str) -> str:
    """`name` as a file system that ignores case sees it: two names that fold alike cannot lie side by side."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def _text(what: str, text: object) -> str:
    if not isinstance(text, str):
        raise NameInvalid(what=what, text=_shown(text), reason="it is not text")
    return text


def _match(what: str, text: object, pattern: re.Pattern[str], reason: str) -> str:
    if not pattern.fullmatch(_text(what, text)):
        raise NameInvalid(what=what, text=_shown(text), reason=reason)
    return str(text)


def _label(what: str, text: object, longest: int = LONGEST_NAME) -> str:
    name = unicodedata.normalize("NFC", _text(what, text))
    for bad, reason in (
        (not name, "it is empty"),
        (len(name) > longest, f"longer than {longest} characters"),
        (_unprintable(name), "it has control characters"),
        (name != name.strip(), "it begins or ends with a blank"),
    ):
        if bad:
            raise NameInvalid(what=what, text=_shown(text), reason=reason)
    return name


def _visible(what: str, text: object) -> str:
    name = _label(what, text, LONGEST_KEY_ID)
    if not name.isprintable():
        # Joiners and marks of direction too: no two of those who may do something must look the same.
        raise NameInvalid(what=what, text=_shown(text), reason="it has characters that cannot be seen")
    return name


def _unprintable(text: str) -> bool:
    # Cc: control, Cs: lone surrogates (not encodable), Zl/Zp: line breaks in disguise. Cf stays: emoji need its joiners.
    return any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} for c in text)


def _shown(text: object) -> str:
    """At most 80 characters of what was given, so that an error's text stays a line."""
    words = str(text).encode("utf-8", "replace").decode()
    return words if len(words) <= 80 else words[:77] + "…"  # noqa: PLR2004
