"""The check of a store: whatever of what heads name is hurt, is named, and nothing else."""

import hashlib
import json
from dataclasses import replace

import pytest
import urllib3
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.material import (
    BASE,
    CHUNK,
    OTHER,
    Pusher,
    base,
    config,
    file_map,
    image,
    mapped,
    purge,
    put_marker,
    put_pack,
    read_head,
    swept,
)
from registry.material import chunk as chunk_of
from s3reg.errors import RecordDamaged, TemplateNotFound
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE
from s3reg.registry import Registry
from s3reg.store.files import FilesStore
from s3reg.store.s3 import S3Store

OPERATION = "1" * 32


def told(done):
    """What is damaged, each as (what, template, tag, file)."""
    return [(one.what.value, one.name, one.tag, one.file) for one in done.damage]


def only(store, prefix):
    (stat,) = store.list(prefix)
    return stat.key


def flip(store, key, at=-1):
    data = bytearray(store.get(key).data)
    data[at] ^= 1
    store.put(key, bytes(data))


def cut(store, key):
    store.put(key, store.get(key).data[:-1])


def lose(store, key):
    store.delete([key])


def rewrite(store, key, change):
    raw = json.loads(store.get(key).data)
    change(raw)
    store.put(key, json.dumps(raw).encode())


@pytest.fixture
def fsck(store):
    """A check by a process of its own."""

    def check(**more):
        return Registry(store).fsck(**more)

    return check


@pytest.fixture
def pushed(node):
    """BASE has one version, of one pack of three chunks; a hole lies before them."""
    return node.push(BASE, "v1", words=("a", "b", "c"))


@pytest.mark.usefixtures("pushed")
def test_a_sound_store_is_clean_and_counted(node, fsck, store):
    node.push(BASE, "v2", words=("d",))
    node.push(OTHER, "v1", name="other", words=("e",))
    packs = list(store.list(fmt.PACKS))
    for read_data in (0, 100):
        done = fsck(read_data=read_data)
        assert done.clean
        assert (done.templates, done.versions, done.packs) == (2, 3, 3)
        assert done.bytes == sum(stat.size for stat in packs)
        assert done.unsummed == 3
        assert done.read.count == (3 if read_data else 0)
        assert {sort: tally.count for sort, tally in done.orphans.items()} == {"versions": 0, "maps": 0, "packs": 0}
        assert (done.foreign, done.recorded) == ([], 0)
    assert list(store.list(fmt.DAMAGED)) == []


# --- Packs ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("pushed")
@pytest.mark.parametrize(
    ("harm", "reason", "lost"),
    [
        (lose, "it is missing", ((CHUNK, 3 * CHUNK),)),
        (cut, "bytes, not", ()),
        (lambda store, key: store.put(key, store.get(key).data[:30]), "bytes, not", ((2 * CHUNK, 2 * CHUNK),)),
        (flip, "seek table", ()),
        (lambda store, key: flip(store, key, -12), "seek table", ()),
    ],
    ids=["lost", "cut", "cut amid its frames", "its end flipped", "a length flipped"],
)
def test_a_pack_that_is_not_as_its_records_say_is_named_by_what_lies_in_it_and_noted(
    node, fsck, store, *, harm, reason, lost
):
    """What can still be had of it is told, though packs are not read otherwise."""
    node.push(OTHER, "v1", name="other", words=("e",))
    (key,) = [stat.key for stat in store.list(fmt.PACKS) if read_head(store).versions[0].id in stat.key]
    harm(store, key)
    done = fsck()
    assert told(done) == [("pack", "sequoia", "v1", "disk")]
    assert done.damage[0].key == key
    assert reason in done.damage[0].reason
    assert done.damage[0].lost == lost
    assert (done.recorded, done.read.count) == (1, 0)
    assert only(store, fmt.DAMAGED) == fmt.damaged_key(*fmt.pack_of_key(key))


