"""AWS Signature Version 4 for S3: signed URLs by the thousand, and the few requests that the adapter sends itself.

The signing key depends on day, region and secret only, so it is derived once a day; what else links have in common is put
together once for all of them: a URL then costs two hashes and two strings.
See "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)" and "Signature Calculations for the
Authorization Header" in the Amazon S3 API reference. The URLs are those of botocore, byte for byte.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlsplit

from s3reg.errors import SettingInvalid
from s3reg.store import Link
from s3reg.store.credentials import SPARE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from s3reg.store.credentials import Lasting

LONGEST_SECONDS = 7 * 24 * 3600
"""S3 refuses a URL that asks for a longer life."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_EMPTY_SHA256 = hashlib.sha256().hexdigest()
_SAFE = "-_.~"
_PLAIN = re.compile(r"[A-Za-z0-9._~/-]*")
"""Paths that quoting leaves as they are: most of ours, and to see that is faster than to quote."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What signs."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    """Of a session; part of every request."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a bucket's requests go."""

    origin: str
    """Scheme, host and port, as they stand in a URL."""
    host: str
    """The Host header, which is signed: without the scheme's own port."""
    base: str
    """The path before a key; begins and ends with a slash."""


class _Moment(NamedTuple):
    """All that a signature takes from the clock."""

    second: int
    date: str
    scope: str
    head: str
    """Of a signed URL's query, up to the date."""
    started: hmac.HMAC
    """The signature of what is signed, up to the request's digest. Only copies of it go on."""

    def signature(self, request: str) -> str:
        """Of a canonical request, in hex."""
        mac = self.started.copy()
        mac.update(hashlib.sha256(request.encode()).hexdigest().encode())
        return mac.hexdigest()


def target(endpoint: str, bucket: str, *, path_style: bool) -> Target:
    """Where requests for `bucket` at `endpoint` go: `host/bucket/key` in path style, else `bucket.host/key`."""
    parts = urlsplit(endpoint)
    name = (parts.hostname or "").lower()
    name = f"[{name}]" if ":" in name else name
    base = f"{quote(parts.path.rstrip('/'), safe=_SAFE + '/%')}/"
    if path_style:
        base += f"{quote(bucket, safe=_SAFE)}/"
    else:
        name = f"{bucket}.{name}"
    shown = name if parts.port is None else f"{name}:{parts.port}"
    host = name if parts.port == _DEFAULT_PORTS.get(parts.scheme) else shown
    return Target(f"{parts.scheme}://{shown}", host, base)


