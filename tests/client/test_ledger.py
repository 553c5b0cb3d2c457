"""The node's own records: when they vouch for a file, and what becomes of damaged ones."""

import array
import json
import os
import subprocess
import sys

import pytest
import zstandard

from s3reg.client import ledger as ledger_module
from s3reg.client.ledger import Ledger, Print
from s3reg.client.tagbook import TagFile
from s3reg.errors import FormatUnknown
from s3reg.model import maps, names
from s3reg.model.chunks import CHUNK_LOG2, chunk_digest
from s3reg.model.packs import PackRef
from s3reg.model.template import Role, bytes_digest

DATA = b"layer" * 1000
DIGEST = bytes_digest(DATA)
PACK = PackRef(names.session_id("1" * 32), names.digest("2" * 64), 5000)
MAP = maps.encode(maps.make(len(DATA), CHUNK_LOG2, [(chunk_digest(DATA), PACK, 0, 4000)]))
TEMPLATE = names.template_id("6a1f2c3d-0000-4000-8000-000000000001")
VERSION = names.version_id("a" * 32)


@pytest.fixture
def ledger(tmp_path):
    (tmp_path / "img_lib").mkdir()
    return Ledger(tmp_path)


@pytest.fixture
def layer(tmp_path, ledger):
    path = tmp_path / "img_lib" / "layer.ank"
    path.write_bytes(DATA)
    return path


def records(ledger):
    return list(ledger.folder.glob("files/*.json"))


class TestFiles:
    def test_a_recorded_file_is_known(self, ledger, layer):
        assert ledger.known(layer) is None
        ledger.record(layer, DIGEST, parent="base.ank")
        assert ledger.known(layer) == DIGEST
        assert ledger.record_of(layer).parent == "base.ank"

    def test_a_file_that_s3reg_wrote_stays_ours_until_another_takes_its_place(self, ledger, layer):
        ledger.record(layer, DIGEST, ours=True)
        layer.write_bytes(b"the VM ran")
        ledger.record(layer, None)
        assert ledger.record_of(layer).ours
        layer.rename(layer.with_name("old"))
        layer.write_bytes(DATA)
        ledger.record(layer, DIGEST)
        assert not ledger.record_of(layer).ours

    def test_another_ledger_of_the_library_knows_it_too(self, ledger, layer, tmp_path):
        ledger.record(layer, DIGEST)
        assert Ledger(tmp_path).known(layer) == DIGEST

    @pytest.mark.parametrize("change", ["size", "mtime", "inode", "gone"])
    def test_a_file_that_is_not_as_it_was_is_not_known(self, ledger, layer, change):
        ledger.record(layer, DIGEST)
        before = layer.stat()
        if change == "size":
            layer.write_bytes(DATA + b"x")
            os.utime(layer, ns=(before.st_mtime_ns, before.st_mtime_ns))
        elif change == "mtime":
            os.utime(layer, ns=(0, before.st_mtime_ns + 1))
        elif change == "inode":
            copy = layer.with_name("copy")
            copy.write_bytes(DATA)
            os.utime(copy, ns=(0, before.st_mtime_ns))
            copy.replace(layer)
        else:
            layer.unlink()
        assert ledger.known(layer) is None
        assert ledger.record_of(layer).digest == DIGEST

    def test_a_file_that_changed_while_it_was_hashed_is_not_vouched_for(self, ledger, layer):
        seen = layer.stat()
        layer.write_bytes(b"changed meanwhile")
        ledger.record(layer, DIGEST, seen=seen)
        assert ledger.known(layer) is None

    def test_a_record_without_durability_ends_with_the_boot(self, ledger, layer, monkeypatch):
        ledger.record(layer, DIGEST, durable=False)
        assert ledger.known(layer) == DIGEST
        monkeypatch.setattr(ledger_module.platform, "boot_id", lambda: "the next one")
        assert ledger.known(layer) is None
        ledger.record(layer, DIGEST)
        monkeypatch.undo()
        assert ledger.known(layer) == DIGEST

    def test_a_forgotten_file_is_not_known(self, ledger, layer):
        ledger.record(layer, DIGEST)
        ledger.forget(layer)
        ledger.forget(layer)
        assert ledger.known(layer) is None

    def test_files_that_differ_in_folder_or_case_have_records_of_their_own(self, ledger, tmp_path):
        paths = [tmp_path / "img_lib" / "x", tmp_path / "img_lib" / "X", tmp_path / "state_lib" / "x"]
        (tmp_path / "state_lib").mkdir()
        for number, path in enumerate(paths):
            path.write_bytes(b"x" * number)
            ledger.record(path, names.digest(f"{number:064x}"))
        assert len({ledger.known(path) for path in paths}) == len({path.stat().st_ino for path in paths})

    def test_an_import_keeps_what_it_was_made_from(self, ledger, layer):
        ledger.record(layer, None, origin=Print(1, 2, 3))
        assert ledger.known(layer) is None
        assert ledger.is_as_recorded(layer)
        assert ledger.record_of(layer).origin == Print(1, 2, 3)

    @pytest.mark.parametrize("bytes_", [b"", b"{", b"[]", b"{}", b'{"v":1}', b"\xff", b"[" * 100_000, b'"x"', b"null"])
    def test_a_damaged_record_knows_nothing_and_is_replaced(self, ledger, layer, bytes_):
        ledger.record(layer, DIGEST, MAP)
        records(ledger)[0].write_bytes(bytes_)
        assert ledger.known(layer) is None
        assert list(ledger.held()) == []
        ledger.record(layer, DIGEST)
        assert ledger.known(layer) == DIGEST

    @pytest.mark.parametrize(
        "field", [("digest", "x"), ("parent", "../x"), ("size", "many"), ("path", "../../x"), ("path", 7)]
    )
    def test_a_record_with_a_hostile_field_is_a_damaged_one(self, ledger, layer, field):
        ledger.record(layer, DIGEST, MAP)
        raw = json.loads(records(ledger)[0].read_bytes())
        records(ledger)[0].write_text(json.dumps({**raw, field[0]: field[1]}))
        assert list(ledger.held()) == []

    def test_a_newer_record_is_refused(self, ledger, layer):
        ledger.record(layer, DIGEST, MAP)
        raw = json.loads(records(ledger)[0].read_bytes())
        records(ledger)[0].write_text(json.dumps({**raw, "v": 2}))
        for ask in (lambda: ledger.known(layer), lambda: list(ledger.held())):
            with pytest.raises(FormatUnknown):
                ask()


