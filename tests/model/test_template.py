"""What a head, a marker and a list of files say."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3reg.errors import (
    NameInvalid,
    NewTagTaken,
    NotInTrash,
    RestoreTagTaken,
    SelectorsDisagree,
    TagNotFound,
    TagTaken,
    VersionNotFound,
)
from s3reg.model import format as records
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
        head = head.add(entry(tag, number), force=False, by="x", keeps=5)
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
        head.add(entry("a", 7), force=False, by="jo", keeps=5)


def test_a_forced_version_takes_the_place_of_the_old_one():
    head = head_of("a", "b").add(entry("a", 7, created=50), force=True, by="jo", keeps=5)
    assert [(one.id[-1], one.seq, one.tag) for one in head.versions] == [("7", 0, "a"), ("1", 1, "b")]
    assert [(one.id[-1], one.seq, one.removed, one.removed_by, one.until) for one in head.removed] == [
        ("0", 0, 50, "jo", 55)
    ]
    assert head.latest().tag == "b"


def test_a_sequence_number_is_never_given_twice():
    head = head_of("a", "b", "c")
    gone = replace(head, versions=head.versions[:2], removed=(head.versions[2],))
    assert gone.add(entry("d", 7), force=False, by="x", keeps=5).versions[-1].seq == 3
    emptied = replace(head, versions=(), removed=head.versions)
    assert emptied.add(entry("d", 7), force=False, by="x", keeps=5).versions[0].seq == 3


def test_adding_to_a_deleted_template_brings_it_back():
    deleted = replace(head_of("a"), versions=(), removed=head_of("a").versions, deleted=True)
    assert not deleted.add(entry("b", 1), force=False, by="x", keeps=5).deleted
    assert not replace(head_of("a"), deleted=True).add(entry("a", 1), force=True, by="x", keeps=5).deleted


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=12))
def test_whatever_is_added_no_version_is_lost_and_tags_stay_unique(pushes):
    head = EMPTY
    for number, (tag, force) in enumerate(pushes):
        before = {one.id for one in (*head.versions, *head.removed)}
        try:
            head = head.add(entry(tag, number), force=force, by="x", keeps=5)
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
    left = head.revert(head.versions[1], when=70, by="jo", keeps=5)
    assert [one.tag for one in left.versions] == ["a"]
    assert [(one.tag, one.seq, one.removed, one.removed_by, one.until) for one in left.removed] == [
        ("b", 1, 70, "jo", 75),
        ("c", 2, 70, "jo", 75),
    ]
    assert left == replace(head, versions=left.versions, removed=left.removed)
    gone = left.revert(left.versions[0], when=80, by="al", keeps=5)
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
            head, _ = head.add(entry(tag, number), force=force, by="x", keeps=5), made.add(f"{number:032x}")
        elif event < len(head.versions):
            before, first = head, head.versions[event]
            head = head.revert(first, when=number, by="x", keeps=5)
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


# --- The trash ---


def ids_of(*entries):
    return [one.id for one in entries]


def tags_of(entries):
    return "".join(one.tag for one in entries)


def test_an_untagged_version_goes_alone_and_the_newer_ones_close_up():
    head = head_of("a", "b", "c")
    left = head.untag(head.versions[1], when=70, by="jo", keeps=5)
    assert [(one.tag, one.seq, left.number(one)) for one in left.versions] == [("a", 0, 0), ("c", 2, 1)]
    assert [(one.tag, one.seq, one.removed, one.removed_by, one.until) for one in left.removed] == [
        ("b", 1, 70, "jo", 75)
    ]
    assert left == replace(head, versions=left.versions, removed=left.removed)
    assert head_of("a").untag(head_of("a").versions[0], when=1, by="x", keeps=5).deleted


def test_a_restored_version_is_as_it_was_where_it_was():
    head = head_of("a", "b", "c", "d")
    left = head.untag(head.versions[1], when=70, by="jo", keeps=5)
    assert left.restore(ids_of(head.versions[1])) == head
    gone = left.revert(left.versions[0], when=80, by="jo", keeps=5)
    assert gone.deleted
    assert gone.restore(ids_of(*head.versions)) == replace(head, removed=())
    assert tags_of(gone.restore(ids_of(head.versions[3], head.versions[0])).versions) == "ad"


def test_what_was_pushed_meanwhile_stays_behind_what_is_restored():
    head = head_of("a", "b").revert(head_of("a", "b").versions[0], when=70, by="jo", keeps=5)
    again = head.add(entry("c", 9), force=False, by="jo", keeps=5)
    assert tags_of(again.restore(ids_of(*head.removed)).versions) == "abc"


def test_what_was_replaced_comes_back_before_what_took_its_place_in_the_order_in_which_it_was_made():
    head = head_of("a", "b").add(entry("a", 7, created=50), force=True, by="jo", keeps=5)
    head = head.add(entry("a", 8, created=60), force=True, by="jo", keeps=5)
    one = head.restore(ids_of(head.removed[1]), as_tag="a2")
    assert [(each.tag, each.id[-1], each.seq) for each in one.versions] == [
        ("a2", "7", 0),
        ("a", "8", 0),
        ("b", "1", 1),
    ]
    both = one.restore(ids_of(head.removed[0]), as_tag="a1")
    assert [each.tag for each in both.versions] == ["a1", "a2", "a", "b"]
    assert records.read_head(records.write_head(both), TEMPLATE) == both


def test_of_one_second_too_what_was_replaced_is_not_the_newest():
    head = (
        head_of("a").add(entry("a", 7), force=True, by="jo", keeps=5).add(entry("a", 8), force=True, by="jo", keeps=5)
    )
    back = head.restore(ids_of(head.removed[0]), as_tag="a0").restore(ids_of(head.removed[1]), as_tag="a7")
    assert back.latest().id[-1] == "8"
    gone = head.revert(head.versions[0], when=90, by="jo", keeps=5)
    with pytest.raises(RestoreTagTaken):
        gone.restore(ids_of(*gone.removed))
    assert gone.restore(ids_of(gone.removed[2])).latest().id[-1] == "8"
    renamed = head.retag(head.versions[0], "b")
    both = renamed.untag(renamed.versions[0], when=90, by="jo", keeps=5)
    assert tags_of(both.restore(ids_of(*both.removed[1:])).versions) == "ab"


def test_what_was_replaced_is_not_the_newest_though_the_clock_says_that_it_was_made_later():
    """Clocks of two replicas; or a commit that was begun before, and is done once more."""
    head = EMPTY.add(entry("a", 0, created=50), force=False, by="jo", keeps=5)
    head = head.add(entry("a", 7, created=40), force=True, by="jo", keeps=5)
    head = head.add(entry("a", 8, created=30), force=True, by="jo", keeps=5)
    for first, second in ((0, 1), (1, 0)):
        back = head.restore(ids_of(head.removed[first]), as_tag="x").restore(ids_of(head.removed[second]), as_tag="y")
        assert "".join(one.id[-1] for one in back.versions) == "078"


def test_a_tag_that_is_taken_by_now_is_named_and_nothing_comes_back():
    head = head_of("a", "b", "c")
    left = head.revert(head.versions[1], when=70, by="jo", keeps=5).add(entry("c", 9), force=False, by="jo", keeps=5)
    with pytest.raises(RestoreTagTaken) as caught:
        left.restore(ids_of(*left.removed))
    assert caught.value.detail["tag"] == "c"
    assert tags_of(left.restore(ids_of(left.removed[0])).versions) == "abc"
    assert [one.tag for one in left.restore(ids_of(left.removed[1]), as_tag="c0").versions] == ["a", "c0", "c"]


def test_what_is_not_in_the_trash_brings_nothing_back():
    head = head_of("a", "b", "c")
    left = head.revert(head.versions[1], when=70, by="jo", keeps=5)
    for wrong in (head.versions[0].id, "f" * 32):
        with pytest.raises(NotInTrash) as caught:
            left.restore([left.removed[0].id, wrong])
        assert caught.value.detail["version"] == wrong


def test_a_purge_takes_out_of_the_trash_and_out_of_nothing_else():
    head = head_of("a", "b", "c")
    left = head.revert(head.versions[1], when=70, by="jo", keeps=5)
    assert left.purge(ids_of(*head.versions)) == replace(left, removed=())
    assert left.purge(["f" * 32]) == left


def test_another_tag_changes_nothing_else_and_must_be_free():
    head = head_of("a", "b")
    found = head.retag(head.versions[0], "z")
    assert found == replace(head, versions=(replace(head.versions[0], tag="z"), head.versions[1]))
    assert head.retag(head.versions[0], "a") == head
    with pytest.raises(NewTagTaken):
        head.retag(head.versions[0], "b")


STEPS = st.one_of(
    st.tuples(st.just("push"), st.sampled_from("abcd"), st.booleans()),
    st.tuples(st.sampled_from(["revert", "untag"]), st.integers(0, 5)),
    st.tuples(st.just("retag"), st.integers(0, 5), st.sampled_from("abcde")),
    st.tuples(st.just("delete")),
    st.tuples(st.just("restore"), st.sets(st.integers(0, 8), min_size=1), st.none() | st.sampled_from("abcdef")),
    st.tuples(st.just("purge"), st.sets(st.integers(0, 8))),
)


class Plain:
    """What a head is to anybody: versions with their tags, those in the trash, and in which place each was pushed."""

    def __init__(self):
        self.places = {}
        self.versions = {}
        self.trash = []
        self.purged = set()

    def push(self, vid, tag, force):
        old = next((one for one, taken in self.versions.items() if taken == tag), None)
        if old is not None and not force:
            return TagTaken
        # What is in nobody's place comes behind everything that could come back.
        kept = [place for one, place in self.places.items() if one not in self.purged]
        self.places[vid] = max(kept, default=-1) + 1 if old is None else self.places[old]
        if old is not None:
            self.remove(old)
        self.versions[vid] = tag
        return None

    def remove(self, *going):
        self.trash += [(vid, self.versions.pop(vid)) for vid in going]

    def restore(self, chosen, as_tag):
        back = {vid: as_tag or tag for vid, tag in chosen}
        if len({*back.values(), *self.versions.values()}) < len(back) + len(self.versions):
            return RestoreTagTaken
        self.versions |= back
        self.trash = [one for one in self.trash if one[0] not in back]
        return None

    def purge(self, chosen):
        self.trash = [one for one in self.trash if one not in chosen]
        self.purged |= {vid for vid, _ in chosen}

    def retag(self, vid, tag):
        if self.versions[vid] != tag and tag in self.versions.values():
            return NewTagTaken
        self.versions[vid] = tag
        return None


class Both:
    """A head and the plain model of it, step by step."""

    def __init__(self):
        self.head, self.plain = EMPTY, Plain()

    def step(self, vid, what, *how):
        """One step; the plain model says whether the head must refuse it."""
        refused, real = getattr(self, what)(vid, *how)
        if refused:
            with pytest.raises(refused):
                real()
        else:
            self.head = real()

    def _at(self, number):
        """The version of this number, or the newest."""
        return self.head.versions[min(number, len(self.head.versions) - 1)]

    def push(self, vid, tag, force):
        new = entry(tag, vid, created=vid)
        return self.plain.push(vid, tag, force), lambda: self.head.add(new, force=force, by="x", keeps=5)

    def revert(self, vid, number):
        if not self.head.versions:
            return None, lambda: self.head
        first = self._at(number)
        self.plain.remove(*(number_of(one) for one in self.head.versions[self.head.number(first) :]))
        return None, lambda: self.head.revert(first, when=vid, by="x", keeps=5)

    def delete(self, vid):
        return self.revert(vid, 0)

    def untag(self, vid, number):
        if not self.head.versions:
            return None, lambda: self.head
        self.plain.remove(number_of(self._at(number)))
        return None, lambda: self.head.untag(self._at(number), when=vid, by="x", keeps=5)

    def retag(self, _, number, tag):
        if not self.head.versions:
            return None, lambda: self.head
        one = self._at(number)
        return self.plain.retag(number_of(one), tag), lambda: self.head.retag(one, tag)

    def restore(self, _, places, as_tag):
        chosen = [self.plain.trash[at] for at in sorted(places) if at < len(self.plain.trash)]
        as_tag = as_tag if len(chosen) == 1 else None
        return self.plain.restore(chosen, as_tag), lambda: self.restored([vid for vid, _ in chosen], as_tag)

    def restored(self, vids, as_tag):
        """The head with these back; what was there keeps its order, and what was the newest is, unless a newer one came."""
        before = self.head
        after = before.restore([f"{vid:032x}" for vid in vids], as_tag=as_tag)
        assert [one for one in after.versions if number_of(one) not in vids] == list(before.versions)
        if before.versions and after.latest() != before.latest():
            old, new = before.latest(), after.latest()
            assert (new.seq, new.created) > (old.seq, old.created)
        return after

    def purge(self, _, places):
        chosen = [self.plain.trash[at] for at in places if at < len(self.plain.trash)]
        self.plain.purge(chosen)
        return None, lambda: self.head.purge([f"{vid:032x}" for vid, _ in chosen])


def number_of(one):
    return int(one.id, 16)


@given(st.lists(STEPS, max_size=25))
def test_whatever_is_done_a_head_is_what_plain_lists_say_and_nothing_is_lost_that_was_not_purged(steps):
    both = Both()
    for vid, step in enumerate(steps, 1):
        both.step(vid, *step)
        head, plain = both.head, both.plain
        assert {number_of(one): one.tag for one in head.versions} == plain.versions
        assert len({one.tag for one in head.versions}) == len(head.versions) == len(plain.versions)
        assert [(number_of(one), one.tag) for one in head.removed] == plain.trash
        assert {*plain.versions, *(vid for vid, _ in plain.trash), *plain.purged} == set(plain.places)
        places = [plain.places[number_of(one)] for one in head.versions]
        assert places == sorted(places)
        assert all(one.removed is None and one.removed_by is None for one in head.versions)
        assert all(one.removed is not None and one.removed_by for one in head.removed)
        assert head.deleted == (bool(plain.places) and not head.versions)
        assert records.read_head(records.write_head(head), TEMPLATE) == head


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
