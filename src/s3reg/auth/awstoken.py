"""A root token that AWS keeps: read again every minute, and what a service says that does not give it, in words."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from s3reg.errors import RootTokenUnreadable
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REREAD_SECONDS = 60.0
RETRY_SECONDS = 5.0
"""The same where nothing is known yet."""
STALE_SECONDS = 120.0
"""Not asked for so long, as after a night without a call, what is known is not used while it is read again."""
TIMEOUT_SECONDS = 3
_ARN = re.compile(r"arn:[^:]+:[^:]+:([^:]+):.+")
_THROTTLED = {"ThrottlingException", "Throttling", "TooManyUpdates", "RequestLimitExceeded"}
_NOT_ASKER = {"UnrecognizedClientException", "InvalidSignatureException", "InvalidClientTokenId", "IncompleteSignature"}
_EXPIRED = {"ExpiredTokenException", "ExpiredToken"}


class AwsToken(ABC):
    """The tokens that one service keeps under a name or ARN. Safe between threads.

    The call that finds them older than a minute reads them again; calls beside it go on with what is known.
    """

    called: ClassVar[str]
    """The service, for people."""
    _service: ClassVar[str]
    """The same as boto3 calls it."""
    _absent: ClassVar[str]
    """The code with which it says that there is nothing under the name."""
    _denied: ClassVar[str]
    """What to allow whoever it refuses."""

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._client: Any = None
        self._tokens: Sequence[bytes] = ()
        self._tried: float | None = None
        self._problem: str | None = None

    def tokens(self) -> Sequence[bytes]:
        """Those that are valid, as they were at most a minute ago, or when they could last be read.

        Raises RootTokenUnreadable if they never could.
        """
        if self._is_due() and self._lock.acquire(blocking=self._age() > STALE_SECONDS):
            try:
                if self._is_due():
                    self._renew()
            finally:
                self._lock.release()
        if not self._tokens:
            raise RootTokenUnreadable(source=self._name, reason=self._problem)
        return self._tokens

    @abstractmethod
    def _read(self) -> tuple[Sequence[bytes], str | None]:
        """The tokens, and what is wrong all the same. Raises ValueError, in whose words nothing of them is."""

    def _is_due(self) -> bool:
        return self._age() > (REREAD_SECONDS if self._tokens else RETRY_SECONDS)

    def _age(self) -> float:
        """Seconds since it was last tried to read them."""
        return float("inf") if self._tried is None else self._clock() - self._tried

    def _renew(self) -> None:
        problem = None
        try:
            self._tokens, problem = self._read()
        except ValueError as e:
            problem = str(e)
        if problem is not None and problem != self._problem and self._tokens:
            emit("root-secret-not-usable", level=logging.WARNING, name=self._name, reason=problem)
        self._problem = problem
        self._tried = self._clock()

    def _ask(self, call: str, **about: Any) -> dict[str, Any] | None:
        """The service's answer to one call; None where there is nothing of that name. Raises ValueError."""
        # Not above: it takes a moment to load.
        from botocore.exceptions import (  # noqa: PLC0415
            BotoCoreError,
            ClientError,
            NoCredentialsError,
            NoRegionError,
        )

        try:
            self._client = self._client or self._made()
            answer: dict[str, Any] = getattr(self._client, call)(**about)
        except ClientError as e:
            code = str(e.response.get("Error", {}).get("Code"))
            if code == self._absent:
                return None
            raise ValueError(self._refusal(code)) from None
        except NoRegionError:
            raise ValueError("in which region is it? Name it by its ARN, or set AWS_REGION") from None
        except NoCredentialsError:
            raise ValueError(f"{self.called} cannot be asked: there are no AWS credentials") from None
        except BotoCoreError as e:
            raise ValueError(f"{self.called} cannot be asked: {e}") from None
        return answer

    def _refusal(self, code: str) -> str:
        """What one of AWS's codes means. Not its message: that is as long as a policy, and says no more to do."""
        said = f"{self.called} answers {code}"
        if code.startswith("AccessDenied"):
            return f"{said}: allow the credentials that s3reg runs with {self._denied}"
        if code in _THROTTLED:
            return f"{said}: it is asked too often; it is tried again in a minute at most"
        if code in _EXPIRED:
            return f"{said}: the AWS credentials that s3reg runs with have expired"
        if code in _NOT_ASKER:
            return f"{said}: it does not know the AWS credentials that s3reg runs with"
        return said

    def _made(self) -> Any:
        """A client in the name's own region, if it tells, else where the AWS variables say."""
        import boto3  # noqa: PLC0415 - as above
        import botocore.session  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415

        from s3reg.store import credential_process  # noqa: PLC0415

        arn = _ARN.fullmatch(self._name)
        core = botocore.session.get_session()
        credential_process.limit(core.get_component("credential_provider"))
        return boto3.session.Session(botocore_session=core).client(
            self._service,
            # botocore itself looks at AWS_DEFAULT_REGION and the profile only.
            region_name=arn[1] if arn else os.environ.get("AWS_REGION"),
            config=Config(
                connect_timeout=TIMEOUT_SECONDS,
                read_timeout=TIMEOUT_SECONDS,
                retries={"total_max_attempts": 2, "mode": "standard"},
            ),
        )