def test_what_is_lost_on_both_sides_of_what_is_not_is_told_apart(node, store, fsck):
    opened = node.open()
    first, second = put_pack(store, opened.session, [chunk_of("a"), chunk_of("b")])
    disk = mapped(store, opened.session, "disk", file_map([first, None, second]), drive=0)
    node.commit(opened.session, (disk, config()))
    lose(store, only(store, fmt.PACKS))
    assert fsck().damage[0].lost == ((0, CHUNK), (2 * CHUNK, CHUNK))


@pytest.mark.usefixtures("pushed")
def test_only_the_chunk_that_does_not_decode_is_lost(fsck, store):
    key = only(store, fmt.PACKS)
    flip(store, key, 5)
    assert fsck().clean, "a directory keeps no checksum"
    done = fsck(read_data=100)
    assert told(done) == [("pack", "sequoia", "v1", "disk")]
    assert done.damage[0].lost == ((CHUNK, CHUNK),)
    assert "not those of its name" in done.damage[0].reason


def test_a_chunk_that_its_node_lied_about_is_found_though_the_pack_has_its_name(node, store, fsck):
    opened = node.open()
    first, second = put_pack(store, opened.session, [chunk_of("a"), chunk_of("b")])
    lie = replace(second, digest=first.digest)
    node.commit(opened.session, (mapped(store, opened.session, "disk", file_map([first, lie]), drive=0), config()))
    assert fsck().clean
    done = fsck(read_data=100)
    assert told(done) == [("pack", "sequoia", "v1", "disk")]
    assert done.damage[0].lost == ((CHUNK, CHUNK),)
    assert done.damage[0].reason == "a chunk's bytes do not have its digest"


def test_a_pack_is_not_sound_again_where_a_map_that_tells_its_chunks_cannot_be_read(node, store, fsck):
    """All that is looked at then is its name; the map may come back from a copy of the store."""
    opened = node.open()
    first, second = put_pack(store, opened.session, [chunk_of("a"), chunk_of("b")])
    lie = replace(second, digest=first.digest)
    node.commit(opened.session, (mapped(store, opened.session, "disk", file_map([first, lie]), drive=0), config()))
    assert not fsck(read_data=100).clean
    noted = [stat.key for stat in store.list(fmt.DAMAGED)]
    key = only(store, fmt.MAPS)
    data = store.get(key).data
    lose(store, key)
    assert fsck(read_data=100).forgotten == 0
    store.put(key, data)
    assert [key for key in noted if key in {stat.key for stat in store.list(fmt.DAMAGED)}] == noted


def reusing(node, pushed, template, tag, **more):
    """A version whose disk is that of the one pushed before, named again; another disk beside it."""
    opened = node.open(template, tag, bases=(base(pushed),), **more)
    (version,) = opened.bases
    disk = version.file("disk")
    taken = image(node.store, opened.session, "more", ("x",), drive=1)
    reused = replace(taken, name="disk", size=disk.size, digest=disk.digest, map=disk.map, drive=0)
    return node.commit(opened.session, (reused, taken, config()), tag, **more)


def test_every_version_that_stands_on_a_bad_pack_is_named(node, pushed, fsck, store, registry):
    reusing(node, pushed, BASE, "v2")
    registry.retag(EVERYONE, BASE, tag="v1", new="old", operation=OPERATION)
    lose(store, next(stat.key for stat in store.list(fmt.PACKS) if pushed.entry.id in stat.key))
    assert told(fsck()) == [("pack", "sequoia", "old", "disk"), ("pack", "sequoia", "v2", "disk")]


def test_of_one_template_s_packs_what_others_lose_is_not_told(node, pushed, fsck, store):
    reusing(node, pushed, OTHER, "v1", name="other")
    lose(store, next(stat.key for stat in store.list(fmt.PACKS) if pushed.entry.id in stat.key))
    assert told(fsck(only=["other"])) == [("pack", "other", "v1", "disk")]


