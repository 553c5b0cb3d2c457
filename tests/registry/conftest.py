import pytest

from registry.material import Pusher
from s3reg.registry import Registry
from s3reg.store.files import FilesStore


@pytest.fixture
def store(tmp_path):
    store = FilesStore(tmp_path / "store", secret=bytes(32))
    Registry(store).prepare()
    return store


@pytest.fixture
def registry(store):
    return Registry(store)


@pytest.fixture
def node(registry, store):
    return Pusher(registry, store)