class TestMaps:
    def test_a_map_comes_back_as_it_was(self, ledger, layer):
        ledger.record(layer, DIGEST, MAP)
        assert ledger.map_bytes(DIGEST) == MAP
        assert ledger.map_of(DIGEST, len(DATA)).lengths == array.array("I", [4000])

    def test_no_map_is_none(self, ledger):
        assert ledger.map_of(DIGEST, len(DATA)) is None

    @pytest.mark.parametrize("damaged", [b"", MAP[:-20], MAP[:-30] + bytes([MAP[-30] ^ 1]) + MAP[-29:], b"x" * 100])
    def test_a_damaged_map_is_removed_and_can_be_kept_anew(self, ledger, damaged):
        ledger.keep_map(DIGEST, damaged)
        assert ledger.map_of(DIGEST, len(DATA)) is None
        ledger.keep_map(DIGEST, MAP)
        assert ledger.map_of(DIGEST, len(DATA)) is not None

    def test_a_newer_map_is_left_alone(self, ledger):
        newer = bytearray(zstandard.decompress(MAP))
        newer[8] = 2
        ledger.keep_map(DIGEST, zstandard.compress(bytes(newer)))
        assert ledger.map_of(DIGEST, len(DATA)) is None
        assert ledger.map_bytes(DIGEST) is not None

    def test_held_files_are_those_that_are_as_recorded_and_have_a_map(self, ledger, tmp_path):
        folder = tmp_path / "img_lib"
        for name in ("good", "changed", "mapless", "gone"):
            (folder / name).write_bytes(DATA)
        (folder / "mapless").write_bytes(DATA + b"x")
        for name in ("good", "changed", "gone"):
            ledger.record(folder / name, DIGEST, MAP)
        ledger.record(folder / "mapless", names.digest("3" * 64))
        (folder / "changed").write_bytes(b"changed")
        (folder / "gone").unlink()
        assert list(ledger.held()) == [(folder / "good", DIGEST, len(DATA))]

    def test_pruning_keeps_the_maps_of_files_and_tags(self, ledger, layer):
        kept, dropped = names.digest("4" * 64), names.digest("5" * 64)
        ledger.record(layer, DIGEST, MAP)
        for digest in (kept, dropped):
            ledger.keep_map(digest, b"map")
        ledger.set_tag(TEMPLATE, "v1", VERSION, "macos", [TagFile("x.ank", Role.IMAGE, kept)])
        ledger.prune()
        assert {path.name for path in ledger.folder.glob("maps/*")} == {DIGEST, kept}


