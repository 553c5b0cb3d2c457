"""Registries in processes of their own, over MinIO and over directories."""

import pytest

from campaign.forks import forks
from campaign.wired_site import over_directory, over_minio


@pytest.fixture(scope="session")
def start():
    with forks() as start:
        yield start


@pytest.fixture(scope="module")
def bucket_site(start, minio, tmp_path_factory):
    with over_minio(start, minio, tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def fresh_site(start, minio, tmp_path):
    """Over a bucket in which nothing is: for what looks at all of it, again and again."""
    with over_minio(start, minio, tmp_path) as site:
        yield site


@pytest.fixture(scope="module")
def directory_site(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    with over_directory(start, folder / "store", folder) as site:
        yield site
