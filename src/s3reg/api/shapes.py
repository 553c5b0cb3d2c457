"""Templates and versions in the shapes that the clients of an Anka registry and of its controller read.

Where its versions differ a shape holds what any of them has, so that old and new clients find their fields. Sizes and
times are always whole numbers: an exporter reads them as unsigned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from s3reg.model.template import Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from s3reg.model.names import VersionId
    from s3reg.model.template import Entry, File, Head, Version
    from s3reg.registry import Described


def listed(head: Head) -> dict[str, Any]:
    """A template in a registry's list."""
    return {"id": head.id, "name": head.name, "size": head.size}


def listed_with_times(head: Head, pulls: Mapping[VersionId, int]) -> dict[str, Any]:
    """A template in a controller's list. `pulls`: when versions were last pulled, in seconds since 1970."""
    return {**listed(head), "arch": head.arch, **_times(head, pulls)}


def template(described: Described) -> dict[str, Any]:
    """A template with its versions."""
    head, pulls = described.head, described.last_pulls
    pairs = zip(head.versions, described.versions, strict=True)
    return {
        "id": head.id,
        "name": head.name,
        "versions": [
            {"number": number, **_version(head.id, entry, version, pulls.get(entry.id, 0))}
            for number, (entry, version) in enumerate(pairs)
        ],
        "size": head.size,
        "arch": head.arch,
        **_times(head, pulls),
    }


def _times(head: Head, pulls: Mapping[VersionId, int]) -> dict[str, int]:
    return {
        "last_pull": max((pulls.get(entry.id, 0) for entry in head.versions), default=0),
        "last_push": max((entry.created for entry in head.versions), default=0),
    }


def _version(template: str, entry: Entry, version: Version | None, last_pull: int) -> dict[str, Any]:
    """One version; of one whose record cannot be read, what the head knows."""
    files = version.files if version else ()
    states = top_first(file for file in files if file.role is Role.STATE)
    return {
        "tag": entry.tag,
        "config_file": f"{template}.yaml",
        "nvram": "nvram",
        "images": top_first(file for file in files if file.role is Role.IMAGE),
        "state_files": states,
        "description": entry.description,
        "state_file": states[0] if states else "",
        "size": entry.size,
        "arch": "",  # a template has one; Anka's own answers leave this empty too
        "last_pull": last_pull,
        "last_push": entry.created,
        "creation_date": entry.created,
    }


def top_first(layers: Iterable[File]) -> list[str]:
    """The layers' names, drive by drive, each chain from its top to its base."""
    files = sorted(layers, key=lambda file: (file.drive is None, file.drive or 0))
    by_name = {file.name: file for file in files}
    parents = {file.parent for file in files}
    # A top is nobody's parent. What no top leads to comes last: it can only be a ring, which no commit lets in.
    order: dict[str, None] = {}
    for start in [*(file for file in files if file.name not in parents), *files]:
        here: File | None = start
        while here and here.name not in order:
            order[here.name] = None
            here = by_name.get(here.parent) if here.parent else None
    return list(order)
