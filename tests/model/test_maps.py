"""Maps: what was written is read, and nothing else is, at bounded cost."""

import array
import hashlib
import random
import struct
import tracemalloc
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from s3reg.errors import FormatUnknown, RecordDamaged
from s3reg.model import chunks, maps
from s3reg.model.chunks import FileTree
from s3reg.model.maps import FileMap, Run
from s3reg.model.names import Digest, SessionId
from s3reg.model.packs import LARGEST_PACK, PackRef

GOLDEN = Path(__file__).parent.parent / "golden" / "map-v1.bin"
HEADER = struct.Struct("<8sHHBBBxQQIII32s")
FIELDS = (
    "magic",
    "version",
    "flags",
    "log2",
    "codec",
    "encryption",
    "size",
    "positions",
    "data",
    "packs",
    "runs",
    "digest",
)
CHUNK = 1 << 18


def digest_of(text):
    return hashlib.sha256(text.encode()).digest()


def pack(number, size=LARGEST_PACK):
    return PackRef(SessionId(f"{number:032x}"), Digest(digest_of(f"pack {number}").hex()), size)


def example():
    """Two packs, a hole between, a chunk used twice, a short last chunk."""
    one, two = pack(1, 1_000_000), pack(2, 400)
    placed = [
        (digest_of("a"), one, 0, 100),
        (digest_of("b"), one, 100, 200),
        None,
        None,
        (digest_of("c"), two, 0, 300),
        (digest_of("a"), one, 0, 100),
        (digest_of("d"), one, 300, 262_144 + 1024),
    ]
    return maps.make(6 * CHUNK + 5, 18, placed)


def raw_of(data):
    return zstandard.ZstdDecompressor().decompress(data)


def framed(raw):
    return zstandard.ZstdCompressor(level=3, write_checksum=True).compress(raw)


def forged(file_map=None, *, body=None, **changes):
    """A map whose header claims what `changes` say, with the body as it was, or `body`."""
    file_map = file_map or example()
    raw = raw_of(maps.encode(file_map))
    header = dict(zip(FIELDS, HEADER.unpack_from(raw), strict=True)) | changes
    return framed(HEADER.pack(*header.values()) + (raw[HEADER.size :] if body is None else body))


def written(size, packs, runs, lengths, digests):
    """A map of these columns, however wrong, with a header that fits them."""
    return maps.encode(FileMap(size, 18, tuple(packs), tuple(runs), array.array("I", lengths), b"".join(digests)))


def test_neighbours_in_one_pack_are_one_run():
    assert example().runs == (Run(2, 0, 0), Run(2, None, 0), Run(1, 1, 0), Run(1, 0, 0), Run(1, 0, 300))
    assert example().packs == (pack(1), pack(2))


def test_a_map_that_was_written_is_read():
    found = maps.decode(maps.encode(example()), size=example().size, digest=example().digest())
    assert found == example()
    assert [ref.size for ref in found.packs] == [1_000_000, 400]


def test_a_map_of_the_first_release_is_read_for_ever():
    found = maps.decode(GOLDEN.read_bytes(), size=6 * CHUNK + 5)
    assert found == example()
    # The columns are fixed; how zstd packs them is its own affair.
    assert raw_of(maps.encode(found)) == raw_of(GOLDEN.read_bytes())


def test_the_columns_are_where_the_format_says():
    raw = raw_of(maps.encode(example()))
    header = dict(zip(FIELDS, HEADER.unpack_from(raw), strict=True))
    assert header == {
        "magic": b"S3REGMAP", "version": 1, "flags": 0, "log2": 18, "codec": 1, "encryption": 0, "size": 6 * CHUNK + 5,
        "positions": 7, "data": 5, "packs": 2, "runs": 5, "digest": bytes.fromhex(example().digest()),
    }  # fmt: skip
    rest = raw[HEADER.size :]
    assert rest[:52] == bytes(15) + b"\1" + digest_of("pack 1") + struct.pack("<I", 1_000_000)
    assert rest[104 : 104 + 36] == struct.pack("<9I", 2, 0, 0, 2, 0xFFFFFFFF, 0, 1, 1, 0)
    assert rest[164:184] == struct.pack("<5I", 100, 200, 300, 100, 263_168)
    assert rest[184:] == b"".join(map(digest_of, "abcad"))


def test_a_maps_digest_is_the_files():
    tree = FileTree(6 * CHUNK + 5, 18)
    for name in "ab  cad":
        tree.add(bytes(32) if name == " " else digest_of(name))
    assert example().digest() == tree.digest()


