"""The root token in AWS Secrets Manager: the secret's stages AWSCURRENT and AWSPREVIOUS, both valid.

https://docs.aws.amazon.com/secretsmanager/latest/userguide/whats-in-a-secret.html: a rotation moves the label AWSCURRENT to
the new version and AWSPREVIOUS to the one before, so that a token of ours rotates with nothing but a new value.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from typing import TYPE_CHECKING, Any

from s3reg.auth.roottoken import checked, one_line_less
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
_ARN = re.compile(r"arn:[^:]+:secretsmanager:([^:]+):[^:]*:secret:.+")


class SecretsManager:
    """The tokens of one secret, by name or ARN. Safe between threads.

    The call that finds them older than a minute reads them again; calls beside it go on with what is known.
    """

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._client: Any = None
        self._tokens: Sequence[bytes] = ()
        self._tried: float | None = None
        self._problem: str | None = None

    def tokens(self) -> Sequence[bytes]:
        """AWSCURRENT's and AWSPREVIOUS's, as they were at most a minute ago, or when they could last be read.

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

    def _read(self) -> tuple[Sequence[bytes], str | None]:
        """The tokens, and what is wrong all the same. Raises ValueError if nothing is right."""
        current = self._stage("AWSCURRENT")
        if current is None:
            raise ValueError("there is no such secret")
        token, previous = checked(current), self._stage("AWSPREVIOUS")
        try:
            return ([token] if previous is None else [token, checked(previous)]), None
        except ValueError as e:
            # The first value of a secret is often only there to make it.
            return [token], f"AWSPREVIOUS is left out: {e}"

    def _stage(self, stage: str) -> bytes | None:
        """What the secret has under this label; None if nothing."""
        # Not above: it takes a moment to load.
        from botocore.exceptions import BotoCoreError, ClientError, NoRegionError  # noqa: PLC0415

        try:
            self._client = self._client or _client(self._name)
            answer = self._client.get_secret_value(SecretId=self._name, VersionStage=stage)
        except ClientError as e:
            code = str(e.response.get("Error", {}).get("Code"))
            if code == "ResourceNotFoundException":
                return None
            raise ValueError(f"Secrets Manager answers {code}") from None
        except NoRegionError:
            raise ValueError("in which region is it? Name it by its ARN, or set AWS_REGION") from None
        except BotoCoreError as e:
            raise ValueError(f"Secrets Manager cannot be asked: {e}") from None
        text = answer.get("SecretString")
        return _plain(text.encode() if text is not None else answer["SecretBinary"])


def _plain(data: bytes) -> bytes:
    """The value as a token. A JSON object is what the console makes of keys and values: which of them would it be?"""
    token = one_line_less(data)
    try:
        is_object = isinstance(json.loads(token), dict)
    except ValueError:
        is_object = False
    if is_object:
        raise ValueError("its value is a JSON object; store the token as plain text")
    return token


def _client(name: str) -> Any:
    """A client in the secret's own region, if its name tells, else where the AWS variables say."""
    import boto3  # noqa: PLC0415 - as above
    from botocore.config import Config  # noqa: PLC0415

    arn = _ARN.fullmatch(name)
    return boto3.session.Session().client(
        "secretsmanager",
        # botocore itself looks at AWS_DEFAULT_REGION and the profile only.
        region_name=arn[1] if arn else os.environ.get("AWS_REGION"),
        config=Config(
            connect_timeout=TIMEOUT_SECONDS,
            read_timeout=TIMEOUT_SECONDS,
            retries={"total_max_attempts": 2, "mode": "standard"},
        ),
    )
