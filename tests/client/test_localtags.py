"""Tags without a registry: what they keep, what they bring back, and when they cannot."""

import shutil
import subprocess
import sys

import pytest

import local_vms
from s3reg.client import localtags
from s3reg.client.arriving import StagedFile
from s3reg.client.library import Library
from s3reg.client.localtags import check_out
from s3reg.client.progress import Silent
from s3reg.client.staging import Staging
from s3reg.errors import FileChanged, LocalChanges, LocalTagNotFound, NotLocal, TagTaken, VmNotFound, VmRunning
from s3reg.model.template import Role, bytes_digest
from vms import UUID, make_vm, version


@pytest.fixture
def library(in_memory):
    return local_vms.of_two_tags(in_memory / "library")


def pulled(library, tag, data, **how):
    """A version of a VM with one plain disk, as a pull brings it."""
    staging = Staging(library, UUID, version())
    files = {
        (f"{tag}.img", Role.IMAGE): data,
        ("config.yaml", Role.CONFIG): f"name: macos\nuuid: {UUID}\nhard_drives:\n- file: {tag}.img\n".encode(),
    }
    for (name, role), content in files.items():
        staging.path(name, role).write_bytes(content)
    rows = [StagedFile(name, role, len(content), bytes_digest(content)) for (name, role), content in files.items()]
    staging.publish(rows, name="macos", tag=tag, **how)


class TestGoingBack:
    def test_a_vm_becomes_each_of_its_tags_again(self, library):
        second = local_vms.contents(library)
        first = check_out(library, "macos", "v1")
        assert [file.path.read_bytes() for file in first.of_role(Role.NVRAM)] == [b"variables"]
        assert library.ledger.current(UUID) == "v1"
        check_out(library, UUID, "v2")
        assert local_vms.contents(library) == second
        assert library.ledger.current(UUID) == "v2"
        assert all(row.local for row in library.ledger.tags(UUID).values())

    def test_nothing_is_written_if_it_is_that_already(self, library):
        before = (library.vm_lib / UUID).stat()
        check_out(library, "macos", "v2")
        check_out(library, "macos", None)
        assert (library.vm_lib / UUID).stat().st_ino == before.st_ino

    def test_files_that_came_since_go_with_their_tag_and_come_back_with_it(self, library):
        check_out(library, "macos", "v1")
        folder = library.vm_lib / UUID
        (folder / "notes.txt").write_bytes(b"notes")
        (folder / "policy.json").unlink()
        local_vms.tagged(library, "v3")
        check_out(library, "macos", "v1")
        assert {path.name for path in folder.iterdir()} == {"config.yaml", "nvram", "policy.json"}
        check_out(library, "macos", "v3")
        assert {path.name for path in folder.iterdir()} == {"config.yaml", "nvram", "notes.txt"}

    def test_a_version_that_was_pulled_comes_back_without_a_registry(self, in_memory):
        library = Library(in_memory / "pulled")
        pulled(library, "p1", b"one")
        pulled(library, "p2", b"two")
        assert check_out(library, "macos", "p1").of_role(Role.IMAGE)[0].path.read_bytes() == b"one"
        assert not library.ledger.tags(UUID)["p1"].local

    def test_a_pull_of_that_version_that_was_given_up_is_in_nobodys_way(self, library):
        staging = Staging(library, UUID, library.ledger.tags(UUID)["v1"].version)
        staging.path("half.img", Role.IMAGE).write_bytes(b"half")
        check_out(library, "macos", "v1")
        assert not staging.folder.exists()
        assert "half.img" not in local_vms.in_the_shared_folders(library)

    def test_of_plain_disks_a_tag_holds_until_the_vm_ran(self, library):
        plain = library.img_lib / local_vms.layers(library)[-1]
        plain.write_bytes(b"ran")
        local_vms.tagged(library, "v3")
        with pytest.raises(NotLocal, match="v1"):
            check_out(library, "macos", "v1")
        assert library.ledger.current(UUID) == "v3"

    def test_a_kept_file_that_rotted_is_not_brought_back(self, library):
        for place in (library.own / "kept").iterdir():
            place.write_bytes(b"rot")
        with pytest.raises(NotLocal):
            check_out(library, "macos", "v1")
        assert local_vms.contents(library)[-2:] == [("nvram", b"ran"), ("extra", b"{}")]

    @pytest.mark.parametrize(("ref", "tag", "error"), [("macos", "v9", NotLocal), ("nothing", "v1", VmNotFound)])
    def test_what_is_not_there_is_said_so(self, library, ref, tag, error):
        with pytest.raises(error):
            check_out(library, ref, tag)

    def test_without_any_tag_there_is_nothing_to_go_back_to(self, in_memory):
        library = Library(in_memory / "new")
        make_vm(library)
        with pytest.raises(NotLocal):
            check_out(library, "macos", None)

    @pytest.mark.parametrize("ref", ["macos", UUID.upper()])
    @pytest.mark.parametrize("lost", ["folder", "config", "nothing to read"])
    def test_one_that_is_gone_or_cannot_be_read_comes_back(self, library, lost, ref):
        before, config = local_vms.contents(library), library.vm_lib / UUID / "config.yaml"
        if lost == "folder":
            shutil.rmtree(config.parent)
        elif lost == "config":
            config.unlink()
        else:
            config.write_bytes(b"[")
            with pytest.raises(LocalChanges):
                check_out(library, ref, "v2")
        assert localtags.is_whole(library, UUID, "v2")
        check_out(library, ref, "v2", force=lost == "nothing to read")
        assert local_vms.contents(library) == before


