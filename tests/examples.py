"""The programs of examples/, which lie in no package, as modules."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

HOME = Path(__file__).parents[1]


def module(name: str) -> ModuleType:
    """examples/NAME.py."""
    specification = importlib.util.spec_from_file_location(name, HOME / "examples" / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    found = importlib.util.module_from_spec(specification)
    sys.modules[name] = found  # dataclasses look their module up
    specification.loader.exec_module(found)
    return found
