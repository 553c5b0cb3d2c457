"""Signed GET and PUT of a store in a directory: what S3 does itself for a bucket.

The link is the credential: nobody is asked who they are. Bytes stream both ways; a GET goes from the file to the socket
without passing through this process where the server can do that.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, BinaryIO, cast

from flask import Blueprint, Response, request

from s3reg.api import render
from s3reg.api.wiring import registry, wiring
from s3reg.errors import LinkRefused, ObjectNotFound, PreconditionFailed, S3regError
from s3reg.store import links

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3reg.store.files import FilesStore

blueprint = Blueprint("objects", __name__)
_PIECE = 256 * 1024
_RANGE = re.compile(r"bytes=(?=[0-9-]{2,40}$)([0-9]*)-([0-9]*)")
_NO_LIMIT = 1 << 62
"""The body limit of the API is for small records; here the link says how many bytes there are."""


@blueprint.get(f"{links.PREFIX}<path:key>", provide_automatic_options=False)
def read(key: str) -> Response:
    """The object, or the one range of it that was asked for. Several ranges get the whole (RFC 9110 §14.2 allows it).

    A HEAD is refused, as S3 refuses it on a link that was signed for GET.
    """
    store, grant = _opened(key)
    found, file = store.read_object(grant.key)
    headers = {"Accept-Ranges": "bytes", "ETag": f'"{found.etag}"', "Content-Type": "application/octet-stream"}
    try:
        span = _span(request.headers.get("Range", ""), found.size)
    except ValueError:
        file.close()
        return Response(status=416, headers=headers | {"Content-Range": f"bytes */{found.size}"})
    if span is None:
        return _sent(file, 0, found.size, 200, headers)
    headers |= {"Content-Range": f"bytes {span.start}-{span.stop - 1}/{found.size}"}
    return _sent(file, span.start, len(span), 206, headers)


@blueprint.put(f"{links.PREFIX}<path:key>", provide_automatic_options=False)
def create(key: str) -> Response:
    """Create the object from exactly the bytes that the link was signed for."""
    store, grant = _opened(key)
    if grant.size is None or grant.sha256 is None:
        raise LinkRefused(reason="it is not a link for this method")
    request.max_content_length = _NO_LIMIT
    etag = store.receive(grant.key, request.stream, size=grant.size, sha256=grant.sha256)
    return Response(status=200, headers={"ETag": f'"{etag}"'})


@blueprint.errorhandler(PreconditionFailed)
def _taken(error: S3regError) -> Response:
    return render.failure(error, 412)


@blueprint.errorhandler(ObjectNotFound)
def _missing(error: S3regError) -> Response:
    return render.failure(error, 404)


def _opened(key: str) -> tuple[FilesStore, links.Grant]:
    registry()  # the secret that signs links is a record of the store: it must have been read
    store = cast("FilesStore", wiring().store)
    return store, store.open_link(request.method, key, request.args.to_dict(), time.time())


def _span(asked: str, size: int) -> range | None:
    """The bytes of an object that a Range header asks for, None for all. ValueError: there are none (RFC 9110 §14.1.2)."""
    match = _RANGE.fullmatch(asked)
    if match is None:
        return None
    first, last = match[1], match[2]
    if first and last and int(last) < int(first):
        return None
    span = (
        range(size)[int(first) : int(last) + 1 if last else None] if first else range(size)[max(0, size - int(last)) :]
    )
    if not span:
        raise ValueError(asked)
    return span


def _sent(file: BinaryIO, first: int, length: int, status: int, headers: dict[str, str]) -> Response:
    """`length` bytes of the file from offset `first`; the response closes it."""
    file.seek(first)
    headers = headers | {"Content-Length": str(length)}
    wrapper = request.environ.get("wsgi.file_wrapper")
    if wrapper is not None:
        # PEP 3333: it sends from where the file stands, up to Content-Length bytes; gunicorn does it with sendfile(2).
        return Response(wrapper(file, _PIECE), status, headers, direct_passthrough=True)
    answer = Response(_pieces(file, length), status, headers)
    answer.call_on_close(file.close)  # where nobody begins to read
    return answer


def _pieces(file: BinaryIO, length: int) -> Iterator[bytes]:
    with file:
        while length and (piece := file.read(min(_PIECE, length))):
            length -= len(piece)
            yield piece