def test_each_version_s_word_for_a_map_that_several_have_is_looked_at(node, pushed, fsck, store):
    second = reusing(node, pushed, BASE, "v2")
    rewrite(store, fmt.version_key(BASE, second.entry.id), other_live)
    assert told(fsck()) == [("version", "sequoia", "v2", "disk")]


@pytest.mark.usefixtures("pushed")
def test_a_noted_pack_is_told_until_it_is_read_and_sound_again(node, fsck, store):
    key = only(store, fmt.PACKS)
    good = store.get(key).data
    flip(store, key, 20)
    assert not fsck(read_data=100).clean
    store.put(key, good)
    done = fsck()
    assert told(done) == [("pack", "sequoia", "v1", "disk")]
    assert "found bad before" in done.damage[0].reason
    assert node.open(BASE, "v2").damaged
    done = fsck(read_data=0.01)
    assert (done.clean, done.forgotten, done.recorded) == (True, 1, 0)
    assert not node.open(BASE, "v3").damaged
    assert fsck().clean


@pytest.mark.usefixtures("pushed")
def test_told_not_to_it_notes_nothing(fsck, store):
    lose(store, only(store, fmt.PACKS))
    before = [stat.key for stat in store.list("")]
    done = fsck(record=False)
    assert (done.clean, done.recorded, done.unrecorded) == (False, 0, 1)
    assert [stat.key for stat in store.list("")] == before


@pytest.mark.usefixtures("pushed")
def test_of_a_copied_store_all_is_told_and_nothing_noted(fsck, store):
    rewrite(store, fmt.FORMAT_KEY, lambda raw: raw.update(made_as="s3://elsewhere"))
    lose(store, only(store, fmt.PACKS))
    done = fsck()
    assert told(done) == [("pack", "sequoia", "v1", "disk")]
    assert (done.recorded, done.unrecorded) == (0, 1)
    assert list(store.list(fmt.DAMAGED)) == []


def test_a_share_of_the_packs_is_chosen_by_a_seed_and_the_same_again(node, store):
    for number in range(12):
        node.push(BASE, f"v{number}", words=(str(number),))

    def read(seed):
        seen = []
        registry = Registry(_Reading(store, seen))
        done = registry.fsck(read_data=50, seed=seed)
        assert done.read.count == len(seen) < 12
        assert done.read.bytes == done.to_read
        return sorted(seen)

    assert read(7) == read(7) != read(8)


@pytest.mark.usefixtures("pushed")
def test_of_few_packs_one_is_read_whatever_the_share(fsck):
    assert [fsck(read_data=0.01, seed=seed).read.count for seed in range(4)] == [1, 1, 1, 1]


class _Reading:
    """The store; which packs were read whole, it notes."""

    def __init__(self, inner, seen):
        self._inner, self._seen = inner, seen

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def get(self, key, *, first=0, length=None):
        if key.startswith(fmt.PACKS) and (first, length) == (0, None):
            self._seen.append(key)
        return self._inner.get(key, first=first, length=length)


def send(store, key, data):
    """As a node sends it: with its checksum."""
    link = store.sign_put(key, size=len(data), sha256=hashlib.sha256(data).hexdigest(), seconds=60)
    answer = urllib3.request("PUT", link.url, headers=link.headers, body=data)
    assert answer.status == 200


def test_where_the_store_keeps_checksums_other_bytes_are_found_unread(minio, bucket):
    store = S3Store(bucket(minio), endpoint=minio.endpoint, region=minio.region)
    registry = Registry(store)
    registry.prepare()
    Pusher(registry, store).push()
    key = only(store, fmt.PACKS)
    data = store.get(key).data
    assert registry.fsck().unsummed == 1
    store.delete([key])
    send(store, key, data)
    done = registry.fsck()
    assert (done.clean, done.unsummed) == (True, 0)
    store.delete([key])
    send(store, key, bytes([data[0] ^ 1, *data[1:]]))
    done = registry.fsck(record=False)
    assert told(done) == [("pack", "sequoia", "v1", "disk")]
    assert "checksum" in done.damage[0].reason
    assert (registry.fsck(read_data=100).clean, registry.fsck(read_data=100).recorded) == (False, 1)


