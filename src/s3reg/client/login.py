"""What proves to a registry who asks: nothing, a password, or an API key.

An API key is used by a TAP login, Anka's way: the registry is told the key's id, and gives a secret that only the key opens;
the secret, sent back once, gives a session, and each call carries that session's data. The key itself never leaves the node.

A login serves all threads of a process. It is made anew shortly before the session ends, where the registry says when
that is, or when it answers 401; calls that meet that together wait for one login. No clock but this machine's counter is
asked, so that nobody's clock matters.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from s3reg.crypto import PrivateKey
from s3reg.errors import (
    AnswerInvalid,
    ApiKeyInvalid,
    CredentialRefused,
    Interrupted,
    Invalid,
    LocalDenied,
    Unauthenticated,
)

if TYPE_CHECKING:
    from s3reg.client.connection import Access

Value = TypeVar("Value")
Post = Callable[[str, dict[str, str]], tuple[int, bytes]]
"""Posts JSON to a path of the registry, without any credential; gives status and body."""

EARLY = 30.0
"""Seconds before its end at which a session is made anew; of a short one, a fifth of its time."""
LARGEST_KEY = 64 * 1024
LARGEST_TOKEN = 4096
ROOT = "root"
LARGEST_DATA = 4096
"""Bytes of a session's data: it goes into a header of each call."""
_UNKNOWN = "it does not know the id, or the key has ended"
_ENDED = (
    "the key was revoked, or has ended, since the login before; what was begun with it can go on with a new one "
    "under the same id"
)
_OK = 200
_NOT_THERE = {404, 405, 501}
_REFUSED = {400, 401, 403, 410}
_KEY_TEXT = re.compile(r"[A-Za-z0-9+/=\s]{65,}")


class Credential(Protocol):
    """What proves to the registry who asks."""

    def used(self, ask: Callable[[dict[str, str]], Value]) -> Value:
        """What `ask(headers)` gives with the headers that prove it. Raises Unauthenticated if they do not."""


def credential(access: Access, url: str, post: Post) -> Credential:
    """What `access` says: its API key, else its password, else nothing. Raises Invalid if half of a key is given."""
    if access.key_id is not None and access.api_key is not None:
        return ApiKey(access.key_id, access.api_key, url, post)
    if access.key_id is not None or access.api_key is not None:
        raise Invalid(reason="an API key and its id belong together; give --api-key-id and --api-key")
    return Nobody() if access.user is None else Password(access.user, access.password or "", url)


def keepable(api_key: str) -> str:
    """An API key as it may be kept and used from every directory: its text as it is, its file by the whole path."""
    return api_key if _is_text(api_key) else whole_path(api_key)


def whole_path(name: str) -> str:
    """A file's name as it may be kept and used from every directory."""
    return str(_path(name).absolute())


def root_token(given: str) -> str:
    """A root token as people give it: itself, or @ and the name of a file that begins with it. Raises LocalDenied."""
    if not given.startswith("@"):
        return given
    name = given[1:]
    reason = "it is empty"
    try:
        with _path(name).open("rb") as file:
            line = file.readline(LARGEST_TOKEN + 1)
    except (OSError, ValueError) as e:
        line, reason = b"", str(getattr(e, "strerror", e))
    # As bytes that are no text go through a command line.
    token = line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")
    if not token or len(line) > LARGEST_TOKEN:
        raise LocalDenied(
            file=name, reason=f"it should hold the root token ({reason if not token else 'it is longer'})"
        )
    return token


class Nobody:
    """Whoever reaches the registry."""

    def used(self, ask: Callable[[dict[str, str]], Value]) -> Value:
        """What `ask` gives."""
        return ask({})


class Password:
    """A user's, as HTTP Basic takes it (RFC 7617)."""

    def __init__(self, user: str, password: str, url: str) -> None:
        self._headers = {"authorization": f"Basic {_base64(f'{user}:{password}')}"}
        self._url = url
        self._what = "the root token" if user in {ROOT, ""} else "the user and password"

    def used(self, ask: Callable[[dict[str, str]], Value]) -> Value:
        """What `ask` gives. Raises CredentialRefused."""
        try:
            return ask(self._headers)
        except Unauthenticated:
            raise CredentialRefused(url=self._url, what=self._what, reason="it answers 401") from None


@dataclass(frozen=True, slots=True)
class _Session:
    headers: dict[str, str] = field(repr=False)
    """None of them: the registry knows no such login."""
    ends: float | None
    """By this machine's counter; None: nobody said."""


