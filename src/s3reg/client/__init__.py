"""A node: its library of VMs, and moving them to and from a registry.

As a library: what is listed here, described in docs/library.md. The rest may change with any release.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from s3reg.client.node import (
        Access,
        DownloadSize,
        Estimate,
        FileEstimate,
        FileOutlook,
        Library,
        Node,
        Outlook,
        Progress,
        Pulled,
        PullOptions,
        Pushed,
        PushOptions,
    )

__all__ = [
    "Access",
    "DownloadSize",
    "Estimate",
    "FileEstimate",
    "FileOutlook",
    "Library",
    "Node",
    "Outlook",
    "Progress",
    "PullOptions",
    "Pulled",
    "PushOptions",
    "Pushed",
]


def __getattr__(name: str) -> object:
    """One of these names, when it is asked for: whoever wants a module of this package only waits for no other."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from s3reg.client import node  # noqa: PLC0415

    return getattr(node, name)
