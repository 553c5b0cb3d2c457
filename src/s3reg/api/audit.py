"""Who asked for what, from where, and how it ended: one line in the log and an event for each.

Written of every change, every pull's plan and every refusal; of a login that succeeds, the line alone. Views say with
`about` what a request is about: names and ids, never a body.

An address that is refused again and again is told of a few times a minute; the rest of that minute is a number.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flask import current_app, g, request
from werkzeug.exceptions import HTTPException

from s3reg.api import peer
from s3reg.api.wiring import wiring
from s3reg.errors import S3regError
from s3reg.telemetry import emit, of_request, redact, request_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask, Response

    from s3reg.api.needs import Need
    from s3reg.model.identity import Identity

LOGIN = "login"
"""The deed of which a success is no event: some clients log in for each of their requests."""
REFUSALS = {401, 403, 429}
TOO_MANY = 429
TOLD_EACH = 20
"""Refusals of one address, in a minute, that are told one by one."""
MINUTE = 60.0
MOST_ADDRESSES = 1000
"""That are told apart; of more than these, the refusals are counted as those of `others`."""
OTHERS = "others"
NOBODY = "nobody"
"""Who asked, where that was not found out."""
LONGEST = 255
"""Characters of a value."""
FACTS = ("template", "name", "tag", "number", "arch", "session", "version", "removed")
"""What of a message is told."""
_NOTHING: tuple[object, ...] = (None, "", (), [])


def about(**facts: object) -> None:
    """Say what the request at hand is about: `template`, `name`, `tag`, `session`, `key`, `group`, and the like.

    `by`: who asks, where that is found out by what is asked.

    None says nothing. What is said later of the same thing counts: an id, once a name was looked up.
    """
    told: dict[str, object] = g.setdefault("about", {})
    told |= {name: value for name, value in facts.items() if value not in _NOTHING}


def about_message(message: object) -> None:
    """Say what a message of the native API is about, whatever of it names something."""
    about(**{name: getattr(message, name, None) for name in FACTS})


def install(app: Flask, clock: Callable[[], float] = time.monotonic) -> None:
    """Tell of every request of `app` that is to be told of."""
    app.extensions["s3reg-refusals"] = Refusals(clock)
    app.after_request(_tell)


def finish(app: Flask, seconds: float) -> None:
    """Tell what was only counted, and give the store the events that wait for it; takes at most so long."""
    with app.app_context():
        _tell_counted(everything=True)
        wiring().finish(seconds)


def _tell(answer: Response) -> Response:
    try:
        _tell_counted()
        deed, refused = _deed(), answer.status_code in REFUSALS
        if _is_told_each(answer.status_code) if refused else deed:
            facts = _facts(answer, deed or _endpoint().rpartition(".")[2])
            _note(who(), facts, event=refused or deed != LOGIN)
    except Exception as e:  # noqa: BLE001 - whatever it is, the answer is right
        emit("audit-failed", level=logging.ERROR, trouble=e)
    return answer


def _tell_counted(*, everything: bool = False) -> None:
    with of_request(None):  # it is about others than the one at hand
        for address, count in _refusals().counted(everything=everything):
            _note(NOBODY, {"address": address, "deed": "refused", "more": count}, event=True)


def _is_told_each(status: int) -> bool:
    """Whether a refusal is told by itself; one of a link of the store is not: that is no asker's."""
    return not _endpoint().startswith("objects.") and _refusals().is_told(_address(), counted=status == TOO_MANY)


def _deed() -> str | None:
    """What the request at hand does, if that is written down."""
    need: Need | None = g.get("need")
    if need is None or need.deed is None:
        return None
    with contextlib.suppress(S3regError, HTTPException):  # what the body asks for cannot be read
        return need.asked().deed
    return need.deed


def _refusals() -> Refusals:
    found: Refusals = current_app.extensions["s3reg-refusals"]
    return found


def _note(by: str, facts: dict[str, Any], *, event: bool) -> None:
    """The line, and the event; where there is no room for that, the line says so."""
    if event and not wiring().note(by, facts):
        facts = {**facts, "kept": False}
    emit("audit", by=by, **facts)


def _facts(answer: Response, deed: str) -> dict[str, Any]:
    said = {name: _told(value) for name, value in g.get("about", {}).items() if name != "by"}
    known = {
        "address": _address(),
        "method": request.method,
        "deed": deed,
        **said,
        "status": answer.status_code,
        "code": g.get("code"),
        "reason": None if g.get("reason") is None else _told(g.reason),
        "request": request_id(),
    }
    return {name: value for name, value in known.items() if value is not None}


def _told(value: object) -> str | int:
    """A value as it is told: an event's are neither lists nor objects."""
    if isinstance(value, int):
        return value
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return redact(text if len(text) <= LONGEST else text[: LONGEST - 1] + "…")


def _endpoint() -> str:
    return request.endpoint or ""


def who() -> str:
    """The asker of the request at hand."""
    asker: Identity | None = g.get("asker")
    return asker.name if asker else g.get("about", {}).get("by", NOBODY)


def _address() -> str:
    return peer.address()


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
