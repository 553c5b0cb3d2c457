"""What each route asks of whoever calls it, written down by hand: beside `api/needs.py`, never from it.

Each has a call that succeeds if it is permitted. `needs` are the group permissions; `action` is what must be permitted of
the template `house.OPEN` besides; `hidden` is the answer where that template does not exist for the asker.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import tap
from access.house import OPEN, House
from access_kit import public_der
from s3reg.model.template import bytes_digest

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Call:
    """A request, but for its method and its credential."""

    path: str
    query: dict[str, str] = field(default_factory=dict)
    body: Any = None
    """JSON values, or bytes."""

    def options(self) -> dict[str, Any]:
        """What Flask's test client takes."""
        data = self.body if isinstance(self.body, bytes | None) else json.dumps(self.body).encode()
        return {"path": self.path, "query_string": self.query, "data": data}


@dataclass(frozen=True)
class Route:
    """What a route asks for, and a call of it by the asker of this name."""

    call: Callable[[House, str], Call]
    needs: tuple[str, ...] = ()
    action: str | None = None
    ok: int = 200
    hidden: int = 404
    elsewhere: int | None = None
    """Where it does not exist for an asker who may do everything in another domain; None: as `hidden`."""
    public: bool = False


ID = {"id": OPEN}
CONFIG = b"name: base\nuuid: 11111111-aaaa-4bbb-8ccc-000000000001\n"
OPERATION = "0" * 31 + "1"
PACK = b"a pack, as far as anybody knows"
SHA256 = hashlib.sha256(PACK).hexdigest()
GROUP_RIGHTS = [{"id": OPEN, "id_type": "id", "type": "template", "permissions": ["list", "pull"]}]
COMMIT = {
    "tag": "new",
    "name": "13.1-base",
    "files": [
        {
            "name": f"{OPEN}.yaml",
            "role": "config",
            "size": len(CONFIG),
            "digest": bytes_digest(CONFIG),
            "inline": base64.b64encode(CONFIG).decode(),
        }
    ],
}
NEW_KEY = {"id": "fresh", "ttl": 3600, "groups": []}
PUBLIC = base64.b64encode(public_der(tap.key())).decode()


def plain(path: str, body: Any = None, **query: str) -> Callable[[House, str], Call]:
    """The same call, whoever asks."""
    return lambda _house, _asker: Call(path, query, body)


def of_session(rest: str = "", body: Any = None) -> Callable[[House, str], Call]:
    """A call of an open push session of the asker's own."""
    return lambda house, asker: Call(f"/transfer/v1/sessions/{house.session(asker)}{rest}", body=body)


def shake(house: House, _asker: str) -> Call:
    return Call("/tap/v1/shake", body={"id": "victim", "secret": house.closed.secret("victim")})


def read_link(house: House, _asker: str) -> Call:
    path, _, query = house.link().partition("?")
    return Call(path, dict(pair.split("=") for pair in query.split("&")))


def write_link(house: House, asker: str) -> Call:
    path, _, query = house.upload_link(house.session(asker), PACK).partition("?")
    return Call(path, dict(pair.split("=") for pair in query.split("&")), PACK)


def list_vms(path: str, **query: str) -> Route:
    return Route(plain(path, **query), ("list_vms",), "list", hidden=200)


def describe(path: str) -> Route:
    return Route(plain(path, **ID), ("list_vms",), "list", hidden=400)


def api_keys(path: str) -> dict[str, Route]:
    """Anka's calls for API keys, under one of their two prefixes."""
    return {
        f"GET {path}": Route(plain(path), ("view_permissions",)),
        f"POST {path}": Route(plain(path, {**NEW_KEY, "publicKey": PUBLIC}), ("update_permission_groups",)),
        f"PUT {path}": Route(plain(path, {"id": "victim", "groups": ["victims"]}), ("update_permission_groups",)),
        f"DELETE {path}": Route(plain(path, {"id": "victim"}), ("delete_permission_groups",)),
    }


def permissions(path: str) -> dict[str, Route]:
    """Anka's calls for groups, under one of their two prefixes."""
    resources = f"{path}/group/victims/resources"
    rule = f"{path}/group/<>/resources"
    return {
        f"GET {path}/resources/permissions": Route(plain(f"{path}/resources/permissions"), ("view_permissions",)),
        f"GET {rule}": Route(plain(resources), ("view_prmission_groups",)),
        f"POST {rule}": Route(plain(resources, GROUP_RIGHTS), ("update_permission_groups",)),
    }