# --- Maps, versions, heads --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("pushed")
@pytest.mark.parametrize("harm", [lose, cut, flip])
def test_a_map_that_is_not_its_names_costs_its_file(fsck, store, harm):
    key = only(store, fmt.MAPS)
    harm(store, key)
    done = fsck()
    assert told(done) == [("map", "sequoia", "v1", "disk")]
    assert (done.damage[0].key, done.damage[0].lost) == (key, ((0, 4 * CHUNK),))
    assert done.recorded == 1


def test_a_version_whose_map_is_bad_is_no_base_until_a_check_finds_the_map_sound(node, pushed, fsck, store):
    """Else an unchanged disk would be pushed again as the file of that map, unread."""
    key = only(store, fmt.MAPS)
    good = store.get(key).data
    flip(store, key)
    assert fsck(only=["sequoia"]).recorded == 1
    assert only(store, fmt.DAMAGED) == fmt.damaged_key(*fmt.map_of_key(key))
    opened = node.open(BASE, "v2")
    assert (opened.bases, [dropped for dropped, _ in opened.dropped]) == ((), [base(pushed)])
    swept(store)
    assert only(store, fmt.DAMAGED), "a sweep leaves it, as long as the map is named"
    store.put(key, good)
    done = fsck()
    assert (done.clean, done.forgotten, done.recorded) == (True, 1, 0)
    assert [one.id for one in node.open(BASE, "v2").bases] == [pushed.entry.id]


@pytest.mark.usefixtures("pushed")
def test_a_map_of_a_newer_release_is_not_noted_as_bad(pushed, fsck, store):
    key = only(store, fmt.MAPS)
    raw = bytearray(zstandard.ZstdDecompressor().decompress(store.get(key).data))
    raw[8] = 2
    data = zstandard.ZstdCompressor().compress(bytes(raw))
    sha256 = hashlib.sha256(data).hexdigest()
    store.put(fmt.map_key("main", pushed.entry.id, sha256), data)
    rewrite(
        store,
        fmt.version_key(BASE, pushed.entry.id),
        lambda raw: raw["files"][0]["map"].update(sha256=sha256, size=len(data)),
    )
    done = fsck()
    assert [(one.what.value, one.newer) for one in done.damage] == [("map", True)]
    assert (done.recorded, list(store.list(fmt.DAMAGED))) == (0, [])


def unlisted_pack(raw):
    raw["files"][0]["packs"] = []


def other_live(raw):
    raw["files"][0]["packs"][0][3] -= 1


def other_size(raw):
    raw["files"][0]["packs"][0][2] += 1


def other_digest(raw):
    raw["files"][0]["digest"] = "0" * 64


@pytest.mark.usefixtures("pushed")
@pytest.mark.parametrize("change", [unlisted_pack, other_live, other_size, other_digest])
def test_a_version_whose_record_does_not_fit_its_map_is_named_and_the_map_is_none_the_worse(
    pushed, fsck, store, change
):
    rewrite(store, fmt.version_key(BASE, pushed.entry.id), change)
    done = fsck()
    assert told(done) == [("version", "sequoia", "v1", "disk")]
    assert done.recorded == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.update(domain="elsewhere", files=[raw["files"][1]]),
        lambda raw: raw.update(session="0" * 32),
        lambda raw: raw.update(id="0" * 32),
        lambda raw: raw.update(v=2),
        lambda raw: raw.pop("files"),
        lambda raw: raw.update(files=raw["files"][:1]),
        lambda raw: raw["files"][0].update(parent="nobody"),
        lambda raw: raw["files"].append(raw["files"][1]),
    ],
    ids=["domain", "session", "id", "a newer release's", "shape", "no config", "no parent", "a file twice"],
)
def test_a_version_whose_record_is_not_its_own_is_named(node, pushed, fsck, store, change):
    node.push(BASE, "v2", words=("d",))
    rewrite(store, fmt.version_key(BASE, pushed.entry.id), change)
    found = told(fsck())
    assert ("version", "sequoia", "v1", "") in found
    assert {row[2] for row in found} <= {"v1", ""}


