"""A library: what it shows of the VMs in it, whom it takes for running, and what it refuses."""

import fcntl
import os
import stat
import subprocess
import sys

import pytest
import yaml

from s3reg.client import removal
from s3reg.client.library import Library
from s3reg.client.tagbook import TagFile
from s3reg.errors import (
    Busy,
    ConfigInvalid,
    LayersUnknown,
    LibraryIncomplete,
    LocalDenied,
    NameAmbiguous,
    NameInvalid,
    VmNotFound,
    VmRunning,
)
from s3reg.model import names
from s3reg.model.template import Role
from vms import OTHER, UUID, make_vm


@pytest.fixture
def library(tmp_path):
    return Library(tmp_path / "library")


@pytest.fixture(autouse=True)
def _no_anka(monkeypatch, tmp_path):
    """No Anka is installed, whatever this machine has."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=None)


@pytest.fixture
def anka_image(tmp_path):
    """Anka's program, as far as we ask it: prints the file BASES/<layer>, fails without one."""
    (tmp_path / "bases").mkdir()
    program = tmp_path / "bin" / "anka_image"
    program.write_text(f'#!/bin/sh\n[ "$1" = info ] && exec /bin/cat "{tmp_path}/bases/${{2##*/}}"\n')
    program.chmod(0o755)

    def stands_on(layer, base):
        (tmp_path / "bases" / layer).write_text(f"Format: ank\nVirtual Size: 42\nBase Image: {base}\nBlocks: 7\n")

    return stands_on


def names_of(vm, role=None):
    return [file.name for file in vm.files if role in {None, file.role}]


class TestFinding:
    def test_by_id_in_any_spelling_and_by_name(self, library):
        make_vm(library)
        assert library.find(UUID).id == library.find(UUID.upper()).id == library.find("macos").id == UUID

    def test_the_id_wins_over_another_vms_name(self, library):
        make_vm(library)
        make_vm(library, template=OTHER, name=UUID)
        assert library.find(UUID).id == UUID

    def test_a_name_that_looks_like_an_id_is_found(self, library):
        make_vm(library, template=OTHER, name=UUID)
        assert library.find(UUID).id == OTHER

    def test_t6_two_of_one_name_are_told_apart_by_id_only(self, library):
        make_vm(library)
        make_vm(library, template=OTHER)
        with pytest.raises(NameAmbiguous, match=OTHER):
            library.find("macos")

    @pytest.mark.parametrize("ref", ["nothing", UUID, "../..", "a\x00b", ""])
    def test_what_is_not_there_is_said_so(self, library, ref):
        with pytest.raises(VmNotFound):
            library.find(ref)
        library.create()
        with pytest.raises(VmNotFound):
            library.find(ref)

    def test_both_generations_of_config_names_are_known_and_the_newer_wins(self, library):
        folder = make_vm(library, config_name=f"{UUID}.yaml")
        assert library.find(UUID).config_name == f"{UUID}.yaml"
        (folder / f"{UUID}.yaml").rename(folder / f"{UUID.upper()}.yaml")
        assert library.find(UUID).config_name == f"{UUID.upper()}.yaml"
        (folder / "config.yaml").write_text(f"name: newer\nuuid: {UUID}\n")
        vm = library.find(UUID)
        assert (vm.config_name, vm.name) == ("config.yaml", "newer")

    def test_a_folder_in_upper_case_is_the_same_vm(self, library):
        make_vm(library).rename(library.vm_lib / UUID.upper())
        assert library.find(UUID).folder.name == UUID.upper()
        assert library.holds(UUID)

    def test_the_config_is_kept_byte_for_byte(self, library):
        folder = make_vm(library)
        odd = (folder / "config.yaml").read_bytes() + b"\r\n# \xc3\xa9 \n"
        (folder / "config.yaml").write_bytes(odd)
        assert library.find(UUID).config == odd


