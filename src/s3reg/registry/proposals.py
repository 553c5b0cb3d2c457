"""What a commit claims, looked at by itself: names, roles, parents, inline bytes, the configuration. No store is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from s3reg.errors import CommitInvalid, ParentUnknown
from s3reg.model import config, names
from s3reg.model.bounded import LARGEST_SIZE
from s3reg.model.template import (
    CONFIG_BYTES,
    INLINE_BYTES,
    INLINE_BYTES_IN_ALL,
    MOST_FILES,
    Role,
    bytes_digest,
    check_file_names,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from s3reg.model.template import File
    from s3reg.registry.values import Proposal, ProposedFile

LAYERS = frozenset({Role.IMAGE, Role.STATE})
MOST_DRIVES = 1024


def checked(proposal: Proposal) -> tuple[Proposal, dict[str, Any]]:
    """The proposal with its names in canonical spelling, and its configuration as JSON values.

    Raises NameInvalid, ParentUnknown, ConfigInvalid, CommitInvalid.
    """
    if len(proposal.files) > MOST_FILES:
        raise CommitInvalid(reason=f"it has {len(proposal.files)} files, more than {MOST_FILES}")
    for file in proposal.files:
        _check_file(file)
    _check_inline(proposal.files)
    configuration = check_layout(proposal.files)
    values = config.parse(configuration.name, configuration.inline or b"")
    canonical = replace(
        proposal,
        tag=names.tag(proposal.tag),
        name=names.template_name(proposal.name),
        description=names.description(proposal.description),
        arch=names.arch(proposal.arch),
    )
    return canonical, values


def check_layout(files: Sequence[ProposedFile | File]) -> ProposedFile | File:
    """The configuration of files that make a VM: names that can lie side by side, layers that stand on each other.

    Raises NameInvalid, ParentUnknown, CommitInvalid.
    """
    check_file_names((file.name, file.role) for file in files)
    _check_parents({file.name: file for file in files if file.role in LAYERS})
    configs = [file for file in files if file.role is Role.CONFIG]
    if len(configs) != 1 or configs[0].inline is None:
        raise CommitInvalid(reason="a version has exactly one configuration, and it lies inline")
    return configs[0]


def _check_file(file: ProposedFile) -> None:
    names.digest(file.digest)
    for wrong, reason in (
        ((file.inline is None) == (file.map is None), "has both its bytes and a map, or neither"),
        (file.size < 0, "has a size below zero"),
        (file.parent is not None and file.role not in LAYERS, "is no layer and has a parent"),
        (file.drive is not None and file.role is not Role.IMAGE, "is no image and has a drive"),
        (file.drive is not None and not 0 <= file.drive < MOST_DRIVES, "is of a drive that no VM has"),
    ):
        if wrong:
            raise CommitInvalid(reason=f"file {file.name!r} {reason}")
    if file.map is not None:
        names.session_id(file.map.sid)
        names.digest(file.map.sha256)


def _check_inline(files: tuple[ProposedFile, ...]) -> None:
    in_all = 0
    for file in files:
        if file.inline is None:
            continue
        most = CONFIG_BYTES if file.role is Role.CONFIG else INLINE_BYTES
        in_all += len(file.inline)
        if len(file.inline) > most or in_all > INLINE_BYTES_IN_ALL:
            raise CommitInvalid(reason=f"file {file.name!r} is too large to lie inline")
        if len(file.inline) != file.size or bytes_digest(file.inline) != file.digest:
            raise CommitInvalid(reason=f"the inline bytes of {file.name!r} are not the ones that it claims")
    if sum(file.size for file in files) > LARGEST_SIZE:
        raise CommitInvalid(reason="its files are larger than anything can be")


def _check_parents(layers: dict[str, ProposedFile | File]) -> None:
    """Raise unless every layer stands on others of the version, down to one that has no parent."""
    grounded: set[str] = set()
    for name in layers:
        chain: dict[str, None] = {}
        below: str | None = name
        while below is not None and below not in grounded:
            if below in chain:
                raise CommitInvalid(reason=f"layer {below!r} stands on itself")
            chain[below] = None
            above, below = below, layers[below].parent
            if below is not None and below not in layers:
                raise ParentUnknown(name=above, parent=below)
        grounded.update(chain)