@pytest.mark.parametrize("harm", [lose, cut])
def test_a_version_whose_record_cannot_be_read_is_named(node, pushed, fsck, store, harm):
    node.push(BASE, "v2", words=("d",))
    harm(store, fmt.version_key(BASE, pushed.entry.id))
    assert told(fsck()) == [("version", "sequoia", "v1", "")]


def test_an_inline_file_that_has_not_its_digest_is_named(pushed, fsck, store):
    rewrite(store, fmt.version_key(BASE, pushed.entry.id), lambda raw: raw["files"][1].update(digest="0" * 64))
    done = fsck()
    assert told(done) == [("version", "sequoia", "v1", "config.yaml")]
    assert done.damage[0].lost_bytes > 0


@pytest.mark.usefixtures("pushed")
@pytest.mark.parametrize(
    ("change", "what", "tag"),
    [
        (lambda raw: raw.update(size=1), "size", ""),
        (lambda raw: raw["versions"][0].update(size=1), "head", "v1"),
        (lambda raw: raw["versions"].append(raw["versions"][0]), "head", ""),
        (lambda raw: raw["versions"].append({**raw["versions"][0], "tag": "again"}), "head", ""),
        (lambda raw: raw.update(id=OTHER), "head", ""),
        (lambda raw: raw.update(v=2), "head", ""),
        (lambda raw: raw.pop("gen"), "head", ""),
    ],
    ids=["size", "a version's size", "two of one tag", "one version twice", "id", "a newer release's", "shape"],
)
def test_a_head_that_cannot_be_believed_is_named(node, fsck, store, *, change, what, tag):
    node.push(OTHER, name="other")
    rewrite(store, fmt.head_key(BASE), change)
    found = fsck().damage
    assert [(one.what.value, one.template, one.tag) for one in found] == [(what, BASE, tag)]


@pytest.mark.usefixtures("pushed")
def test_a_head_that_tells_its_template_s_name_though_not_all_is_named_by_it(fsck, store):
    rewrite(store, fmt.head_key(BASE), lambda raw: raw.pop("gen"))
    assert told(fsck(only=["sequoia"])) == [("head", "sequoia", "", "")]


def test_what_is_of_a_newer_release_is_not_to_be_put_back(node, pushed, fsck, store):
    node.push(OTHER, name="other")
    for key in (fmt.version_key(BASE, pushed.entry.id), fmt.head_key(OTHER)):
        rewrite(store, key, lambda raw: raw.update(v=2))
    found = fsck().damage
    assert [(one.what.value, one.newer) for one in found] == [("head", True), ("version", True)]
    assert all("newer release" in one.remedy and "push" not in one.remedy for one in found)


@pytest.mark.usefixtures("pushed")
def test_a_head_that_is_gone_is_told_by_the_versions_that_it_left(node, fsck, store):
    node.push(OTHER, name="other")
    lose(store, fmt.head_key(BASE))
    done = fsck()
    assert [(one.what.value, one.template, one.key) for one in done.damage] == [("head", BASE, fmt.head_key(BASE))]
    assert done.orphans["packs"].count == 1
    assert done.unreadable, "so nobody knows whether these are orphans"


@pytest.mark.usefixtures("pushed")
def test_what_is_in_the_trash_is_told_as_such(node, registry, fsck, store):
    key = only(store, fmt.PACKS)
    node.push(BASE, "v2", words=("d",))
    registry.untag(EVERYONE, BASE, tag="v1", operation=OPERATION)
    lose(store, key)
    done = fsck()
    assert told(done) == [("pack", "sequoia", "v1", "disk")]
    assert done.damage[0].trash


