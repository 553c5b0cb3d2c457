"""The S3 adapter keeps the port's promises on MinIO; on moto, which is a fake, all that moto can keep."""

from __future__ import annotations

import copy
import uuid

import pytest
import urllib3

from contracts.object_store import ObjectStoreContract
from s3reg.store.s3 import S3Store


@pytest.fixture(scope="module")
def opener():
    """Does HTTP on a signed link as a node does."""
    with urllib3.PoolManager(maxsize=16) as http:

        def open_link(method, url, headers, body):
            # The true one, whatever is signed: a server waits for the bytes that were announced.
            headers = {name: value for name, value in headers.items() if name.lower() != "content-length"}
            answer = http.request(method, url, headers=headers, body=body or None, retries=False, timeout=30)
            return answer.status, answer.headers, answer.data

        yield open_link


def _below(store):
    """A store of its own below a fresh prefix, with the clients of `store`: making them takes longer than most tests."""
    store._line  # noqa: B018 - makes the clients
    found = copy.copy(store)
    found._root = f"{uuid.uuid4().hex}/"
    return found


class TestOnMinio(ObjectStoreContract):
    """It keeps every promise."""

    @pytest.fixture(scope="class")
    @classmethod
    def opened(cls, minio, class_bucket):
        at = {"endpoint": minio.endpoint, "region": minio.region}
        name = class_bucket(minio)
        return S3Store(name, **at), S3Store(name, **at)

    @pytest.fixture
    def store(self, opened):
        return _below(opened[0])

    @pytest.fixture
    def second(self, opened, store):
        second = copy.copy(opened[1])
        second._root = store._root
        return second


class TestOnMoto(ObjectStoreContract):
    """moto checks neither signatures nor checksums, and two writers may both win."""

    keeps_checksums = False

    lacks = frozenset(
        {
            "signatures",
            "signed-expiry",
            "signed-checksum",
            "signed-length",
            "signed-headers",
            "raced-absent",
            "raced-match",
        }
    )

    @pytest.fixture(scope="class")
    @classmethod
    def opened(cls, moto, class_bucket):
        return S3Store(class_bucket(moto), endpoint=moto.endpoint)

    @pytest.fixture
    def store(self, opened):
        return _below(opened)

    def test_of_many_that_create_with_a_link_at_once_one_wins(self):
        pytest.skip("lacking: raced-absent")
