"""Credentials that change under way, asked for before they end and without anybody waiting.

botocore asks for fresh ones in the last fifteen minutes of the old, and in the last ten everybody waits for that, and fails
with it: a metadata service that is away for a minute would take a registry down whose credentials are good. Here a thread of
its own asks. Who signs meanwhile takes what is still good. Where nothing is, the wait ends after ten seconds, and with the
first failure: then nobody waits until there are good ones again.
"""

from __future__ import annotations

import threading
import time
from logging import DEBUG, WARNING
from typing import TYPE_CHECKING, Any, NamedTuple

from s3reg.errors import CredentialsExpired, CredentialsMissing
from s3reg.store.breaker import in_background
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Callable

EARLY_SECONDS = 15 * 60
"""Before the end. botocore's own; services have fresh ones at the latest five minutes before it."""
SPARE_SECONDS = 60
"""What ends so soon signs no link any more, and is worth waiting for fresh ones."""
WAIT_SECONDS = 10.0
_AGAIN_SECONDS, _AGAIN_SOON_SECONDS = 30.0, 1.0
"""From one question to the next while there are good ones, and while there are none."""


class Held(NamedTuple):
    """One set of credentials."""

    frozen: Any
    """botocore's: access_key, secret_key, token."""
    end: float | None
    """In seconds since 1970; None for those that do not end."""

    def lasts(self, now: float, spare: float = 0.0) -> bool:
        """Whether it is good for more than so many seconds."""
        return self.end is None or now < self.end - spare


class Lasting:
    """The credentials of one process. Safe to share between threads; botocore's clients take it for credentials of theirs.

    `load` gives botocore's credentials, or raises; `reason_of` gives a failure in words, `store` names the store in texts.
    """

    def __init__(
        self, load: Callable[[], Any], store: str, reason_of: Callable[[Exception], str], clock: Callable[[], float]
    ) -> None:
        self._load = load
        self._store = store
        self._reason_of = reason_of
        self._clock = clock
        self._lock = threading.Lock()
        self._source: Any = None
        self._held: Held | None = None
        self._asking: threading.Event | None = None
        self._asked: float | None = None
        self._waited_for = 0.0
        self._why = ""

    def now(self) -> Held:
        """What signs now. Raises CredentialsMissing, CredentialsExpired."""
        held, now = self._held, self._clock()
        if held is not None and held.lasts(now, EARLY_SECONDS):
            return held
        usable = held is not None and held.lasts(now, SPARE_SECONDS)
        asking = self._ask(now, _AGAIN_SECONDS if usable else _AGAIN_SOON_SECONDS)
        if not usable and asking is not None and not self._why:
            asking.wait(max(0.0, self._waited_for - time.monotonic()))
        held = self._held
        if held is None:
            raise CredentialsMissing(store=self._store, reason=self._why or "they took too long")
        if not held.lasts(now):
            raise CredentialsExpired(store=self._store, reason=self._why or "fresh ones took too long")
        return held

    def get_frozen_credentials(self) -> Any:
        """As botocore asks."""
        return self.now().frozen

    def get_deferred_property(self, name: str) -> Callable[[], Any]:
        """As botocore asks for the account, which some of its endpoints have in their names."""
        return lambda: getattr(self.now().frozen, name, None)

    def _ask(self, now: float, pause: float) -> threading.Event | None:
        """The question under way, perhaps one that begins here; None if the last one is not long ago."""
        with self._lock:
            if self._asking is not None:
                return self._asking
            if self._asked is not None and 0 <= now - self._asked < pause:
                return None
            self._asked, self._waited_for = now, time.monotonic() + WAIT_SECONDS
            try:
                in_background(self._answer)
            except RuntimeError:  # the system has no thread to spare; later it may
                return None
            # It ends behind this lock: not before it is known to be under way.
            asking = self._asking = threading.Event()
        return asking

    def _answer(self) -> None:
        held, why = self._held, ""
        try:
            held = self._fetched()
        except Exception as e:  # noqa: BLE001 - whatever a provider raises, the credentials at hand stay
            why = self._reason_of(e)
            # Without any, whoever needs them tells it.
            emit("credentials-not-fetched", level=DEBUG if held is None else WARNING, reason=why)
        with self._lock:
            self._held, self._why = held, why
            asking, self._asking = self._asking, None
        if asking is not None:
            asking.set()

    def _fetched(self) -> Held | None:
        if self._source is None:
            self._source = self._load()
        while True:
            # botocore has no public word for their end. Read before and after: then both belong to one set.
            end = getattr(self._source, "_expiry_time", None)
            frozen = self._source.get_frozen_credentials()
            if getattr(self._source, "_expiry_time", None) == end:
                return Held(frozen, None if end is None else end.timestamp())
