"""The heads of a store, as fresh as the store: listed at every call, read only where a listing shows another ETag."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from logging import WARNING
from typing import TYPE_CHECKING

from s3reg.errors import FormatUnknown, NameInvalid, RecordDamaged
from s3reg.model import format as fmt
from s3reg.store.together import gather
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from s3reg.model.template import Head
    from s3reg.registry.records import Records
    from s3reg.store import Listing, Stat


class Heads:
    """All heads of one store. Safe between threads.

    Those who ask while a listing is under way wait for the next one and share it: it begins after each of them asked, so
    that it shows whatever was answered before, and a hundred who ask at once cost the store two listings.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._turn = threading.Lock()
        """Whose listing is under way."""
        self._lock = threading.Lock()
        self._next: Future[tuple[Head, ...]] = Future()
        """Of the listing that has not begun yet."""
        self._listing: Listing | None = None
        self._known: dict[str, tuple[str, Head | None]] = {}
        """Key to ETag and head; None for what is no head or cannot be read, so that it is told once."""
        self._sorted: tuple[Head, ...] = ()

    def all(self) -> tuple[Head, ...]:
        """Every head as far as it can be read, deleted ones too, by name, then id; what is damaged is logged."""
        with self._lock:
            mine = self._next
        with self._turn:
            if not mine.done():
                with self._lock:
                    self._next = Future()
                try:
                    mine.set_result(self._now())
                except BaseException as e:  # noqa: BLE001 - raised below, to all who share it
                    mine.set_exception(e)
        return mine.result()

    def _now(self) -> tuple[Head, ...]:
        listing = self._records.store.relist(fmt.HEADS, self._listing)
        if self._listing is None or listing.stats is not self._listing.stats:
            fresh: dict[str, tuple[str, Head | None]] = {}
            missing: list[Stat] = []
            for stat in listing.stats:
                known = self._known.get(stat.key)
                if known is not None and known[0] == stat.etag:
                    fresh[stat.key] = known
                else:
                    missing.append(stat)
            for stat, found in zip(missing, gather(self._read, missing), strict=True):
                fresh[stat.key] = found
            heads = (head for _, head in fresh.values() if head is not None)
            self._known, self._sorted = fresh, tuple(sorted(heads, key=lambda head: (head.name, head.id)))
        self._listing = listing
        return self._sorted

    def _read(self, stat: Stat) -> tuple[str, Head | None]:
        try:
            template = fmt.template_of_head_key(stat.key)
        except NameInvalid:
            emit("foreign-key", level=WARNING, key=stat.key)
            return stat.etag, None
        found = self._records.read(stat.key)
        if found is None:
            # No verb of ours deletes a head; whoever did, meant it.
            emit("head-vanished", level=WARNING, key=stat.key)
            return stat.etag, None
        try:
            return found.stat.etag, fmt.read_head(found.data, template)
        except (RecordDamaged, FormatUnknown) as e:
            emit("head-unreadable", level=WARNING, template=template, reason=str(e))
            return found.stat.etag, fmt.read_damaged_head(found.data, template, str(e.detail.get("reason", e)))
