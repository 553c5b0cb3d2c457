"""A registry over a directory, asked through Flask's test client."""

import shutil

import pytest

from api.fuzzed import Place
from clocks import Clock
from push_calls import Push
from s3reg.api import create_app
from s3reg.settings import Settings
from s3reg.store.files import FilesStore

FINISH_SECONDS = 60
"""For events: what is to be copied must be at rest."""


@pytest.fixture
def store(tmp_path):
    return FilesStore(tmp_path / "store")


@pytest.fixture
def settings(tmp_path):
    return Settings(store=str(tmp_path / "store"))


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def app(settings, store):
    return create_app(settings, store)


@pytest.fixture
def http(app):
    return app.test_client()


@pytest.fixture(scope="session")
def three_pushed(tmp_path_factory):
    """A store with a template of three versions, a, b and c: not to be changed."""
    folder = tmp_path_factory.mktemp("three") / "store"
    app = create_app(Settings(store=str(folder)))
    for tag in ("a", "b", "c"):
        Push([app.test_client()], tag=tag).run()
    app.extensions["s3reg"].finish(FINISH_SECONDS)
    return folder


@pytest.fixture(scope="session")
def standing(three_pushed):
    """Asks a registry over those three versions, for tests of what changes nothing."""
    return create_app(Settings(store=str(three_pushed))).test_client()


@pytest.fixture
def three(three_pushed, tmp_path, store):
    """The test's own store holds those three versions."""
    shutil.copytree(three_pushed, tmp_path / "store", dirs_exist_ok=True)
    return store


@pytest.fixture
def push(http):
    """`push(tag="v2", …)` pushes a small VM, and gives the push."""

    def run(**more):
        made = Push([http], **more)
        made.run()
        return made

    return run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A registry that begins the same for every example of a test."""
    return Place(tmp_path_factory.mktemp("fuzz") / "store")
