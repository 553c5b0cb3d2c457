"""What a push stores again: the rule, over columns made by hand and over generations of a disk."""

import array
import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3reg.client.fetch import GAP_BYTES, RANGE_BYTES, Wanted, group, ranges
from s3reg.client.packer import PACK_BYTES
from s3reg.client.reuse import (
    IN_HOLE,
    MOST_HELD,
    NOWHERE,
    REQUEST_BYTES,
    SPARED_BYTES,
    Column,
    Place,
    Shelf,
    column_of,
    decide,
)
from s3reg.model import maps
from s3reg.model.chunks import CHUNK_LOG2, HOLE, LEAF_CHUNKS
from s3reg.model.names import Digest, SessionId
from s3reg.model.packs import PackRef

SID = SessionId("5" * 32)
FRAME = 10_000_000
"""So large that a few letters weigh more than what is spared."""
SMALL = 100_000


def digest_of(letter: str) -> bytes:
    return HOLE if letter == "." else hashlib.sha256(letter.encode()).digest()


def column(text: str) -> Column:
    """A file of one chunk a letter; `.` is a hole."""
    made = Column(len(text) << CHUNK_LOG2, CHUNK_LOG2)
    made.set_digests(0, b"".join(map(digest_of, text)))
    return made


def pack(number: int, size: int) -> PackRef:
    return PackRef(SID, Digest(f"{number:064x}"), size)


def shelf_of(*packs: str, frame: int = FRAME) -> Shelf:
    """A shelf of packs with one frame a letter."""
    shelf = Shelf()
    for number, letters in enumerate(packs):
        row = shelf.row(pack(number, frame * len(letters)))
        for at, letter in enumerate(letters):
            shelf.chunks[digest_of(letter)] = Place(row, at * frame, frame)
    return shelf


def stored(text: str, shelf: Shelf) -> str:
    """The letters that `decide` wants stored."""
    made = column(text)
    decide([made], shelf)
    return "".join(letter for letter, where in zip(text, made.packs, strict=True) if where == NOWHERE)


def test_an_unchanged_file_stores_nothing():
    assert stored("abcdefgh", shelf_of("abcdefgh")) == ""


def test_holes_are_neither_stored_nor_reused():
    made = column("..a.")
    decide([made], Shelf())
    assert list(made.packs) == [IN_HOLE, IN_HOLE, NOWHERE, IN_HOLE]


def test_what_is_new_is_stored_alone_while_the_packs_are_mostly_live():
    assert stored("abcdXfghij", shelf_of("abcdefghij")) == "X"
    assert stored("XabYcdefgZ", shelf_of("abcdefghij")) == "XYZ"


def test_a_pack_that_would_be_mostly_dead_is_let_go():
    assert stored("aX", shelf_of("abcdefghij")) == "aX"
    assert stored("abcdeX", shelf_of("abcdefghij")) == "abcdeX"
    assert stored("abcdefX", shelf_of("abcdefghij")) == "X"


def test_where_nothing_is_new_nothing_is_stored_however_dead_the_packs_are():
    assert stored("a..", shelf_of("abcdefghij")) == ""


def test_the_pack_that_gives_most_room_for_what_it_costs_is_let_go_and_no_more_than_need_be():
    assert stored("abcdefghklX", shelf_of("abcdefghij", "klmnopqrst")) == "klX"
    assert stored("klabcdefghX", shelf_of("klmnopqrst", "abcdefghij")) == "klX"


def test_letting_a_pack_go_makes_room_for_what_is_dead_in_it_only():
    shelf = shelf_of("abcde00000", "fghij11111", "klmno22222", "pqrst33333", "ABCDE44444", "FGHIJ55555")
    assert stored("abcdefghijklmnopqrstABCDEFGHIJSTUVWXYZ", shelf) == "abcdefghijSTUVWXYZ"


def test_no_more_is_stored_again_than_is_new_and_one_pack():
    shelf = shelf_of("abc0000000", "def1111111", "ghi2222222", "jkl3333333", "mno4444444")
    assert stored("abcdefghijklmnoX", shelf) == "abcX"
    assert stored("abcdefghijklmnoUVWX", shelf) == "abcdefUVWX"


def test_a_small_vm_stores_only_what_is_new():
    assert stored("aX", shelf_of("abcdefghijklm", frame=SMALL)) == "X"


