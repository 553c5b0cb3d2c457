"""The directory store: the port's contract, and what only a directory can meet."""

import io
import time
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from contracts.object_store import ObjectStoreContract

from s3reg.errors import (
    S3regError,
)
from s3reg.store import links
from s3reg.store.files import FilesStore

SECRET = b"a secret of the test, 32 bytes.."


def opener_of(store):
    """What `api/objects.py` does with a link, without the HTTP around it."""

    def opener(method, url, headers, body):
        parts = urlsplit(url)
        assert parts.path.startswith(links.PREFIX)
        key, query = unquote(parts.path.removeprefix(links.PREFIX)), dict(parse_qsl(parts.query))
        try:
            grant = store.open_link(method, key, query, time.time())
            if method == "PUT":
                store.receive(grant.key, io.BytesIO(body), size=grant.size, sha256=grant.sha256)
                return 201, {}, b""
            stat, file = store.read_object(grant.key)
            with file:
                return ranged(stat.size, file, headers.get("Range"))
        except S3regError as e:
            return e.kind.status, {}, str(e).encode()

    return opener


def ranged(size, file, asked):
    if asked is None:
        return 200, {}, file.read()
    first, _, last = asked.removeprefix("bytes=").partition("-")
    start = int(first) if first else size - int(last)
    end = min(int(last), size - 1) if first and last else size - 1
    file.seek(start)
    return 206, {"Content-Range": f"bytes {start}-{end}/{size}"}, file.read(end - start + 1)


class TestFilesStore(ObjectStoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        return FilesStore(tmp_path / "store", secret=SECRET)

    @pytest.fixture
    def second(self, store, tmp_path):
        return FilesStore(tmp_path / "store", secret=SECRET)

    @pytest.fixture
    def opener(self, store):
        return opener_of(store)