class TestListing:
    def test_foreign_folders_and_files_are_passed_over(self, library):
        make_vm(library)
        for name in (".locks", "not-a-vm", "6a1f2c3d000040008000000000000009"):
            (library.vm_lib / name).mkdir()
        (library.vm_lib / ".DS_Store").write_bytes(b"x")
        (library.vm_lib / OTHER).mkdir()
        assert [vm.id for vm in library.vms()] == [UUID]
        assert library.scan()[1] == {}

    def test_a_broken_config_is_reported_and_hides_nobody(self, library):
        make_vm(library)
        (make_vm(library, template=OTHER, name="broken") / "config.yaml").write_bytes(b"[")
        vms, problems = library.scan()
        assert [vm.id for vm in vms] == [UUID]
        assert {template: type(problem) for template, problem in problems.items()} == {OTHER: ConfigInvalid}
        assert OTHER in str(problems[OTHER])
        with pytest.raises(ConfigInvalid):
            library.find(OTHER)

    @pytest.mark.parametrize("text", [f"name: a\nuuid: {OTHER}\n", f"uuid: {UUID}\n", "a: &a b\nc: *a\n"])
    def test_a_config_that_is_anothers_or_nobodys_is_broken(self, library, text):
        (make_vm(library) / "config.yaml").write_text(text)
        assert library.vms() == []
        assert len(library.scan()[1]) == 1

    def test_a_config_may_leave_the_id_to_its_folder(self, library):
        (make_vm(library) / "config.yaml").write_text("name: a\n")
        assert library.find("a").id == UUID

    def test_a_config_of_many_gigabytes_is_not_read(self, library):
        folder = make_vm(library)
        os.truncate(folder / "config.yaml", 1 << 40)
        with pytest.raises(ConfigInvalid, match="larger"):
            library.find(UUID)

    def test_an_empty_place_is_an_empty_library(self, library):
        assert library.vms() == []

    def test_they_come_by_name(self, library):
        make_vm(library, name="b")
        make_vm(library, template=OTHER, name="a")
        assert [vm.name for vm in library.vms()] == ["a", "b"]


class TestFiles:
    def test_everything_that_a_vm_needs_and_nothing_hidden(self, library):
        folder = make_vm(library, images={"a.img": b"a", "b.img": b"b"}, state_file="s.ank", nvram=True)
        (library.state_lib / "s.ank").write_bytes(b"s")
        for name in ("nvram", "policy.json", "old-tag.yaml", ".DS_Store"):
            (folder / name).write_bytes(b"x")
        (folder / "logs").mkdir()
        (folder / "link").symlink_to("nvram")
        vm = library.find(UUID)
        assert [(file.name, file.role, file.drive) for file in vm.files] == [
            ("config.yaml", Role.CONFIG, None),
            ("a.img", Role.IMAGE, 0),
            ("b.img", Role.IMAGE, 1),
            ("s.ank", Role.STATE, None),
            ("nvram", Role.NVRAM, None),
            ("old-tag.yaml", Role.EXTRA, None),
            ("policy.json", Role.EXTRA, None),
        ]

    def test_a_state_may_lie_among_the_images(self, library):
        make_vm(library, state_file="s.ank")
        (library.img_lib / "s.ank").write_bytes(b"s")
        assert library.find(UUID).of_role(Role.STATE)[0].path == library.img_lib / "s.ank"

    @pytest.mark.parametrize("field", ["image", "state", "nvram"])
    def test_a_named_file_that_is_missing_is_told_by_name(self, library, field):
        make_vm(library, images={}, **{
            "image": {"hard_drives": [{"file": "gone"}]},
            "state": {"state_file": "gone"},
            "nvram": {"nvram": "gone"},
        }[field])  # fmt: skip
        with pytest.raises(LibraryIncomplete, match="gone"):
            library.find(UUID)

    def test_an_nvram_that_is_yet_to_be_made_is_not_missed(self, library):
        make_vm(library, nvram=True)
        assert names_of(library.find(UUID), Role.NVRAM) == []

    def test_a_vm_without_drives_is_one(self, library):
        make_vm(library, images={})
        assert names_of(library.find(UUID)) == ["config.yaml"]

    @pytest.mark.parametrize("extras", [["a", "A"], ["back\\slash"], ["new\nline"], ["nfd-e\u0301"]])
    def test_extras_that_cannot_travel_are_refused_early(self, library, extras):
        folder = make_vm(library)
        for extra in extras:
            (folder / extra).write_bytes(b"x")
        with pytest.raises(NameInvalid):
            library.find(UUID)

    def test_two_images_whose_names_differ_by_case_only_are_refused(self, library):
        make_vm(library, images={"disk.img": b"a", "DISK.img": b"b"})
        with pytest.raises(NameInvalid, match="collides"):
            library.find(UUID)