class TestTags:
    def test_tags_are_kept_by_template_and_one_is_current(self, ledger):
        ledger.set_tag(TEMPLATE, "v/1: ü", VERSION, "macos", [TagFile("a.ank", Role.IMAGE, DIGEST)])
        ledger.set_tag(TEMPLATE, "v2", VERSION, "renamed", [TagFile("b.ank", Role.IMAGE, DIGEST)])
        ledger.set_tag(TEMPLATE, "aside", VERSION, "renamed", [], current=False, local=True)
        assert ledger.current(TEMPLATE) == "v2"
        tags = ledger.tags(TEMPLATE)
        assert sorted(tags) == ["aside", "v/1: ü", "v2"]
        assert (tags["v/1: ü"].name, tags["v/1: ü"].files, tags["aside"].local) == ("macos", {"a.ank": DIGEST}, True)
        assert ledger.templates() == [TEMPLATE]

    def test_nothing_is_noted_of_an_unknown_template(self, ledger):
        assert (ledger.tags(TEMPLATE), ledger.current(TEMPLATE), ledger.templates()) == ({}, None, [])

    def test_forgetting_the_current_one_leaves_none(self, ledger):
        ledger.set_tag(TEMPLATE, "v1", VERSION, "macos", [])
        ledger.forget_tags(TEMPLATE, ["v1"])
        assert (ledger.tags(TEMPLATE), ledger.current(TEMPLATE)) == ({}, None)

    def test_pushed_is_what_a_registry_has(self, ledger):
        other = names.digest("6" * 64)
        ledger.set_tag(TEMPLATE, "v1", VERSION, "macos", [TagFile("a.ank", Role.IMAGE, DIGEST)])
        ledger.set_tag(TEMPLATE, "mine", VERSION, "macos", [TagFile("b.ank", Role.IMAGE, other)], local=True)
        assert ledger.pushed() == {DIGEST}

    def test_a_record_of_an_older_release_is_read(self, ledger):
        place = ledger.folder / "tags" / f"{TEMPLATE}.json"
        place.parent.mkdir(parents=True)
        row = {"version": VERSION, "name": "macos", "files": {"a.ank": DIGEST}, "local": False}
        place.write_text(json.dumps({"v": 1, "current": "v1", "tags": {"v1": row}}))
        assert ledger.current(TEMPLATE) == "v1"
        assert ledger.tags(TEMPLATE)["v1"].members == (TagFile("a.ank", Role.IMAGE, DIGEST),)
        assert ledger.pushed() == {DIGEST}
        ledger.set_tag(TEMPLATE, "v2", VERSION, "macos", [])
        assert ledger.pushed() == {DIGEST}

    def test_a_newer_record_is_refused_and_kept(self, ledger):
        ledger.set_tag(TEMPLATE, "v1", VERSION, "macos", [])
        place = ledger.folder / "tags" / f"{TEMPLATE}.json"
        place.write_text(json.dumps({"v": 2, "better": True}))
        with pytest.raises(FormatUnknown):
            ledger.set_tag(TEMPLATE, "v2", VERSION, "macos", [])
        assert json.loads(place.read_bytes()) == {"v": 2, "better": True}

    def test_processes_that_write_at_once_lose_nothing(self, ledger, tmp_path):
        program = (
            "import sys, pathlib; from s3reg.client.ledger import Ledger\n"
            "ledger = Ledger(pathlib.Path(sys.argv[1]))\n"
            "for n in range(25): ledger.set_tag(sys.argv[2], f'{sys.argv[3]}-{n}', 'a' * 32, 'vm', [])"
        )
        writers = [subprocess.Popen([sys.executable, "-c", program, tmp_path, TEMPLATE, str(n)]) for n in range(4)]
        assert [writer.wait() for writer in writers] == [0] * 4
        assert len(ledger.tags(TEMPLATE)) == 100


class TestWriting:
    def test_a_failed_write_leaves_the_old_record_and_nothing_else(self, ledger, layer, monkeypatch):
        ledger.record(layer, DIGEST)

        def full(_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(ledger_module.platform, "sync", full)
        with pytest.raises(OSError, match="space"):
            ledger.record(layer, names.digest("7" * 64), durable=False)
        monkeypatch.undo()
        assert ledger.known(layer) == DIGEST
        assert [path.name for path in (ledger.folder / "files").iterdir()] == [records(ledger)[0].name]

    def test_records_lie_below_their_own_folder_only(self, ledger, layer, tmp_path):
        ledger.record(layer, DIGEST, MAP)
        ledger.set_tag(TEMPLATE, "v1", VERSION, "macos", [])
        assert {path.name for path in tmp_path.iterdir()} == {"img_lib", ".s3reg"}
        assert [path.name for path in (tmp_path / "img_lib").iterdir()] == ["layer.ank"]
