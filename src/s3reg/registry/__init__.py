"""The registry, for whoever serves or calls it: its verbs in one object (verbs.py), and what they take and give."""

from s3reg.registry.adopt import Adopted
from s3reg.registry.damage import Checked, Damage
from s3reg.registry.events import Wanted
from s3reg.registry.usage import Usage
from s3reg.registry.values import (
    Committed,
    Described,
    Limits,
    Opened,
    Opening,
    Plan,
    Proposal,
    ProposedFile,
    Restored,
    Retired,
    Status,
    Swept,
    Trashed,
    UnderWay,
    Uses,
)
from s3reg.registry.verbs import Registry

__all__ = [
    "Adopted",
    "Checked",
    "Committed",
    "Damage",
    "Described",
    "Limits",
    "Opened",
    "Opening",
    "Plan",
    "Proposal",
    "ProposedFile",
    "Registry",
    "Restored",
    "Retired",
    "Status",
    "Swept",
    "Trashed",
    "UnderWay",
    "Usage",
    "Uses",
    "Wanted",
]