class ApiKey:
    """An API key, and the login that was made with it."""

    def __init__(
        self, key_id: str, api_key: str, url: str, post: Post, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._id = key_id
        self._text = api_key
        self._url = url
        self._post = post
        self._clock = clock
        self._lock = threading.Lock()
        self._key: PrivateKey | None = None
        self._session: _Session | None = None
        self._underway: Future[_Session] | None = None

    def used(self, ask: Callable[[dict[str, str]], Value]) -> Value:
        """What `ask` gives, asked again after another login if the first one is over. Raises CredentialRefused."""
        session = self._current()
        try:
            return ask(session.headers)
        except Unauthenticated:
            if not session.headers:
                raise self._refused("it has no login for API keys, and asks for another credential") from None
        try:
            return ask(self._current(over=session).headers)
        except CredentialRefused:
            raise
        except Unauthenticated:
            raise self._refused("it does not take the login that it has just given") from None

    def _current(self, over: _Session | None = None) -> _Session:
        """A session that is neither `over` nor about to end: the one that is there, or that of a login."""
        with self._lock:
            session = self._session
            if session is not None and session is not over and (session.ends is None or self._clock() < session.ends):
                return session
            mine = self._underway is None
            underway = self._underway = self._underway or Future()
        if mine:
            self._settle(underway)
        return underway.result()

    def _settle(self, underway: Future[_Session]) -> None:
        """Log in, for whoever waits too."""
        try:
            session = self._log_in()
        except BaseException as e:
            with self._lock:
                self._underway = None
            underway.set_exception(e if isinstance(e, Exception) else Interrupted())
            raise
        with self._lock:
            self._session, self._underway = session, None
        underway.set_result(session)

    def _log_in(self) -> _Session:
        # The key first: the secret lives for seconds, and is good for one try.
        self._key = self._key or _read(self._text)
        for last in (False, True):
            secret = self._secret(self._key)
            if secret is None:
                return _Session({}, None)
            asked = self._clock()
            status, said = self._post("/tap/v1/shake", {"id": self._id, "secret": secret})
            if status == _OK:
                return self._session_of(said, asked)
            if status not in _REFUSED:
                raise AnswerInvalid(url=self._url, reason=f"its login says {status}")
            if last:
                break
        raise self._refused("the key fits, and the login is not taken")

    def _secret(self, key: PrivateKey) -> str | None:
        """What the registry seals for the key; None: it knows no such login."""
        status, said = self._post("/tap/v1/hand", {"id": self._id})
        if status in _NOT_THERE:
            return None
        if status in _REFUSED:
            raise self._refused(_UNKNOWN if self._session is None else _ENDED)
        if status != _OK:
            raise AnswerInvalid(url=self._url, reason=f"its login says {status}")
        try:
            # Both alphabets: one is what registries say, the other what their documents do.
            sealed = base64.b64decode(b"".join(said.split()).translate(bytes.maketrans(b"-_", b"+/")), validate=True)
        except binascii.Error:
            raise AnswerInvalid(url=self._url, reason="its login seals no secret") from None
        try:
            return key.open(sealed).decode("utf-8", "replace")
        except ValueError:
            raise self._refused("it is not the key that it knows under this id") from None

    def _session_of(self, said: bytes, asked: float) -> _Session:
        try:
            told = json.loads(said)
            data = json.dumps(told["data"])
            ttl = told.get("ttl")
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            data, ttl = "", None
        if not data.startswith("{") or len(data) > LARGEST_DATA:
            raise AnswerInvalid(url=self._url, reason="its login gives no session")
        return _Session({"authorization": f"Bearer {_base64(data)}"}, _end(asked, ttl))

    def _refused(self, reason: str) -> CredentialRefused:
        return CredentialRefused(url=self._url, what=f"the API key {self._id!r}", reason=reason)


def _end(asked: float, ttl: Any) -> float | None:
    """When to log in anew, for a session that was asked for at `asked` and lives for `ttl` seconds, if that is a number."""
    if not isinstance(ttl, int | float) or isinstance(ttl, bool) or not ttl > 0:
        return None
    return asked + ttl - min(EARLY, ttl / 5)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogateescape")).decode()


def _is_text(api_key: str) -> bool:
    """Whether `api_key` is a key, and not the name of its file; so long and without a dot or a hyphen, it is no file's."""
    return "-----BEGIN" in api_key or (_KEY_TEXT.fullmatch(api_key) is not None and not _is_file(api_key))


def _is_file(name: str) -> bool:
    try:
        return _path(name).exists()
    except (OSError, ValueError):
        return False


def _path(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # the home of a user that there is not
        return Path(name)


def _read(api_key: str) -> PrivateKey:
    """The key itself. Raises ApiKeyInvalid or LocalDenied, which name a file, and quote nothing that may be a key."""
    where, data = "given as text", api_key.encode()
    if not _is_text(api_key):
        where = repr(api_key)
        try:
            with _path(api_key).open("rb") as file:
                data = file.read(LARGEST_KEY + 1)
        except (OSError, ValueError) as e:
            raise LocalDenied(file=api_key, reason=f"it should hold an API key ({getattr(e, 'strerror', e)})") from None
    try:
        return PrivateKey(data)
    except ValueError as e:
        raise ApiKeyInvalid(where=where, reason=str(e)) from None
