"""`s3reg fsck`: what it says of a store to people and programs, and how it ends."""

import json
from dataclasses import replace

import click
import pytest

from registry.material import BASE, OTHER, Pusher
from s3reg.errors import Kind
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE
from s3reg.registry import Registry
from s3reg.store.files import FilesStore

DAMAGED = Kind.DAMAGED.exit_code


@pytest.fixture
def store(tmp_path):
    """Two templates, one version each."""
    store = FilesStore(tmp_path / "store", secret=bytes(32))
    registry = Registry(store)
    registry.prepare()
    node = Pusher(registry, store)
    node.push(BASE, "v1", words=("a", "b"))
    node.push(OTHER, "v1", name="other", words=("c",))
    return store


def hurt(store):
    """One pack of BASE's is gone; its key."""
    head = fmt.read_head(store.get(fmt.head_key(BASE)).data, BASE)
    key = next(stat.key for stat in store.list(fmt.PACKS) if head.versions[0].id in stat.key)
    store.delete([key])
    return key


def test_a_sound_store_is_said_to_be_and_ends_well(s3reg, store, tmp_path, monkeypatch):
    done = s3reg("fsck", tmp_path / "store")
    assert done.code == 0
    assert "2 templates, 2 versions, 2 packs" in done.out
    assert "sound" in done.out
    assert "--read-data" in done.out
    monkeypatch.setenv("S3REG_STORE", str(tmp_path / "store"))
    done = s3reg("-j", "fsck", "--read-data")
    assert (done.code, done.answer["status"], done.answer["code"]) == (0, "OK", 0)
    body = done.answer["body"]
    size = sum(stat.size for stat in store.list(fmt.PACKS))
    nothing = {"count": 0, "bytes": 0}
    assert {
        name: body[name] for name in ("templates", "versions", "packs", "bytes", "damage", "orphans", "foreign")
    } == {
        "templates": 2,
        "versions": 2,
        "packs": 2,
        "bytes": size,
        "damage": [],
        "orphans": {"versions": nothing, "maps": nothing, "packs": nothing},
        "foreign": [],
    }
    assert (body["read"]["packs"], body["read"]["bytes"]) == (2, size)
    before = [json.loads(line) for line in done.out.splitlines()[:-1]]
    assert any(line.get("progress") == "reading" and line["bytes"] == size for line in before)


def test_damage_is_a_row_for_each_file_and_an_exit_code(s3reg, store, tmp_path):
    key = hurt(store)
    done = s3reg("fsck", tmp_path / "store")
    assert done.code == DAMAGED
    (row,) = [line for line in done.out.splitlines() if line.startswith("sequoia:v1")]
    assert row.split("\t")[1:4] == ["disk", "131.1 kB in 65536-196607", "pack: it is missing"]
    assert "--repair-from" in row
    assert row.endswith(key)
    assert "other" not in done.out
    done = s3reg("-j", "fsck", tmp_path / "store")
    assert (done.code, done.answer["status"], done.answer["code"]) == (DAMAGED, "ERROR", DAMAGED)
    (told,) = done.answer["body"]["damage"]
    assert (told["uuid"], told["tag"], told["file"], told["object"]) == (BASE, "v1", "disk", key)
    assert told["lost"] == [[65536, 131072]]
    assert done.answer["body"]["noted_as_bad"] == {"objects": 1, "sound_again": 0, "not_noted": 0}


def test_what_only_the_trash_lacks_is_told_and_no_failure(s3reg, store, tmp_path):
    hurt(store)
    Registry(store).delete(EVERYONE, BASE, operation="1" * 32)
    done = s3reg("fsck", tmp_path / "store")
    assert done.code == 0
    assert "sequoia:v1 (trash)" in done.out


def test_one_template_alone(s3reg, store, tmp_path):
    hurt(store)
    assert s3reg("fsck", tmp_path / "store", "--template", "other").code == 0
    assert s3reg("fsck", tmp_path / "store", "--template", "sequoia").code == DAMAGED
    assert s3reg("fsck", tmp_path / "store", "--template", "nobody").code == Kind.NOT_FOUND.exit_code


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(("wanted", "known"), [("seqoia", "sequoia and 1 more"), ("x", "other, sequoia")])
def test_a_template_that_the_store_does_not_have_is_told_with_those_that_may_be_meant(s3reg, tmp_path, wanted, known):
    done = s3reg("fsck", "-t", wanted, tmp_path / "store")
    assert (done.code, done.out) == (3, "")
    assert done.err.splitlines() == [
        f"s3reg: {wanted}: the store directory {tmp_path / 'store'} has no template of this id or name",
        f"       ask about one that it has: {known}",
    ]