def test_chunks_come_in_order_with_their_places():
    found = [
        (place.position, place.digest, place.pack.size, place.offset, place.length) for place in example().chunks()
    ]
    assert found == [
        (0, digest_of("a"), 1_000_000, 0, 100),
        (1, digest_of("b"), 1_000_000, 100, 200),
        (4, digest_of("c"), 400, 0, 300),
        (5, digest_of("a"), 1_000_000, 0, 100),
        (6, digest_of("d"), 1_000_000, 300, 263_168),
    ]
    assert [(position, index) for position, index, _ in example().data_runs()] == [(0, 0), (4, 2), (5, 3), (6, 4)]


def test_a_frame_that_is_used_twice_is_live_once():
    assert example().live_bytes() == {pack(1): 100 + 200 + 263_168, pack(2): 300}


@pytest.mark.parametrize("size", [0, 1, CHUNK, 5 * CHUNK + 1, 1 << 44])
def test_a_file_of_nothing_but_holes_has_a_small_map(size):
    count = chunks.chunk_count(size, 18)
    file_map = FileMap(size, 18, (), (Run(count, None, 0),) if count else (), array.array("I"), b"")
    data = maps.encode(file_map)
    assert maps.decode(data, size=size, digest=file_map.digest()) == file_map
    assert len(data) < 200
    assert list(file_map.chunks()) == []


@st.composite
def file_maps(draw):
    log2 = draw(st.sampled_from([16, 18, 24]))
    count = draw(st.integers(0, 40))
    refs = [pack(number, LARGEST_PACK) for number in range(draw(st.integers(1, 4)))]
    placed = []
    for number in range(count):
        if draw(st.booleans()):
            placed.append(None)
        else:
            length = draw(st.integers(1, 5000))
            placed.append((digest_of(str(number)), draw(st.sampled_from(refs)), draw(st.integers(0, 1 << 20)), length))
    last = draw(st.integers(1, 1 << log2)) if count else 0
    return maps.make(((count - 1) << log2) + last if count else 0, log2, placed), placed


@given(file_maps())
def test_any_map_comes_back_and_says_what_it_was_made_of(made):
    file_map, placed = made
    found = maps.decode(maps.encode(file_map), size=file_map.size, digest=file_map.digest())
    assert found == file_map
    places = {place.position: (place.digest, place.pack, place.offset, place.length) for place in found.chunks()}
    assert [places.get(position) for position in range(len(placed))] == placed
    frames = {(ref, offset, length) for _, ref, offset, length in filter(None, placed)}
    starts = {(ref, offset): length for ref, offset, length in sorted(frames)}
    assert sum(found.live_bytes().values()) <= sum(length for *_, length in frames)
    assert found.live_bytes().keys() == {ref for ref, _ in starts}


# --- What is not a map ---


def refused(data, *, size=6 * CHUNK + 5, error=RecordDamaged, **more):
    with pytest.raises(error):
        maps.decode(data, size=size, **more)


def test_the_wrong_file_is_refused():
    data = maps.encode(example())
    refused(data, size=6 * CHUNK + 4)
    refused(data, size=0)
    refused(data, digest="0" * 64)


@pytest.mark.parametrize(
    ("field", "value"), [("version", 2), ("version", 0), ("flags", 1), ("codec", 2), ("encryption", 1)]
)
def test_what_a_newer_release_may_write_is_unknown_not_damaged(field, value):
    refused(forged(**{field: value}), error=FormatUnknown)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("magic", b"S3REGMAQ"), ("log2", 15), ("log2", 25), ("log2", 17), ("log2", 0), ("log2", 255), ("size", 0),
        ("size", 6 * CHUNK + 6), ("positions", 6), ("positions", 8), ("positions", 1 << 60), ("data", 4), ("data", 6),
        ("data", 7), ("data", 8), ("data", 0), ("data", 0xFFFFFFFF), ("packs", 0), ("packs", 1), ("packs", 3), ("packs", 6),
        ("packs", 0xFFFFFFFF), ("runs", 0), ("runs", 4), ("runs", 6), ("runs", 0xFFFFFFFF), ("digest", bytes(32)),
    ],
)  # fmt: skip
def test_a_header_that_does_not_fit_is_damage(field, value):
    refused(forged(**{field: value}))


