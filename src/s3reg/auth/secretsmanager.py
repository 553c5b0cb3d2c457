"""The root token in AWS Secrets Manager: the secret's stages AWSCURRENT and AWSPREVIOUS, both valid.

https://docs.aws.amazon.com/secretsmanager/latest/userguide/whats-in-a-secret.html: a rotation moves the label AWSCURRENT to
the new version and AWSPREVIOUS to the one before, so that a token of ours rotates with nothing but a new value.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from s3reg.auth.awstoken import AwsToken
from s3reg.auth.roottoken import checked, one_line_less

if TYPE_CHECKING:
    from collections.abc import Sequence


class SecretsManager(AwsToken):
    """The tokens of one secret."""

    called = "Secrets Manager"
    _service = "secretsmanager"
    _absent = "ResourceNotFoundException"
    _denied = "secretsmanager:GetSecretValue for this secret, and kms:Decrypt for its key if that is one of yours"

    def _read(self) -> tuple[Sequence[bytes], str | None]:
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
        """What the secret has under this label; None if nothing. Raises ValueError."""
        answer = self._ask("get_secret_value", SecretId=self._name, VersionStage=stage)
        if answer is None:
            return None
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
