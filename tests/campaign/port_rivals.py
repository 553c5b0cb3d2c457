"""Who acts on a store while a call of somebody else is slow."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from registry.material import heads
from s3reg.model.identity import EVERYONE
from s3reg.registry import Limits, Registry

if TYPE_CHECKING:
    from s3reg.store import ObjectStore


def touch(store: ObjectStore) -> None:
    """A generation more for every template."""
    for head in heads(store):
        if not head.deleted:
            arch = "amd64" if head.arch == "arm64" else "arm64"
            Registry(store).set_arch(EVERYONE, head.id, arch=arch, operation=secrets.token_hex(16))


SWEEP, GIVES_UP, TOUCH = "a sweep", "a sweep that gives pushes up", "a change of each template"
RIVALS = {
    SWEEP: lambda store: Registry(store).sweep(),
    GIVES_UP: lambda store: Registry(store, limits=Limits(idle_seconds=-1)).sweep(),
    TOUCH: touch,
}