class TestChains:
    def test_without_any_knowledge_a_file_has_no_parent(self, library):
        make_vm(library)
        assert library.find(UUID).files[1].parent is None

    def test_our_own_records_tell_the_chain(self, library):
        make_vm(library, images={"top.ank": b"t"})
        (library.img_lib / "base.ank").write_bytes(b"b")
        library.ledger.record(library.img_lib / "top.ank", None, parent="base.ank")
        assert [(f.name, f.parent, f.drive) for f in library.find(UUID).of_role(Role.IMAGE)] == [
            ("top.ank", "base.ank", 0),
            ("base.ank", None, 0),
        ]

    def test_a_layer_that_changed_still_stands_on_its_parent(self, library):
        make_vm(library, images={"top.ank": b"t"})
        (library.img_lib / "base.ank").write_bytes(b"b")
        library.ledger.record(library.img_lib / "top.ank", None, parent="base.ank")
        (library.img_lib / "top.ank").write_bytes(b"written to")
        assert names_of(library.find(UUID), Role.IMAGE) == ["top.ank", "base.ank"]

    def test_else_anka_is_asked_states_too(self, library, anka_image):
        make_vm(library, images={"top.ank": b"t"}, state_file="s.ank")
        for name in ("mid.ank", "base.ank", "s.ank", "s0.ank"):
            (library.img_lib / name).write_bytes(b"x")
        anka_image("top.ank", "mid.ank")
        anka_image("mid.ank", f"{library.img_lib}/base.ank")
        anka_image("base.ank", "")
        anka_image("s.ank", "s0.ank")
        anka_image("s0.ank", "None")
        vm = library.find(UUID)
        assert names_of(vm, Role.IMAGE) == ["top.ank", "mid.ank", "base.ank"]
        assert names_of(vm, Role.STATE) == ["s.ank", "s0.ank"]

    def test_our_records_spare_the_question_while_they_hold(self, library, anka_image):
        make_vm(library, images={"top.ank": b"t"})
        library.ledger.record(library.img_lib / "top.ank", None)
        assert names_of(library.find(UUID), Role.IMAGE) == ["top.ank"]

    @pytest.mark.parametrize("base", [None, "../../etc/passwd/..", ".hidden"])
    def test_no_answer_or_a_hostile_one_refuses(self, library, anka_image, base):
        make_vm(library, images={"top.ank": b"t"})
        if base is not None:
            anka_image("top.ank", base)
        with pytest.raises(LayersUnknown, match=r"top\.ank"):
            library.find(UUID)

    def test_a_chain_that_bites_its_tail_is_refused(self, library, anka_image):
        make_vm(library, images={"a.ank": b"a"})
        (library.img_lib / "b.ank").write_bytes(b"b")
        anka_image("a.ank", "b.ank")
        anka_image("b.ank", "a.ank")
        with pytest.raises(LayersUnknown, match="itself"):
            library.find(UUID)

    def test_a_missing_layer_below_is_missed(self, library, anka_image):
        make_vm(library, images={"top.ank": b"t"})
        anka_image("top.ank", "gone.ank")
        with pytest.raises(LibraryIncomplete, match=r"gone\.ank"):
            library.find(UUID)

    def test_drives_that_share_a_base_bring_it_once(self, library, anka_image):
        make_vm(library, images={"a.ank": b"a", "b.ank": b"b"})
        (library.img_lib / "base.ank").write_bytes(b"x")
        anka_image("a.ank", "base.ank")
        anka_image("b.ank", "base.ank")
        anka_image("base.ank", "")
        assert names_of(library.find(UUID), Role.IMAGE) == ["a.ank", "base.ank", "b.ank"]

    def test_a_broken_vm_still_shows_what_it_has(self, library, anka_image):
        folder = make_vm(library, images={"top.ank": b"t"}, state_file="gone")
        anka_image("top.ank", "gone.ank")
        (folder / "back\\slash").write_bytes(b"x")
        assert names_of(library.whatever(UUID)) == ["config.yaml", "top.ank", "back\\slash"]
        (folder / "config.yaml").write_bytes(b"[")
        assert names_of(library.whatever(UUID)) == ["back\\slash", "config.yaml"]

    def test_users_of_a_layer_are_found_down_the_chain(self, library, anka_image):
        make_vm(library, images={"top.ank": b"t"})
        (library.img_lib / "base.ank").write_bytes(b"x")
        anka_image("top.ank", "base.ank")
        anka_image("base.ank", "")
        assert library.users() == {"top.ank": "macos", "base.ank": "macos"}
        assert library.users(besides=UUID) == {}


