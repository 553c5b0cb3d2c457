"""The root token in the Parameter Store of AWS Systems Manager: a SecureString, of the lines that a file of tokens has.

https://docs.aws.amazon.com/systems-manager/latest/userguide/sysman-paramstore-securestring.html. A parameter has no label
for the value before, which a rotation needs: so that stands in the second line, until somebody takes it away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3reg.auth.awstoken import AwsToken
from s3reg.auth.roottoken import lines_of_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence


class ParameterStore(AwsToken):
    """The tokens of one parameter."""

    called = "Systems Manager"
    _service = "ssm"
    _absent = "ParameterNotFound"
    _denied = "ssm:GetParameter for this parameter, and kms:Decrypt for its key if that is one of yours"

    def _read(self) -> tuple[Sequence[bytes], str | None]:
        answer = self._ask("get_parameter", Name=self._name, WithDecryption=True)
        if answer is None:
            raise ValueError("there is no such parameter")
        found = answer["Parameter"]
        if found["Type"] != "SecureString":
            raise ValueError(f"it is a {found['Type']}, which is not encrypted; store the token as a SecureString")
        return lines_of_tokens(str(found["Value"]).encode()), None
