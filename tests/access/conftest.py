"""Closed registries for the attacks."""

import pytest

from access.house import Clock
from access_kit import Closed


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def closed(tmp_path, clock):
    """Whoever has a credential may do everything."""
    return Closed(tmp_path / "store", clock=clock)


@pytest.fixture
def strict(tmp_path, clock):
    """Groups say who may do what."""
    return Closed(tmp_path / "store", clock=clock, authorization=True)