@pytest.fixture
def other_process():
    """A program of Python lines that holds something until the test ends."""
    running = []

    def start(lines, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", lines + "\nprint(flush=True); import sys; sys.stdin.read()", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        running.append(process)
        assert process.stdout.readline()
        return process

    yield start
    for process in running:
        process.communicate()


HOLDS = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.{}(f, fcntl.LOCK_EX)"


class TestRunning:
    def test_a_vm_at_rest_is_none(self, library):
        make_vm(library)
        (library.vm_lib / ".locks").mkdir()
        (library.vm_lib / ".locks" / UUID).write_bytes(b"")
        library.check_stopped(library.find(UUID))

    @pytest.mark.parametrize("kind", ["flock", "lockf"])
    @pytest.mark.parametrize("name", ["{}", "{}.lock"])
    def test_one_whose_lock_is_held_runs(self, library, other_process, kind, name):
        make_vm(library)
        (library.vm_lib / ".locks").mkdir()
        other_process(HOLDS.format(kind), library.vm_lib / ".locks" / name.format(UUID.upper()))
        with pytest.raises(VmRunning, match="lock"):
            library.check_stopped(library.find(UUID))

    def test_anothers_lock_is_not_its_own(self, library, other_process):
        make_vm(library)
        (library.vm_lib / ".locks").mkdir()
        other_process(HOLDS.format("flock"), library.vm_lib / ".locks" / OTHER)
        library.check_stopped(library.find(UUID))

    @pytest.mark.parametrize("file", ["disk.img", "s.ank"])
    def test_one_whose_disk_or_state_is_open_for_writing_runs(self, library, other_process, file):
        make_vm(library, state_file="s.ank")
        (library.state_lib / "s.ank").write_bytes(b"s")
        vm = library.find(UUID)
        other_process("import sys; f = open(sys.argv[1], 'r+b')", next(f.path for f in vm.files if f.name == file))
        with pytest.raises(VmRunning, match=file):
            library.check_stopped(vm)

    def test_one_whose_disk_is_being_read_does_not(self, library, other_process):
        make_vm(library)
        other_process("import sys; f = open(sys.argv[1], 'rb')", library.img_lib / "disk.img")
        library.check_stopped(library.find(UUID))


class TestLocks:
    def test_one_holds_it_and_another_is_told(self, library):
        with library.lock("pull-x"), pytest.raises(Busy, match="pull-x"), library.lock("pull-x"):
            pass
        with library.lock("pull-x"):
            pass

    def test_other_names_are_other_locks(self, library):
        with library.lock("a"), library.lock("b"), library.lock("../../../etc/x"), library.lock("A/b" * 200):
            pass
        assert {path.parent for path in library.root.rglob("*") if path.is_file()} == {library.own / "locks"}

    def test_a_killed_holder_holds_nothing(self, library, other_process):
        holder = (
            "import sys, pathlib; from s3reg.client.library import Library;"
            "lock = Library(pathlib.Path(sys.argv[1])).lock('x'); lock.__enter__()"
        )
        process = other_process(holder, library.root)
        with pytest.raises(Busy), library.lock("x"):
            pass
        process.kill()
        process.wait()
        with library.lock("x"):
            pass

    def test_who_waits_gets_it_in_the_end(self, library, other_process):
        process = other_process(HOLDS.format("flock"), library_lock(library, "x"))
        with pytest.raises(Busy), library.lock("x"):
            pass
        process.stdin.close()
        with library.lock("x", wait=True):
            assert process.wait() == 0
        process.stdin = None


def library_lock(library, name):
    with library.lock(name):
        return library.own / "locks" / name


class TestCreating:
    def test_all_folders_are_made_and_twice_is_once(self, library):
        library.create()
        library.create()
        assert {path.name for path in library.root.iterdir()} == {"vm_lib", "img_lib", "state_lib", ".s3reg"}

    def test_a_place_that_cannot_be_one_is_refused(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(LocalDenied):
            Library(tmp_path / "file").create()
        with pytest.raises(LocalDenied):
            Library(tmp_path / "file" / "below").create()


class TestShrinking:
    @pytest.fixture
    def pulled(self, library):
        """Two versions of a template and one of another share a base; each has a layer of its own."""
        digests = {}

        def have(template, tag, layers, **how):
            for name in layers:
                place = library.img_lib / name
                if not place.exists():
                    place.write_bytes(name.encode() * 1000)
                    digests[name] = names.digest(f"{len(digests) + 1:064x}")
                    library.ledger.record(place, digests[name], b"map")
            members = [TagFile(name, Role.IMAGE, digests[name]) for name in layers]
            library.ledger.set_tag(template, tag, names.version_id(f"{len(tag):032x}"), "macos", members, **how)

        make_vm(library, images={"v2.ank": b""})
        (library.img_lib / "v2.ank").unlink()
        have(UUID, "v1", ["v1.ank", "base.ank"])
        have(OTHER, "x", ["x.ank", "base.ank"])
        have(UUID, "local", ["local.ank"], local=True)
        have(UUID, "v2", ["v2.ank"])
        return have

    def remaining(self, library):
        return sorted(path.name for path in library.img_lib.iterdir())

    def test_only_what_nobody_else_needs_goes(self, library, pulled):
        assert removal.shrink(library, UUID) >= 6000
        assert self.remaining(library) == ["base.ank", "local.ank", "v2.ank", "x.ank"]
        assert sorted(library.ledger.tags(UUID)) == ["local", "v2"]
        assert removal.shrink(library, UUID) == 0

    def test_a_layer_that_a_vm_stands_on_stays_whatever_its_tag(self, library, pulled):
        make_vm(library, template=OTHER, name="clone", images={})
        config = library.vm_lib / OTHER / "config.yaml"
        config.write_text(yaml.safe_dump({"name": "clone", "hard_drives": [{"file": "V1.ank"}]}))
        removal.shrink(library, UUID)
        assert "v1.ank" in self.remaining(library)

    def test_a_layer_that_changed_since_stays(self, library, pulled):
        (library.img_lib / "v1.ank").write_bytes(b"work of hours")
        removal.shrink(library, UUID)
        assert "v1.ank" in self.remaining(library)

    def test_beside_a_vm_that_cannot_be_read_nothing_goes(self, library, pulled):
        (make_vm(library, template=OTHER, images={}) / "config.yaml").write_bytes(b"[")
        with pytest.raises(ConfigInvalid):
            removal.shrink(library, UUID)
        assert "v1.ank" in self.remaining(library)


def test_asking_who_runs_leaves_no_lock_behind(library):
    make_vm(library)
    (library.vm_lib / ".locks").mkdir()
    place = library.vm_lib / ".locks" / UUID
    place.write_bytes(b"")
    place.chmod(stat.S_IRUSR)
    library.check_stopped(library.find(UUID))
    with place.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