@pytest.mark.usefixtures("store")
def test_a_share_is_read_and_says_how_to_choose_the_same(s3reg, tmp_path):
    done = s3reg("fsck", tmp_path / "store", "--read-data=50%", "--seed", "7")
    assert done.code == 0
    assert "50 %, --seed 7" in done.out


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    "wrong",
    [
        ["--read-data=0"],
        ["--read-data=101"],
        ["--read-data=half"],
        ["--read-data=nan"],
        ["--repair-from", ".", "--no-record"],
        ["--repair-from", "/nowhere/at/all"],
    ],
)
def test_what_makes_no_sense_is_refused(s3reg, tmp_path, wrong):
    assert s3reg("fsck", tmp_path / "store", *wrong).code == Kind.INVALID.exit_code


def test_what_is_no_store_is_not_made_one(s3reg, tmp_path):
    done = s3reg("fsck", tmp_path / "nothing")
    assert done.code == Kind.INVALID.exit_code
    assert not (tmp_path / "nothing").exists()


def test_an_empty_bucket_is_no_store(s3reg, minio, bucket, monkeypatch):
    for name, value in minio.environment().items():
        monkeypatch.setenv(name, value)
    done = s3reg("fsck", f"s3://{bucket(minio)}", "--s3-endpoint", minio.endpoint)
    assert done.code == Kind.INVALID.exit_code
    assert "no store of s3reg" in done.err


@pytest.mark.parametrize(
    "harm", [lambda store: store.delete([fmt.FORMAT_KEY]), lambda store: store.put(fmt.FORMAT_KEY, b"{")]
)
def test_a_store_whose_format_is_lost_or_damaged_says_what_to_restore(s3reg, store, tmp_path, harm):
    harm(store)
    done = s3reg("fsck", tmp_path / "store")
    assert done.code == DAMAGED
    assert "restore format.json from a copy" in done.err


def test_what_is_only_in_the_trash_is_summed_up_apart_and_what_cannot_be_read_frees_nothing(s3reg, store, tmp_path):
    hurt(store)
    Registry(store).delete(EVERYONE, BASE, operation="1" * 32)
    assert "sound; in the trash, damaged: 1 version" in s3reg("fsck", tmp_path / "store").out
    assert "--repair-from" not in s3reg("fsck", tmp_path / "store").out
    store.delete([fmt.head_key(OTHER)])
    done = s3reg("fsck", tmp_path / "store")
    assert "damaged: 1 head; in the trash, damaged: 1 version" in done.out
    assert "named by nothing that can be read: 1 version, 1 map, 1 pack" in done.out
    assert "s3reg gc" not in done.out


def test_a_store_that_cannot_be_written_is_checked_all_the_same(s3reg, store, tmp_path):
    """Its bad packs are not noted, and that is said."""
    hurt(store)
    raw = json.loads(store.get(fmt.FORMAT_KEY).data)
    store.put(fmt.FORMAT_KEY, json.dumps({**raw, "made_as": "s3://elsewhere"}).encode())
    done = s3reg("fsck", tmp_path / "store")
    assert done.code == DAMAGED
    assert "not noted: 1" in done.out


def at_a_terminal(s3reg, monkeypatch, columns, *arguments):
    """What it says there, on a screen of so many columns."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    done = s3reg(*arguments)
    return replace(done, out=click.unstyle(done.out))


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_key_and_what_to_do_stand_whole_below_their_row_on_a_narrow_screen(
    s3reg, store, tmp_path, monkeypatch, columns
):
    key = hurt(store)
    done = at_a_terminal(s3reg, monkeypatch, columns, "fsck", tmp_path / "store")
    lines = [line.rstrip() for line in done.out.splitlines()]
    assert lines[0].split() == ["template", "file", "lost"]
    assert lines[1].split() == ["sequoia:v1", "disk", "131.1", "kB", "in", "65536-196607"]
    assert lines[2] == "    pack: it is missing"
    told = lines[3 : lines.index(f"    {key}")]
    assert all(line.startswith("    ") and len(line) <= columns for line in told)
    assert " ".join(map(str.strip, told)).startswith(
        "push it again from a library that has it (s3reg fsck --repair-from)"
    )


def test_a_wide_screen_shows_one_table(s3reg, store, tmp_path, monkeypatch):
    key = hurt(store)
    done = at_a_terminal(s3reg, monkeypatch, 400, "fsck", tmp_path / "store")
    heading, row = done.out.splitlines()[:2]
    assert heading.split()[-1] == "object"
    assert row.rstrip().endswith(key)
