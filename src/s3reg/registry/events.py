"""What machines report, kept as objects for people to read. Worth less than a prompt answer: nobody waits for the store."""

from __future__ import annotations

import queue
import secrets
import threading
from logging import WARNING
from typing import TYPE_CHECKING, Any

from s3reg.model import format as fmt
from s3reg.model.template import Event
from s3reg.registry import setup
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from s3reg.model.identity import Identity
    from s3reg.registry.records import Records

WAITING = 64
"""Events that may wait for the store; the API bounds each."""


class Events:
    """Writes events one after the other in a thread of its own. What finds the queue full is dropped, and that is logged."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._waiting: queue.Queue[Event] = queue.Queue(WAITING)
        self._lock = threading.Lock()
        self._writer: threading.Thread | None = None

    def keep(self, asker: Identity, said: dict[str, Any]) -> None:
        """Write it down soon. Never waits, never fails."""
        event = Event(secrets.token_hex(16), int(self._records.clock()), asker.name, said)
        try:
            self._waiting.put_nowait(event)
        except queue.Full:
            _dropped(event, "the store does not take them as fast as they come")
        else:
            self._start()

    def _start(self) -> None:
        with self._lock:
            if self._writer is None:
                # A daemon: a store that hangs must not keep the process from ending.
                self._writer = threading.Thread(target=self._write_on, name="events", daemon=True)
                self._writer.start()

    def _write_on(self) -> None:
        while True:
            event = self._waiting.get()
            try:
                setup.prepare(self._records, write=True)
                self._records.store.put(fmt.event_key(event), fmt.write_event(event))
            except Exception as e:  # noqa: BLE001 - whatever it is, it must not be the end of all later events
                _dropped(event, repr(e))


def _dropped(event: Event, reason: str) -> None:
    emit("event-dropped", level=WARNING, by=event.by, reason=reason)
