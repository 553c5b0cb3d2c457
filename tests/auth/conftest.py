import pytest

from auth.replicas import Replicas
from clocks import Clock
from s3reg.store.files import FilesStore


@pytest.fixture
def clock():
    return Clock(1_700_000_000.25)


@pytest.fixture
def store(tmp_path):
    return FilesStore(tmp_path / "store", secret=bytes(32))


@pytest.fixture
def replicas(store, clock):
    return Replicas(store, clock)
