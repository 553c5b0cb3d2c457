"""`pull --failback`: a node whose registry is down goes on with what it has."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from s3reg.cli import output, repos
from s3reg.client import localtags
from s3reg.errors import Kind, S3regError

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3reg.cli.options import Asked
    from s3reg.cli.output import Answer
    from s3reg.client.library import Library, LocalVm


def failing_back(
    pulling: Callable[[], Answer], asked: Asked, library: Library, vm: str, tag: str | None
) -> Answer | LocalVm:
    """What `pulling` gives or, if the registry or its store is down, the local copy; without one, the error.

    The copy has to be whole, and the version of the tag or, without one, the one that is checked out.
    """
    try:
        # A node with a copy need not wait out all the tries of a pull.
        repos.check(asked.chosen().access)
    except S3regError as e:
        found = _instead(e, library, vm, tag)
        if found is not None:
            return found
    try:
        return pulling()
    except S3regError as e:
        found = _instead(e, library, vm, tag)
        if found is None:
            raise
        return found


def _instead(error: S3regError, library: Library, vm: str, tag: str | None) -> LocalVm | None:
    if error.kind is not Kind.UNAVAILABLE:
        return None
    try:
        found = localtags.check_out(library, vm, tag)
    except S3regError:
        return None
    sys.stderr.write(output.plain(f"s3reg: {error}; {found.name} is used as it is in this library") + "\n")
    return found