@pytest.mark.parametrize(
    ("what", "columns"),
    [
        ("a run beyond the pack table", ([pack(1)], [Run(1, 1, 0)], [10], "a")),
        ("a run beyond its pack", ([pack(1, 100)], [Run(1, 0, 91)], [10], "a")),
        ("a run far beyond its pack", ([pack(1)], [Run(1, 0, 0xFFFFFFFF)], [10], "a")),
        ("a run of nothing", ([pack(1)], [Run(1, 0, 0), Run(0, 0, 10)], [10], "a")),
        ("a hole of nothing", ([pack(1)], [Run(1, 0, 0), Run(0, None, 0)], [10], "a")),
        ("runs that cover too little", ([pack(1)], [Run(1, 0, 0)], [10, 10], "ab")),
        ("runs that cover too much", ([pack(1)], [Run(1, 0, 0), Run(1, None, 0)], [10], "a")),
        ("a frame of no bytes", ([pack(1)], [Run(1, 0, 0)], [0], "a")),
        ("a frame longer than its chunk can be", ([pack(1)], [Run(1, 0, 0)], [CHUNK + 1025], "a")),
        ("a pack of no bytes", ([pack(1, 0)], [Run(1, 0, 0)], [10], "a")),
        ("a pack that is too large", ([pack(1, LARGEST_PACK + 1)], [Run(1, 0, 0)], [10], "a")),
        ("a pack twice", ([pack(1), pack(1)], [Run(1, 0, 0), Run(1, 1, 10)], [10, 10], "ab")),
        ("more packs than chunks", ([pack(1), pack(2)], [Run(1, 0, 0)], [10], "a")),
        ("data without runs", ([pack(1)], [Run(1, None, 0)], [10], "a")),
    ],
)
def test_columns_that_do_not_fit_are_damage(what, columns):
    packs, runs, lengths, names = columns
    size = (1 if len(names) == 1 else 2) * CHUNK
    refused(written(size, packs, runs, lengths, map(digest_of, names)), size=size)


def test_an_unused_pack_is_no_reason_to_refuse_a_map():
    # The server computes what a version needs from live_bytes; an unused pack has none.
    data = written(2 * CHUNK, [pack(1), pack(2)], [Run(2, 0, 0)], [10, 10], map(digest_of, "ab"))
    assert maps.decode(data, size=2 * CHUNK).live_bytes() == {pack(1): 20, pack(2): 0}


@pytest.mark.parametrize(("size", "length"), [(CHUNK, CHUNK), (5, 5), (CHUNK + 5, 5)])
def test_a_chunk_of_zeros_that_is_not_a_hole_is_refused(size, length):
    before = [digest_of("a")] * (chunks.chunk_count(size, 18) - 1)
    count = len(before) + 1
    data = written(size, [pack(1)], [Run(count, 0, 0)], [10] * count, [*before, bytes_digest(length)])
    refused(data, size=size)


def bytes_digest(length):
    return hashlib.sha256(bytes(length)).digest()


def test_a_chunk_of_zeros_in_the_middle_is_refused_even_behind_bytes_that_look_like_it():
    full = bytes_digest(CHUNK)
    # The digest of zeros across two places of the column is none.
    straddling = [b"\1" * 16 + full[:16], full[16:] + b"\1" * 16]
    good = written(2 * CHUNK, [pack(1)], [Run(2, 0, 0)], [10, 10], straddling)
    assert maps.decode(good, size=2 * CHUNK).digests == b"".join(straddling)
    bad = written(3 * CHUNK, [pack(1)], [Run(3, 0, 0)], [10] * 3, [*straddling, full])
    refused(bad, size=3 * CHUNK)


def test_a_whole_chunks_digest_of_shorter_zeros_is_no_hole():
    data = written(2 * CHUNK, [pack(1)], [Run(2, 0, 0)], [10, 10], [bytes_digest(5), digest_of("b")])
    assert len(maps.decode(data, size=2 * CHUNK).lengths) == 2


def test_every_truncation_is_damage():
    data = maps.encode(example())
    for length in range(len(data)):
        refused(data[:length])


def test_every_truncation_of_the_columns_is_damage():
    raw = raw_of(maps.encode(example()))
    for length in range(len(raw)):
        refused(framed(raw[:length]))


@pytest.mark.parametrize("more", [b"\0", b"S3REGMAP", framed(b""), framed(b"x"), b"\x50\x2a\x4d\x18\0\0\0\0"])
def test_anything_behind_the_frame_is_damage(more):
    refused(maps.encode(example()) + more)


