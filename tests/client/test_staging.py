"""How a version becomes visible on a node: whole or not at all, whatever else lies there and whoever kills it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import killing
from s3reg.client import platform
from s3reg.client.arriving import StagedFile
from s3reg.client.ledger import Print
from s3reg.client.library import Library
from s3reg.client.staging import Staging, recover
from s3reg.client.tagbook import TagFile
from s3reg.errors import (
    ConfigInvalid,
    FileTaken,
    FormatUnknown,
    LayersUnknown,
    LocalChanges,
    LocalDenied,
    NameInvalid,
    VmRunning,
)
from s3reg.model.template import Role, bytes_digest
from vms import OTHER, UUID, make_vm, version

IMAGE, STATE, CONFIG, NVRAM, EXTRA = Role.IMAGE, Role.STATE, Role.CONFIG, Role.NVRAM, Role.EXTRA


@pytest.fixture
def library(tmp_path):
    found = Library(tmp_path / "library")
    found.create()
    return found


class Version:
    """A version of UUID on its way into a library: `files` by (name, role)."""

    def __init__(self, library, tag="v1", **images):
        self.library, self.tag = library, tag
        self.staging = Staging(library, UUID, version())
        self.files = {(f"{name}.img", IMAGE): data for name, data in images.items()}
        drives = [{"file": f"{name}.img"} for name in images]
        config = {"name": "macos", "uuid": UUID, "hard_drives": drives, "nvram": True, "note": tag}
        self.files["config.yaml", CONFIG] = json.dumps(config).encode()  # JSON is YAML

    def rows(self):
        return [StagedFile(name, role, len(data), bytes_digest(data)) for (name, role), data in self.files.items()]

    def stage(self, *, without=()):
        for (name, role), data in self.files.items():
            if name not in without:
                self.staging.path(name, role).write_bytes(data)
        return self

    def publish(self, **how):
        return self.staging.publish(self.rows(), name="macos", tag=self.tag, **how)

    def shown(self):
        """The library's VM, by name and role."""
        return {(file.name, file.role): file.path.read_bytes() for file in self.library.find(UUID).files}