@pytest.mark.usefixtures("pushed")
def test_a_deleted_template_is_sound_too(registry, fsck):
    registry.delete(EVERYONE, BASE, operation=OPERATION)
    done = fsck(read_data=100)
    assert (done.clean, done.templates, done.versions, done.packs) == (True, 0, 1, 1)


# --- What else lies there ---------------------------------------------------------------------------------------------


def test_a_push_under_way_is_neither_damage_nor_orphans(node, store, fsck):
    first = node.push()
    opened = node.open(BASE, "v2", bases=(base(first),))
    node.files(opened.session, ("under way",))
    done = fsck(read_data=100)
    assert done.clean
    assert all(tally.count == 0 for tally in done.orphans.values())
    purge(store)
    assert all(tally.count == 0 for tally in fsck().orphans.values()), "the base is the session's"


def test_orphans_are_what_the_next_sweep_frees(node, store, fsck):
    node.push()
    node.push(OTHER, name="other", words=("x", "y"))
    purge(store, OTHER)
    done = fsck()
    assert done.clean
    assert {sort: tally.count for sort, tally in done.orphans.items()} == {"versions": 1, "maps": 1, "packs": 1}
    gone = swept(store)
    assert (gone.removed, gone.freed) == (3, sum(tally.bytes for tally in done.orphans.values()))
    assert all(tally.count == 0 for tally in fsck().orphans.values())


@pytest.mark.usefixtures("pushed")
def test_a_session_and_a_marker_that_cannot_be_read_are_named(node, fsck, store):
    opened = node.open(OTHER, name="other")
    put_marker(store, "7" * 32, [])
    assert fsck().clean
    for key in (fmt.session_key(opened.session.id), fmt.marker_key("7" * 32)):
        store.put(key, b"{")
    assert sorted(one.what.value for one in fsck().damage) == ["marker", "session"]


@pytest.mark.usefixtures("pushed")
def test_keys_of_others_are_told_and_are_no_damage(fsck, store):
    foreign = [
        ".DS_Store", "aaa", "heads/.DS_Store", "versions/x", "maps/x", "packs/main/x/y", "sessions/x.json", "gc/x",
        "pulls/x/y", "damaged/x/y", "events/x", "zzz/a", "zzz/b",
    ]  # fmt: skip
    for key in foreign:
        store.put(key, b"?")
    done = fsck(read_data=100)
    assert done.clean
    assert sorted(done.foreign) == sorted(foreign)
    assert done.foreign_count == len(foreign)


@pytest.mark.usefixtures("pushed")
def test_a_store_that_lost_its_format_says_so(fsck, store):
    lose(store, fmt.FORMAT_KEY)
    with pytest.raises(RecordDamaged):
        fsck()


@pytest.mark.usefixtures("pushed")
def test_one_template_alone_is_checked_by_id_or_name(node, fsck, store):
    node.push(OTHER, name="other", words=("x",))
    lose(store, next(stat.key for stat in store.list(fmt.PACKS) if read_head(store).versions[0].id in stat.key))
    for ref in ("other", OTHER.upper()):
        done = fsck(only=[ref])
        assert (done.clean, done.templates, done.packs, done.orphans) == (True, 1, 1, {})
    assert told(fsck(only=["sequoia"])) == [("pack", "sequoia", "v1", "disk")]
    with pytest.raises(TemplateNotFound):
        fsck(only=["sequoia", "nobody"])


# --- Meanwhile --------------------------------------------------------------------------------------------------------


def at(step, act):
    """What `fsck` tells its steps to: `act` is done once, when it begins this one."""
    left = [act]

    def tell(done):
        if done.step == step and left:
            left.pop()()

    return tell


STEPS = ["listing", "sessions", "versions", "checksums", "reading", "looking again"]


