"""Events to the log: one line each, for people or as JSON, and never a credential.

`emit("session-opened", session=sid)` is the only way anything of ours is written. What looks like a credential — a signed
URL's query, an Authorization header, a private key, a field called `password` — is blanked here, whoever logged it: the
libraries' lines pass through the same formatter, tracebacks included.

What is done for a request carries the request's id, which each of its lines has (`of_request`); so must threads that are
started for it (`carried`).
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, ParamSpec, TextIO, TypeVar

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")

WITHHELD: Final = "[withheld]"
LONGEST_VALUE = 2000
"""Characters of one value; a hostile name must not fill the disk."""

_LOG = logging.getLogger("s3reg")
_REQUEST: contextvars.ContextVar[str | None] = contextvars.ContextVar("request", default=None)
_SECRET_FIELDS = re.compile(r"(?i)password|passwd|secret|token|signature|credential|authorization|cookie|private.?key")
# A query that signs something, ours or a vendor's (V4, V2, Google's, Azure's), goes as a whole: a URL keeps its key.
_SIGNED_QUERY = re.compile(
    r"\?[^\s\"'<>]*?(?:signature|x-amz-|x-goog-|awsaccesskeyid|[?&]sig=)[^\s\"'<>]*", re.IGNORECASE
)
_SIGNED_PARAMETER = re.compile(
    r"((?:x-amz-(?:signature|credential|security-token)|x-goog-signature|\bsignature)[\"']?\s*[=:]\s*[\"']?)[^\s\"'&,<>]+",
    re.IGNORECASE,
)
_AUTHORIZATION = re.compile(r"(authorization[\"']?\s*[:=]\s*[\"']?)[^\"'\r\n]+", re.IGNORECASE)
_SCHEME = re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
# To its end, or to where the text was cut.
_PEM_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
# DER of more than 255 bytes in base64: a key's as an API key's answer has it. A certificate's would be no secret.
_BASE64_KEY = re.compile(r"\bMI[IH][\w+/-]{200,}={0,2}")
_QUOTED = re.compile(r"""(["'](?:secret|token|password|private_key|root_token)["']\s*:\s*["'])[^"']+""", re.IGNORECASE)
_USER_INFO = re.compile(r"(\w://)[^/\s@\"'<>]+@")
_WORDS = (
    *("signature", "x-amz-", "x-goog-", "awsaccesskeyid", "sig=", "authorization", "bearer", "basic", "@"),
    *("private key", "mii", "mih", "secret", "token", "password", "private_key"),
)
"""Without one of which none of these patterns fits: most texts are looked through for these only, which takes a moment."""


def request_id() -> str | None:
    """The id of the request that is worked on; None: it is none."""
    return _REQUEST.get()


@contextlib.contextmanager
def of_request(known: str | None) -> Iterator[None]:
    """What is done meanwhile, in this thread, is done for the request of this id; None: for none."""
    before = _REQUEST.set(known)
    try:
        yield
    finally:
        _REQUEST.reset(before)


def carried(function: Callable[Arguments, Value]) -> Callable[Arguments, Value]:
    """`function` for other threads: what it does there is done for what is worked on here and now."""
    here = contextvars.copy_context()

    def run(*arguments: Arguments.args, **named: Arguments.kwargs) -> Value:
        # A copy each: no two threads may run in one.
        return here.copy().run(function, *arguments, **named)

    return run


def emit(event: str, *, level: int = logging.INFO, trouble: BaseException | None = None, **fields: Any) -> None:
    """Write one event: a short name in words-and-hyphens, and what there is to know of it.

    `trouble` adds the traceback of that exception.
    """
    if not _LOG.isEnabledFor(level):
        return
    told = {name: _told(name, value) for name, value in fields.items()} | _request()
    line = " ".join([event, *(f"{name}={_plain(value)}" for name, value in told.items())])
    _LOG.log(level, line, exc_info=trouble, extra={"event": event, "fields": told})


def redact(text: str) -> str:
    """`text` without what may be used as a credential."""
    lowered = text.lower()
    if not any(word in lowered for word in _WORDS):
        return text
    text = _SIGNED_QUERY.sub(f"?{WITHHELD}", text)
    text = _SIGNED_PARAMETER.sub(rf"\1{WITHHELD}", text)
    text = _AUTHORIZATION.sub(rf"\1{WITHHELD}", text)
    text = _SCHEME.sub(rf"\1 {WITHHELD}", text)
    text = _PEM_KEY.sub(WITHHELD, text)
    text = _BASE64_KEY.sub(WITHHELD, text)
    text = _QUOTED.sub(rf"\1{WITHHELD}", text)
    return _USER_INFO.sub(rf"\1{WITHHELD}@", text)


def configure(*, level: str = "info", form: str = "plain", stream: TextIO | None = None) -> None:
    """Send the events of this process to `stream` (standard error), ours from `level` on, the libraries' from warning on."""
    handler = _Handler(stream)
    handler.setFormatter(_Json() if form == "json" else _Plain())
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old, _Handler):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    _LOG.setLevel(level.upper())


class _Handler(logging.StreamHandler[TextIO]):
    """Ours: configuring again replaces it, and nothing that others have added.

    Without a stream it writes to what standard error is at that moment: a progress bar takes its place for a while, to put
    lines above itself.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__(stream)
        self._follows = stream is None

    def emit(self, record: logging.LogRecord) -> None:
        if self._follows:
            self.stream = sys.stderr
        super().emit(record)


class _Plain(logging.Formatter):
    """`2026-01-02T03:04:05Z info event name=value …`, then a traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_when(record)} {record.levelname.lower()} {_said(record)}"
        return redact(line + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""))


class _Json(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        known: dict[str, Any] = {
            "time": _when(record),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "library"),
            "logger": record.name,
            **getattr(record, "fields", {"message": redact(record.getMessage()), **_request()}),
        }
        if record.exc_info:
            known["traceback"] = redact(self.formatException(record.exc_info))
        return json.dumps(known, default=str)


def _said(record: logging.LogRecord) -> str:
    if hasattr(record, "event"):
        return record.getMessage()
    return " ".join([f"{record.name}: {record.getMessage()!r}", *(f"{name}={id_}" for name, id_ in _request().items())])


def _request() -> dict[str, str]:
    """What each line of a request has."""
    known = _REQUEST.get()
    return {} if known is None else {"request": known}


def _when(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


def _told(name: str, value: Any) -> Any:
    """`value` as it may be written."""
    if _SECRET_FIELDS.search(name):
        return WITHHELD
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): _told(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_told("", inner) for inner in value]
    text = str(value)
    # Cut first: the patterns must not be run over a body of megabytes.
    return redact(text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "…")


def _plain(value: Any) -> str:
    """`value` for a line: quoted where it would not read as one word, so that no name can forge a second line."""
    if isinstance(value, str) and re.fullmatch(r"[\w./:@+~-]+", value, re.ASCII):
        return value
    return json.dumps(value, default=str)