class TestPublishing:
    def test_a_version_appears_with_all_its_files_and_records(self, library):
        new = Version(library, a=b"disk")
        new.files |= {("s.ank", STATE): b"state", ("nvram", NVRAM): b"nv", ("policy.json", EXTRA): b"{}"}
        folder = new.stage().publish()
        assert folder == library.vm_lib / UUID
        assert (library.state_lib / "s.ank").read_bytes() == b"state"
        assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "nvram", "policy.json"]
        assert all(library.ledger.known(library.path_of(row.name, row.role, UUID)) == row.digest for row in new.rows())
        assert library.ledger.current(UUID) == "v1"
        assert library.ledger.tags(UUID)["v1"].files == {row.name: row.digest for row in new.rows()}
        assert list((library.own / "staging").iterdir()) == []

    def test_parents_and_maps_are_recorded(self, library):
        new = Version(library, top=b"t", base=b"b")
        rows = [StagedFile(r.name, r.role, r.size, r.digest, "base.img" if r.name == "top.img" else None, map_bytes=b"map")
                for r in new.rows()]  # fmt: skip
        new.stage().staging.publish(rows, name="macos", tag="v1")
        assert library.ledger.record_of(library.img_lib / "top.img").parent == "base.img"
        assert library.ledger.map_bytes(bytes_digest(b"t")) == b"map"

    def test_the_next_version_replaces_raw_disks_under_their_names(self, library):
        Version(library, disk=b"old").stage().publish()
        new = Version(library, "v2", disk=b"new")
        new.stage().publish()
        assert new.shown() == new.files
        assert sorted(library.ledger.tags(UUID)) == ["v1", "v2"]
        assert library.ledger.current(UUID) == "v2"

    def test_layers_of_the_version_before_stay_for_its_tag(self, library):
        Version(library, a=b"a").stage().publish()
        Version(library, "v2", b=b"b").stage().publish()
        assert library.ledger.known(library.img_lib / "a.img") == bytes_digest(b"a")

    def test_a_layer_that_the_library_has_is_not_asked_for(self, library):
        Version(library, base=b"base", a=b"a").stage().publish()
        new = Version(library, "v2", base=b"base", b=b"b")
        assert new.staging.check(new.rows(), name="macos") == {"base.img"}
        inode = (library.img_lib / "base.img").stat().st_ino
        new.stage(without={"base.img"}).publish()
        assert new.shown() == new.files
        assert (library.img_lib / "base.img").stat().st_ino == inode

    def test_a_layer_that_nobody_recorded_is_reused_if_reading_it_tells_so(self, library):
        (library.img_lib / "base.img").write_bytes(b"base")
        new = Version(library, base=b"base")
        asked = []

        def same(path, file):
            asked.append(path)
            return bytes_digest(path.read_bytes()) == file.digest

        assert new.staging.check(new.rows(), name="macos", same=same) == {"base.img"}
        new.stage(without={"base.img"}).publish(same=same)
        assert asked == [library.img_lib / "base.img"] * 2
        assert library.ledger.known(library.img_lib / "base.img") == bytes_digest(b"base")

    def test_files_of_the_vms_folder_that_are_as_recorded_need_no_staging(self, library):
        first = Version(library, a=b"a")
        first.files["nvram", NVRAM] = b"nv"
        first.stage().publish()
        new = Version(library, "v2", b=b"b")
        new.files["nvram", NVRAM] = b"nv"
        new.stage(without={"nvram"}).publish()
        assert new.shown() == new.files

    def test_what_else_was_staged_does_not_appear(self, library):
        new = Version(library, a=b"a").stage()
        new.staging.path("a.img.journal", IMAGE).write_bytes(b"journal")
        new.staging.path("nvram.journal", NVRAM).write_bytes(b"journal")
        new.publish()
        assert new.shown() == new.files
        assert [path.name for path in library.img_lib.iterdir()] == ["a.img"]

    @pytest.mark.parametrize("how", ["missing", "short"])
    @pytest.mark.parametrize("name", ["a.img", "config.yaml"])
    def test_an_incomplete_staging_publishes_nothing(self, library, name, how):
        new = Version(library, a=b"a").stage()
        place = new.staging.path(name, IMAGE if name == "a.img" else CONFIG)
        place.unlink() if how == "missing" else place.write_bytes(b"")
        with pytest.raises(LocalDenied, match=name):
            new.publish()
        assert library.vms() == []
        assert list(library.img_lib.iterdir()) == []
        assert recover(library) == []

    def test_a_broken_vm_is_repaired_by_a_pull(self, library):
        Version(library, a=b"a", b=b"b").stage().publish()
        (library.img_lib / "a.img").unlink()
        new = Version(library, "v1", a=b"a", b=b"b")
        assert new.staging.check(new.rows(), name="macos") == {"b.img"}
        new.stage(without={"b.img"}).publish()
        assert new.shown() == new.files

    def test_without_durability_the_records_end_with_this_boot(self, library):
        Version(library, a=b"a").stage().publish(durable=False)
        assert library.ledger.record_of(library.img_lib / "a.img").boot == platform.boot_id()

    @pytest.mark.parametrize("name", ["../x", "a/b", "", "..", ".hidden", "a\x00b", "a\n", "x" * 256, "e\u0301"])
    def test_a_hostile_name_never_becomes_a_path(self, library, name):
        for role in Role:
            with pytest.raises(NameInvalid):
                Staging(library, UUID, version()).path(name, role)

    def test_names_that_collide_where_case_is_ignored_are_refused(self, library):
        new = Version(library, disk=b"1", DISK=b"2").stage()
        with pytest.raises(NameInvalid, match="collides"):
            new.publish()
        assert library.vms() == []