@pytest.mark.parametrize("step", STEPS)
def test_what_a_push_brings_meanwhile_is_no_damage(node, fsck, step):
    node.push()
    assert fsck(read_data=100, told=at(step, lambda: node.push(BASE, "v2", words=("d",)))).clean
    assert fsck(read_data=100).clean


@pytest.mark.parametrize("step", STEPS)
def test_what_a_purge_and_a_sweep_take_away_meanwhile_is_no_damage(node, store, fsck, step):
    node.push()
    node.push(OTHER, name="other", words=("x", "y"))

    def away():
        purge(store, OTHER)
        assert swept(store).removed == 3

    done = fsck(read_data=100, told=at(step, away))
    assert done.clean
    assert list(store.list(fmt.DAMAGED)) == []


@pytest.mark.parametrize("step", ["listing", "versions", "checksums"])
def test_what_is_hurt_meanwhile_and_removed_is_nobody_s_loss(node, store, fsck, step):
    node.push()

    def hurt():
        lose(store, only(store, fmt.PACKS))

    removed = at("looking again", lambda: purge(store))
    harmed = at(step, hurt)

    def tell(done):
        harmed(done)
        removed(done)

    assert fsck(read_data=100, told=tell).clean


# --- Anything at random -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A small store of everything: two templates, the trash, an orphan, a push under way. Its objects, by key."""
    place = tmp_path_factory.mktemp("sample")
    store = FilesStore(place / "store", secret=bytes(32))
    registry = Registry(store)
    registry.prepare()
    node = Pusher(registry, store)
    node.push(BASE, "v1", words=("a", "b"))
    node.push(BASE, "v2", words=("c",))
    node.push(OTHER, "v1", name="other", words=("d",))
    registry.untag(EVERYONE, BASE, tag="v1", operation=OPERATION)
    node.push(OTHER, "v2", name="other", words=("e",))
    gone = read_head(store, OTHER).versions[-1].id
    registry.untag(EVERYONE, OTHER, tag="v2", operation=OPERATION)
    registry.purge(EVERYONE, OTHER, versions=[gone], operation="2" * 32)
    opened = node.open(OTHER, "v3", name="other")
    node.files(opened.session, ("under way",))
    mine = {fmt.version_key(OTHER, gone), opened.session.id, gone}
    objects = {stat.key: store.get(stat.key).data for stat in store.list("")}
    needless = {key for key in objects if key in mine or mine & set(key.split("/"))}
    return store, objects, needless


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_flipped_cut_or_deleted_is_found_if_and_only_if_somebody_needs_it(sample, data):
    store, objects, needless = sample
    swept_keys = sorted(key for key in objects if fmt.is_swept_key(key))
    key = data.draw(st.sampled_from(swept_keys))
    whole = objects[key]
    harm = data.draw(st.sampled_from(["flip", "cut", "delete"]))
    # A flip in a record of text may only change a word of it; and a store without checksums sees nothing of a pack's frames.
    if harm == "flip" and key.startswith(fmt.VERSIONS):
        harm = "cut"
    if harm == "delete":
        store.delete([key])
    elif harm == "cut":
        store.put(key, whole[: data.draw(st.integers(0, len(whole) - 1))])
    else:
        flip(store, key, data.draw(st.integers(0, len(whole) - 1)))
    try:
        hurt = key not in needless
        read = Registry(store).fsck(read_data=100, record=False)
        assert read.clean is not hurt, (key, harm)
        assert all(one.key == key for one in read.damage)
        if not (harm == "flip" and key.startswith(fmt.PACKS)):
            assert Registry(store).fsck(record=False).clean is not hurt, (key, harm)
    finally:
        store.put(key, whole)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_lies_under_a_key_of_ours_the_check_goes_on(sample, data):
    store, objects, _ = sample
    key = data.draw(st.sampled_from(sorted(objects.keys() - {fmt.FORMAT_KEY})))
    store.put(key, data.draw(st.binary(max_size=300)))
    try:
        assert Registry(store).fsck(read_data=100, record=False).step == "done"
    finally:
        store.put(key, objects[key])
