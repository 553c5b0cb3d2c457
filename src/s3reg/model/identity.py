"""Who is asking. Every verb of the registry takes an Identity; without access control it is EVERYONE."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from s3reg.model.names import TemplateId


class Action(enum.Enum):
    """What somebody wants to do with a template."""

    LIST = "list"
    READ_CONFIG = "get_config"
    PULL = "pull"
    PUSH = "push_tag"
    DELETE_REVERT = "delete_revert"
    SET_ARCH = "set_arch"


@dataclass(frozen=True, slots=True)
class Identity:
    """A person or a machine, by name."""

    name: str

    def may(self, action: Action, template: TemplateId) -> bool:  # noqa: ARG002
        """Whether this identity may do `action` with `template`. Without access control, everyone may do everything."""
        return True


EVERYONE = Identity("everyone")
