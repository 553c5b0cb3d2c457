"""What boto3 raises, as one of our errors. Their texts hold no URL and nothing of what was sent."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import botocore.exceptions as failures
from botocore.parsers import ResponseParserError

from s3reg.errors import PutUnsettled, StoreDenied, StoreUnavailable
from s3reg.store import s3_answers
from s3reg.store.s3_answers import Place, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3reg.store import Absent, Match

CONNECT_SECONDS = 3
"""That making a connection may take."""
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
        raise s3_answers.error_of(refusal_of(e), place(), key=key, only_if=only_if) from e
    except _NO_CREDENTIALS as e:
        raise StoreDenied(store=place().store, reason=_reason(e)) from e
    except (failures.BotoCoreError, ResponseParserError) as e:
        unsure = isinstance(e, _UNSURE) and not isinstance(e, _NOT_SENT) and not _distrusted(e)
        if only_if is not None and unsure:
            raise PutUnsettled(key=key, reason=_reason(e)) from e
        raise StoreUnavailable(store=place().store, reason=f"{operation}: {_reason(e)}") from e


def refusal_of(e: failures.ClientError) -> Refusal:
    """What the store says no with."""
    error, about = e.response.get("Error", {}), e.response.get("ResponseMetadata", {})
    region = about.get("HTTPHeaders", {}).get("x-amz-bucket-region") or error.get("Region")
    return Refusal(e.operation_name, int(about.get("HTTPStatusCode", 0)), str(error.get("Code", "")), region)


def _reason(e: Exception) -> str:
    if _distrusted(e):
        return "its TLS certificate is not trusted; name its CA with the CA bundle setting"
    return next((words for kind, words in _WORDS.items() if isinstance(e, kind)), type(e).__name__)


def _distrusted(e: Exception) -> bool:
    return isinstance(e, failures.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(e)
