"""A bucket as an object store: AWS S3, MinIO and other servers that keep S3's promises.

Two boto3 clients: one that repeats what may be repeated, and one for conditional puts, which asks once: a repeated put
would meet its own first try and report that somebody else had won. Links are signed, and listings sent, by our own signer.
"""

from __future__ import annotations

import os
import re
import threading
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import botocore.awsrequest
import botocore.exceptions as failures
import botocore.handlers
import botocore.httpsession
import botocore.session
import botocore.utils
from botocore.config import Config

from s3reg import __version__
from s3reg.errors import (
    ObjectNotFound,
    PutUnsettled,
    S3regError,
    SettingInvalid,
    StoreDenied,
    StoreUnavailable,
)
from s3reg.store import Absent, Link, Listing, Match, Object, Stat, check_key, s3_answers, s3_list, signing
from s3reg.store.s3_answers import Place, Refusal
from s3reg.store.s3_failures import CONNECT_SECONDS, refusal_of, told, translated
from s3reg.telemetry import request_id

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Iterable, Iterator, Sequence

ATTEMPTS = 3
"""How often a read is tried."""
READ_SECONDS = 10.0
DELETE_KEYS = 1000
"""The most that one DeleteObjects takes."""
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_GIVEN = {s3_answers.OK, s3_answers.PARTIAL, s3_answers.NO_RANGE}


