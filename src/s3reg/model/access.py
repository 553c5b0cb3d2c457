"""What access control keeps: API keys, groups, and the names of what a group permits.

The names are Anka's, a misspelt one included, because scripts send them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from s3reg.model.identity import Action

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3reg.model.names import Domain, TemplateId

PERMISSIONS: dict[str, str] = {
    "index": "See that the registry runs",
    "get_disk_info": "See how full it is",
    "list_vms": "List and describe templates",
    "head_push_vm": "Begin a push",
    "push_vm": "Push, rename, retag, restore, set the architecture",
    "pull_vm": "Plan a pull, read configurations",
    "download_vm": "Pull",
    "delete_vm": "Delete templates",
    "revert": "Remove versions, see and purge the trash",
    "upload_file": "Upload to the file server",
    "download_file": "Download from the file server",
    "get_streamer": "Find the log stream",
    "stream_log": "Stream logs",
    "get_log_archive": "Read the events",
    "send_log_event": "Report events",
    "send_log": "Send logs",
    "view_permissions": "List API keys and permissions",
    "view_prmission_groups": "List groups; explain what somebody may do",
    "update_permission_groups": "Make and change groups and API keys",
    "delete_permission_groups": "Delete groups, revoke API keys",
}
"""What a group may permit, and what that is. Those of Anka's file and log server open nothing here; scripts set them."""
RESOURCE_PERMISSIONS: dict[Action, tuple[str, str]] = {
    Action.LIST: ("List", "See that the template exists"),
    Action.READ_CONFIG: ("Get config", "Read the configuration of its VMs"),
    Action.PULL: ("Pull", "Pull its versions, and build on them"),
    Action.PUSH: ("Push tag", "Push versions of it, rename it"),
    Action.DELETE_REVERT: ("Delete and revert", "Remove its versions, or the template"),
    Action.SET_ARCH: ("Set arch", "Say which architecture it is for"),
    Action.SAVE_IMAGE: ("Save image", "Save an instance as a version, where a controller does that"),
}
"""What may be permitted of a template: label and meaning."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key, without its private half."""

    id: str
    serial: str
    """32 hex digits, random: a key made again under the same id is another one."""
    public_key: bytes = field(repr=False)
    """SubjectPublicKeyInfo, DER."""
    groups: tuple[str, ...]
    created: float
    """Seconds since 1970, to the microsecond."""
    expires: float | None
    """Seconds since 1970; None: never."""
    gen: int = 0
    """Grows with every change."""
    deleted: bool = False
    damaged: str | None = None
    """What is wrong with a record that could not be read: its id may be where it lies, and all else says nothing."""
    unknown: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Fields of a later release, kept."""

    def ended(self, now: float) -> bool:
        """Whether it opens nothing any more."""
        return self.deleted or (self.expires is not None and now >= self.expires)


@dataclass(frozen=True, slots=True)
class Group:
    """What a group gives its members."""

    name: str
    permissions: frozenset[str] = frozenset()
    templates: Mapping[TemplateId, frozenset[Action]] | None = None
    """None: every action with every template."""
    domains: Mapping[Domain, frozenset[Action]] = field(default_factory=dict)
    gen: int = 0
    """Grows with every change; 0: it was never written."""
    deleted: bool = False
    damaged: str | None = None
    """What is wrong with a record that could not be read: its name may be where it lies, and it gives nothing."""
    unknown: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Fields of a later release, kept."""
