"""What a VM's configuration says of its machine, for VMs in a registry and in a library alike.

Configurations come from strangers and from several generations of Anka: what is not there, or is not what it should be, is
left out. So are the passwords of screens, always.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ARCHES = {"amd64": 1, "arm64": 2}
"""As numbers, which is how Anka tells them to programs."""
_RULES = "port_forwarding_rules"
_SIZE = re.compile(r"([0-9]{1,15})\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)


def cores(config: dict[str, Any]) -> int | None:
    """How many cores the VM has."""
    found = mapping(config.get("cpu")).get("cores")
    return found if isinstance(found, int) else None


def ram(config: dict[str, Any]) -> str:
    """How much memory the VM has, as it is spelled; empty if that is not said."""
    return str(config.get("ram") or "")


def ram_bytes(config: dict[str, Any]) -> int | None:
    """`ram` in bytes; None if it is spelled in a way that we do not know."""
    fits = _SIZE.fullmatch(ram(config).strip())
    return int(fits[1]) << 10 * " KMGT".index(fits[2].upper() or " ") if fits else None


def displays(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The screens: one, or several where the configuration has a list of them."""
    display = mapping(config.get("display"))
    frames = [mapping(display.get("frame_buffer")), *rows(display, "frame_buffers")]
    return [{key: frame[key] for key in frame if "password" not in key.lower()} for frame in frames if frame]


def networks(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The network cards, without their port forwarding."""
    return [{key: card[key] for key in card if key != _RULES} for card in rows(config, "network_cards")]


def ports(config: dict[str, Any]) -> list[dict[str, Any]]:
    """The port forwarding of all network cards."""
    return [rule for card in rows(config, "network_cards") for rule in rows(card, _RULES)]


def labels(config: dict[str, Any]) -> dict[str, Any]:
    """The labels, by name."""
    return mapping(config.get("labels"))


def rest_state(config: dict[str, Any]) -> str:
    """What a VM that does not run is: `suspended` or `stopped`."""
    return "suspended" if config.get("state_file") else "stopped"


def mapping(value: object) -> dict[str, Any]:
    """`value` if it is a mapping, its keys as text; else an empty one."""
    return {str(key): inner for key, inner in value.items()} if isinstance(value, dict) else {}


def rows(values: dict[str, Any], key: str) -> Iterator[dict[str, Any]]:
    """The mappings of a list; what else the list holds is an empty one, so that places keep their numbers."""
    found = values.get(key)
    yield from map(mapping, found if isinstance(found, list) else [])
