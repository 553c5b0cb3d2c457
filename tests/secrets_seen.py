"""No secret in any log: what tests log, and what the servers that they start write, is searched after each test.

    keep(token)          remember a secret that a test uses; gives it back. `always`: one of the whole run
    watch(text)          what a process has written

What our log would hold of each record counts, so a test that logs a secret to see it blanked passes. A secret is looked for
until the test that used it has ended, and whatever is one by its shape — a signature, a bearer, a private key — always.
"""

from __future__ import annotations

import logging
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest

from s3reg import telemetry

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORTEST = 10
"""Characters of a secret that is looked for: a shorter one would be found in anything."""
AROUND = 60
"""Characters shown before what was found; it itself is not shown again."""
SHAPES = {
    "a presigned URL": re.compile(r"X-Amz-Signature=[0-9a-f]{64}", re.IGNORECASE),
    "a signed link": re.compile(r"signature=[\w-]{43}\b", re.IGNORECASE),
    "a bearer": re.compile(r"\bBearer [\w+/=.~-]{16,}", re.IGNORECASE),
    "a password": re.compile(r"\bBasic [A-Za-z0-9+/_-]{11,}=*", re.IGNORECASE),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY"),
    "a key's DER": re.compile(r"\bMII[A-Za-z0-9+/]{200,}"),
}
_MAY_HOLD = re.compile(r"signature=|bearer |basic |-----begin|MII", re.IGNORECASE)


class Seen(logging.Handler):
    """What was written, and the secrets that must not be in it. Safe between threads."""

    def __init__(self) -> None:
        super().__init__()
        self._form = telemetry._Json()  # the one that relies most on each field having been blanked by itself
        self._secrets: dict[str, None] = {}
        self._always: dict[str, None] = {}
        self._texts: list[str] = []
        self._guard = threading.Lock()

    def keep(self, secret: str, *, always: bool = False) -> str:
        """Look for this one until the test ends, or the run."""
        if len(secret) >= SHORTEST:
            with self._guard:
                (self._always if always else self._secrets)[secret] = None
        return secret

    def watch(self, text: str) -> None:
        """Search what a process has written, at the test's end."""
        with self._guard:
            self._texts.append(text)

    def emit(self, record: logging.LogRecord) -> None:
        """Search what the log would hold of a record."""
        try:
            self.watch(self._form.format(record))
        except Exception:  # noqa: BLE001 - as handlers do: logging tells of it, and goes on
            self.handleError(record)

    def found(self) -> list[str]:
        """What was found since the last time, without the secrets; all is forgotten then."""
        with self._guard:
            text, secrets = "\n".join(self._texts), [*self._secrets, *self._always]
            self._texts.clear()
            self._secrets.clear()
        hits = [("a secret of the test", text.find(secret)) for secret in secrets if secret in text]
        if _MAY_HOLD.search(text):
            matches = [(what, shape.search(text)) for what, shape in SHAPES.items()]
            hits += [(what, match.start()) for what, match in matches if match]
        return [f"{what} behind {_before(text, at)!r}" for what, at in hits]


def _before(text: str, at: int) -> str:
    return text[max(0, at - AROUND) : at].rpartition("\n")[2]


class Plugin:
    """Fails the test in whose course, or at whose end, a secret was written."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def pytest_sessionstart(self) -> None:
        logging.getLogger().addHandler(self._seen)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        try:
            return (yield)
        finally:
            root = logging.getLogger()
            if self._seen not in root.handlers:
                root.addHandler(self._seen)
            hits = self._seen.found()
            if hits:
                pytest.fail(f"{item.name} wrote {'; '.join(hits)} to a log", pytrace=False)


seen = Seen()
keep, watch = seen.keep, seen.watch


def kept(values: dict[str, Any]) -> dict[str, Any]:
    """`values` of an environment; those called like a secret are looked for."""
    for name, value in values.items():
        if re.search(r"TOKEN$|TOKEN_PREVIOUS|PASSWORD|API_KEY$|SECRET_ACCESS", name):
            keep(str(value))
    return values