def test_many_small_packs_become_fewer():
    letters = [chr(0x4E00 + number) for number in range(40)]
    assert stored("".join(letters[:12]) + "X", shelf_of(*letters[:12], frame=SMALL)) == "X"
    assert stored("".join(letters) + "X", shelf_of(*letters, frame=SMALL)) == letters[0] + "X"


def test_a_pack_that_files_reused_whole_need_anyway_is_not_let_go():
    made = column("abX")
    decide([made], shelf_of("abcdefghij"), {pack(0, FRAME * 10)})
    assert list(made.packs) == [0, 0, NOWHERE]


def test_live_bytes_are_counted_over_all_files_of_the_version():
    shelf = shelf_of("abcdefghij")
    first, second = column("abcX"), column("defgY")
    decide([first, second], shelf)
    assert (first.unplaced(), second.unplaced()) == ([3], [4])


def test_a_chunk_at_many_places_is_live_once():
    assert stored("aaaaaaaaaX", shelf_of("abcdefghij")) == "aaaaaaaaaX"


def test_packs_of_this_very_push_are_never_let_go():
    shelf = shelf_of("abcdefghij")
    shelf.own.add(0)
    assert stored("aX", shelf) == "X"


def test_chunks_of_a_damaged_pack_are_not_found():
    base = maps.make(
        4 << CHUNK_LOG2,
        CHUNK_LOG2,
        ((digest_of(c), pack(7, FRAME * 4), n * FRAME, FRAME) for n, c in enumerate("abcd")),
    )
    shelf = Shelf()
    shelf.add_base(base, damaged={(SID, pack(7, 0).sha256)})
    assert stored("abcd", shelf) == "abcd"


@given(st.text(alphabet="abcdXY.", min_size=1, max_size=40))
def test_a_column_gives_the_map_that_gives_the_column(text: str):
    made, table = column(text), [pack(0, FRAME * 64)]
    for position in made.unplaced():
        made.put(position, Place(0, "abcdXY".index(text[position]) * FRAME, FRAME))
    file_map = made.file_map(table)
    assert file_map.digest() == made.file_digest()
    again = column_of(file_map)
    assert again.digests == made.digests
    assert [p == IN_HOLE for p in again.packs] == [p == IN_HOLE for p in made.packs]


@given(st.text(alphabet="abcdefgh.", max_size=60), st.text(alphabet="abcdefghXYZ.", max_size=60))
def test_whatever_is_decided_every_chunk_is_stored_or_reused_with_its_own_bytes(base: str, text: str):
    shelf = shelf_of("".join(sorted(set(base) - {"."}))) if set(base) - {"."} else Shelf()
    made = column(text)
    decide([made], shelf)
    for position, where in enumerate(made.packs):
        if where >= 0:
            found = Place(where, made.offsets[position], made.lengths[position])
            assert shelf.chunks[made.digest_at(position)] == found
        else:
            assert (where == IN_HOLE) == (text[position] == ".")


LETTERS = st.text(alphabet="abcdefghijklmnopqrst", max_size=20)


@given(st.lists(LETTERS, max_size=4), LETTERS, st.text(alphabet="UVWXYZ.", max_size=6), st.sampled_from([FRAME, SMALL]))
def test_packs_are_let_go_whole_the_sparsest_first_only_where_too_much_is_held_and_bounded_by_what_is_new(
    packs: list[str], old: str, fresh: str, frame: int
):
    shelf = shelf_of(*(letters for letters in packs if letters), frame=frame)
    made = column(old + fresh)
    decide([made], shelf)
    found = {letter: shelf.chunks[digest_of(letter)].pack for letter in old if digest_of(letter) in shelf.chunks}
    live = {row: frame * list(found.values()).count(row) for row in found.values()}
    placed = dict(zip(old + fresh, made.packs, strict=True))
    gone = {row for letter, row in found.items() if placed[letter] == NOWHERE}
    assert all(placed[letter] == (NOWHERE if row in gone else row) for letter, row in found.items())
    new = len(set(old + fresh) - {"."} - found.keys())

    def cost(row: int) -> int:
        ref = shelf.table[row]
        assert ref is not None
        return ref.size + REQUEST_BYTES

    def over(without: set[int]) -> float:
        stays = live.keys() - without
        bytes_live = sum(live.values()) + new * frame
        held = sum(map(cost, stays)) + bytes_live - sum(live[row] for row in stays)
        return held - MOST_HELD * bytes_live - SPARED_BYTES

    in_order = sorted(live, key=lambda row: (live[row] / cost(row), row))
    assert gone == set(in_order[: len(gone)])
    again = sum(live[row] for row in gone)
    if gone:
        last = in_order[len(gone) - 1]
        assert over(gone - {last}) > 0
        assert again - live[last] < new * frame
    assert gone == live.keys() or not new or over(gone) <= 0 or again >= new * frame


