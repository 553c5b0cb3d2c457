"""Anka's `/admin/…/permission/…`: what its administrators say of groups, in both spellings of its documents."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response

from s3reg.api import audit, grants, render
from s3reg.api.operations import body, wrong
from s3reg.api.wiring import gate
from s3reg.errors import GroupChanged, GroupNotFound
from s3reg.model import names
from s3reg.model.access import RESOURCE_PERMISSIONS, Group

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3reg.model.identity import Action
    from s3reg.model.names import TemplateId

blueprint = Blueprint("permissions", __name__)

TRIES = 10
"""Of a change that others' changes of the same group come before."""
_PERMISSION = "/permission/resources/permissions"
_GROUP = "/permission/group/<path:group>/resources"


@blueprint.get("/admin/api/v1" + _PERMISSION)
@blueprint.get("/admin/v1/api" + _PERMISSION)
def show_permissions() -> Response:
    """What may be permitted of a resource. Of resources, a registry has templates."""
    told = {
        action.value: {"label": label, "description": about} for action, (label, about) in RESOURCE_PERMISSIONS.items()
    }
    return render.anka_later([{"resource_type": "template", "permissions": told}])


@blueprint.get("/admin/api/v1" + _GROUP)
@blueprint.get("/admin/v1/api" + _GROUP)
def show_resources(group: str) -> Response:
    """The templates that a group names. One that has all of them, as it has until somebody names some, names none."""
    templates = gate().groups.find(names.group_name(group)).templates or {}
    return render.anka_later(
        [
            {"id": template, "id_type": "id", "type": "template", "permissions": grants.named(templates[template])}
            for template in sorted(templates)
        ]
    )


@blueprint.post("/admin/api/v1" + _GROUP)
@blueprint.post("/admin/v1/api" + _GROUP)
def save_resources(group: str) -> Response:
    """Let a group's templates be these, instead of those that it had; the group is made if there is none."""
    name = names.group_name(group)
    audit.about(group=name)
    templates = _templates(body(once=True))
    audit.about(templates=grants.told_templates(templates))
    _write(name, templates)
    return render.saved()


def _write(name: str, templates: Mapping[TemplateId, frozenset[Action]]) -> None:
    """What else the group has stays, whoever changes that at the same time."""
    groups = gate().groups
    for left in reversed(range(TRIES)):
        try:
            found = groups.find(name)
        except GroupNotFound:
            found = Group(name)
        try:
            groups.write(replace(found, templates=templates), gen=found.gen)
        except GroupChanged:
            if not left:
                raise
        else:
            return


def _templates(said: object) -> dict[TemplateId, frozenset[Action]]:
    if not isinstance(said, list):
        raise wrong("body", "not an array of resources")
    return grants.by_name(map(_resource, said))


def _resource(row: Any) -> tuple[TemplateId, list[object]]:
    if not isinstance(row, dict):
        raise wrong("body", "one of the resources is not an object")
    for name, only in (("type", "template"), ("id_type", "id")):
        if row.get(name, only) != only:
            raise wrong(name, f"not {only!r}, and there is nothing else")
    permissions = row.get("permissions")
    if not isinstance(permissions, list):
        raise wrong("permissions", "not an array")
    return names.template_id(row.get("id")), permissions
