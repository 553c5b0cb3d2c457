"""VMs for the tests of the node's half: made file by file, and a look at what a library shows."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import yaml

from s3reg.model import names

if TYPE_CHECKING:
    from pathlib import Path

    from s3reg.client.library import Library
    from s3reg.model.names import TemplateId

UUID = names.template_id("6a1f2c3d-0000-4000-8000-000000000001")
OTHER = names.template_id("6a1f2c3d-0000-4000-8000-000000000002")


def make_vm(
    library: Library,
    *,
    template: TemplateId = UUID,
    name: str = "macos",
    images: dict[str, bytes] | None = None,
    config_name: str = "config.yaml",
    **more: object,
) -> Path:
    """A VM's folder; its drives are `images`, in order."""
    library.create()
    folder = library.vm_lib / template
    folder.mkdir()
    images = {"disk.img": b"disk"} if images is None else images
    for file, data in images.items():
        (library.img_lib / file).write_bytes(data)
    config = {"name": name, "uuid": template, "hard_drives": [{"file": file} for file in images], **more}
    (folder / config_name).write_text(yaml.safe_dump(config, sort_keys=False))
    return folder


def version() -> str:
    """A fresh version id."""
    return names.version_id(uuid.uuid4().hex)
