"""The S3 adapter keeps the port's promises on MinIO; on moto, which is a fake, all that moto can keep."""

from __future__ import annotations

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


class TestOnMinio(ObjectStoreContract):
    """All that the registry stands on. MinIO takes `a/b` beside `a` and reads it, but its listings hide it."""

    lacks = frozenset({"side-by-side"})

    @pytest.fixture
    def store(self, minio, bucket):
        return S3Store(bucket(minio), endpoint=minio.endpoint, region=minio.region)

    @pytest.fixture
    def second(self, store, minio):
        return S3Store(store._bucket, endpoint=minio.endpoint, region=minio.region)


class TestOnMoto(ObjectStoreContract):
    """moto checks neither signatures nor checksums, and two writers may both win."""

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

    @pytest.fixture
    def store(self, moto, bucket):
        return S3Store(bucket(moto), endpoint=moto.endpoint)
