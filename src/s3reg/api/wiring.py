"""What a server process holds: its store and the registry over it, made once and shared by its threads."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from flask import current_app

from s3reg.api.readiness import Readiness
from s3reg.auth.certificates import Certificates
from s3reg.auth.gate import Gate
from s3reg.auth.roottoken import RootTokens
from s3reg.errors import AccessOff, SettingInvalid, StoreCopied, StoreFormatDamaged
from s3reg.model import format as fmt
from s3reg.registry import Limits, Registry
from s3reg.store.files import FilesStore
from s3reg.store.observed import Observed
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from s3reg.model.identity import Identity
    from s3reg.settings import Settings
    from s3reg.store import ObjectStore
    from s3reg.store.observed import Observer, Signing

_S3 = "s3://"
_CLEARING = (fmt.HEADS, fmt.MARKERS, fmt.CHECK)
"""What is written so that something may go: heads without it, a sweep's marker, how a sweep asks for the time."""
_SPARE_CONNECTIONS = 32
"""Besides one for each thread: a call asks for a listing's stretches, or for many records, side by side."""


class Wiring:
    """One process's store and registry.

    The registry is prepared by the first request that needs it, not when the process starts: a process that is restarted
    while the store is away answers 503 until it is back, instead of dying.
    """

    def __init__(
        self,
        settings: Settings,
        store: ObjectStore | None = None,
        *,
        prepared: bool = False,
        clock: Callable[[], float] = time.time,
        observers: Sequence[Observer] = (),
        signings: Sequence[Signing] = (),
        dropped: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.settings = settings
        self.store = store or open_store(settings)
        """As it was opened: what kind of store it is, is asked of this one."""
        self.observed = Observed(self.store, observers, signings)
        """The same, whose calls are told of: what anything is asked of."""
        self._registry = registry_over(self.observed, settings, dropped)
        self._prepared = prepared
        self._secret: bytes | None = None
        self.gate = self._gate(clock) if settings.guarded else None
        """Who may come in; None: access control is off."""
        self.readiness = Readiness(self._look, clock)

    def _gate(self, clock: Callable[[], float]) -> Gate:
        told = self.settings
        roots = RootTokens.named(
            token=told.root_token,
            previous=told.root_token_previous,
            file=told.root_token_file,
            secret=told.root_token_secret,
            parameter=told.root_token_parameter,
        )
        crl = None if told.client_crl is None else Path(told.client_crl)
        return Gate(
            self.observed,
            secret=self._login_secret,
            roots=roots,
            certificates=None if told.client_ca is None else Certificates(Path(told.client_ca), crl, clock),
            authorization=told.authorization,
            login_seconds=told.login_seconds,
            secret_seconds=told.login_secret_seconds,
            writable=self._registry.prepare,
            clock=clock,
        )

    def event(self, asker: Identity, said: dict[str, Any]) -> None:
        """Keep what a machine reported. Of all verbs this one must never wait for the store: not even to prepare it."""
        self._registry.event(asker, said)

    def note(self, by: str, said: dict[str, Any]) -> bool:
        """Keep what somebody asked for; False if there is no room for it. Never waits either."""
        return self._registry.note(by, said)

    def finish(self, seconds: float) -> None:
        """Give the store what waits for it, before the process ends; takes at most so long."""
        self._registry.finish(seconds)

    def registry(self) -> Registry:
        """The registry, ready. Raises what `Registry.prepare` raises."""
        if not self._prepared:
            # Without a lock, because it may be done twice: behind one, all threads would wait in turn for a store that
            # is away.
            _prepare(self._registry)
            if isinstance(self.store, FilesStore):
                self.store.sign_with(self._signing_secret())
            self._prepared = True
        return self._registry

    def _look(self) -> None:
        """One small read of the store; raises why nothing can be served from it."""
        if not self.registry().status().store:
            raise StoreFormatDamaged(what="the store", reason=f"its {fmt.FORMAT_KEY} is gone")

    def _login_secret(self) -> bytes:
        self.registry()
        return self._signing_secret()

    def _signing_secret(self) -> bytes:
        """Read once: a store's never changes."""
        if self._secret is None:
            self._secret = self._registry.signing_secret()
        return self._secret


def _prepare(registry: Registry) -> None:
    try:
        registry.prepare()
    except StoreCopied as e:
        # A copy may be read, and says at each push why it takes none.
        emit("store-copied", level=logging.WARNING, reason=str(e))
        registry.prepare(write=False)


def wiring() -> Wiring:
    """The wiring of the app at hand."""
    return cast("Wiring", current_app.extensions["s3reg"])


def registry() -> Registry:
    """The registry of the app at hand, ready."""
    return wiring().registry()


def gate() -> Gate:
    """What keeps keys and groups in the app at hand. Raises AccessOff."""
    found = wiring().gate
    if found is None:
        raise AccessOff
    return found


def registry_over(store: ObjectStore, settings: Settings, dropped: Callable[[int], None] = lambda _: None) -> Registry:
    """The registry over a store, as it is: nothing is written, or asked, before a verb is called."""
    limits = Limits(
        session_bytes=settings.session_bytes,
        link_seconds=settings.link_seconds,
        trash_seconds=settings.trash_seconds,
        event_seconds=settings.event_seconds,
    )
    return Registry(store, limits=limits, dropped=dropped)


def open_store(settings: Settings) -> ObjectStore:
    """The store that the settings name. Raises SettingInvalid, and what the adapter raises."""
    where = settings.store
    if not where:
        raise SettingInvalid(
            name="--store", reason="say where everything is kept: a directory, or s3://BUCKET[/PREFIX]"
        )
    if "://" not in where:
        folder = Path(where).expanduser()
        if folder.exists() and not folder.is_dir():
            raise SettingInvalid(name="--store", reason=f"{where!r} is a file, not a directory")
        return FilesStore(folder, clearing=_CLEARING)
    if not where.startswith(_S3):
        raise SettingInvalid(name="--store", reason=f"{where!r} is neither a directory nor s3://BUCKET[/PREFIX]")
    bucket, _, prefix = where.removeprefix(_S3).partition("/")
    if not bucket:
        raise SettingInvalid(name="--store", reason=f"{where!r} names no bucket")
    # Here and not above: boto3 takes a moment to load, and a directory has no use for it.
    from s3reg.store.s3 import S3Store  # noqa: PLC0415

    return S3Store(
        bucket,
        prefix=prefix.strip("/"),
        endpoint=settings.s3_endpoint,
        signing_endpoint=settings.s3_signing_endpoint,
        path_style=settings.s3_path_style,
        ca_bundle=settings.s3_ca_bundle,
        verify=not settings.s3_insecure,
        connections=settings.threads + _SPARE_CONNECTIONS,
    )
