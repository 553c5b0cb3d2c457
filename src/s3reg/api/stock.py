"""What the registry holds, for who asks again and again: looked at now and then.

Who asks while a look is under way waits for it a moment, and gets what was seen before it if that was not long enough: a
store that hangs keeps nobody waiting.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s3reg.api.looks import Looks
from s3reg.errors import S3regError
from s3reg.model.identity import EVERYONE
from s3reg.registry import disk
from s3reg.registry.sight import sees
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from s3reg.api.wiring import Wiring
    from s3reg.model.identity import Identity
    from s3reg.model.template import Head
    from s3reg.store import Room

KEPT_SECONDS = 30.0
RETRY_SECONDS = 5.0
"""After a look that failed."""
WAIT_SECONDS = 2.0
"""For a look that is under way."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look found."""

    heads: Sequence[Head]
    room: Room | None
    """None: the store has no end."""
    swept: float | None
    """When the last sweep came to its end, in seconds since 1970; None: none has."""

    def by(self, asker: Identity) -> tuple[Sequence[Head], Room]:
        """What of this the asker may see: templates, and how full the store is, as a list and `/registry/disk` tell it."""
        everything = asker.domains() is None
        heads = self.heads if everything else [head for head in self.heads if sees(asker, head)]
        return heads, self.room if everything and self.room else disk.boundless(heads)


class Stock:
    """Keeps what `look` gives. Safe between threads."""

    def __init__(
        self,
        look: Callable[[], Seen],
        *,
        clock: Callable[[], float] = time.monotonic,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self._look = look
        self._wait_seconds = wait_seconds
        self._looks = Looks(self._seen, lambda seen: RETRY_SECONDS if seen is None else KEPT_SECONDS, clock)

    def seen(self) -> Seen | None:
        """What there is; None: the last look failed, or none has ended yet."""
        under_way = self._looks.begun()
        if under_way is not None:
            under_way.done.wait(self._wait_seconds)
        return self._looks.last

    def _seen(self) -> Seen | None:
        try:
            return self._look()
        except S3regError as e:
            emit("stock-unseen", level=logging.WARNING, code=e.code, reason=str(e))
        except Exception as e:  # noqa: BLE001 - whatever it is, the next look may succeed
            emit("stock-unseen", level=logging.ERROR, trouble=e)
        return None


def stock_of(held: Wiring) -> Stock:
    """The stock of the registry there."""

    def look() -> Seen:
        registry = held.registry()
        return Seen(registry.templates(EVERYONE), held.observed.room(), registry.last_sweep())

    return Stock(look)
