"""What the processes of a replica share when it ends: a word that it does, and a door that lets nobody new in."""

from __future__ import annotations

import ctypes
import mmap
import socket
import struct
import sys

_SO_ATTACH_FILTER = 26
_NO_SYN = (
    (0x30, 0, 0, 13),  # load the byte of the TCP header that has the flags
    (0x54, 0, 0, 0x12),  # of which SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # dropped
    (0x06, 0, 0, 0xFFFFFFFF),  # all else is let through
)
"""A classic BPF program: (code, jump if true, jump if false, constant). Linux, Documentation/networking/filter.rst."""


class Flag:
    """Yes or no, in memory that a process shares with those that it forks later; no at first."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)

    def set(self) -> None:
        """From now on it is yes."""
        self._shared[0] = 1

    def __bool__(self) -> bool:
        return bool(self._shared[0])


class Ending:
    """How far the end of a replica has come, for all of its processes."""

    def __init__(self) -> None:
        self.told = Flag()
        """It was told to end: it says so, and goes on."""
        self.over = Flag()
        """It takes no connections any more."""


def turn_away(listener: socket.socket) -> bool:
    """Let no new connection begin at `listener`; those that have begun come in still. Whether the system can (Linux).

    Who begins one hears nothing, tries again a second later, and is refused by then: nothing was sent, so every client and
    balancer may ask elsewhere. Closed at once instead, the listener would reset connections that wait to be taken, with
    requests on them.
    """
    if sys.platform != "linux":
        return False
    rows = ctypes.create_string_buffer(b"".join(struct.pack("@HBBI", *row) for row in _NO_SYN))
    try:
        listener.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(_NO_SYN), ctypes.addressof(rows))
        )
    except OSError:
        return False  # a sandbox may forbid it
    return True
