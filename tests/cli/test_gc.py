"""`s3reg gc`: one line that says what went; why the rest stays; where it stopped, and what went until then."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

import running
import servers
from registry.material import BASE, OTHER, Pusher, check_sound, end_trash, purge
from s3reg.model import format as fmt
from s3reg.model.identity import EVERYONE
from s3reg.registry import Registry
from s3reg.registry.sweep import BATCH
from s3reg.store.files import FilesStore

INTERRUPTED = Path(__file__).parents[1] / "interrupted.py"
SID = "c" * 32


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def store(folder):
    """A version that is listed, one in the trash, a push under way; three objects that nobody names."""
    store = FilesStore(folder, secret=bytes(32))
    registry = Registry(store)
    registry.prepare()
    node = Pusher(registry, store)
    for template, name in ((BASE, "base"), (OTHER, "other")):
        node.push(template, name=name, words=name)
    registry.delete(EVERYONE, OTHER, operation="0" * 32)
    third = "00000000-0000-4000-8000-000000000003"
    node.push(third, name="third", words="xyz")
    purge(store, third)
    node.files(node.open(BASE, "v2").session, "q")
    return store


def keys(store):
    return {stat.key for stat in store.list("")}


def program(*arguments, **more):
    return subprocess.run(
        arguments, env=running.environment(**more), capture_output=True, text=True, timeout=running.SECONDS, check=False
    )


# --- What it says -----------------------------------------------------------------------------------------------------


def test_it_says_in_one_line_what_went(s3reg, folder, store):
    before = keys(store)
    done = s3reg("gc", folder)
    assert (done.code, done.err) == (0, "")
    assert done.out.count("\n") == 1
    size = r"[\d.]+ (?:bytes|[kM]B)"
    trash, push = r"\(s3reg trash list\)", r"\(s3reg sessions list\)"
    stays = rf"stays: {size} for \d templates?, {size} for the trash {trash}, {size} for 1 push under way {push}"
    assert re.fullmatch(rf"3 objects removed, {size}; {stays}\n", done.out)
    assert len(before - keys(store)) == 3
    check_sound(store)
    assert s3reg("gc", folder).out.startswith("0 objects removed, 0 bytes; ")


def test_what_went_besides_is_in_that_line_too(s3reg, folder, store):
    store.put(fmt.pull_key(OTHER, "c" * 32), b"")
    store.put("packs/elsewhere", b"")
    end_trash(store)
    out = s3reg("gc", folder).out
    assert "6 objects removed" in out
    assert "; 1 version left the trash, 1 pull mark, 1 foreign key left alone\n" in out


def test_a_dry_run_says_what_stays_and_what_for_and_writes_nothing(s3reg, folder, store):
    before = {stat.key: stat.etag for stat in store.list("")}
    done = s3reg("gc", "--dry-run", folder)
    rows = [line.split("\t") for line in done.out.splitlines()]
    assert [row[:2] for row in rows] == [
        ["would go", "3"],
        ["stays", "3"],
        ["stays", "3"],
        ["stays", "2"],
        ["", ""],
    ]
    assert rows[1][3] == "for what 2 templates list"
    assert "1 version, the first until 2" in rows[2][3]
    assert rows[3][3] == "for 1 push under way"
    assert rows[4][3].startswith("base, by everyone, opened ")
    assert {stat.key: stat.etag for stat in store.list("")} == before


def test_pushes_of_a_time_to_come_are_told_with_the_way_to_end_them(s3reg, folder, store):
    (key,) = [stat.key for stat in store.list(fmt.SESSIONS)]
    path = folder / "sessions.d" / key.removeprefix(fmt.SESSIONS)
    then = path.stat().st_mtime + 7200
    os.utime(path, (then, then))
    done = s3reg("gc", folder)
    assert done.out.count("\n") == 1
    assert "; 1 push heard of at a time to come (the store's clock was set back): s3reg sessions abort" in done.out
    assert "1 push heard of at a time to come" in s3reg("gc", "--dry-run", folder).out
    assert s3reg("-j", "gc", folder).answer["body"]["stays"]["pushes"]["ahead"] == 1


def test_a_program_gets_all_of_it(s3reg, folder, store):
    dry = s3reg("-j", "gc", "--dry-run", folder).answer["body"]
    body = s3reg("-j", "gc", folder).answer["body"]
    assert (dry.pop("dry_run"), body.pop("dry_run")) == (True, False)
    assert dry == body
    assert body["removed"]["objects"] == 3
    stays = body["stays"]
    assert [stays[what]["objects"] for what in ("templates", "trash", "pushes")] == [3, 3, 2]
    assert stays["trash"]["versions"] == 1
    assert stays["trash"]["until"]
    (push,) = stays["pushes"]["sessions"]
    assert (push["name"], push["owner"], push["bytes"]) == ("base", "everyone", stays["pushes"]["bytes"])
    kept = sum(stays[what]["bytes"] for what in ("templates", "trash", "pushes"))
    assert body["listed"]["bytes"] == body["removed"]["bytes"] + kept


def test_at_a_terminal_it_shows_how_far_it_is(folder, store):
    """And says the one line behind it."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        [*running.PROGRAM, "gc", folder],
        env=running.environment(TERM="xterm"),
        stdout=subprocess.PIPE,
        stderr=slave,
        text=True,
    ) as process:
        os.close(slave)
        out, _ = process.communicate(timeout=running.SECONDS)
    shown = os.read(master, 1 << 16).decode()
    os.close(master)
    assert process.returncode == 0
    assert out.startswith("3 objects removed")
    assert any(step in shown for step in ("looking at the store", "listing", "reading", "removing", "tidying up"))


