"""What our log holds, for tests: `lines = loglines.taken()`, then `lines("request")`."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from s3reg import telemetry

if TYPE_CHECKING:
    from collections.abc import Callable


def taken(level: str = "debug") -> Callable[..., list[dict[str, Any]]]:
    """From now on, the log's lines as a server writes them in JSON: gives those there are, all or of one event."""
    stream = io.StringIO()
    telemetry.configure(level=level, form="json", stream=stream)

    def read(event: str | None = None) -> list[dict[str, Any]]:
        return [told for told in map(json.loads, stream.getvalue().splitlines()) if event in {None, told["event"]}]

    return read
