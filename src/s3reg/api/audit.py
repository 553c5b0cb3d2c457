"""Who asked for what, from where, and how it ended: one line in the log and an event for each.

Written of every change, every pull's plan and every refusal; of a login that succeeds, the line alone, because some clients
log in for each of their requests. Views say with `about` what a request is about: names and ids, never a body.

An address that is refused again and again is told of a few times a minute; the rest of that minute is a number.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flask import current_app, g, request

from s3reg.api import guard
from s3reg.api.wiring import wiring
from s3reg.errors import S3regError
from s3reg.telemetry import emit, redact

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask, Response

PLANS = {"transfer.plan_pull"}
"""Endpoints that only read, and whose calls are told of."""
LOGINS = {"tap.shake"}
"""Endpoints of which a success is no event."""
UNTOLD = {
    "anka.log",
    "transfer.sign_uploads",
    "transfer.add_bases",
    "transfer.report_pull",
    "tap.hand",
    "objects.create",
    "objects.read",
}
"""Those that change nothing that the change before or after them does not tell; a link of objects brings its own proof."""
REFUSALS = {401, 403, 429}
TOO_MANY = 429
TOLD_EACH = 20
"""Refusals of one address, in a minute, that are told one by one."""
MINUTE = 60.0
MOST_ADDRESSES = 1000
"""That are told apart; of more than these, the refusals are counted as those of `others`."""
OTHERS = "others"
LONGEST = 255
"""Characters of a value."""
FACTS = ("ref", "template", "name", "tag", "number", "session", "sid", "version", "id", "groups")
"""What of a message is told."""


def about(**facts: object) -> None:
    """Say what the request at hand is about: `template`, `name`, `tag`, `session`, `key`, `group`, and the like.

    None says nothing. What is said later of the same thing counts: an id, once a name was looked up.
    """
    told: dict[str, object] = g.setdefault("about", {})
    told |= {name: value for name, value in facts.items() if value is not None}


def about_message(message: object) -> None:
    """Say what a message of the native API is about, whatever of it names something."""
    about(**{name: getattr(message, name, None) for name in FACTS})


def install(app: Flask, clock: Callable[[], float] = time.monotonic) -> None:
    """Tell of every request of `app` that is to be told of."""
    app.extensions["s3reg-refusals"] = Refusals(clock)
    app.after_request(_tell)


def _tell(answer: Response) -> Response:
    try:
        refusals: Refusals = current_app.extensions["s3reg-refusals"]
        for address, count in refusals.counted():
            _note("nobody", {"address": address, "deed": "refused", "more": count}, event=True)
        if _is_told(answer.status_code, refusals):
            _note(_who(), _facts(answer), event=not (_endpoint() in LOGINS and answer.status_code not in REFUSALS))
    except Exception as e:  # noqa: BLE001 - whatever it is, the answer is right
        emit("audit-failed", level=logging.ERROR, trouble=e, request=g.get("request"))
    return answer


def _is_told(status: int, refusals: Refusals) -> bool:
    endpoint = _endpoint()
    if status in REFUSALS:
        return not endpoint.startswith("objects.") and refusals.is_told(_address(), counted=status == TOO_MANY)
    if endpoint in UNTOLD:
        return False
    return endpoint in PLANS or (bool(endpoint) and request.method not in {"GET", "HEAD", "OPTIONS"})


def _note(by: str, facts: dict[str, Any], *, event: bool) -> None:
    """The line, and the event; where there is no room for that, the line says so."""
    if event and not wiring().note(by, facts):
        facts = {**facts, "kept": False}
    emit("audit", by=by, **facts)


def _facts(answer: Response) -> dict[str, Any]:
    said = {name: _told(value) for name, value in g.get("about", {}).items()}
    known = {
        "address": _address(),
        "method": request.method,
        "deed": _endpoint().rpartition(".")[2],
        **said,
        "status": answer.status_code,
        "code": g.get("code"),
        "request": g.get("request"),
    }
    return {name: value for name, value in known.items() if value is not None}


def _told(value: object) -> str | int:
    """A value as it is told: an event's are neither lists nor objects."""
    if isinstance(value, int):
        return value
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return redact(text[:LONGEST])


def _endpoint() -> str:
    return request.endpoint or ""


def _who() -> str:
    try:
        return guard.asker().name
    except S3regError:
        return "nobody"


def _address() -> str:
    return request.remote_addr or ""


@dataclass(slots=True)
class _Minute:
    """The refusals of an address since a moment."""

    began: float
    told: int = 0
    counted: int = 0


@dataclass(slots=True)
class Refusals:
    """Which refusals are told one by one, and how many are not. Safe between threads."""

    clock: Callable[[], float]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _minutes: OrderedDict[str, _Minute] = field(default_factory=OrderedDict)
    """By address, in the order in which they began."""

    def is_told(self, address: str, *, counted: bool = False) -> bool:
        """Whether one more refusal of `address` is told; else it is counted, as it is if that is wanted."""
        with self._lock:
            if address not in self._minutes and len(self._minutes) >= MOST_ADDRESSES:
                address = OTHERS
            minute = self._minutes.setdefault(address, _Minute(self.clock()))
            if counted or minute.told == TOLD_EACH:
                minute.counted += 1
                return False
            minute.told += 1
            return True

    def counted(self, *, everything: bool = False) -> list[tuple[str, int]]:
        """Each address, and how many of its refusals were only counted, once its minute is over; or `everything` so far."""
        found = []
        over = self.clock() - MINUTE
        with self._lock:
            while self._minutes:
                address, minute = next(iter(self._minutes.items()))
                if minute.began > over and not everything:
                    break
                del self._minutes[address]
                if minute.counted:
                    found.append((address, minute.counted))
        return found