def test_anything_behind_the_frame_is_damage_where_our_pieces_end_too():
    for count in range(1, 2000):
        names = [digest_of(str(number)) for number in range(count)]
        data = written(count * CHUNK, [pack(1)], [Run(count, 0, 0)], [10] * count, names)
        if len(data) % maps._PIECE == 0:
            break
    assert len(data) % maps._PIECE == 0
    assert len(maps.decode(data, size=count * CHUNK).lengths) == count
    refused(data + b"more", size=count * CHUNK)


def test_anything_behind_the_columns_is_damage():
    raw = raw_of(maps.encode(example()))
    refused(framed(raw + b"\0"))
    refused(framed(raw) + framed(raw))
    refused(framed(raw[:50]) + framed(raw[50:]))


def test_every_flipped_bit_is_damage_or_changes_nothing():
    data, harmless = maps.encode(example()), []
    for at in range(len(data)):
        for bit in range(8):
            bad = bytearray(data)
            bad[at] ^= 1 << bit
            try:
                found = maps.decode(bytes(bad), size=example().size, digest=example().digest())
            except (RecordDamaged, FormatUnknown):
                continue
            assert found == example()
            harmless.append((at, bit))
    # RFC 8878, 3.1.1.1.1: a decoder ignores the unused bit of the frame header descriptor.
    assert harmless == [(4, 4)]


def test_any_flipped_byte_of_the_columns_is_damage_or_a_map_of_the_same_file():
    raw, chosen = raw_of(maps.encode(example())), random.Random(1)
    for at in range(len(raw)):
        bad = bytearray(raw)
        bad[at] ^= chosen.randrange(1, 256)
        try:
            found = maps.decode(framed(bytes(bad)), size=example().size, digest=example().digest())
        except (RecordDamaged, FormatUnknown):
            continue
        # Places may be other ones: that a pack holds what is said of it is looked at elsewhere.
        assert found.digest() == example().digest()


@given(st.binary(max_size=300), st.integers(0, 1 << 45))
@settings(max_examples=200)
def test_no_bytes_raise_anything_else(data, size):
    for bad in (data, framed(data), framed(b"S3REGMAP\1\0\0\0" + data), maps.encode(example())[:20] + data):
        with pytest.raises((RecordDamaged, FormatUnknown)):
            maps.decode(bad, size=size)


def peak(act):
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "claims",
    [
        {"positions": 1 << 28, "data": 1 << 22, "packs": 1 << 22, "runs": 1 << 22},
        {"positions": 1 << 28, "data": 1 << 22, "packs": 0, "runs": 0},
        {"positions": 1 << 28, "data": 0xFFFFFFFF, "packs": 0xFFFFFFFF, "runs": 0xFFFFFFFF},
        {"positions": 1 << 28, "data": 0, "packs": 0, "runs": 1 << 28},
    ],
)
def test_few_bytes_that_claim_much_cost_little(claims):
    data = forged(log2=16, size=1 << 44, **claims)
    assert peak(lambda: refused(data, size=1 << 44)) < 8 << 20


@pytest.mark.parametrize("claims", [{"data": 0, "packs": 0, "runs": 1 << 28}, {"data": 1, "packs": 1, "runs": 1 << 24}])
def test_a_bomb_of_runs_is_refused_before_it_is_unpacked(claims):
    compressor = zstandard.ZstdCompressor(level=3).compressobj()
    raw = raw_of(maps.encode(example()))
    header = dict(zip(FIELDS, HEADER.unpack_from(raw), strict=True))
    header |= {"log2": 16, "size": 1 << 44, "positions": 1 << 28, **claims}
    data = compressor.compress(HEADER.pack(*header.values()))
    runs = struct.pack("<III", 1, 0xFFFFFFFF, 0) * (1 << 16)
    for _ in range(64):
        data += compressor.compress(runs)
    data += compressor.flush()
    assert len(data) < 100_000
    assert peak(lambda: refused(data, size=1 << 44)) < 16 << 20


def test_a_bomb_behind_the_columns_is_not_unpacked():
    data = framed(raw_of(maps.encode(example())) + bytes(200 << 20))
    assert peak(lambda: refused(data)) < 16 << 20


def test_a_window_larger_than_ours_is_refused():
    parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = compressor.compress(raw_of(maps.encode(example()))) + compressor.flush()
    assert zstandard.get_frame_parameters(data).window_size == 1 << 27
    refused(data)
