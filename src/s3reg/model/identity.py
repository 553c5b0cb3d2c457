"""Who is asking, and what it may do. Every verb of the registry takes an Identity; without access control it is EVERYONE."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from s3reg.model.names import Domain, TemplateId


class Action(enum.Enum):
    """What somebody wants to do with a template: Anka's names of a resource's permissions."""

    LIST = "list"
    READ_CONFIG = "get_config"
    PULL = "pull"
    PUSH = "push_tag"
    DELETE_REVERT = "delete_revert"
    SET_ARCH = "set_arch"
    SAVE_IMAGE = "save_image"
    """Anka's controller asks for it; no verb of ours does."""


NONE: frozenset[Action] = frozenset()


@dataclass(frozen=True, slots=True)
class Rights:
    """What an asker's groups give it, together."""

    permissions: frozenset[str] = frozenset()
    """Of a group: what may be called at all."""
    all_templates: bool = False
    """Every action, with every template and in every domain."""
    templates: Mapping[TemplateId, frozenset[Action]] = field(default_factory=dict)
    domains: Mapping[Domain, frozenset[Action]] = field(default_factory=dict)
    """For all templates of a domain."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A person or a machine, by name: `root`, `key:<id>`, `cert:<CN>`, `everyone`."""

    name: str
    groups: tuple[str, ...] = ()
    rights: Rights | None = None
    """None: it may do everything."""

    def may(self, action: Action, template: TemplateId, domain: Domain | None) -> bool:
        """Whether it may do `action` with the template; `domain` is None where it cannot be known."""
        rights = self.rights
        if rights is None or rights.all_templates or action in rights.templates.get(template, NONE):
            return True
        return domain is not None and action in rights.domains.get(domain, NONE)

    def lacks(self, permissions: Iterable[str]) -> str | None:
        """The first of a call's permissions that its groups do not give."""
        if self.rights is None:
            return None
        return next((name for name in permissions if name not in self.rights.permissions), None)

    def domains(self) -> frozenset[Domain] | None:
        """The domains in which it may make a template; None: in every one."""
        if self.rights is None or self.rights.all_templates:
            return None
        return frozenset(domain for domain, actions in self.rights.domains.items() if Action.PUSH in actions)


EVERYONE = Identity("everyone")
ROOT = Identity("root")
