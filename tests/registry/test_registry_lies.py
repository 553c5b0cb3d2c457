"""What a commit claims and its maps, packs and bases do not bear out. Nothing may come of any of it."""

import array
import hashlib
from dataclasses import replace

import pytest

from registry.material import (
    BASE,
    CHUNK,
    OTHER,
    Pusher,
    base,
    chunk,
    config,
    file_map,
    heads,
    image,
    inline,
    mapped,
    pack_bytes,
    put_map,
    put_pack,
)
from s3reg.errors import CommitInvalid, ConfigInvalid, NameInvalid, ParentUnknown
from s3reg.model import format as fmt
from s3reg.model import maps
from s3reg.model.maps import LARGEST_MAP, Run
from s3reg.model.packs import PackRef, seek_table_bytes
from s3reg.model.template import CONFIG_BYTES, INLINE_BYTES, MOST_FILES, Role, bytes_digest
from s3reg.registry import ProposedFile, Registry


@pytest.fixture
def session(node):
    return node.open().session


@pytest.fixture
def placed(store, session):
    return put_pack(store, session, [chunk("a"), chunk("b"), chunk("c"), chunk("tail", 100)])


@pytest.fixture
def refused(node, store, session):
    """Commits these files besides a configuration and gives what is said against them."""

    def commit(*files, error=CommitInvalid):
        with pytest.raises(error) as caught:
            node.commit(session, (*files, config()))
        assert heads(store) == []
        assert list(store.list(fmt.VERSIONS)) == []
        return str(caught.value)

    return commit


def test_an_honest_map_is_taken_whatever_way_its_runs_lie(node, store, session, placed):
    a, b, c, tail = placed
    honest = file_map([c, None, a, b, None, a, tail], size=6 * CHUNK + 100)

    done = node.commit(session, (mapped(store, session, "disk", honest), config()))

    (use,) = node.registry.version(node.asker, BASE)[2].files[0].packs
    assert use.live == sum(one.length for one in placed)
    assert done.stored == use.pack.size


def test_s10_an_empty_file_may_have_a_map(node, store, session):
    node.commit(session, (mapped(store, session, "disk", file_map([])), config()))

    assert node.registry.version(node.asker, BASE)[2].files[0].packs == ()


def test_a_file_of_holes_needs_no_pack(node, store, session):
    node.commit(session, (mapped(store, session, "disk", file_map([None] * 3)), config()))

    assert node.registry.version(node.asker, BASE)[2].files[0].packs == ()


# --- Maps ------------------------------------------------------------------------------------------------------------


def test_a_map_that_was_not_uploaded_is_refused(store, session, placed, refused):
    file = mapped(store, session, "disk", file_map(placed[:1]))
    store.delete([fmt.map_key("main", session.id, file.map.sha256)])

    assert "is missing" in refused(file)


@pytest.mark.parametrize("size", [0, 10, 10_000, LARGEST_MAP + 1])
def test_a_map_of_another_size_is_refused(store, session, placed, refused, size):
    file = mapped(store, session, "disk", file_map(placed[:1]))

    assert "bytes" in refused(replace(file, map=replace(file.map, size=size)))


def test_a_map_whose_bytes_are_not_those_of_its_name_is_refused(store, session, placed, refused):
    file = mapped(store, session, "disk", file_map(placed[:1]))
    other = maps.encode(file_map(placed[1:2]))
    store.put(fmt.map_key("main", session.id, file.map.sha256), other)

    assert "its name" in refused(replace(file, map=replace(file.map, size=len(other))))


@pytest.mark.parametrize("claim", [{"size": CHUNK + 1}, {"size": 1 << 50}, {"digest": "0" * 64}])
def test_a_file_of_another_size_or_digest_than_its_map_tells_is_refused(store, session, placed, refused, claim):
    refused(replace(mapped(store, session, "disk", file_map(placed[:1])), **claim))


def test_bytes_that_are_no_map_are_refused(store, session, refused):
    refused(ProposedFile("disk", Role.IMAGE, CHUNK, "0" * 64, map=put_map(store, session, b"no map at all")))


def test_a_zero_chunk_that_is_no_hole_is_refused(store, session, refused):
    (zero,) = put_pack(store, session, [bytes(CHUNK)])

    assert "hole" in refused(mapped(store, session, "disk", file_map([zero])))