class TestWhatIsInTheWay:
    def test_another_vms_file_with_other_bytes_is_never_replaced(self, library):
        make_vm(library, template=OTHER, name="other", images={"disk.img": b"theirs"})
        new = Version(library, disk=b"ours").stage()
        for force in (False, True):
            with pytest.raises(FileTaken, match="other"):
                new.staging.check(new.rows(), name="macos", force=force)
            with pytest.raises(FileTaken, match="other"):
                new.publish(force=force)
        assert (library.img_lib / "disk.img").read_bytes() == b"theirs"
        assert not library.holds(UUID)

    def test_not_even_one_that_it_stands_on_further_down(self, library):
        make_vm(library, template=OTHER, name="other", images={"top.img": b"top"})
        (library.img_lib / "disk.img").write_bytes(b"theirs")
        library.ledger.record(library.img_lib / "top.img", None, parent="disk.img")
        with pytest.raises(FileTaken):
            Version(library, disk=b"ours").stage().publish(force=True)

    def test_a_vm_that_cannot_be_read_may_stand_on_anything(self, library):
        (library.img_lib / "disk.img").write_bytes(b"whose?")
        (make_vm(library, template=OTHER, images={}) / "config.yaml").write_bytes(b"[")
        with pytest.raises(ConfigInvalid):
            Version(library, disk=b"ours").stage().publish(force=True)

    def test_but_it_is_not_in_the_way_of_fresh_names(self, library):
        (make_vm(library, template=OTHER, images={}) / "config.yaml").write_bytes(b"[")
        Version(library, disk=b"ours").stage().publish()
        assert (library.img_lib / "disk.img").read_bytes() == b"ours"

    def test_the_same_bytes_are_shared_with_another_vm(self, library):
        make_vm(library, template=OTHER, name="other", images={"disk.img": b"both"})
        library.ledger.record(library.img_lib / "disk.img", bytes_digest(b"both"))
        Version(library, disk=b"both").stage(without={"disk.img"}).publish()
        assert (library.img_lib / "disk.img").read_bytes() == b"both"

    @pytest.mark.parametrize("what", ["layer", "config", "nvram", "extra", "folder", "link", "new layer"])
    def test_bytes_that_no_registry_has_go_only_by_force(self, library, what):
        first = Version(library, disk=b"old")
        first.files |= {("nvram", NVRAM): b"nv", ("policy.json", EXTRA): b"{}"}
        folder = first.stage().publish()
        config = first.files["config.yaml", CONFIG]
        {
            "layer": lambda: (library.img_lib / "disk.img").write_bytes(b"work"),
            "config": lambda: (folder / "config.yaml").write_bytes(config + b"\n# mine"),
            "nvram": lambda: (folder / "nvram").write_bytes(b"mine"),
            "extra": lambda: (folder / "notes.txt").write_bytes(b"mine"),
            "folder": (folder / "logs").mkdir,
            "link": lambda: (folder / "link").symlink_to("nvram"),
            "new layer": lambda: (
                (library.img_lib / "run.img").write_bytes(b"work"),
                (folder / "config.yaml").write_bytes(config.replace(b"disk.img", b"run.img")),
            ),
        }[what]()
        new = Version(library, "v2", disk=b"new").stage()
        with pytest.raises(LocalChanges):
            new.staging.check(new.rows(), name="macos")
        with pytest.raises(LocalChanges):
            new.publish()
        assert library.ledger.current(UUID) == "v1"
        assert (new.staging.folder / "complete.json").exists()
        new.publish(force=True)
        assert new.shown() == new.files

    def test_a_version_that_only_this_node_tagged_is_unpushed(self, library):
        make_vm(library, images={"disk.img": b"mine"})
        members = []
        for file in library.find(UUID).files:
            members.append(TagFile(file.name, file.role, bytes_digest(file.path.read_bytes())))
            library.ledger.record(file.path, members[-1].digest)
        library.ledger.set_tag(UUID, "mine", version(), "macos", members, local=True)
        new = Version(library, disk=b"new").stage()
        with pytest.raises(LocalChanges):
            new.publish()
        library.ledger.set_tag(UUID, "mine", version(), "macos", members)
        new.publish()

    def test_an_orphan_of_unknown_bytes_goes_only_by_force(self, library):
        (library.img_lib / "disk.img").write_bytes(b"whose?")
        new = Version(library, disk=b"new").stage()
        with pytest.raises(LocalChanges, match=r"disk\.img"):
            new.publish()
        new.publish(force=True)
        assert new.shown() == new.files

    def test_a_running_vm_is_not_replaced_even_by_force(self, library):
        Version(library, disk=b"old").stage().publish()
        new = Version(library, "v2", other=b"new").stage()
        with subprocess.Popen(
            [sys.executable, "-c", "import sys; f = open(sys.argv[1], 'r+b'); print(flush=True); sys.stdin.read()",
             library.img_lib / "disk.img"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        ) as process:  # fmt: skip
            process.stdout.readline()
            with pytest.raises(VmRunning):
                new.publish(force=True)
            process.stdin.close()
        new.publish()

    def test_a_folder_with_a_layers_name_is_left_alone(self, library):
        (library.img_lib / "disk.img").mkdir()
        with pytest.raises(LocalDenied):
            Version(library, disk=b"new").stage().publish(force=True)

    def test_where_anka_cannot_tell_the_chains_nothing_is_replaced(self, library, monkeypatch, tmp_path):
        program = tmp_path / "bin" / "anka_image"
        program.parent.mkdir()
        program.write_text("#!/bin/sh\nexit 1\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent))
        make_vm(library, template=OTHER, images={"other.ank": b"x"})
        (library.img_lib / "disk.img").write_bytes(b"whose?")
        with pytest.raises(LayersUnknown):
            Version(library, disk=b"ours").stage().publish(force=True)


class TestRecovering:
    @pytest.mark.parametrize("most", [28, pytest.param(1000, marks=pytest.mark.campaign)])
    @pytest.mark.parametrize("scenario", sorted(killing.SCENARIOS))
    def test_killed_at_any_step_the_library_shows_the_old_the_new_or_nothing(self, scenario, most, tmp_path):
        # In memory where the machine can: what counts is the order of the steps, not the disk.
        memory = Path("/dev/shm")
        folder = memory / tmp_path.name / scenario if memory.is_dir() else tmp_path
        program = [sys.executable, killing.__file__, scenario, folder, str(most)]
        try:
            ran = subprocess.run(program, capture_output=True, text=True, check=False)
        finally:
            if folder != tmp_path:
                shutil.rmtree(folder.parent, ignore_errors=True)
        assert ran.returncode == 0, ran.stderr
        assert int(ran.stdout) > 15

    @pytest.fixture
    def stuck(self, library, monkeypatch):
        """A publishing that stopped after the plan was written, before anything moved."""
        Version(library, disk=b"old").stage().publish()
        new = Version(library, "v2", disk=b"new").stage()

        class Killed(BaseException):
            pass

        def killed(*_):
            raise Killed

        monkeypatch.setattr(Staging, "_run", killed)
        with pytest.raises(Killed):
            new.publish()
        monkeypatch.undo()
        return new

    def test_it_goes_on(self, library, stuck):
        assert recover(library) == []
        assert stuck.shown() == stuck.files

    def test_so_does_the_same_call_again(self, library, stuck):
        stuck.publish()
        assert stuck.shown() == stuck.files

    def test_changes_made_meanwhile_are_not_lost(self, library, stuck):
        (library.img_lib / "disk.img").write_bytes(b"work of hours")
        assert [type(problem) for problem in recover(library)] == [LocalChanges]
        assert (library.img_lib / "disk.img").read_bytes() == b"work of hours"

    def test_discarding_leaves_what_has_begun(self, library, stuck):
        stuck.staging.discard()
        assert recover(library) == []
        assert stuck.shown() == stuck.files

    def test_a_stuck_one_does_not_hide_from_others(self, library, stuck):
        plan = stuck.staging.folder / "plan.json"
        plan.write_text(json.dumps({**json.loads(plan.read_bytes()), "v": 2}))
        assert [type(problem) for problem in recover(library)] == [FormatUnknown]
        Staging(library, OTHER, version())

    def test_a_staging_that_waits_for_its_pull_is_left_alone(self, library):
        new = Version(library, a=b"a").stage()
        assert recover(library) == []
        new.publish()
        assert new.shown() == new.files

    def test_leftovers_of_removals_go(self, library):
        (library.own / "trash" / "x").mkdir(parents=True)
        (library.own / "trash" / "x" / "big").write_bytes(b"x")
        assert recover(library) == []
        assert list((library.own / "trash").iterdir()) == []

    def test_an_empty_library_needs_none(self, tmp_path):
        assert recover(Library(tmp_path / "nowhere")) == []
        assert not (tmp_path / "nowhere").exists()


class TestDiscarding:
    def test_nothing_stays(self, library):
        new = Version(library, a=b"a").stage()
        new.staging.discard()
        new.staging.discard()
        assert list((library.own / "staging").iterdir()) == []
        assert list((library.own / "trash").iterdir()) == []


def test_a_print_is_what_a_file_is_recognised_by(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    found = (tmp_path / "x").stat()
    assert Print.of(found) == Print(3, found.st_mtime_ns, found.st_ino)
