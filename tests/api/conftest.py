"""A registry over a directory, asked through Flask's test client."""

import pytest

from push_calls import Push
from s3reg.api import create_app
from s3reg.settings import Settings
from s3reg.store.files import FilesStore


@pytest.fixture
def store(tmp_path):
    return FilesStore(tmp_path / "store")


@pytest.fixture
def settings(tmp_path):
    return Settings(store=str(tmp_path / "store"))


@pytest.fixture
def app(settings, store):
    return create_app(settings, store)


@pytest.fixture
def http(app):
    return app.test_client()


@pytest.fixture
def push(http):
    """`push(tag="v2", …)` pushes a small VM, and gives the push."""

    def run(**more):
        made = Push([http], **more)
        made.run()
        return made

    return run
