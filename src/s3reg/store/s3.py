"""A bucket as an object store: AWS S3, MinIO and other servers that keep S3's promises.

A conditional put is sent once: a repeated one would meet its own first try and report that somebody else had won. Whatever
else fails is sent again, within the process's budget. Links are signed, and objects and listings read, by our own signer.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import botocore.exceptions as failures

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
from s3reg.store.s3_failures import TIMEOUTS, refusal_of, told, translated
from s3reg.store.s3_line import Line, Terms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

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
        address = None if endpoint is None else signing.address("endpoint", endpoint)
        name = f"s3://{bucket}/{self._root}".rstrip("/")
        self.location = self.made_as = name if address is None else f"{name} at {address}"
        self._clock = clock
        self._terms = Terms(
            store=self.location,
            bucket=bucket,
            endpoint=address,
            signing_endpoint=None
            if signing_endpoint is None
            else signing.address("signing_endpoint", signing_endpoint),
            path_style=path_style if path_style is not None else endpoint is not None or "." in bucket,
            region=region or os.environ.get("AWS_REGION") or None,
            verify=(ca_bundle or os.environ.get("AWS_CA_BUNDLE") or True) if verify else False,
            connections=connections,
            read_seconds=read_seconds,
            clock=clock,
        )
        self._opened: dict[int, Line] = {}
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
        answer = self._line.repeats(lambda: self._ask("GetObject", key, asked=asked))
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
        answer = self._line.repeats(lambda: self._head(key))
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

        def send() -> dict[str, Any]:
            with self._asking("PutObject", key, only_if, about=self._root + key) as line:
                return dict(line.client.put_object(Bucket=self._bucket, Key=self._root + key, Body=data, **condition))

        answer = send() if condition else self._line.repeats(send)
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
            answer = self._line.repeats(partial(self._delete, batch))
            failed = {str(one.get("Code", "")): one.get("Key") for one in answer.get("Errors", ())}
            for code in sorted(failed.keys() - {"NoSuchKey"}):
                status = s3_answers.FORBIDDEN if code == "AccessDenied" else s3_answers.OK
                ids = s3_answers.ids_of(answer["ResponseMetadata"]["HTTPHeaders"])
                error = told(Refusal("DeleteObjects", status, code, ids=ids), self._place)
                error.about = failed[code]
                raise error

    def list(self, prefix: str, *, after: str = "") -> Iterator[Stat]:
        """See the port."""
        return self._keys.walk(prefix, after)

    def relist(self, prefix: str, before: Listing | None = None) -> Listing:
        """See the port."""
        return self._keys.again(prefix, before)

    @property
    def _keys(self) -> s3_list.Bucket:
        return s3_list.Bucket(self._list, self._root, repeats=self._line.repeats, store=self.location)

    def _list(self, query: dict[str, str]) -> bytes:
        """The body of the answer to one ListObjectsV2."""
        return bytes(self._ask("ListObjectsV2", query=query).content)

    def _ask(
        self, operation: str, key: str = "", *, query: dict[str, str] | None = None, asked: dict[str, str] | None = None
    ) -> Any:
        """The answer to a GET that we sign and send: a listing of 10,000 and as many records, in a third of boto3's time."""
        about = self._root + key if key else (query or {}).get("prefix", "")
        with self._asking(operation, key, about=about) as line:
            answer = line.get(self._root + key if key else "", query or {}, asked or {})
            if int(answer.headers.get("Content-Length", len(answer.content))) != len(answer.content):
                raise StoreUnavailable(store=self.location, reason=f"{operation}: the answer ended too early")
            if answer.status_code in _GIVEN:
                return answer
            refusal = s3_answers.read_refusal(operation, answer.status_code, answer.content, answer.headers)
            raise told(refusal, self._place, key=key)

    def _head(self, key: str) -> dict[str, Any]:
        with self._asking("HeadObject", key, about=self._root + key) as line:
            try:
                return dict(line.client.head_object(Bucket=self._bucket, Key=self._root + key, ChecksumMode="ENABLED"))
            except failures.ClientError as e:
                if refusal_of(e).status != s3_answers.NOT_FOUND:
                    raise
                # An answer to HEAD has no body: whether the key or the bucket is missing, the bucket must tell.
                line.client.head_bucket(Bucket=self._bucket)
                raise ObjectNotFound(key=key) from e

    def _delete(self, names: Sequence[str]) -> dict[str, Any]:
        """The answer, which tells of each of these what became of it: one that is not a store's own tells nothing."""
        more = f" and {len(names) - 1} more" if names[1:] else ""
        with self._asking("DeleteObjects", about=names[0] + more) as line:
            objects = {"Objects": [{"Key": name} for name in names]}
            answer = dict(line.client.delete_objects(Bucket=self._bucket, Delete=objects))
            told_of = {str(one.get("Key")) for one in (*answer.get("Deleted", ()), *answer.get("Errors", ()))}
            if not told_of.issuperset(names):
                reason = "DeleteObjects: the answer does not tell of every object"
                raise StoreUnavailable(store=self.location, reason=reason)
            return answer

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
            signers = self._line.signers.now()
        now = self._clock()
        life = signing.lifetime(seconds, now=now, credentials_end=signers.end)
        if not life:
            raise StoreDenied(store=self.location, reason="they end within a minute and no fresh ones are to be had")
        return signers, now, life

    # --- For `store check` -------------------------------------------------------------------------------------------

    def settings_that_hurt(self) -> tuple[str, ...]:
        """The bucket's settings that work against a registry, in words; also those that we may not read."""
        found: list[str] = []
        ask = self._line.client
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
                found += judge(self._line.repeats(partial(self._told, what, question)))
            except StoreDenied as e:
                found.append(f"{what} could not be read: {e.detail['reason']}")
            except S3regError as e:
                # 404: nothing is set; 400 and 501: the server has no such thing.
                if not isinstance(e.__cause__, failures.ClientError):
                    raise
        return tuple(found)

    # --- Connections and failures ------------------------------------------------------------------------------------

    def _told(self, what: str, question: Callable[..., dict[str, Any]]) -> dict[str, Any]:
        with self._asking(what):
            return question(Bucket=self._bucket)

    @property
    def _line(self) -> Line:
        """This process's: a connection shared with a forked child would give one the other's answers."""
        process = os.getpid()
        found = self._opened.get(process)
        if found is None:
            with self._opening.setdefault(process, threading.Lock()), self._translated("open"):
                found = self._opened.get(process)
                if found is None:
                    found = self._opened[process] = Line(self._terms)
        return found

    @contextlib.contextmanager
    def _asking(
        self, operation: str, key: str = "", only_if: Absent | Match | None = None, *, about: str = ""
    ) -> Iterator[Line]:
        """A request is sent inside, if the store is there, and how it ends is noted. Raises what `translated` does.

        StoreUnavailable too where nothing is sent, because the store is away: a put is not in doubt then. `about`: what
        lies in the bucket, for who works on it.
        """
        line = self._line
        refusal = line.breaker.refusal()
        if refusal is not None:
            raise StoreUnavailable(store=self.location, reason=f"{operation}: {refusal}")
        try:
            with self._translated(operation, key, only_if):
                yield line
        except S3regError as e:
            e.about = about or None
            if isinstance(e, StoreUnavailable | PutUnsettled):
                line.breaker.failed(str(e.detail["reason"]), slowly=isinstance(e.__cause__, TIMEOUTS))
            elif not isinstance(e, StoreDenied):  # perhaps for want of credentials: then the store was not asked
                line.breaker.answered()
            raise
        line.breaker.answered()

    @property
    def _place(self) -> Place:
        opened = self._opened.get(os.getpid())
        region = (self._terms.region or "?") if opened is None else opened.region
        return Place(self.location, self._bucket, region, self._clock())

    def _translated(
        self, operation: str, key: str = "", only_if: Absent | Match | None = None
    ) -> contextlib.AbstractContextManager[None]:
        return translated(lambda: self._place, operation, key, only_if)


def _stat(key: str, answer: dict[str, Any], size: int) -> Stat:
    sha256 = s3_answers.sha256_of(answer.get("ChecksumSHA256"))
    return Stat(key, s3_answers.etag_of(answer["ETag"]), size, answer["LastModified"].timestamp(), sha256)
