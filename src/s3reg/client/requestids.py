"""What a command's calls are called, so that they can be found in the logs of whoever answers them."""

from __future__ import annotations

import itertools

from s3reg import __version__
from s3reg.wire import requestid


class RequestIds:
    """The ids of one command's calls: the command's own and a running number. Safe to share between threads."""

    def __init__(self) -> None:
        self.command = requestid.fresh()
        """What all of them begin with."""
        self._numbers = itertools.count(1)

    def following(self) -> str:
        """The next call's."""
        return f"{self.command}-{next(self._numbers)}"


def agent(known: str) -> str:
    """The user agent of the call that is called so; a store, to which no other header of ours goes, logs that."""
    return f"s3reg/{__version__} id/{known}"