AT = "/transfer/v1"
PUSH = ("push_vm",)
PULL = ("pull_vm", "download_vm")

ROUTES: dict[str, Route] = {
    "GET /livez": Route(plain("/livez"), public=True),
    "GET /readyz": Route(plain("/readyz"), public=True),
    "GET /": Route(plain("/"), ("index",)),
    "GET /metrics": list_vms("/metrics"),
    "POST /tap/v1/hand": Route(plain("/tap/v1/hand", {"id": "victim"}), public=True),
    "POST /tap/v1/shake": Route(shake, public=True),
    "GET /objects/<>": Route(read_link, public=True),
    "PUT /objects/<>": Route(write_link, public=True),
    # --- Anka's registry ---
    "GET /registry/status": Route(plain("/registry/status"), ("index",)),
    "GET /registry/vm": list_vms("/registry/vm"),
    "GET /registry/v2/vm": list_vms("/registry/v2/vm"),
    "GET /registry/vm/info": Route(plain("/registry/vm/info", **ID), ("pull_vm",), "get_config", hidden=400),
    "DELETE /registry/vm": Route(plain("/registry/vm", **ID), ("delete_vm",), "delete_revert", hidden=400),
    "DELETE /registry/revert": Route(plain("/registry/revert", **ID), ("revert",), "delete_revert", hidden=400),
    "PUT /registry/vm/arch": Route(
        plain("/registry/vm/arch", {**ID, "arch": "arm64"}), ("push_vm",), "set_arch", hidden=400
    ),
    "GET /registry/disk": Route(plain("/registry/disk"), ("get_disk_info",)),
    "POST /log": Route(plain("/log", {"content": "hello"}), ("send_log_event",)),
    # --- Anka's controller ---
    "GET /api/v1/status": Route(plain("/api/v1/status"), ("index",)),
    "GET /api/v1/registry/vm": list_vms("/api/v1/registry/vm"),
    "DELETE /api/v1/registry/vm": Route(
        plain("/api/v1/registry/vm", **ID), ("delete_vm",), "delete_revert", hidden=400
    ),
    "DELETE /api/v1/registry/revert": Route(
        plain("/api/v1/registry/revert", **ID), ("revert",), "delete_revert", hidden=400
    ),
    "GET /api/v1/registry/disk": Route(plain("/api/v1/registry/disk"), ("get_disk_info",)),
    # --- Anka's access control ---
    **api_keys("/v1/apikey"),
    **api_keys("/api/v1/apikey"),
    **permissions("/admin/api/v1/permission"),
    **permissions("/admin/v1/api/permission"),
    # --- native ---
    f"GET {AT}/openapi.json": Route(plain(f"{AT}/openapi.json")),
    f"GET {AT}/whoami": Route(plain(f"{AT}/whoami")),
    f"GET {AT}/templates": list_vms(f"{AT}/templates"),
    f"GET {AT}/template": Route(plain(f"{AT}/template", ref=OPEN), ("list_vms",), "list"),
    f"GET {AT}/plan": Route(plain(f"{AT}/plan", ref=OPEN), PULL, "pull"),
    f"POST {AT}/pulls": Route(
        lambda house, _: Call(f"{AT}/pulls", body={"template": OPEN, "version": house.newest}), ("download_vm",), "pull"
    ),
    f"POST {AT}/sessions": Route(
        plain(f"{AT}/sessions", {"template": OPEN, "name": "13.1-base", "tag": "new"}),
        ("head_push_vm", "push_vm"),
        "push_tag",
        ok=201,
        hidden=403,
        elsewhere=409,
    ),
    f"GET {AT}/sessions": Route(plain(f"{AT}/sessions"), PUSH),
    f"POST {AT}/sessions/abort": Route(
        lambda house, asker: Call(f"{AT}/sessions/abort", body={"session": house.session(asker)}), PUSH
    ),
    f"GET {AT}/sessions/<>": Route(of_session(), PUSH),
    f"POST {AT}/sessions/<>/bases": Route(
        lambda house, asker: of_session("/bases", {"bases": [{"template": OPEN, "version": house.newest}]})(
            house, asker
        ),
        PUSH,
        "push_tag",
        hidden=403,
    ),
    f"POST {AT}/sessions/<>/uploads": Route(
        of_session("/uploads", {"objects": [{"kind": "pack", "sha256": SHA256, "size": len(PACK)}]}),
        PUSH,
        "push_tag",
        hidden=403,
    ),
    f"POST {AT}/sessions/<>/commit": Route(of_session("/commit", COMMIT), PUSH, "push_tag", hidden=403),
    f"DELETE {AT}/sessions/<>": Route(of_session(), PUSH),
    f"POST {AT}/revert": Route(
        plain(f"{AT}/revert", {"operation": OPERATION, "template": OPEN}), ("revert",), "delete_revert"
    ),
    f"POST {AT}/untag": Route(
        plain(f"{AT}/untag", {"operation": OPERATION, "template": OPEN, "tag": "a"}), ("revert",), "delete_revert"
    ),
    f"POST {AT}/retag": Route(
        plain(f"{AT}/retag", {"operation": OPERATION, "template": OPEN, "tag": "a", "new": "z"}), PUSH, "push_tag"
    ),
    f"GET {AT}/trash": Route(plain(f"{AT}/trash", ref=OPEN), ("revert",), "delete_revert"),
    f"POST {AT}/trash/restore": Route(
        lambda house, _: Call(
            f"{AT}/trash/restore", body={"operation": OPERATION, "template": OPEN, "versions": [house.removed]}
        ),
        PUSH,
        "push_tag",
    ),
    f"POST {AT}/trash/purge": Route(
        plain(f"{AT}/trash/purge", {"operation": OPERATION, "template": OPEN}), ("revert",), "delete_revert"
    ),
    f"POST {AT}/rename": Route(
        plain(f"{AT}/rename", {"operation": OPERATION, "template": OPEN, "name": "14-base"}), PUSH, "push_tag"
    ),
    f"GET {AT}/usage": Route(plain(f"{AT}/usage", ref=OPEN), ("list_vms",), "list"),
    f"POST {AT}/usage/frees": Route(plain(f"{AT}/usage/frees", {"versions": []}), ("list_vms",)),
    f"GET {AT}/uses": Route(plain(f"{AT}/uses", ref=OPEN), ("list_vms",), "list"),
    f"GET {AT}/keys": Route(plain(f"{AT}/keys"), ("view_permissions",)),
    f"POST {AT}/keys": Route(
        plain(f"{AT}/keys", {**NEW_KEY, "public_key": PUBLIC}), ("update_permission_groups",), ok=201
    ),
    f"POST {AT}/keys/change": Route(
        plain(f"{AT}/keys/change", {"id": "victim", "groups": ["victims"]}), ("update_permission_groups",)
    ),
    f"POST {AT}/keys/revoke": Route(plain(f"{AT}/keys/revoke", {"id": "victim"}), ("delete_permission_groups",)),
    f"GET {AT}/groups": Route(plain(f"{AT}/groups"), ("view_prmission_groups",)),
    f"POST {AT}/groups": Route(
        plain(f"{AT}/groups", {"name": "fresh", "permissions": [], "templates": [], "domains": [], "gen": None}),
        ("update_permission_groups",),
    ),
    f"POST {AT}/groups/delete": Route(plain(f"{AT}/groups/delete", {"name": "victims"}), ("delete_permission_groups",)),
    f"GET {AT}/access": Route(plain(f"{AT}/access", key="victim", ref=OPEN), ("view_prmission_groups",), "list"),
    f"GET {AT}/events": Route(plain(f"{AT}/events"), ("get_log_archive",)),
}

BY_PARAMETER: dict[str, tuple[str, Route]] = {
    "one template by v1's list": ("GET", describe("/registry/vm")),
    "one template by v2's list": ("GET", describe("/registry/v2/vm")),
    "one template by the controller's list": ("GET", describe("/api/v1/registry/vm")),
    "a configuration by the controller's list": (
        "GET",
        Route(plain("/api/v1/registry/vm", info="", **ID), ("pull_vm",), "get_config", hidden=400),
    ),
    "everything of a template": (
        "POST",
        Route(
            plain(f"{AT}/revert", {"operation": OPERATION, "template": OPEN, "everything": True}),
            ("delete_vm",),
            "delete_revert",
        ),
    ),
    "one key": ("GET", Route(plain("/v1/apikey", id="victim"), ("view_permissions",))),
}
"""Calls of routes above that parameters make something else of: what they are, their method, what they ask for."""
