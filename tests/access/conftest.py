"""Closed registries for the attacks."""

import os

import pytest

from access.house import Clock
from access_kit import Closed


@pytest.fixture(scope="package", autouse=True)
def _no_power_cuts():
    """Nothing here asks what a power cut leaves, and waiting for the disk takes more time than all the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


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
