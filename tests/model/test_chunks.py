"""How a file is cut, and how its digest follows from its chunks'."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3reg.model import chunks
from s3reg.model.chunks import HOLE, FileTree

CHUNK = 1 << 18


def tree_of(entries, size, log2):
    """The digest as docs/design.md says it, computed in one go: `entries` are 32 bytes for each position."""
    leaves = [b"".join(entries[at : at + 1024]) for at in range(0, len(entries), 1024)]
    hashed = b"".join(hashlib.sha256(b"s3reg leaf 1\n" + leaf).digest() for leaf in leaves)
    return hashlib.sha256(b"s3reg root 1\n" + size.to_bytes(8, "little") + bytes([log2]) + hashed).hexdigest()


def numbered(count):
    return [hashlib.sha256(b"%d" % number).digest() for number in range(count)]


@pytest.mark.parametrize(
    ("size", "log2", "count"),
    [
        (0, 18, 0),
        (1, 18, 1),
        (CHUNK - 1, 18, 1),
        (CHUNK, 18, 1),
        (CHUNK + 1, 18, 2),
        (1 << 44, 16, 1 << 28),
        (1, 24, 1),
    ],
)
def test_a_file_has_as_many_chunks_as_cover_it(size, log2, count):
    assert chunks.chunk_count(size, log2) == count
    lengths = [chunks.chunk_length(position, size, log2) for position in range(min(count, 4))]
    if count == len(lengths):
        assert sum(lengths) == size
    assert all(0 < length <= 1 << log2 for length in lengths)


def test_the_last_chunk_is_what_is_left():
    assert [chunks.chunk_length(position, 2 * CHUNK + 5, 18) for position in range(3)] == [CHUNK, CHUNK, 5]


@given(st.binary(max_size=200), st.integers(0, 300))
def test_zero_is_told_from_everything_else(data, count):
    assert chunks.is_zero(memoryview(bytes(count)))
    assert chunks.is_zero(memoryview(data)) == (not any(data))
    assert not chunks.is_zero(memoryview(bytes(count) + b"\1"))
    assert not chunks.is_zero(memoryview(b"\1" + bytes(count)))
    assert chunks.zero_digest(count) == hashlib.sha256(bytes(count)).digest()


def test_zero_is_told_of_a_whole_chunk():
    data = bytearray(CHUNK)
    assert chunks.is_zero(memoryview(data))
    for position in (0, 63, 64, CHUNK // 2, CHUNK - 1):
        data[position] = 1
        assert not chunks.is_zero(memoryview(data))
        data[position] = 0


def test_comparing_with_zeros_of_many_lengths_keeps_little_memory():
    for length in range(1, 2000):
        chunks.is_zero(memoryview(bytes(length)))
    kept = chunks.zeros.cache_info()
    assert kept.maxsize is not None
    assert kept.maxsize <= 16


RUNS = st.lists(st.tuples(st.booleans(), st.integers(1, 1500)), max_size=5)


@given(RUNS, st.sampled_from([16, 18, 24]), st.data())
def test_the_digest_does_not_depend_on_how_the_chunks_are_fed(runs, log2, data):
    entries, position = [], 0
    for hole, count in runs:
        entries += [HOLE] * count if hole else numbered(count)
    size = len(entries) << log2
    tree = FileTree(size, log2)
    for hole, count in runs:
        left = count
        while left:
            step = data.draw(st.integers(1, left)) if left > 1 else 1
            if hole:
                tree.add_holes(step)
            else:
                fed = b"".join(entries[position : position + step])
                tree.add(memoryview(fed) if step % 2 else fed)
            left, position = left - step, position + step
    assert tree.digest() == tree_of(entries, size, log2)
    assert tree.digest() == tree.digest()


def test_holes_fed_as_digests_or_as_holes_are_the_same():
    for before in (0, 1, 1000, 1023, 1024):
        for count in (0, 1, 23, 24, 25, 1024, 2048, 5000):
            one, other = FileTree(7, 16), FileTree(7, 16)
            for tree in (one, other):
                tree.add(b"".join(numbered(before)))
            one.add(HOLE * count)
            other.add_holes(count)
            assert one.digest() == other.digest() == tree_of([*numbered(before), *[HOLE] * count], 7, 16)


def test_size_chunk_size_order_and_place_all_count():
    def digest(entries, size=4 << 18, log2=18):
        tree = FileTree(size, log2)
        tree.add(b"".join(entries))
        return tree.digest()

    a, b, c, _ = entries = numbered(4)
    digests = [
        digest(entries),
        digest(entries, size=(4 << 18) - 1),
        digest(entries, log2=19),
        digest([b, a, *entries[2:]]),
        digest(entries[:3]),
        digest([*entries[:3], HOLE]),
        digest([a, b, HOLE, c]),
        digest([a, HOLE, b, c]),
        digest([]),
    ]
    assert len(set(digests)) == len(digests)


def test_no_leaf_can_pass_for_a_root_nor_a_root_for_a_leaf():
    entries = numbered(3)
    tree = FileTree(3 << 18, 18)
    tree.add(b"".join(entries))
    plain = hashlib.sha256(b"".join(entries)).hexdigest()
    leaf = hashlib.sha256(b"s3reg leaf 1\n" + b"".join(entries)).hexdigest()
    assert tree.digest() not in {plain, leaf}


@pytest.mark.parametrize(
    ("entries", "size", "log2", "expected"),
    [
        (0, 0, 18, "b179248630b7549039dec14c53c6bf899af5c1de473dec8781dfd7de159f78c6"),
        (1, 1, 18, "ab92cf59d78d000515815bdd1733fcc9dd0bf06d3f7abbc154749daac7f4725d"),
        (1024, 1024 << 18, 18, "503c238d972c7b4bd0744fd7de2fca027f09ba826c6c853497010522f2791088"),
        (1025, (1024 << 18) + 1, 18, "3d9a262858cab535c27bb2660c8ce315905269ebf07f6025da7d8c9b5d9fcbff"),
    ],
)
def test_digests_are_what_they_always_were(entries, size, log2, expected):
    tree = FileTree(size, log2)
    tree.add(b"".join(numbered(entries)))
    assert tree.digest() == expected


def test_a_sparse_terabyte_costs_next_to_nothing():
    tree = FileTree(1 << 44, 16)
    tree.add_holes(1 << 28)
    assert tree.digest() == "839b4ecd5f85499d11a6e608fb75605b6ab90492dfb17b19ae0a8b43b17bf91a"
