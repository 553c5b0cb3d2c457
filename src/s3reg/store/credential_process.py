"""A program that gives credentials, which `credential_process` of AWS's configuration names, has to answer in time.

botocore would wait for it for ever, and so would whoever asks botocore: a start without a word, or a registry that never
asks again once its credentials have ended.
"""

from __future__ import annotations

import subprocess
from typing import Any

from botocore.exceptions import CredentialRetrievalError

SECONDS = 60.0
"""As long as AWS's SDK for Go gives it: processcreds.DefaultTimeout."""


class ProcessTooSlow(CredentialRetrievalError):  # type: ignore[misc]  # botocore has no types
    """It was killed without an answer."""

    fmt = "the program that credential_process names took more than {seconds:g} seconds"


def limit(chain: Any) -> None:
    """Let every such program of botocore's chain of providers, also one below a role, answer in time or be killed."""
    chain.get_provider("custom-process")._popen = _Process  # noqa: SLF001 - no public way
    builder = chain.get_provider("assume-role")._profile_provider_builder  # noqa: SLF001 - as above
    made = builder._create_process_provider  # noqa: SLF001 - as above

    def limited(profile_name: str) -> Any:
        provider = made(profile_name)
        provider._popen = _Process  # noqa: SLF001 - as above
        return provider

    builder._create_process_provider = limited  # noqa: SLF001 - as above


class _Process(subprocess.Popen[bytes]):
    """As botocore begins one, and takes all that it says."""

    def communicate(self, *_: object, **__: object) -> tuple[bytes, bytes]:
        """All of it. Raises ProcessTooSlow."""
        with self:  # closes what it says, and waits for its end
            try:
                return super().communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
                raise ProcessTooSlow(provider="custom-process", seconds=SECONDS) from None