class Disk:
    """A disk whose chunks change every night; digests and frame lengths are drawn, there are no bytes."""

    def __init__(self, chunks: int, cluster: int) -> None:
        self.chance = random.Random(chunks + cluster)
        self.cluster = cluster
        self.lengths: dict[bytes, int] = {}
        self.chunks = [self.chunk() for _ in range(chunks)]

    def chunk(self) -> bytes:
        digest = self.chance.randbytes(32)
        self.lengths[digest] = self.chance.randrange(20_000, 220_000)
        return digest

    def night(self, share: float) -> int:
        """Change so many of the chunks, in clusters; bytes of the new ones' frames."""
        changed: set[int] = set()
        while len(changed) < share * len(self.chunks):
            first = self.chance.randrange(len(self.chunks))
            changed.update(range(first, min(first + self.chance.randint(1, 2 * self.cluster), len(self.chunks))))
        for position in changed:
            self.chunks[position] = self.chunk()
        return sum(self.lengths[self.chunks[position]] for position in changed)

    def push(self, base: maps.FileMap | None, night: int) -> tuple[maps.FileMap, int]:
        """The map that a push would make, and the bytes that it would send."""
        made, shelf = Column(len(self.chunks) << CHUNK_LOG2, CHUNK_LOG2), Shelf()
        made.set_digests(0, b"".join(self.chunks))
        if base is not None:
            shelf.add_base(base)
        decide([made], shelf)
        row, size, sent = len(shelf.table), PACK_BYTES, 0
        sizes: list[int] = []
        for position in made.unplaced():
            length = self.lengths[made.digest_at(position)]
            if size + length > PACK_BYTES:
                sizes.append(0)
                size = 0
            made.put(position, Place(row + len(sizes) - 1, size, length))
            size += length
            sent += length
            sizes[-1] = size
        shelf.table += [pack(night << 16 | number, size) for number, size in enumerate(sizes)]
        return made.file_map(shelf.complete()), sent


def read_cost(file_map: maps.FileMap) -> tuple[int, int]:
    """Bytes and ranges of a full pull."""
    chunks = ((c.pack, Wanted(c.offset, c.length, c.digest, 0, None, c.position)) for c in file_map.chunks())
    read = [part.length for part in ranges(group(chunks))]
    return sum(read), len(read)


@pytest.mark.parametrize("cluster", [1, 6])
def test_over_forty_nightly_versions_a_full_pull_stays_within_twice_a_fresh_one_and_the_store_within_1_7(cluster: int):
    disk = Disk(2_000, cluster)
    version, sent = disk.push(None, 0)
    came = went = 0
    for night in range(1, 41):
        new = disk.night(0.12)
        version, sent = disk.push(version, night)
        assert night > 1 or sent == new
        assert sent <= 2 * new + PACK_BYTES
        came, went = came + new, went + sent
        live, held = sum(version.live_bytes().values()), sum(one.size for one in version.packs)
        assert held <= 1.7 * live
        read, asked = read_cost(version)
        assert read <= 1.7 * live
        assert read + asked * GAP_BYTES <= 1.7 * (live + live / RANGE_BYTES * GAP_BYTES)
    assert went <= 1.6 * came


def test_a_column_of_many_leaves_has_the_digest_of_its_map():
    count = LEAF_CHUNKS * 2 + 5
    made = Column(count << CHUNK_LOG2, CHUNK_LOG2)
    made.set_digests(0, b"".join(hashlib.sha256(bytes([n % 251, n // 251])).digest() for n in range(count)))
    for position in range(count):
        made.put(position, Place(0, position * 10, 10))
    assert made.file_map([pack(0, count * 10)]).digest() == made.file_digest()
    assert isinstance(made.lengths, array.array)