def address(name: str, url: str) -> str:
    """An endpoint in one spelling, or SettingInvalid for the setting `name`. Everybody is told it: no secret in it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as e:
        raise SettingInvalid(name=name, reason="it is not a URL") from e
    if "@" in parts.netloc:
        raise SettingInvalid(name=name, reason="it holds a credential; use AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.query or parts.fragment:
        raise SettingInvalid(name=name, reason="give it as https://HOST or http://HOST:PORT")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    shown = host if port in {None, _DEFAULT_PORTS[parts.scheme]} else f"{host}:{port}"
    return f"{parts.scheme}://{shown}{parts.path.rstrip('/')}"


def lifetime(wanted: int, *, now: float, credentials_end: float | None) -> int:
    """Seconds that a URL made at `now` may live: 0 when the credentials that would sign it are about to end.

    It ends a minute before they do: a request under way must not lose them.
    """
    longest = min(wanted, LONGEST_SECONDS)
    if credentials_end is not None:
        longest = min(longest, int(credentials_end - now) - SPARE_SECONDS)
    return max(longest, 0)


class Signer:
    """Signs for one bucket with one set of credentials. Safe to share between threads."""

    def __init__(self, credentials: Credentials, where: Target, region: str) -> None:
        self.credentials = credentials
        self.target = where
        self.region = region
        token = credentials.token
        self._token = None if token is None else f"&X-Amz-Security-Token={quote(token, safe=_SAFE)}"
        self._moment: _Moment | None = None
        self._day: tuple[str, bytes] | None = None
        self._lock = threading.Lock()
        self._last: tuple[object, list[Link]] = (None, [])

    def get(self, key: str, *, seconds: int, now: float) -> str:
        """A URL that reads the object until `seconds` after `now`, which is in seconds since 1970."""
        return self._gets([key], seconds=seconds, now=now)[0]

    def gets(self, keys: tuple[str, ...], *, seconds: int, now: float) -> list[Link]:
        """The links of `get` for many keys, in their order. Asked again within one second, it is the same list.

        When a hundred nodes ask for one plan at once, one thread signs it and the others take what it made.
        """
        asked = (int(now), seconds, keys)
        with self._lock:
            if self._last[0] != asked:
                urls = self._gets(keys, seconds=seconds, now=now)
                self._last = (asked, [Link(url, int(now) + seconds) for url in urls])
            return self._last[1]

    def _gets(self, keys: Iterable[str], *, seconds: int, now: float) -> list[str]:
        return self._urls("GET", keys, "host", f"host:{self.target.host}\n", seconds=seconds, now=now)

    def put(self, key: str, *, size: int, sha256: str, seconds: int, now: float) -> str:
        """A URL that creates the object from exactly these bytes, sent with the headers of `put_headers`."""
        checksum = _checksum(sha256)
        names = "content-length;host;if-none-match;x-amz-checksum-sha256"
        lines = f"content-length:{size}\nhost:{self.target.host}\nif-none-match:*\nx-amz-checksum-sha256:{checksum}\n"
        return self._urls("PUT", [key], names, lines, seconds=seconds, now=now)[0]

    def _urls(self, method: str, keys: Iterable[str], names: str, lines: str, *, seconds: int, now: float) -> list[str]:
        at = self._at(now)
        signed = f"&X-Amz-SignedHeaders={names.replace(';', '%3B')}"
        query = f"{at.head}&X-Amz-Expires={seconds}"
        if self._token is None:
            query = canonical = query + signed
        else:
            # The canonical query is sorted by name; in its URL botocore puts the token last.
            query, canonical = query + signed + self._token, query + self._token + signed
        request, rest = f"{method}\n{self.target.base}", f"\n{canonical}\n{lines}\n{names}\nUNSIGNED-PAYLOAD"
        before, after = f"{self.target.origin}{self.target.base}", f"?{query}&X-Amz-Signature="
        paths = [key if _PLAIN.fullmatch(key) else quote(key, safe="/-_.~") for key in keys]
        return [f"{before}{path}{after}{at.signature(f'{request}{path}{rest}')}" for path in paths]

    def request(self, key: str, query: dict[str, str], *, now: float) -> tuple[str, dict[str, str]]:
        """A GET of the object, of the bucket itself if `key` is empty: its URL, and headers valid for a few minutes."""
        at = self._at(now)
        path = self.target.base + quote(key, safe="/-_.~") if key else self.target.base.rstrip("/") or "/"
        canonical = "&".join(f"{quote(n, safe=_SAFE)}={quote(v, safe=_SAFE)}" for n, v in sorted(query.items()))
        headers = {"host": self.target.host, "x-amz-content-sha256": _EMPTY_SHA256, "x-amz-date": at.date}
        if self.credentials.token is not None:
            headers["x-amz-security-token"] = self.credentials.token
        names = ";".join(headers)
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        request = f"GET\n{path}\n{canonical}\n{lines}\n{names}\n{_EMPTY_SHA256}"
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.credentials.access_key}/{at.scope}, "
            f"SignedHeaders={names}, Signature={at.signature(request)}"
        )
        return f"{self.target.origin}{path}?{canonical}", headers

    def _at(self, now: float) -> _Moment:
        """The moment, kept for as long as the second lasts; two threads that make it at once make the same."""
        found, second = self._moment, int(now)
        if found is None or found.second != second:
            found = self._moment = self._begin(second)
        return found

    def _begin(self, second: int) -> _Moment:
        date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        day, known = date[:8], self._day
        if known is not None and known[0] == day:
            key = known[1]
        else:
            key = f"AWS4{self.credentials.secret_key}".encode()
            for part in (day, self.region, "s3", "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._day = (day, key)
        scope = f"{day}/{self.region}/s3/aws4_request"
        credential = quote(f"{self.credentials.access_key}/{scope}", safe=_SAFE)
        head = f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={date}"
        started = hmac.new(key, f"AWS4-HMAC-SHA256\n{date}\n{scope}\n".encode(), "sha256")
        return _Moment(second, date, scope, head, started)


class Signers(NamedTuple):
    """What one set of credentials signs with."""

    frozen: Any
    requests: Signer
    """For what we send ourselves."""
    links: Signer
    """For nodes, who may reach the store by another address."""
    end: float | None
    """When the credentials end, in seconds since 1970; None for those that do not."""


class Rotating:
    """The signers of the moment, for credentials that change under way."""

    def __init__(self, credentials: Lasting, requests: Target, links: Target, region: str) -> None:
        self._credentials = credentials
        self._targets = (requests, links)
        self._region = region
        self._signers: Signers | None = None

    def now(self) -> Signers:
        """Signers with credentials that are valid now. Raises CredentialsMissing, CredentialsExpired."""
        frozen, seconds = self._credentials.now()
        found = self._signers
        if found is None or found.frozen != frozen or found.end != seconds:
            ours = Credentials(frozen.access_key, frozen.secret_key, frozen.token)
            requests, links = (Signer(ours, where, self._region) for where in self._targets)
            found = self._signers = Signers(frozen, requests, links, seconds)
        return found


def put_headers(size: int, sha256: str) -> dict[str, str]:
    """What must be sent with a URL of `Signer.put`: the signed headers besides Host. `sha256` is in hex."""
    return {"Content-Length": str(size), "If-None-Match": "*", "x-amz-checksum-sha256": _checksum(sha256)}


def _checksum(sha256: str) -> str:
    return base64.b64encode(bytes.fromhex(sha256)).decode()
