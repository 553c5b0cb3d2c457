"""`s3reg vm`: what a person reads, what a script written for the Anka CLI reads, and what is refused."""

import os
import shutil
import subprocess
import sys
import time
import uuid

import click
import pytest

import local_vms
from s3reg.client.library import Library
from s3reg.client.staging import Staging
from s3reg.model.template import Role
from vms import OTHER, UUID, make_vm, version


@pytest.fixture
def library(tmp_path):
    """The library that commands take."""
    return Library(tmp_path / "library")


@pytest.fixture
def base(library):
    """A VM of layers in Anka's format and a plain disk, tagged v1."""
    local_vms.layered(library, name="base")
    local_vms.tagged(library, "v1")
    return library


def body(done):
    assert done.code == 0, done.err or done.out
    return done.answer["body"]


class TestList:
    def test_scripts_read_what_anka_prints(self, s3reg, base):
        (row,) = body(s3reg("-j", "vm", "list"))
        assert {key: row[key] for key in ("name", "uuid", "version", "status", "changed")} == {
            "name": "base",
            "uuid": UUID,
            "version": "v1",
            "status": "stopped",
            "changed": False,
        }
        assert row["creation_date"].endswith("Z")

    def test_a_change_is_told_without_a_disk_being_read(self, s3reg, base):
        (base.img_lib / local_vms.layers(base)[2]).write_bytes(b"ran")
        assert body(s3reg("-j", "vm", "list"))[0]["changed"] is True
        assert s3reg("vm", "list").out.split("\t") == ["base", UUID, "v1 (changed)", "stopped", "\n"]

    def test_a_suspended_and_a_running_one_are_told(self, s3reg, base):
        make_vm(base, template=OTHER, name="sleeper", images={}, state_file="s.ank")
        (base.state_lib / "s.ank").write_bytes(b"ram")
        place = base.img_lib / local_vms.layers(base)[0]
        program = "import sys; f = open(sys.argv[1], 'r+b'); print(flush=True); sys.stdin.read()"
        with subprocess.Popen(
            [sys.executable, "-c", program, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as running:
            running.stdout.readline()
            found = {row["name"]: row["status"] for row in body(s3reg("-j", "vm", "list"))}
            running.stdin.close()
        assert found == {"base": "running", "sleeper": "suspended"}

    @pytest.mark.parametrize("broken", ["config", "layer"])
    def test_a_broken_one_is_shown_with_the_reason_and_hides_nobody(self, s3reg, base, broken):
        folder = make_vm(base, template=OTHER, name="bad", images={"bad.img": b"x"})
        if broken == "config":
            (folder / "config.yaml").write_bytes(b"[")
        else:
            (base.img_lib / "bad.img").unlink()
        found = {row["uuid"]: row for row in body(s3reg("-j", "vm", "list"))}
        assert found[UUID]["status"] == "stopped"
        assert found[OTHER]["status"] == "broken"
        assert ("bad.img" if broken == "layer" else OTHER) in found[OTHER]["reason"]
        assert s3reg("vm", "list").code == 0
        assert s3reg("vm", "show", OTHER).code == 2 if broken == "config" else 11

    def test_an_empty_library_is_an_empty_list(self, s3reg):
        assert body(s3reg("-j", "vm", "list")) == []
        assert s3reg("vm", "list").out == ""

    def test_one_that_is_not_there_is_code_3(self, s3reg, base):
        for command in (("list", "nothing"), ("show", "nothing"), ("clone", "nothing", "x"), ("delete", "nothing"),
                        ("tag", "nothing")):  # fmt: skip
            done = s3reg("-j", "vm", *command)
            assert (done.code, done.answer["code"], done.answer["status"]) == (3, 3, "ERROR")


class TestShow:
    def test_the_whole_has_ankas_fields(self, s3reg, base):
        config = base.vm_lib / UUID / "config.yaml"
        config.write_text(config.read_text() + "cpu: {cores: 4}\nram: 8G\narch: arm64\n")
        found = body(s3reg("-j", "vm", "show", "base"))
        assert {key: found[key] for key in ("cpu_cores", "ram", "ram_size", "arch", "encrypted", "status")} == {
            "cpu_cores": 4,
            "ram": "8G",
            "ram_size": 8 << 30,
            "arch": 2,
            "encrypted": False,
            "status": "stopped",
        }
        assert {"image_size", "hard_drive", "stop_date", "access_date", "creation_date"} <= set(found)
        assert found["image_size"] > 0

    def test_its_tags_have_their_dates(self, s3reg, base):
        (row,) = body(s3reg("-j", "vm", "show", "base", "tag"))
        assert set(row) == {"tag", "creation_date", "last_access"}
        assert row["tag"] == "v1"

    @pytest.mark.parametrize(("part", "told"), [("name", "base"), ("uuid", UUID)])
    def test_a_part_is_itself(self, s3reg, base, part, told):
        assert body(s3reg("-j", "vm", "show", "base", part)) == told
        assert s3reg("vm", "show", "base", part).out == f"{told}\n"

    def test_the_drives_have_their_chains(self, s3reg, base):
        top, below, plain = local_vms.layers(base)
        assert [drive["layers"] for drive in body(s3reg("-j", "vm", "show", "base", "disk"))] == [[top, below], [plain]]


class TestClone:
    def test_a_clone_appears_and_its_name_is_taken_then(self, s3reg, base):
        made = body(s3reg("-j", "vm", "clone", "base", "copy"))
        assert base.find("copy").id == made["uuid"]
        again = s3reg("-j", "vm", "clone", "base", "copy")
        assert (again.code, again.answer["code"]) == (18, 18)
        assert "copy" in again.answer["message"]

    def test_of_a_tag_and_as_a_copy(self, s3reg, base):
        before = local_vms.contents(base)
        local_vms.run_on_a_layer(base, b"ran")
        assert s3reg("vm", "clone", "-c", "-t", "v1", "base", "copy").code == 0
        assert local_vms.contents(base, "copy") == before
        assert s3reg("vm", "clone", "-t", "v9", "base", "other").code == 3
        assert s3reg("vm", "clone", "--copy", "--share", "base", "other").code == 2

    @pytest.mark.parametrize("first", ["base", "copy"])
    def test_in_the_store_a_clone_costs_no_layer_bytes(self, s3reg, registry, disk, first):
        """Whichever is pushed first, and though the disk of neither was ever hashed before."""
        s3reg("import", "base", "--disk", disk)
        s3reg("vm", "clone", "base", "copy")
        second = {"base": "copy", "copy": "base"}[first]
        assert body(s3reg("-j", "-a", registry, "push", first, "-t", "v1"))["new"] > 1_000_000
        assert body(s3reg("-j", "-a", registry, "push", second, "-t", "v1"))["new"] == 0


class TestTag:
    def test_tags_are_given_listed_and_gone_back_to(self, s3reg, base):
        first = local_vms.contents(base)
        local_vms.run_on_a_layer(base, b"ran")
        assert body(s3reg("-j", "vm", "tag", "base", "v2"))["tag"] == "v2"
        rows = body(s3reg("-j", "vm", "tag", "base"))
        assert [(row["tag"], row["current"], row["local"], row["whole"]) for row in rows] == [
            ("v1", False, True, True),
            ("v2", True, True, True),
        ]
        assert s3reg("pull", "--local", "-t", "v1", "base").code == 0
        assert local_vms.contents(base) == first

    def test_one_that_is_taken_is_code_18_unless_forced(self, s3reg, base):
        assert s3reg("-j", "vm", "tag", "base", "v1").answer["code"] == 18
        assert s3reg("vm", "tag", "base", "v1", "-f").code == 0

    def test_one_whose_disk_changed_is_told(self, s3reg, base):
        (base.img_lib / local_vms.layers(base)[2]).write_bytes(b"ran")
        assert body(s3reg("-j", "vm", "tag", "base"))[0]["whole"] is False
        assert "not whole" in s3reg("vm", "tag", "base").out
        assert s3reg("pull", "--local", "-t", "v1", "base").code == 3

    def test_names_and_tags_are_found_in_either_spelling_of_unicode(self, s3reg, base):
        composed, decomposed = "gr\u00f6\u00dfe", "gro\u0308\u00dfe"
        assert s3reg("vm", "clone", "base", composed).code == 0
        assert s3reg("vm", "tag", decomposed, composed).code == 0
        assert s3reg("pull", "--local", decomposed, "-t", decomposed).code == 0
        assert s3reg("vm", "tag", decomposed, "--delete", decomposed).code == 0
        assert s3reg("vm", "delete", decomposed).code == 0

    def test_what_was_hashed_before_is_not_told_as_progress(self, s3reg, base):
        assert "hashing" not in s3reg("vm", "tag", "base", "v2").err

    def test_one_is_deleted_under_either_command(self, s3reg, base):
        local_vms.tagged(base, "v2")
        assert body(s3reg("-j", "vm", "tag", "base", "--delete", "v1"))["tag"] == "v1"
        assert body(s3reg("-j", "vm", "delete", "base", "-t", "v2"))["freed"] == 0
        assert body(s3reg("-j", "vm", "tag", "base")) == []
        assert s3reg("-j", "vm", "delete", "base", "-t", "v2").answer["code"] == 3
        assert s3reg("vm", "tag", "base", "v3", "--delete", "v3").code == 2


class TestDelete:
    def test_it_says_what_was_freed(self, s3reg, base):
        done = body(s3reg("-j", "vm", "delete", "base"))
        assert done["deleted"] == [{"uuid": UUID, "name": "base"}]
        assert done["freed"] > 0
        assert base.vms() == []

    def test_a_person_is_asked_and_may_say_no(self, s3reg, base, terminal):
        terminal(answer=False)
        for options in ([], ["-t", "v1"]):
            done = s3reg("vm", "delete", "base", *options)
            assert (done.code, done.err) == (1, "nothing was removed\n")
        assert base.holds(UUID)
        assert "no registry has all bytes" in terminal.asked[0]
        assert s3reg("vm", "delete", "base", "--yes").code == 0
        assert len(terminal.asked) == 2
        assert base.vms() == []

    def test_all_means_all_and_nothing_else(self, s3reg, base):
        make_vm(base, template=OTHER, name="other", images={})
        for wrong in (["--all", "base"], ["--all", "-t", "v1"], [], ["-t", "v1", "base", "other"], ["-t", "v1"]):
            assert s3reg("vm", "delete", *wrong).code == 2
        assert len(base.vms()) == 2
        assert len(body(s3reg("-j", "vm", "delete", "-a", "--yes"))["deleted"]) == 2
        assert local_vms.in_the_shared_folders(base) == set()

    def test_all_takes_broken_ones_too(self, s3reg, base):
        (make_vm(base, template=OTHER, images={}) / "config.yaml").write_bytes(b"[")
        assert len(body(s3reg("-j", "vm", "delete", "--all"))["deleted"]) == 2
        assert base.scan() == ([], {})

    def test_while_one_of_several_runs_none_goes(self, s3reg, base):
        make_vm(base, template=OTHER, name="other", images={})
        (base.vm_lib / ".locks").mkdir()
        with base.lock("x"):
            (base.vm_lib / ".locks" / UUID).symlink_to(base.own / "locks" / "x")
            assert s3reg("vm", "delete", "other", "base", OTHER).code == 11
        assert len(base.vms()) == 2
        assert s3reg("vm", "delete", "other", "base", OTHER).code == 0

    def test_of_one_that_is_gone_tags_are_listed_and_deleted(self, s3reg, base):
        shutil.rmtree(base.vm_lib / UUID)
        assert [row["tag"] for row in body(s3reg("-j", "vm", "tag", "base"))] == ["v1"]
        assert s3reg("vm", "delete", "nobody").code == 3
        assert body(s3reg("-j", "vm", "delete", "base"))["deleted"] == [{"uuid": UUID, "name": "base"}]
        assert local_vms.in_the_shared_folders(base) == set()

    def test_of_several_a_broken_one_may_be_named_last(self, s3reg, base):
        (make_vm(base, template=OTHER, images={}) / "config.yaml").write_bytes(b"[")
        assert s3reg("vm", "delete", "base", OTHER).code == 0
        assert base.scan() == ([], {})

    def test_the_cache_is_what_interrupted_pulls_left(self, s3reg, base):
        staging = Staging(base, OTHER, version())
        staging.path("half.img", Role.IMAGE).write_bytes(b"x" * 50_000)
        before = local_vms.contents(base)
        found = body(s3reg("-j", "vm", "delete", "--cache"))
        assert (found["deleted"], found["cache"]["layers"]) == ([], 0)
        assert found["freed"] >= found["cache"]["stagings"] >= 50_000
        assert local_vms.contents(base) == before
        assert s3reg("vm", "delete", "--cache").out.startswith("cache: 0 bytes of stagings")

    def test_logs_of_pushes_go_with_their_vm_and_once_no_session_can_be_open(self, s3reg, base):
        folder = base.own / "push"
        folder.mkdir(parents=True)
        kept, old, deleted = (folder / f"{template}.jsonl" for template in (str(uuid.uuid4()), OTHER, UUID))
        for place, days in ((kept, 6), (old, 8), (deleted, 1)):
            place.write_bytes(b"{}")
            written = time.time() - days * 24 * 3600
            os.utime(place, (written, written))
        assert body(s3reg("-j", "vm", "delete", "--cache"))["cache"]["records"] > 0
        assert sorted(folder.iterdir()) == sorted([kept, deleted])
        assert s3reg("vm", "delete", "base").code == 0
        assert list(folder.iterdir()) == [kept]


@pytest.fixture
def terminal(monkeypatch):
    """A person at a terminal, and what they were asked."""

    class Terminal:
        def __init__(self):
            self.asked = []

        def __call__(self, *, answer):
            def confirm(text, **_):
                self.asked.append(text)
                return answer

            monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
            monkeypatch.setattr(click, "confirm", confirm)

    return Terminal()


def test_help_says_what_a_clone_of_a_plain_disk_is(s3reg):
    told = " ".join(s3reg("vm", "clone", "--help").out.split())
    assert "plain disk" in told
    assert "--share" in told
