"""The root token: where it comes from, and whether a password is one of those that are valid now.

Two are valid at a time, so that it can be rotated without a moment in which somebody is refused: the new one is added, then
everybody changes over, then the old one goes.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from s3reg.auth.reread import Reread
from s3reg.errors import RootTokenUnreadable, SettingInvalid

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SHORTEST = 10
"""Characters."""
LONGEST = 4096
"""Bytes; more would not fit into a request."""
MOST_LINES = 2

Source = Callable[[], "Sequence[bytes]"]
"""The tokens that are valid now. Raises RootTokenUnreadable if they could never be read."""


class RootTokens:
    """Those that are valid now, from all sources. Safe between threads."""

    def __init__(self, *sources: Source) -> None:
        self._sources = sources
        self._blind = os.urandom(32)

    @classmethod
    def fixed(cls, *tokens: str) -> Self:
        """These, as long as the process lives. Raises ValueError if one is too short or too long."""
        known = tuple(checked(_bytes(token)) for token in tokens)
        return cls(lambda: known)

    @classmethod
    def named(
        cls,
        *,
        token: str | None = None,
        previous: str | None = None,
        file: str | None = None,
        secret: str | None = None,
        parameter: str | None = None,
    ) -> Self:
        """As the settings `root_token`, and behind that `_previous`, `_file`, `_secret` and `_parameter`, say.

        Nothing is read yet: a process that starts while a source is away must not die of it. Raises SettingInvalid.
        """
        if file is not None:
            return cls(TokenFile(Path(file)).tokens)
        if secret is not None:
            # Not above: a registry without it needs no boto3.
            from s3reg.auth.secretsmanager import SecretsManager  # noqa: PLC0415

            return cls(SecretsManager(secret).tokens)
        if parameter is not None:
            from s3reg.auth.parameterstore import ParameterStore  # noqa: PLC0415 - as above

            return cls(ParameterStore(parameter).tokens)
        for problem in unfit(token, previous):
            raise problem
        return cls.fixed(*(text for text in (token, previous) if text is not None))

    def check(self) -> None:
        """Raise RootTokenUnreadable if no source has a token, with what is wrong."""
        for source in self._sources:
            source()

    def holds(self, password: bytes) -> bool:
        """Whether it is one of them, byte for byte, in a time that tells nothing of them. Raises RootTokenUnreadable."""
        asked = self._digest(password)
        found = False
        for source in self._sources:
            for token in source():
                found |= hmac.compare_digest(asked, self._digest(token))
        return found

    def _digest(self, token: bytes) -> bytes:
        """Of one length whatever the token's is, and unknown to whoever asks: comparing it tells nothing."""
        return hmac.digest(self._blind, hashlib.sha256(token).digest(), "sha256")


def unfit(token: str | None, previous: str | None) -> Iterator[SettingInvalid]:
    """What is wrong with the two that the environment may have."""
    for name, text in {"S3REG_ROOT_TOKEN": token, "S3REG_ROOT_TOKEN_PREVIOUS": previous}.items():
        if text is not None:
            try:
                checked(_bytes(text))
            except ValueError as e:
                yield SettingInvalid(name=name, reason=str(e))


class TokenFile:
    """A file whose first line is the token, and the second, if there is one, the token before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept = Reread(lines_of_tokens, path)

    def tokens(self) -> Sequence[bytes]:
        """Those of the file as it is now; of the last that was good, if it is not. Raises RootTokenUnreadable."""
        found, problem = self._kept.look()
        if found is None:
            raise RootTokenUnreadable(source=str(self._path), reason=problem)
        return found


def lines_of_tokens(data: bytes) -> Sequence[bytes]:
    """The token in the first line, and the one before it in the second, if there is one. Raises ValueError."""
    lines = one_line_less(data).split(b"\n")
    if len(lines) > MOST_LINES:
        raise ValueError(f"it has {len(lines)} lines, not one or two")
    return [checked(line.removesuffix(b"\r")) for line in lines]


def one_line_less(data: bytes) -> bytes:
    """`data` without the end of its last line: whoever writes a file with an editor or `echo` does not mean it."""
    return data.removesuffix(b"\n").removesuffix(b"\r")


def _bytes(text: str) -> bytes:
    """As they stood in the environment."""
    return text.encode("utf-8", "surrogateescape")


def checked(token: bytes) -> bytes:
    """`token`, if it is one by its length. Raises ValueError, in whose words nothing of it is."""
    if len(token.decode("utf-8", "surrogateescape")) < SHORTEST:
        raise ValueError(f"a root token has at least {SHORTEST} characters")
    if len(token) > LONGEST:
        raise ValueError(f"a root token has at most {LONGEST} bytes")
    return token
