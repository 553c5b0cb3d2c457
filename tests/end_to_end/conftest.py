"""Registries on each kind of store, and two nodes."""

import pytest

import machines
import running


@pytest.fixture(params=["directory", "minio"])
def store(request, tmp_path):
    """The arguments and the environment of a registry on a fresh store of each kind."""
    if request.param == "directory":
        return ["--store", tmp_path / "store"], {}
    server = request.getfixturevalue("minio")
    bucket = request.getfixturevalue("bucket")(server)
    return ["--store", f"s3://{bucket}/reg", "--s3-endpoint", server.endpoint], server.environment()


@pytest.fixture
def registry(store, tmp_path):
    arguments, settings = store
    with running.serving(tmp_path, *arguments, **settings) as registry:
        yield registry


@pytest.fixture
def baker(registry, tmp_path):
    return running.Node(tmp_path / "baker", registry.url)


@pytest.fixture
def runner(registry, tmp_path):
    return running.Node(tmp_path / "runner", registry.url)


@pytest.fixture
def machine(baker):
    return machines.make(baker.library)
