"""Bringing what the files of a pull lack: copied from this machine and fetched over the line, at the same time.

The one waits for the disk, the other for the line. What turns out not to be as it was recorded here is fetched afterwards.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from s3reg.client.estimate import reads

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3reg.client.fetch import Fetcher
    from s3reg.client.fill import Filling
    from s3reg.client.scan import Crew


def bring(fillings: list[Filling], fetcher: Fetcher, crew: Crew, advance: Callable[[int], None]) -> None:
    """Fill the files; `advance` is told the bytes that were copied. Whatever fails on one side ends the other."""
    asked = [set(filling.missing) for filling in fillings]
    with ThreadPoolExecutor(1, thread_name_prefix="bring") as beside:
        fetching = beside.submit(fetcher.run, reads((f.file_map, f.missing, f.target) for f in fillings))

        def copied(count: int) -> None:
            advance(count)
            if fetching.done():
                fetching.result()

        try:
            for filling in fillings:
                filling.copy(crew, copied)
            fetching.result()
        except BaseException:
            fetcher.stop()
            raise
    rest = [sorted(set(f.missing) - before) for f, before in zip(fillings, asked, strict=True)]
    fetcher.run(reads((f.file_map, missing, f.target) for f, missing in zip(fillings, rest, strict=True)))