# --- What it is told --------------------------------------------------------------------------------------------------


def test_the_store_comes_from_the_environment_too(s3reg, folder, store, monkeypatch):
    assert store.location.endswith(str(folder))
    monkeypatch.setenv("S3REG_STORE", str(folder))
    assert s3reg("-j", "gc").answer["body"]["removed"]["objects"] == 3


def test_how_long_the_trash_keeps_what_it_holds_is_not_its_to_say(s3reg, folder, store, monkeypatch):
    monkeypatch.setenv("S3REG_TRASH_SECONDS", "0")
    assert s3reg("-j", "gc", folder).answer["body"]["purged"] == 0
    assert s3reg("gc", folder, "--trash-seconds", "0").code == 2
    assert "trash-seconds" not in s3reg("gc", "--help").out


@pytest.mark.parametrize("where", ["nowhere", "empty"])
def test_what_is_no_store_is_not_made_one(s3reg, tmp_path, where):
    (tmp_path / "empty").mkdir()
    done = s3reg("gc", tmp_path / where)
    assert done.code == 2
    assert where in done.err
    assert list((tmp_path / "empty").iterdir()) == []
    assert not (tmp_path / "nowhere").exists()


def test_a_bucket_is_swept_while_a_registry_serves_it(minio, bucket, tmp_path):
    where = f"s3://{bucket(minio)}/some/prefix"
    told = {**minio.environment(), "S3REG_STORE": where, "S3REG_S3_ENDPOINT": minio.endpoint}
    refused = program(*running.PROGRAM, "gc", **told)
    assert refused.returncode == 8
    assert "some/prefix at " in refused.stderr
    with running.serving(tmp_path, **told, S3REG_TRASH_SECONDS="0") as registry:
        node = running.Node(tmp_path / "node", registry.url)
        (tmp_path / "disk.img").write_bytes(b"system" * 50_000)
        node.done("import", "base", "--disk", tmp_path / "disk.img")
        node.done("push", "base", "-t", "v1")
        node.done("push", "base", "-t", "v2")
        node.done("untag", "base", "v1", "-y")
        swept = program(*running.PROGRAM, "gc", **told)
        assert (swept.returncode, swept.stderr) == (0, "")
        assert "1 version left the trash" in swept.stdout
        running.Node(tmp_path / "another", registry.url).done("pull", "base", "-t", "v2")


# --- Where it ends early ----------------------------------------------------------------------------------------------