class S3Store:
    """The bucket `bucket`, below `prefix`. Credentials come from boto3's usual chain; no connection before the first call.

    Without `endpoint` (or AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL) it is AWS. `signing_endpoint` is the address that links
    carry, where nodes reach the store by another one than we do. The bucket stands in the path (`path_style`) when an
    endpoint was given or its name has dots, else in the host name. `ca_bundle` is a file of PEM certificates to trust.
    `connections` should be at least the number of threads; `read_seconds` is how long an answer may take. Raises
    SettingInvalid.
    """

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str = "",
        endpoint: str | None = None,
        signing_endpoint: str | None = None,
        region: str | None = None,
        path_style: bool | None = None,
        ca_bundle: str | None = None,
        verify: bool = True,
        connections: int = 64,
        read_seconds: float = READ_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not _BUCKET.fullmatch(bucket):
            raise SettingInvalid(name="store", reason=f"{bucket[:80]!r} is no bucket name")
        if ca_bundle is not None and not Path(ca_bundle).is_file():
            raise SettingInvalid(name="ca_bundle", reason=f"there is no file {ca_bundle!r}")
        endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
        self._bucket = bucket
        self._root = f"{check_key(prefix.strip('/'))}/" if prefix.strip("/") else ""
        self._endpoint = None if endpoint is None else signing.address("endpoint", endpoint)
        self._signing_endpoint = (
            None if signing_endpoint is None else signing.address("signing_endpoint", signing_endpoint)
        )
        self._path_style = path_style if path_style is not None else endpoint is not None or "." in bucket
        self._region = region or os.environ.get("AWS_REGION") or None
        self._verify = (ca_bundle or os.environ.get("AWS_CA_BUNDLE") or True) if verify else False
        self._connections = connections
        self._read_seconds = read_seconds
        self._clock = clock
        name = f"s3://{bucket}/{self._root}".rstrip("/")
        self.location = self.made_as = name if self._endpoint is None else f"{name} at {self._endpoint}"
        self._opened: dict[int, _Opened] = {}
        self._opening: dict[int, threading.Lock] = {}

    # --- The port ----------------------------------------------------------------------------------------------------

    def get(self, key: str, *, first: int = 0, length: int | None = None) -> Object:
        """See the port."""
        check_key(key)
        if length == 0:
            return Object(b"", self.stat(key))
        asked = {}
        if first < 0:
            asked = {"Range": f"bytes={first}"}
        elif first or length is not None:
            asked = {"Range": f"bytes={first}-{'' if length is None else first + length - 1}"}
        answer = s3_list.repeated(lambda: self._ask("GetObject", key, asked=asked), ATTEMPTS)
        if answer.status_code == s3_answers.NO_RANGE:
            return Object(b"", self.stat(key))
        data = bytes(answer.content)
        try:
            stat = s3_answers.stat_of(key, answer.headers, len(data))
        except (KeyError, ValueError) as e:
            raise StoreUnavailable(store=self.location, reason="GetObject: the answer is no object") from e
        if asked and answer.status_code == s3_answers.OK:
            # A server, or a proxy before it, that takes no ranges has sent all.
            data = data[first:] if length is None else data[first:][:length]
        if first < 0 and length is not None:
            data = data[:length]
        return Object(data, stat)

    def stat(self, key: str) -> Stat:
        """See the port."""
        check_key(key)
        with self._translated("HeadObject", key):
            try:
                answer = self._here.repeats.head_object(
                    Bucket=self._bucket, Key=self._root + key, ChecksumMode="ENABLED"
                )
            except failures.ClientError as e:
                if refusal_of(e).status != s3_answers.NOT_FOUND:
                    raise
                # An answer to HEAD has no body: whether the key or the bucket is missing, the bucket must tell.
                self._here.repeats.head_bucket(Bucket=self._bucket)
                raise ObjectNotFound(key=key) from e
        try:
            return _stat(key, answer, answer["ContentLength"])
        except (KeyError, AttributeError) as e:
            raise StoreUnavailable(store=self.location, reason="HeadObject: the answer is no object's") from e

    def put(self, key: str, data: bytes, *, only_if: Absent | Match | None = None) -> str:
        """See the port."""
        check_key(key)
        condition = {}
        if isinstance(only_if, Match):
            condition = {"IfMatch": f'"{only_if.etag}"'}
        elif only_if is not None:
            condition = {"IfNoneMatch": "*"}
        with self._translated("PutObject", key, only_if):
            client = self._here.once if condition else self._here.repeats
            answer = client.put_object(Bucket=self._bucket, Key=self._root + key, Body=data, **condition)
        if "ETag" not in answer:
            # Somebody between us and the store says that all is well. Whether it is, only the store can tell.
            unclear = "PutObject: the answer is no store's"
            if only_if is None:
                raise StoreUnavailable(store=self.location, reason=unclear)
            raise PutUnsettled(key=key, reason=unclear)
        return s3_answers.etag_of(answer["ETag"])

    def delete(self, keys: Iterable[str]) -> None:
        """See the port. Raises StoreDenied or StoreUnavailable when any of the keys could not be deleted."""
        names = (self._root + check_key(key) for key in keys)
        while batch := list(islice(names, DELETE_KEYS)):
            with self._translated("DeleteObjects"):
                objects = {"Objects": [{"Key": name} for name in batch], "Quiet": True}
                answer = self._here.repeats.delete_objects(Bucket=self._bucket, Delete=objects)
            codes = {str(one.get("Code", "")) for one in answer.get("Errors", [])} - {"NoSuchKey"}
            for code in sorted(codes):
                status = s3_answers.FORBIDDEN if code == "AccessDenied" else s3_answers.OK
                about = answer["ResponseMetadata"]["HTTPHeaders"]
                raise told(Refusal("DeleteObjects", status, code, ids=s3_answers.ids_of(about)), self._place)

    def list(self, prefix: str, *, after: str = "") -> Iterator[Stat]:
        """See the port."""
        return self._keys.walk(prefix, after)

    def relist(self, prefix: str, before: Listing | None = None) -> Listing:
        """See the port."""
        return self._keys.again(prefix, before)

    @property
    def _keys(self) -> s3_list.Bucket:
        return s3_list.Bucket(self._list, self._root, attempts=ATTEMPTS, store=self.location)

    def _list(self, query: dict[str, str]) -> bytes:
        """The body of the answer to one ListObjectsV2."""
        return bytes(self._ask("ListObjectsV2", query=query).content)

    def _ask(
        self, operation: str, key: str = "", *, query: dict[str, str] | None = None, asked: dict[str, str] | None = None
    ) -> Any:
        """The answer to a GET that we sign and send: a listing of 10,000 and as many records, in a third of boto3's time."""
        with self._translated(operation, key):
            name = self._root + key if key else ""
            url, headers = self._here.signers.now().requests.request(name, query or {}, now=self._clock())
            headers |= {"user-agent": _agent(), **(asked or {})}
            answer = self._here.http.send(botocore.awsrequest.AWSRequest("GET", url, headers).prepare())
        if int(answer.headers.get("Content-Length", len(answer.content))) != len(answer.content):
            raise StoreUnavailable(store=self.location, reason=f"{operation}: the answer ended too early")
        if answer.status_code in _GIVEN:
            return answer
        refusal = s3_answers.read_refusal(operation, answer.status_code, answer.content, answer.headers)
        raise told(refusal, self._place, key=key)

    def room(self) -> None:
        """See the port."""

    def sign_get(self, key: str, *, seconds: int) -> Link:
        """See the port. The link ends with the credentials at the latest. Raises StoreDenied when there are none."""
        check_key(key)
        signers, now, life = self._signing(seconds)
        return Link(signers.links.get(self._root + key, seconds=life, now=now), int(now) + life)

    def sign_gets(self, keys: Iterable[str], *, seconds: int) -> Sequence[Link]:
        """See the port, and `sign_get`. The same links within one second are the same list."""
        placed = tuple(self._root + check_key(key) for key in keys)
        signers, now, life = self._signing(seconds)
        return signers.links.gets(placed, seconds=life, now=now)

    def sign_put(self, key: str, *, size: int, sha256: str, seconds: int) -> Link:
        """See the port. The link ends with the credentials at the latest. Raises StoreDenied when there are none."""
        check_key(key)
        signers, now, life = self._signing(seconds)
        url = signers.links.put(self._root + key, size=size, sha256=sha256, seconds=life, now=now)
        return Link(url, int(now) + life, signing.put_headers(size, sha256))

    def _signing(self, seconds: int) -> tuple[signing.Signers, float, int]:
        with self._translated("sign"):
            signers = self._here.signers.now()
        now = self._clock()
        life = signing.lifetime(seconds, now=now, credentials_end=signers.end)
        if not life:
            raise StoreDenied(store=self.location, reason="they end within a minute and no fresh ones are to be had")
        return signers, now, life

    # --- For `store check` -------------------------------------------------------------------------------------------

    def settings_that_hurt(self) -> tuple[str, ...]:
        """The bucket's settings that work against a registry, in words; also those that we may not read."""
        found: list[str] = []
        with self._translated("sign"):
            ask = self._here.repeats
        questions: list[tuple[str, Callable[..., dict[str, Any]], Callable[[dict[str, Any]], Iterator[str]]]] = [
            ("versioning", ask.get_bucket_versioning, s3_answers.versioning_findings),
            ("Object Lock", ask.get_object_lock_configuration, s3_answers.object_lock_findings),
            (
                "lifecycle rules",
                ask.get_bucket_lifecycle_configuration,
                lambda answer: s3_answers.lifecycle_findings(answer.get("Rules", []), self._root),
            ),
        ]
        for what, question, judge in questions:
            try:
                with self._translated(what):
                    found += judge(question(Bucket=self._bucket))
            except StoreDenied as e:
                found.append(f"{what} could not be read: {e.detail['reason']}")
            except S3regError as e:
                # 404: nothing is set; 400 and 501: the server has no such thing.
                if not isinstance(e.__cause__, failures.ClientError):
                    raise
        return tuple(found)

    # --- Connections and failures ------------------------------------------------------------------------------------

    @property
    def _here(self) -> _Opened:
        """This process's clients: a connection shared with a forked child would give one the other's answers."""
        process = os.getpid()
        found = self._opened.get(process)
        if found is None:
            with self._opening.setdefault(process, threading.Lock()):
                found = self._opened.get(process)
                if found is None:
                    found = self._opened[process] = self._open()
        return found

    def _open(self) -> _Opened:
        core = botocore.session.get_session()
        session = boto3.session.Session(botocore_session=core)
        region = self._region or session.region_name or "us-east-1"
        style = {
            "addressing_style": "path" if self._path_style else "virtual",
            "us_east_1_regional_endpoint": "regional",
        }
        clients = []
        for attempts in (ATTEMPTS, 1):
            config = Config(
                signature_version="s3v4",
                s3=style,
                connect_timeout=CONNECT_SECONDS,
                read_timeout=self._read_seconds,
                max_pool_connections=self._connections,
                retries={"mode": "standard", "total_max_attempts": attempts},
                # Their trailers break servers that do not know them; what needs a checksum is signed with one.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                ignore_configured_endpoint_urls=True,
                tcp_keepalive=True,
            )
            client = session.client(
                "s3", endpoint_url=self._endpoint, region_name=region, verify=self._verify, config=config
            )
            events = client.meta.events
            # Costs a round trip on every put, and a second where a proxy does not answer it.
            events.unregister("before-call.s3", botocore.handlers.add_expect_header)
            events.register_last("before-parameter-build.s3", _stay_in_region)
            events.register_last("request-created.s3", _say_who)
            clients.append(client)
        endpoint = clients[0].meta.endpoint_url
        http = botocore.httpsession.URLLib3Session(
            verify=self._verify,
            proxies=botocore.utils.get_environ_proxies(endpoint),
            timeout=(CONNECT_SECONDS, self._read_seconds),
            max_pool_connections=self._connections,
        )
        ours = signing.target(endpoint, self._bucket, path_style=self._path_style)
        links = signing.target(self._signing_endpoint or endpoint, self._bucket, path_style=self._path_style)
        credentials = session.get_credentials()
        if credentials is None:
            raise failures.NoCredentialsError
        return _Opened(region, clients[0], clients[1], http, signing.Rotating(credentials, ours, links, region))

    @property
    def _place(self) -> Place:
        opened = self._opened.get(os.getpid())
        return Place(self.location, self._bucket, self._region or "?" if opened is None else opened.region)

    def _translated(
        self, operation: str, key: str = "", only_if: Absent | Match | None = None
    ) -> contextlib.AbstractContextManager[None]:
        return translated(lambda: self._place, operation, key, only_if)


@dataclass(frozen=True, slots=True)
class _Opened:
    """One process's clients, and signers for the credentials of the moment."""

    region: str
    repeats: Any
    once: Any
    http: botocore.httpsession.URLLib3Session
    signers: signing.Rotating


def _agent() -> str:
    """Who asks, for the store's own log: with the id of the request that it is asked for."""
    known = request_id()
    return f"s3reg/{__version__}" + (f" id/{known}" if known else "")


def _say_who(request: Any, **_: Any) -> None:
    # Once it is signed: this header never is. One that is set is added to those of its name.
    del request.headers["User-Agent"]
    request.headers["User-Agent"] = _agent()


def _stay_in_region(context: dict[str, Any], **_: Any) -> None:
    """Tells botocore that it has followed the bucket to its region: links and listings would not follow."""
    context.setdefault("s3_redirect", {})["redirected"] = True


def _stat(key: str, answer: dict[str, Any], size: int) -> Stat:
    sha256 = s3_answers.sha256_of(answer.get("ChecksumSHA256"))
    return Stat(key, s3_answers.etag_of(answer["ETag"]), size, answer["LastModified"].timestamp(), sha256)
