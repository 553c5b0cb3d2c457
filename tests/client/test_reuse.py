"""What a push stores again: the two rules, over columns made by hand."""

import array
import hashlib

from hypothesis import given
from hypothesis import strategies as st

from s3reg.client.reuse import IN_HOLE, NOWHERE, Column, Place, Shelf, column_of, decide
from s3reg.model import maps
from s3reg.model.chunks import CHUNK_LOG2, HOLE, LEAF_CHUNKS
from s3reg.model.names import Digest, SessionId
from s3reg.model.packs import PackRef

SID = SessionId("5" * 32)
FRAME = 100_000


def digest_of(letter: str) -> bytes:
    return HOLE if letter == "." else hashlib.sha256(letter.encode()).digest()


def column(text: str) -> Column:
    """A file of one chunk a letter; `.` is a hole."""
    made = Column(len(text) << CHUNK_LOG2, CHUNK_LOG2)
    made.set_digests(0, b"".join(map(digest_of, text)))
    return made


def pack(number: int, size: int) -> PackRef:
    return PackRef(SID, Digest(f"{number:064x}"), size)


def shelf_of(*packs: str, size: int | None = None) -> Shelf:
    """A shelf of packs with one frame a letter."""
    shelf = Shelf()
    for number, letters in enumerate(packs):
        row = shelf.row(pack(number, size or FRAME * len(letters)))
        for at, letter in enumerate(letters):
            shelf.chunks[digest_of(letter)] = Place(row, at * FRAME, FRAME)
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


def test_a_changed_chunk_in_a_long_reused_run_is_stored_alone():
    assert stored("abcdXfghi", shelf_of("abcdefghi")) == "X"


def test_three_reused_chunks_between_new_ones_are_stored_again():
    assert stored("XabcY", shelf_of("abcdefghi", size=FRAME)) == "XabcY"


def test_four_reused_chunks_between_new_ones_are_kept():
    assert stored("XabcdY", shelf_of("abcdefghi")) == "XY"


def test_a_short_run_at_an_edge_of_the_file_is_kept():
    assert stored("abcX", shelf_of("abc")) == "X"
    assert stored("Xabc", shelf_of("abc")) == "X"


def test_a_short_run_beside_a_hole_is_kept():
    assert stored("Xab.Y", shelf_of("ab")) == "XY"


def test_a_pack_that_would_be_less_than_a_third_live_counts_as_absent():
    assert stored("abcd", shelf_of("abcdefghijklm")) == "abcd"
    assert stored("abcde", shelf_of("abcdefghijklm")) == ""


def test_what_files_reused_whole_need_of_a_pack_counts_as_live():
    shelf = shelf_of("abcdefghijklm")
    made = column("abcd")
    decide([made], shelf, {pack(0, FRAME * 13): FRAME})
    assert made.unplaced() == []


def test_live_bytes_are_counted_over_all_files_of_the_version():
    shelf = shelf_of("abcdefghijkl")
    first, second = column("ab"), column("cd")
    decide([first, second], shelf)
    assert first.unplaced() == second.unplaced() == []


def test_the_rules_spare_packs_of_this_very_push():
    shelf = shelf_of("abcdefghijklm")
    shelf.own.add(0)
    assert stored("XaY", shelf) == "XY"


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


def test_a_column_of_many_leaves_has_the_digest_of_its_map():
    count = LEAF_CHUNKS * 2 + 5
    made = Column(count << CHUNK_LOG2, CHUNK_LOG2)
    made.set_digests(0, b"".join(hashlib.sha256(bytes([n % 251, n // 251])).digest() for n in range(count)))
    for position in range(count):
        made.put(position, Place(0, position * 10, 10))
    assert made.file_map([pack(0, count * 10)]).digest() == made.file_digest()
    assert isinstance(made.lengths, array.array)