def test_what_stops_it_is_named_with_the_next_step_and_what_went_before(s3reg, folder, store):
    store.put("heads/notes.txt", b"")
    before = keys(store)
    done = s3reg("gc", folder)
    assert (done.code, done.out) == (8, "")
    lines = done.err.splitlines()
    assert "heads/notes.txt" in lines[0]
    assert "s3reg fsck" in lines[1]
    assert keys(store) == before

    done = s3reg("-j", "gc", folder)
    assert (done.code, done.err) == (8, "")
    told, answer = map(json.loads, done.out.splitlines())
    assert told["swept"]["removed"] == {"objects": 0, "bytes": 0}
    assert (answer["status"], answer["exception_type"]) == ("ERROR", "SweepStopped")


def many(folder, count):
    """So many objects that nobody names, made where the store has them."""
    place = folder / "packs.d" / "main.d" / f"{SID}.d"
    place.mkdir(parents=True)
    for number in range(count):
        (place / f"{number:064x}").touch()
    return place


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_ends_it_between_two_batches_and_what_went_is_told(folder, store, number, code):
    place = many(folder, BATCH + 200)
    before = len(keys(store))
    done = program(sys.executable, INTERRUPTED, number, "5", "gc", folder)
    assert (done.returncode, done.stdout) == (code, "")
    assert before - len(keys(store)) == BATCH
    lines = done.stderr.splitlines()
    assert lines[0].startswith(f"until then: {BATCH:,} objects removed")
    assert lines[1:] == ["s3reg: interrupted", "       repeat the command to go on where it was"]
    assert not [key for key in keys(store) if key.startswith((fmt.MARKERS, fmt.CHECK))]
    check_sound(store)
    assert program(*running.PROGRAM, "gc", folder).stdout.startswith("203 objects removed")
    assert not place.exists()


def test_a_second_signal_ends_it_at_once(folder, store):
    place = many(folder, 200)
    done = program(sys.executable, INTERRUPTED, "SIGINT,SIGINT", "5", "-j", "gc", folder)
    assert done.returncode == 130
    told, answer = map(json.loads, done.stdout.splitlines())
    assert told["swept"]["removed"]["objects"] == 0
    assert answer["code"] == 130
    assert 190 < len(list(place.iterdir())) < 200
    check_sound(store)


def test_a_store_that_does_not_answer_is_told_as_such(s3reg, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    nobody = f"http://127.0.0.1:{servers.free_port()}"
    done = s3reg("gc", "s3://bucket", "--s3-endpoint", nobody)
    assert done.code == 10
    assert nobody in done.err


def test_what_has_lost_its_head_is_swept_once_that_is_said_to_be_gone_for_good(s3reg, folder, store):
    store.delete([fmt.head_key(OTHER)])
    stopped = s3reg("gc", folder)
    assert stopped.code == 8
    assert stopped.err.startswith("s3reg: versions are there without a head: ")
    assert OTHER in stopped.err
    assert "s3reg gc --lost" in stopped.err
    assert s3reg("gc", "--lost", BASE, folder).code == 18
    assert s3reg("gc", "--lost", OTHER, folder).out.startswith("6 objects removed, ")
    check_sound(store)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("lost", "code", "says"),
    [("base", 2, "takes the id of a template"), ("22222222-0000-4000-8000-000000000009", 3, "s3reg fsck names")],
)
def test_what_has_lost_no_head_is_refused_with_where_those_are_told(s3reg, folder, lost, code, says):
    done = s3reg("gc", "--lost", lost, folder)
    assert (done.code, done.out) == (code, "")
    assert says in done.err
    assert lost in done.err
    assert "s3reg list" not in done.err, "what has no head is in no list"


@pytest.mark.usefixtures("store")
def test_a_store_that_fails_at_one_object_is_told_with_that(s3reg, folder):
    head = folder / "heads.d" / f"{BASE}.json"
    head.unlink()
    head.symlink_to(folder / "nowhere")
    done = s3reg("gc", folder)
    assert done.code == 10
    assert f"       (object {head})\n" in done.err
    assert s3reg("-j", "gc", folder).answer["object"] == str(head)