def lying(placed, **changes):
    """The map of a file of these chunks with a lie in it, digest and all."""
    return replace(file_map(placed), **changes)


def test_an_offset_between_frames_is_refused(store, session, placed, refused):
    a, *_ = placed
    lie = file_map([replace(a, offset=1, length=a.length - 1)])

    assert "between" in refused(mapped(store, session, "disk", lie))


def test_an_offset_behind_the_last_frame_is_refused(store, session, placed, refused):
    tail = placed[-1]
    lie = file_map([replace(placed[0], offset=tail.offset + tail.length, length=8)])

    assert "between" in refused(mapped(store, session, "disk", lie))


@pytest.mark.parametrize("by", [-1, 1])
def test_a_frame_of_another_packed_length_is_refused(store, session, placed, refused, by):
    a, *_ = placed

    assert "another length" in refused(mapped(store, session, "disk", file_map([replace(a, length=a.length + by)])))


def test_a_run_that_goes_on_into_the_seek_table_is_refused(store, session, refused):
    (only,) = put_pack(store, session, [chunk("a")])
    behind = replace(only, offset=only.offset + only.length, length=8)

    assert "another length" in refused(mapped(store, session, "disk", file_map([only, behind])))


def test_a_run_that_reaches_beyond_its_pack_is_refused(store, session, placed, refused):
    a, *_ = placed

    assert "beyond" in refused(mapped(store, session, "disk", file_map([replace(a, length=a.pack.size + 1)])))


def test_a_short_frame_in_the_middle_of_a_file_is_refused(store, session, placed, refused):
    a, _, _, tail = placed

    assert "as long as" in refused(mapped(store, session, "disk", file_map([tail, a])))


def test_a_full_frame_at_the_end_of_a_file_that_ends_earlier_is_refused(store, session, placed, refused):
    assert "as long as" in refused(mapped(store, session, "disk", file_map(placed[:2], size=CHUNK + 5)))


def test_runs_that_do_not_cover_the_file_are_refused(store, session, placed, refused):
    honest = file_map([placed[0], None])
    lie = replace(honest, runs=(Run(1, 0, 0), Run(2, None, 0)))

    refused(mapped(store, session, "disk", replace(lie, size=honest.size)))


def test_a_pack_in_the_table_that_nothing_uses_is_refused(store, session, placed, refused):
    more = put_pack(store, session, [chunk("z")])[0].pack
    honest = file_map([placed[0], placed[1]])

    assert "uses nothing" in refused(mapped(store, session, "disk", replace(honest, packs=(*honest.packs, more))))


# --- Packs -----------------------------------------------------------------------------------------------------------


def test_a_pack_that_was_not_uploaded_is_refused(store, session, placed, refused):
    store.delete([fmt.pack_key("main", session.id, placed[0].pack.sha256)])

    assert "not uploaded" in refused(mapped(store, session, "disk", file_map(placed[:1])))


@pytest.mark.parametrize("by", [-1, 1])
def test_a_pack_of_another_size_than_the_store_lists_is_refused(store, session, placed, refused, by):
    a, *_ = placed
    lie = replace(a, pack=replace(a.pack, size=a.pack.size + by))

    assert "which has" in refused(mapped(store, session, "disk", file_map([lie])))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1] + b"x",
        lambda data: bytes(len(data)),
        lambda data: data[:-9] + b"\xff\xff\xff\xff" + data[-5:],
        lambda data: data[:-9] + (70_000).to_bytes(4, "little") + data[-5:],
    ],
)
def test_a_pack_without_a_seek_table_of_its_frames_is_refused(store, session, refused, damage):
    data, ((digest, offset, length),) = pack_bytes([chunk("a")])
    data = damage(data)
    sha256 = hashlib.sha256(data).hexdigest()
    store.put(fmt.pack_key("main", session.id, sha256), data)
    row = (digest, PackRef(session.id, sha256, len(data)), offset, length)

    refused(mapped(store, session, "disk", maps.make(CHUNK, 16, [row])))


