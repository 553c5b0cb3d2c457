"""What each route needs of whoever asks: one row for each endpoint. One that has none is refused.

Permissions are those of a group, by Anka's names; what they let do with which template is the registry's to decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flask import request

from s3reg import wire
from s3reg.api.operations import body

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Need:
    """What a route needs."""

    permissions: tuple[str, ...] = ()
    """All of them; none: any credential will do."""
    deed: str | None = None
    """What is done, in the audit's words; None: nothing that it writes down."""
    public: bool = False
    """Nobody is asked who they are."""
    where: Callable[[], bool] | None = None
    """Where the request says this, it needs `instead`."""
    instead: Need | None = None

    def asked(self) -> Need:
        """What the request at hand needs. May read its body, so whoever asks must be known."""
        return self.instead if self.instead and self.where and self.where() else self


def _wants_config() -> bool:
    return "info" in request.args


def _wants_everything() -> bool:
    # As the view reads it: to Python alone the word "false" would be true.
    asked: wire.Revert = wire.read(wire.RevertSchema, body())
    return asked.everything


_PUBLIC = Need(public=True)
_ANYONE = Need()
_INDEX = Need(("index",))
_LIST = Need(("list_vms",))
_DISK = Need(("get_disk_info",))
_CONFIG = Need(("pull_vm",))
_PUSH = ("push_vm",)
_DELETE = Need(("delete_vm",), "delete")
_REVERT = Need(("revert",), "revert")
_SEE_KEYS = Need(("view_permissions",))
_SEE_GROUPS = Need(("view_prmission_groups",))
_UPDATE = ("update_permission_groups",)
_REMOVE = ("delete_permission_groups",)

NEEDS: dict[str, Need] = {
    "health.livez": _PUBLIC,
    "health.readyz": _PUBLIC,
    "health.welcome": _INDEX,
    "metrics.show": _LIST,
    "objects.read": _PUBLIC,
    "objects.create": _PUBLIC,
    "tap.hand": _PUBLIC,
    "tap.shake": Need(deed="login", public=True),
    # Anka's registry
    "anka.status": _INDEX,
    "anka.list_v1": _LIST,
    "anka.list_v2": _LIST,
    "anka.info": _CONFIG,
    "anka.delete": _DELETE,
    "anka.revert": _REVERT,
    "anka.set_arch": Need(_PUSH, "set-arch"),
    "anka.disk": _DISK,
    "anka.log": Need(("send_log_event",)),
    "apikeys.show": _SEE_KEYS,
    "apikeys.create": Need(_UPDATE, "create-key"),
    "apikeys.change": Need(_UPDATE, "change-key"),
    "apikeys.delete": Need(_REMOVE, "revoke-key"),
    "permissions.show_permissions": _SEE_KEYS,
    "permissions.show_resources": _SEE_GROUPS,
    "permissions.save_resources": Need(_UPDATE, "write-group"),
    # Anka's controller
    "controller.status": _INDEX,
    "controller.list_templates": Need(("list_vms",), where=_wants_config, instead=_CONFIG),
    "controller.delete": _DELETE,
    "controller.revert": _REVERT,
    "controller.disk": _DISK,
    # native
    "transfer.describe_api": _ANYONE,
    "transfer.list_templates": _LIST,
    "transfer.describe_template": _LIST,
    "transfer.plan_pull": Need(("pull_vm", "download_vm"), "plan"),
    "transfer.report_pull": Need(("download_vm",)),
    "transfer.open_session": Need(("head_push_vm", "push_vm"), "open-push"),
    "transfer.show_session": Need(_PUSH),
    "transfer.add_bases": Need(_PUSH),
    "transfer.sign_uploads": Need(_PUSH),
    "transfer.commit_session": Need(_PUSH, "push"),
    "transfer.abort_session": Need(_PUSH, "abort-push"),
    "transfer.revert_template": Need(("revert",), "revert", where=_wants_everything, instead=_DELETE),
    "transfer.rename_template": Need(_PUSH, "rename"),
    "trash.untag_version": Need(("revert",), "untag"),
    "trash.retag_version": Need(_PUSH, "retag"),
    "trash.list_trash": Need(("revert",)),
    "trash.restore_versions": Need(_PUSH, "restore"),
    "trash.purge_trash": Need(("revert",), "purge"),
    "sessions.list_sessions": Need(_PUSH),
    "sessions.abort_any_session": Need(_PUSH, "abort-push"),
    "usage.show_usage": _LIST,
    "usage.tell_freed": _LIST,
    "usage.list_uses": _LIST,
    "access.who_am_i": _ANYONE,
    "access.list_keys": _SEE_KEYS,
    "access.create_key": Need(_UPDATE, "create-key"),
    "access.change_key": Need(_UPDATE, "change-key"),
    "access.revoke_key": Need(_REMOVE, "revoke-key"),
    "access.list_groups": _SEE_GROUPS,
    "access.write_group": Need(_UPDATE, "write-group"),
    "access.delete_group": Need(_REMOVE, "delete-group"),
    "access.explain_access": _SEE_GROUPS,
    "events.list_events": Need(("get_log_archive",)),
}
"""By Flask's name of the endpoint: the blueprint's, and the view's."""


def told(endpoint: str) -> str:
    """The permissions that an endpoint takes, in words; empty: none."""
    need = NEEDS[endpoint]
    ways = [need, need.instead] if need.instead else [need]
    return ", or ".join(" and ".join(f"`{name}`" for name in way.permissions) for way in ways if way.permissions)
