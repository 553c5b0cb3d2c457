"""A pack's seek table: what we write is what zstd's seekable format says, and what is not is refused."""

import array
import struct
import subprocess

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from s3reg.errors import RecordDamaged
from s3reg.model import packs
from servers import needs

# Two frames of 3 and 5 bytes that decode to 10 and 20; computed by hand from zstd's contrib/seekable_format:
# skippable magic, bytes that follow; per frame compressed and raw bytes; frames, descriptor 0, seekable magic.
GOLDEN = bytes.fromhex("5e2a4d18 19000000 03000000 0a000000 05000000 14000000 02000000 00 b1ea928f")


def ints(*values):
    return array.array("I", values)


def pack_of(chunks):
    frames = [zstandard.ZstdCompressor(level=3).compress(chunk) for chunk in chunks]
    table = packs.seek_table(ints(*map(len, frames)), ints(*map(len, chunks)))
    return frames, b"".join(frames) + table


def test_a_seek_table_is_written_as_the_format_says():
    assert packs.seek_table(ints(3, 5), ints(10, 20)) == GOLDEN
    assert packs.seek_table_bytes(2) == len(GOLDEN)


def test_a_seek_table_is_read_from_the_end_of_a_pack():
    for tail in (GOLDEN, b"5frame" + GOLDEN, b"3fr5frame"[-8:] + GOLDEN):
        table = packs.read_seek_table(tail, 8 + len(GOLDEN))
        assert (list(table.compressed), list(table.raw), table.offsets()) == ([3, 5], [10, 20], [0, 3])


def test_frames_and_chunks_must_be_as_many():
    with pytest.raises(ValueError):
        packs.seek_table(ints(1, 2), ints(1))


SIZES = st.lists(st.tuples(st.integers(1, 1 << 20), st.integers(1, 1 << 24)), min_size=1, max_size=50)


@given(SIZES, st.integers(0, 30))
def test_what_was_written_is_read(sizes, before):
    compressed, raw = ints(*(size for size, _ in sizes)), ints(*(size for _, size in sizes))
    written = packs.seek_table(compressed, raw)
    assert len(written) == packs.seek_table_bytes(len(sizes)) == packs.claimed_table_bytes(written)
    table = packs.read_seek_table(bytes(before) + written, sum(compressed) + len(written))
    assert (table.compressed, table.raw) == (compressed, raw)
    assert [at + size for at, size in zip(table.offsets(), compressed, strict=True)][-1] == sum(compressed)


def test_the_last_bytes_that_are_read_hold_the_longest_table():
    longest = ints(*[1] * packs.MOST_FRAMES)
    written = packs.seek_table(longest, longest)
    assert len(written) == packs.TAIL_BYTES
    assert len(packs.read_seek_table(written, len(written) + packs.MOST_FRAMES).raw) == packs.MOST_FRAMES


def hostile_tails():
    foot = struct.Struct("<IBI")
    yield "nothing", b""
    yield "too short", GOLDEN[-9:]
    yield "no table", bytes(100)
    yield "another magic", GOLDEN[:-1] + b"\0"
    yield "checksums that we do not write", GOLDEN[:-5] + b"\x80" + GOLDEN[-4:]
    yield "no frames", struct.pack("<II", packs.SKIPPABLE_MAGIC, 9) + foot.pack(0, 0, packs.SEEKABLE_MAGIC)
    yield "more frames than the tail has", GOLDEN[:-9] + foot.pack(3, 0, packs.SEEKABLE_MAGIC)
    yield "fewer frames than the tail has", GOLDEN[:-9] + foot.pack(1, 0, packs.SEEKABLE_MAGIC)
    yield "billions of frames", GOLDEN[:-9] + foot.pack(0xFFFFFFFF, 0, packs.SEEKABLE_MAGIC)
    yield "one frame too many", bytes(1 << 20) + GOLDEN[:-9] + foot.pack(packs.MOST_FRAMES + 1, 0, packs.SEEKABLE_MAGIC)
    yield "another skippable magic", b"\x50" + GOLDEN[1:]
    yield "another length", GOLDEN[:4] + b"\x1a" + GOLDEN[5:]
    yield "longer frames", GOLDEN[:8] + b"\x04" + GOLDEN[9:]
    yield "a frame of no bytes", packs.seek_table(ints(8, 0), ints(10, 20))
    yield "a chunk of no bytes", packs.seek_table(ints(3, 5), ints(10, 0))
    yield "a chunk longer than any", packs.seek_table(ints(3, 5), ints(10, (1 << 24) + 1))


@pytest.mark.parametrize(
    ("what", "tail"), list(hostile_tails()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_hostile_tail_is_damage(what, tail):
    with pytest.raises(RecordDamaged):
        packs.read_seek_table(tail, 8 + len(GOLDEN))
    assert 0 <= packs.claimed_table_bytes(tail) <= packs.TAIL_BYTES


def test_a_pack_has_from_one_to_65536_frames():
    none = packs.seek_table(ints(), ints())
    too_many = packs.seek_table(ints(*[1] * 65_537), ints(*[1] * 65_537))
    for tail, size in ((none, len(none)), (too_many, len(too_many) + 65_537)):
        with pytest.raises(RecordDamaged):
            packs.read_seek_table(tail, size)


@pytest.mark.parametrize("size", [0, len(GOLDEN), 7 + len(GOLDEN), 9 + len(GOLDEN), 1 << 40])
def test_frames_that_do_not_fill_the_pack_are_damage(size):
    with pytest.raises(RecordDamaged):
        packs.read_seek_table(GOLDEN, size)


@given(st.binary(max_size=100), st.integers(0, 1000))
def test_any_tail_is_read_or_damage(tail, size):
    for end in (tail, tail + GOLDEN[-9:], tail + GOLDEN[-4:], GOLDEN[:8] + tail + GOLDEN[-9:]):
        try:
            table = packs.read_seek_table(end, size)
        except RecordDamaged:
            continue
        assert sum(table.compressed) + packs.seek_table_bytes(len(table.raw)) == size


@given(st.integers(0, len(GOLDEN) - 1), st.integers(1, 255))
def test_a_flipped_byte_changes_a_raw_length_or_is_damage(at, flip):
    tail = bytearray(GOLDEN)
    tail[at] ^= flip
    try:
        table = packs.read_seek_table(bytes(tail), 8 + len(GOLDEN))
    except RecordDamaged:
        return
    assert list(table.compressed) == [3, 5]
    assert list(table.raw) != [10, 20]


def test_the_zstd_program_gives_the_chunks_back(tmp_path):
    chunks = [bytes([number]) * 300_000 for number in range(1, 5)] + [bytes(range(256)) * 7]
    _, pack = pack_of(chunks)
    (tmp_path / "pack").write_bytes(pack)
    done = subprocess.run([needs("zstd"), "-dc", str(tmp_path / "pack")], capture_output=True, check=True)
    assert done.stdout == b"".join(chunks)


def test_each_frame_is_where_the_table_says():
    chunks = [b"one" * 100, b"two" * 1000, bytes(70_000)]
    frames, pack = pack_of(chunks)
    table = packs.read_seek_table(pack[-packs.TAIL_BYTES :], len(pack))
    for at, length, raw, frame, chunk in zip(table.offsets(), table.compressed, table.raw, frames, chunks, strict=True):
        assert pack[at : at + length] == frame
        assert zstandard.ZstdDecompressor().decompress(frame) == chunk
        assert raw == len(chunk)