def test_a_seek_table_longer_than_the_first_look_is_read_whole(node, store, session):
    """2,100 frames: 16 KiB of the pack's end do not hold their table."""
    frames = 2_100
    one, ((digest, _, length),) = pack_bytes([chunk("a")])
    body = one[:length] * frames
    from s3reg.model.packs import seek_table

    data = body + seek_table(array.array("I", [length] * frames), array.array("I", [CHUNK] * frames))
    sha256 = hashlib.sha256(data).hexdigest()
    store.put(fmt.pack_key("main", session.id, sha256), data)
    pack = PackRef(session.id, sha256, len(data))
    made = maps.make(frames * CHUNK, 16, [(digest, pack, i * length, length) for i in range(frames)])

    node.commit(session, (mapped(store, session, "disk", made), config()))

    assert seek_table_bytes(frames) > 16 * 1024
    (use,) = node.registry.version(node.asker, BASE)[2].files[0].packs
    assert use.live == len(body)


def test_a_pack_of_a_template_that_is_no_base_is_refused(node, store, session, refused):
    other = node.open(OTHER, name="other").session
    foreign = put_pack(store, other, [chunk("theirs")])

    assert "no base" in refused(mapped(store, session, "disk", file_map(foreign)))


def test_a_map_of_another_session_is_refused(node, store, session, refused):
    other = node.open(OTHER, name="other").session
    file = image(store, other, "disk", "a")

    assert "another push" in refused(file)


def test_a_dropped_base_lends_neither_maps_nor_packs(node, store):
    """It was asked for, and the session's record names it; that it may not be used is remembered by the store."""
    done = node.push(OTHER, name="other")
    from registry.material import needed_by, put_marker

    put_marker(store, "1", needed_by(store, OTHER, done.entry.id))
    opened = node.open(BASE, bases=(base(done),))
    store.delete([f"{fmt.MARKERS}1.json"])
    theirs = node.registry.version(node.asker, OTHER)[2].files[0]
    elsewhere = Pusher(Registry(store), store)

    assert opened.session.bases == (base(done),)
    with pytest.raises(CommitInvalid):
        elsewhere.commit(
            opened.session,
            (ProposedFile("disk", Role.IMAGE, theirs.size, theirs.digest, map=theirs.map), config()),
        )


def with_base(node):
    done = node.push(OTHER, name="other", words="ab")
    opened = node.open(BASE, bases=(base(done),))
    return opened, next(file for file in opened.bases[0].files if file.map)


def test_a_base_lends_its_packs_to_new_maps(node, store):
    opened, theirs = with_base(node)
    there = maps.decode(
        store.get(fmt.map_key("main", theirs.map.sid, theirs.map.sha256)).data, size=theirs.size
    ).chunks()
    rows = [(one.digest, one.pack, one.offset, one.length) for one in there]
    new = put_pack(store, opened.session, [chunk("new")])
    made = maps.make(3 * CHUNK, 16, [rows[1], new[0].row(), rows[0]])

    node.commit(opened.session, (mapped(store, opened.session, "disk", made), config()))

    uses = node.registry.version(node.asker, BASE)[2].files[0].packs
    assert {use.pack.sid for use in uses} == {theirs.map.sid, opened.session.id}


@pytest.mark.parametrize("claim", [{"size": 1}, {"digest": "0" * 64}])
def test_a_file_that_lies_about_a_bases_map_is_refused(node, store, claim):
    opened, theirs = with_base(node)
    file = ProposedFile("disk", Role.IMAGE, theirs.size, theirs.digest, map=theirs.map)

    with pytest.raises(CommitInvalid):
        node.commit(opened.session, (replace(file, **claim), config()))
    with pytest.raises(CommitInvalid):
        node.commit(opened.session, (replace(file, map=replace(file.map, size=file.map.size + 1)), config()))


def test_a_bases_pack_under_another_size_is_refused(node, store):
    opened, theirs = with_base(node)
    pack = theirs.packs[0].pack
    row = (bytes(range(32)), replace(pack, size=pack.size + 1), 0, 8)

    with pytest.raises(CommitInvalid, match="which has"):
        node.commit(opened.session, (mapped(store, opened.session, "disk", maps.make(CHUNK, 16, [row])), config()))


def test_a_pack_that_was_found_damaged_is_no_ground_for_a_new_version(node, store):
    opened, theirs = with_base(node)
    pack = theirs.packs[0].pack
    store.put(fmt.damaged_key(pack.sid, pack.sha256), b"")

    with pytest.raises(CommitInvalid, match="damaged"):
        node.commit(
            opened.session,
            (ProposedFile("disk", Role.IMAGE, theirs.size, theirs.digest, map=theirs.map), config()),
        )


