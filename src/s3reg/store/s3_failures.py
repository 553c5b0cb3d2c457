"""What boto3 raises, as one of our errors. Their texts hold no URL and nothing of what was sent.

Each trouble with a store is a line in the log, with the ids that the store gave the request.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

import botocore.exceptions as failures
from botocore.parsers import ResponseParserError

from s3reg import telemetry
from s3reg.errors import (
    BucketMissing,
    CredentialsMissing,
    PreconditionFailed,
    PutUnsettled,
    S3regError,
    StoreUnavailable,
)
from s3reg.store import s3_answers
from s3reg.store.credential_process import ProcessTooSlow
from s3reg.store.s3_answers import Place, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3reg.store import Absent, Match

CONNECT_SECONDS = 3
"""That making a connection may take."""
TIMEOUTS = (failures.ConnectTimeoutError, failures.ReadTimeoutError)
"""What cost a thread its time."""
_NO_CREDENTIALS = (
    failures.NoCredentialsError,
    failures.PartialCredentialsError,
    failures.CredentialRetrievalError,
    failures.MetadataRetrievalError,
    failures.TokenRetrievalError,
    failures.NoAuthTokenError,
    failures.SSOError,
    failures.ProfileNotFound,
    failures.ConfigParseError,
    RuntimeError,  # botocore's word for fresh credentials that are expired already
)
_NOT_SENT = (failures.EndpointConnectionError, failures.ConnectTimeoutError, failures.ProxyConnectionError)
_UNSURE = (failures.HTTPClientError, failures.SSLError, failures.IncompleteReadError, ResponseParserError)
_WORDS = {
    failures.EndpointConnectionError: "no connection; the address may be wrong",
    failures.ConnectTimeoutError: f"no connection within {CONNECT_SECONDS} seconds",
    failures.ProxyConnectionError: "no connection to the proxy that the environment names",
    failures.ReadTimeoutError: "no answer in time",
    failures.ConnectionClosedError: "the connection ended before an answer",
    failures.NoCredentialsError: "none were found",
    failures.PartialCredentialsError: "only a part of them was found",
    failures.ProfileNotFound: "AWS_PROFILE names no profile",
}


@contextlib.contextmanager
def translated(
    place: Callable[[], Place], operation: str, key: str = "", only_if: Absent | Match | None = None
) -> Iterator[None]:
    """Whatever boto3 raises inside is one of our errors outside; `place`: as far as it is known by then."""
    try:
        yield
    except failures.ClientError as e:
        raise told(refusal_of(e), place(), key=key, only_if=only_if) from e
    except _NO_CREDENTIALS as e:
        _tell(operation, reason=reason_of(e))
        raise CredentialsMissing(store=place().store, reason=reason_of(e)) from e
    except (failures.BotoCoreError, ResponseParserError) as e:
        _tell(operation, reason=reason_of(e))
        unsure = isinstance(e, _UNSURE) and not isinstance(e, _NOT_SENT) and not _distrusted(e)
        if only_if is not None and unsure:
            raise PutUnsettled(key=key, reason=reason_of(e)) from e
        raise StoreUnavailable(store=place().store, reason=f"{operation}: {reason_of(e)}") from e


def told(refusal: Refusal, place: Place, *, key: str = "", only_if: Absent | Match | None = None) -> S3regError:
    """`s3_answers.error_of`; what is a trouble is logged: not what is absent, or taken."""
    error = s3_answers.error_of(refusal, place, key=key, only_if=only_if)
    absent = refusal.status == s3_answers.NOT_FOUND and not isinstance(error, BucketMissing)
    if not absent and not isinstance(error, PreconditionFailed):
        request, host = refusal.ids
        _tell(refusal.operation, status=refusal.status, code=refusal.code, amz_request_id=request, amz_id_2=host)
    return error


def _tell(operation: str, **facts: Any) -> None:
    known: dict[str, Any] = {name: value for name, value in facts.items() if value not in {"", None}}
    # Where no request is worked on, whoever asked tells it: a command to its user, who would read it four times.
    level = logging.WARNING if telemetry.request_id() else logging.DEBUG
    telemetry.emit("store-trouble", level=level, operation=operation, **known)


def refusal_of(e: failures.ClientError) -> Refusal:
    """What the store says no with."""
    error, about = e.response.get("Error", {}), e.response.get("ResponseMetadata", {})
    headers = about.get("HTTPHeaders", {})
    region = headers.get("x-amz-bucket-region") or error.get("Region")
    status, code = int(about.get("HTTPStatusCode", 0)), str(error.get("Code", ""))
    return Refusal(e.operation_name, status, code, region, headers.get("date", ""), s3_answers.ids_of(headers))


def reason_of(e: Exception) -> str:
    """A failure in words that hold nothing of what was sent."""
    if isinstance(e, ProcessTooSlow):
        return str(e)
    if _distrusted(e):
        return "its TLS certificate is not trusted; name its CA with the CA bundle setting"
    return next((words for kind, words in _WORDS.items() if isinstance(e, kind)), type(e).__name__)


def _distrusted(e: Exception) -> bool:
    return isinstance(e, failures.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(e)
