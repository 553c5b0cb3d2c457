"""What a head, a marker and a list of files say."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3reg.errors import NameInvalid, SelectorsDisagree, TagNotFound, TagTaken, VersionNotFound
from s3reg.model.chunks import HOLE, FileTree, chunk_digest
from s3reg.model.names import Digest, SessionId, TemplateId, VersionId
from s3reg.model.packs import PackRef
from s3reg.model.template import (
    OPERATIONS_KEPT,
    Entry,
    File,
    Head,
    MapRef,
    Marker,
    PackUse,
    Role,
    Version,
    bytes_digest,
    check_file_names,
    union_bytes,
)

TEMPLATE = TemplateId("0f8fad5b-d9cb-469f-a165-70867728950e")
SID, SID2 = SessionId("0" * 31 + "1"), SessionId("0" * 31 + "2")
D1, D2, D3 = (Digest(letter * 64) for letter in "abc")
EMPTY = Head(TEMPLATE, "base", "main")


def entry(tag, number, created=0):
    return Entry(VersionId(f"{number:032x}"), 99, tag, "", 1, created)


def head_of(*tags):
    head = EMPTY
    for number, tag in enumerate(tags):
        head = head.add(entry(tag, number), force=False, by="x")
    return head


def test_versions_are_numbered_in_the_order_in_which_they_were_added():
    head = head_of("a", "b", "c")
    assert [(one.tag, one.seq, head.number(one)) for one in head.versions] == [("a", 0, 0), ("b", 1, 1), ("c", 2, 2)]
    assert head.latest() == head.versions[2]
    assert (head.removed, head.deleted) == ((), False)
    assert EMPTY.latest() is None


def test_a_taken_tag_is_refused_unless_forced():
    head = head_of("a", "b")
    with pytest.raises(TagTaken):
        head.add(entry("a", 7), force=False, by="jo")


def test_a_forced_version_takes_the_place_of_the_old_one():
    head = head_of("a", "b").add(entry("a", 7, created=50), force=True, by="jo")
    assert [(one.id[-1], one.seq, one.tag) for one in head.versions] == [("7", 0, "a"), ("1", 1, "b")]
    assert [(one.id[-1], one.seq, one.removed, one.removed_by) for one in head.removed] == [("0", 0, 50, "jo")]
    assert head.latest().tag == "b"


def test_a_sequence_number_is_never_given_twice():
    head = head_of("a", "b", "c")
    gone = replace(head, versions=head.versions[:2], removed=(head.versions[2],))
    assert gone.add(entry("d", 7), force=False, by="x").versions[-1].seq == 3
    emptied = replace(head, versions=(), removed=head.versions)
    assert emptied.add(entry("d", 7), force=False, by="x").versions[0].seq == 3


def test_adding_to_a_deleted_template_brings_it_back():
    deleted = replace(head_of("a"), versions=(), removed=head_of("a").versions, deleted=True)
    assert not deleted.add(entry("b", 1), force=False, by="x").deleted
    assert not replace(head_of("a"), deleted=True).add(entry("a", 1), force=True, by="x").deleted


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=12))
def test_whatever_is_added_no_version_is_lost_and_tags_stay_unique(pushes):
    head = EMPTY
    for number, (tag, force) in enumerate(pushes):
        before = {one.id for one in (*head.versions, *head.removed)}
        try:
            head = head.add(entry(tag, number), force=force, by="x")
        except TagTaken:
            assert not force
            continue
        assert {one.id for one in (*head.versions, *head.removed)} == before | {f"{number:032x}"}
        assert len({one.tag for one in head.versions}) == len(head.versions)
        seqs = [one.seq for one in head.versions]
        assert seqs == sorted(set(seqs))
        assert all(one.removed is not None for one in head.removed)


def test_a_revert_moves_the_version_and_all_newer_ones_to_removed():
    head = replace(head_of("a", "b", "c"), size=9, operations=("op",))
    left = head.revert(head.versions[1], when=70, by="jo")
    assert [one.tag for one in left.versions] == ["a"]
    assert [(one.tag, one.seq, one.removed, one.removed_by) for one in left.removed] == [
        ("b", 1, 70, "jo"),
        ("c", 2, 70, "jo"),
    ]
    assert left == replace(head, versions=left.versions, removed=left.removed)
    gone = left.revert(left.versions[0], when=80, by="al")
    assert (gone.versions, gone.deleted) == ((), True)
    assert [(one.tag, one.removed) for one in gone.removed] == [("b", 70), ("c", 70), ("a", 80)]


@st.composite
def histories(draw):
    """What happened to a template: pushes, some forced, and reverts to some number."""
    return draw(st.lists(st.one_of(st.tuples(st.sampled_from("abcd"), st.booleans()), st.integers(0, 5)), max_size=15))


@given(histories())
def test_whatever_is_pushed_and_reverted_no_version_is_lost_and_what_is_left_is_older(history):
    head, made = EMPTY, set()
    for number, event in enumerate(history):
        if isinstance(event, tuple):
            tag, force = event
            if head.tagged(tag) and not force:
                continue
            head, _ = head.add(entry(tag, number), force=force, by="x"), made.add(f"{number:032x}")
        elif event < len(head.versions):
            before, first = head, head.versions[event]
            head = head.revert(first, when=number, by="x")
            assert head.versions == before.versions[:event]
            assert head.removed[: len(before.removed)] == before.removed
            assert [one.id for one in head.removed[len(before.removed) :]] == [
                one.id for one in before.versions[event:]
            ]
            assert head.deleted == (event == 0)
        assert {one.id for one in (*head.versions, *head.removed)} == made
        assert len({one.tag for one in head.versions}) == len(head.versions)
        assert [one.seq for one in head.versions] == sorted({one.seq for one in head.versions})
        assert all(one.removed is not None for one in head.removed)
        assert head.deleted == (bool(made) and not head.versions)


@given(
    st.lists(st.dictionaries(st.sampled_from("pqrst"), st.integers(1, 9), max_size=5), min_size=1, max_size=5),
    st.integers(0, 4),
)
def test_the_size_of_what_is_left_is_at_most_the_size_of_all_and_at_least_that_of_each(layers, cut):
    """Layers of one digest have one size: the letter decides."""
    versions = [
        Version(
            VersionId(f"{number:032x}"), TEMPLATE, "main", SID, 0, {},
            tuple(File(name, Role.IMAGE, ord(name) % 7 + 1, Digest(name * 64)) for name in names),
        )
        for number, names in enumerate(layers)
    ]  # fmt: skip
    left = versions[:cut]
    assert union_bytes(left) <= union_bytes(versions)
    for one in left:
        assert union_bytes(left) >= sum(file.size for file in one.layers())
    assert union_bytes(left) <= sum(file.size for one in left for file in one.layers())


def test_a_version_is_found_by_tag_by_number_by_both_or_as_the_newest():
    head = head_of("a", "b", "c")
    assert head.select().tag == "c"
    assert head.select(tag="a").tag == "a"
    assert head.select(number=1).tag == "b"
    assert head.select(number=0).tag == "a"
    assert head.select(tag="b", number=1).tag == "b"
    assert head.with_id(head.versions[1].id).tag == "b"
    assert head.with_id("x") is None
    assert head.tagged("x") is None


@pytest.mark.parametrize("number", [-1, 3, 1 << 60])
def test_a_number_that_no_version_has_is_not_found(number):
    with pytest.raises(VersionNotFound):
        head_of("a", "b", "c").select(number=number)


def test_what_was_asked_for_is_not_found_rather_than_something_else():
    head = head_of("a", "b")
    with pytest.raises(TagNotFound):
        head.select(tag="c")
    with pytest.raises(TagNotFound):
        head.select(tag="")
    with pytest.raises(SelectorsDisagree):
        head.select(tag="a", number=1)
    with pytest.raises(VersionNotFound):
        EMPTY.select()
    with pytest.raises(TagNotFound):
        head.select(tag="A")


def test_every_write_is_one_generation_on_and_remembers_the_last_operations():
    head = EMPTY
    for number in range(20):
        head = head.wrote(f"op-{number}")
    assert head.gen == 20
    assert head.operations == tuple(f"op-{number}" for number in range(20 - OPERATIONS_KEPT, 20))


# --- Versions ---

VERSION = Version(
    VersionId("a" * 32),
    TEMPLATE,
    "main",
    SID,
    0,
    {},
    (
        File("c.yaml", Role.CONFIG, 3, D3, inline=b"abc"),
        File("base", Role.IMAGE, 100, D1, map=MapRef(SID2, D1, 1), packs=(PackUse(PackRef(SID2, D1, 5), 5),)),
        File("disk", Role.IMAGE, 20, D2, map=MapRef(SID, D2, 1), packs=(PackUse(PackRef(SID, D2, 5), 5),)),
        File("ram", Role.STATE, 3, D3, map=MapRef(SID, D3, 1)),
        File("nvram", Role.NVRAM, 7, D3, inline=b"1234567"),
    ),
)


def test_layers_are_images_and_states():
    assert [file.name for file in VERSION.layers()] == ["base", "disk", "ram"]
    assert VERSION.file("disk").size == 20
    assert VERSION.file("Disk") is None


def test_a_templates_size_counts_every_layer_once():
    newer = replace(VERSION, files=(*VERSION.files[:2], File("disk", Role.IMAGE, 50, Digest("d" * 64))))
    assert union_bytes([VERSION]) == 123
    assert union_bytes([VERSION, VERSION]) == 123
    assert union_bytes([VERSION, newer]) == 173
    assert union_bytes([]) == 0


def marker(*, packs=(), maps=(), versions=()):
    return Marker("m", frozenset(packs), frozenset(maps), frozenset(versions))


def test_a_marker_touches_what_needs_anything_that_it_names():
    assert not marker().touches(VERSION)
    assert marker(packs=[("main", SID2, D1)]).touches(VERSION)
    assert marker(packs=[("main", SID, D2)]).touches(VERSION)
    assert marker(maps=[("main", SID, D3)]).touches(VERSION)
    assert marker(versions=[(TEMPLATE, VERSION.id)]).touches(VERSION)


def test_a_marker_does_not_touch_what_only_looks_alike():
    assert not marker(packs=[("other", SID, D2), ("main", SID2, D2), ("main", SID, D1)]).touches(VERSION)
    assert not marker(maps=[("other", SID, D3), ("main", SID, D1), ("main", SID2, D3)]).touches(VERSION)
    assert not marker(packs=[("main", SID, D3)], maps=[("main", SID2, D2)]).touches(VERSION)
    assert not marker(versions=[(TEMPLATE, VersionId("b" * 32)), ("x", VERSION.id)]).touches(VERSION)


# --- Bytes ---


@given(st.integers(0, 5), st.sampled_from([0, 1, 1000]), st.lists(st.integers(0, 4)))
@settings(max_examples=30)
def test_the_digest_of_bytes_in_memory_is_that_of_their_chunks(whole, rest, marked):
    chunk = 1 << 18
    data = bytearray(whole * chunk + rest)
    for position in marked:
        if position * chunk < len(data):
            data[position * chunk] = position + 1
    tree = FileTree(len(data), 18)
    for at in range(0, len(data), chunk):
        part = bytes(data[at : at + chunk])
        tree.add(chunk_digest(part) if any(part) else HOLE)
    assert bytes_digest(bytes(data)) == tree.digest()


# --- File names ---


def test_names_that_differ_are_fine_and_the_vm_folder_is_another():
    check_file_names([("a", Role.IMAGE), ("b", Role.STATE), ("a", Role.CONFIG), ("b", Role.EXTRA), ("A2", Role.NVRAM)])
    check_file_names([])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", Role.IMAGE), ("a", Role.IMAGE)),
        (("disk", Role.IMAGE), ("DISK", Role.STATE)),
        (("config.yaml", Role.CONFIG), ("Config.YAML", Role.EXTRA)),
        (("straße", Role.EXTRA), ("STRASSE", Role.NVRAM)),
        (("é", Role.IMAGE), ("É", Role.IMAGE)),
    ],
)
def test_names_that_a_mac_takes_for_one_collide(one, other):
    with pytest.raises(NameInvalid):
        check_file_names([one, ("between", Role.IMAGE), other])


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "e\u0301"])
def test_a_name_that_no_library_can_hold_is_refused(name):
    with pytest.raises(NameInvalid):
        check_file_names([("a", Role.IMAGE), (name, Role.EXTRA)])