def test_foreign_keys_among_the_packs_are_passed_over(node, store, session):
    store.put(f"{fmt.packs_prefix('main', session.id)}.DS_Store", b"x")

    assert node.commit(session, node.files(session))


# --- Files -----------------------------------------------------------------------------------------------------------


def test_inline_bytes_must_be_what_they_claim(refused):
    file = inline("nvram", b"bytes", Role.NVRAM)

    assert "not the ones" in refused(replace(file, digest=bytes_digest(b"other")))
    assert "not the ones" in refused(replace(file, size=4))


def test_a_file_has_its_bytes_or_a_map(store, session, placed, refused):
    file = mapped(store, session, "disk", file_map(placed[:1]))

    refused(replace(file, map=None))
    refused(replace(file, inline=b""))


def test_inline_files_are_small_and_few(refused):
    assert "too large" in refused(inline("big", bytes(INLINE_BYTES + 1)))
    assert "too large" in refused(*(inline(f"f{i}", bytes(INLINE_BYTES)) for i in range(17)))


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "..", ".", "", "a\0b", "a\nb", ".hidden", "x" * 300, "e\u0301", " a", "a\\b", "\ud800"]
)
def test_a_hostile_file_name_is_refused(refused, name):
    refused(inline(name, b"x"), error=NameInvalid)


def test_names_that_collide_where_case_is_ignored_are_refused(store, session, refused):
    refused(inline("NVRAM", b"x"), inline("nvram", b"x"), error=NameInvalid)
    refused(image(store, session, "disk", "a"), image(store, session, "Disk", "b"), error=NameInvalid)


def test_a_parent_must_be_there(store, session, refused):
    refused(image(store, session, "top", "a", parent="base"), error=ParentUnknown)
    refused(image(store, session, "top", "a", parent="config.yaml"), error=ParentUnknown)


def test_layers_stand_on_something(store, session, refused):
    one, two = image(store, session, "one", "a", parent="two"), image(store, session, "two", "b", parent="one")

    assert "itself" in refused(one, two)
    assert "itself" in refused(replace(one, parent="one"))


@pytest.mark.parametrize("claim", [{"parent": "disk"}, {"drive": 0}])
def test_only_layers_have_parents_and_only_images_drives(store, session, refused, claim):
    refused(image(store, session, "disk", "a"), replace(inline("x", b"x"), **claim))


@pytest.mark.parametrize("drive", [-1, 5000])
def test_a_drive_that_no_vm_has_is_refused(store, session, refused, drive):
    refused(image(store, session, "disk", "a", drive=drive))


def test_there_are_not_too_many_files(refused):
    assert "files" in refused(*(inline(f"f{i}", b"") for i in range(MOST_FILES)))


def test_sizes_that_sum_up_to_nonsense_are_refused(store, session, refused):
    sparse = maps.make(1 << 44, 24, [None] * (1 << 20))
    file = mapped(store, session, "d0", sparse)

    assert "larger" in refused(*(replace(file, name=f"d{i}") for i in range(600)))


def test_a_version_has_exactly_one_configuration_inline(node, store, session, placed):
    as_map = mapped(store, session, "config.yaml", file_map(placed[:1]), role=Role.CONFIG)
    for files in ((), (config(), replace(config(), name="other.yaml")), (as_map,)):
        with pytest.raises(CommitInvalid):
            node.commit(session, files)


@pytest.mark.parametrize("data", [b"", b"- a list", b"a: &x 1\nb: *x", b"{" * 500, bytes(CONFIG_BYTES), b"\xff\xfe"])
def test_a_configuration_that_is_none_is_refused(node, session, store, data):
    with pytest.raises(ConfigInvalid):
        node.commit(session, (config(data),))
    assert heads(store) == []


@pytest.mark.parametrize(
    "claim", [{"tag": "a\nb"}, {"tag": "x" * 300}, {"name": "a/b"}, {"description": "\0"}, {"arch": "6502"}]
)
def test_a_hostile_name_in_a_commit_is_refused(node, session, claim):
    with pytest.raises(NameInvalid):
        node.commit(session, node.files(session), **claim)