class TestWhatWouldBeLost:
    @pytest.mark.parametrize("what", ["layer", "nvram", "extra"])
    def test_bytes_that_no_tag_has_are_not_left_behind_unasked(self, library, what):
        folder = library.vm_lib / UUID
        {
            "layer": lambda: local_vms.run_on_a_layer(library, b"work of hours"),
            "nvram": lambda: (folder / "nvram").write_bytes(b"mine"),
            "extra": lambda: (folder / "notes.txt").write_bytes(b"mine"),
        }[what]()
        before = local_vms.contents(library)
        for tag in ("v1", "v2", None):
            with pytest.raises(LocalChanges):
                check_out(library, "macos", tag)
        assert local_vms.contents(library) == before
        check_out(library, "macos", "v1", force=True)
        assert library.ledger.current(UUID) == "v1"

    def test_what_is_kept_of_the_tag_that_is_left_may_be_damaged_and_be_kept_anew(self, library):
        before = local_vms.contents(library)
        kept = library.ledger.kept(library.ledger.tags(UUID)["v2"].files["nvram"])
        kept.write_bytes(b"rot")
        with pytest.raises(LocalChanges, match="nvram"):
            check_out(library, "macos", "v1")
        local_vms.tagged(library, "v3")
        check_out(library, "macos", "v1")
        check_out(library, "macos", "v2")
        assert local_vms.contents(library) == before

    def test_a_running_vm_is_left_alone(self, library):
        place = library.img_lib / local_vms.layers(library)[0]
        program = "import sys; f = open(sys.argv[1], 'r+b'); print(flush=True); sys.stdin.read()"
        with subprocess.Popen(
            [sys.executable, "-c", program, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as running:
            running.stdout.readline()
            with pytest.raises(VmRunning):
                check_out(library, "macos", "v1", force=True)
            running.stdin.close()
        check_out(library, "macos", "v1")

    def test_a_pull_leaves_what_a_local_tag_brings_back(self, library):
        before = local_vms.contents(library)
        pulled(library, "p1", b"pulled")
        check_out(library, "macos", "v2")
        assert local_vms.contents(library) == before

    def test_a_pull_does_not_take_a_local_tag_from_its_version(self, library):
        with pytest.raises(LocalChanges, match="local tag v1"):
            pulled(library, "v1", b"pulled")
        pulled(library, "v1", b"pulled", force=True)


class TestNoting:
    def test_a_tag_is_given_once_or_by_force(self, library):
        with pytest.raises(TagTaken):
            local_vms.tagged(library, "v1")
        localtags.note(library, library.find(UUID), "v1", Silent(), force=True)
        assert library.ledger.tags(UUID)["v1"].files == library.ledger.tags(UUID)["v2"].files

    def test_files_keep_their_modes(self, library):
        folder = library.vm_lib / UUID
        for number, (name, mode) in enumerate((("nvram", 0o600), ("policy.json", 0o755))):
            (folder / name).write_bytes(b"%d" % number)
            (folder / name).chmod(mode)
        local_vms.tagged(library, "v3")
        check_out(library, "macos", "v1")
        check_out(library, "macos", "v3")
        assert [(folder / name).stat().st_mode & 0o777 for name in ("nvram", "policy.json")] == [0o600, 0o755]

    def test_a_config_that_changed_since_the_vm_was_found_gets_no_tag(self, library):
        found = library.find(UUID)
        local_vms.run_on_a_layer(library, b"started and stopped")
        with pytest.raises(FileChanged, match="config"):
            localtags.note(library, found, "v3", Silent())
        assert "v3" not in library.ledger.tags(UUID)

    def test_what_lay_in_the_folder_is_kept_once_for_all_tags(self, library):
        local_vms.tagged(library, "again")
        kept = sorted(path.read_bytes() for path in (library.own / "kept").iterdir())
        assert len(kept) == len(set(kept)) == 5  # two configs, two nvrams, one policy

    def test_recalling_a_tag_that_is_not_there_is_said_so(self, library):
        with pytest.raises(LocalTagNotFound, match="v9"):
            localtags.recall(library, UUID, "v9")
        assert localtags.is_whole(library, UUID, "v1")
