"""One chunk's frame unpacked, by whoever does not trust it: never further than the chunk is long."""

from __future__ import annotations

import zstandard

from s3reg.model.chunks import LARGEST_CHUNK_LOG2, chunk_digest


def flaw(frame: bytes | memoryview, raw: int, digest: bytes) -> str:
    """Why these bytes are not the frame of the chunk of `raw` bytes and this digest; empty if they are."""
    try:
        claimed = zstandard.frame_content_size(frame)
        if claimed != raw:
            return f"a frame claims {claimed} bytes instead of {raw}"
        unpacking = zstandard.ZstdDecompressor(max_window_size=1 << LARGEST_CHUNK_LOG2)
        chunk = bytearray(raw)
        with unpacking.stream_reader(frame) as reader:
            got = reader.readinto(chunk)
    except zstandard.ZstdError as e:
        return f"a frame does not decode ({e})"
    if got != raw:
        return f"a frame holds {got} bytes instead of {raw}"
    return "" if chunk_digest(chunk) == digest else "a chunk's bytes do not have its digest"
