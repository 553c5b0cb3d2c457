"""Clones: another VM with the same bytes, that shares what nothing writes to and nothing else."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

import local_vms
from s3reg.client import clones, removal
from s3reg.client.clones import Tops, clone
from s3reg.client.library import Library
from s3reg.client.staging import StagedFile, Staging, recover
from s3reg.errors import (
    ConfigInvalid,
    FileChanged,
    LocalTagNotFound,
    NameInvalid,
    NotLocal,
    VmNameTaken,
    VmNotFound,
    VmRunning,
)
from s3reg.model import names
from s3reg.model.template import Role, bytes_digest
from vms import OTHER, UUID, make_vm, version


@pytest.fixture
def library(in_memory):
    found = Library(in_memory / "library")
    local_vms.layered(found)
    return found


@pytest.fixture
def tagged(library):
    """The library, its VM tagged v1."""
    local_vms.tagged(library, "v1")
    return library


class TestWhatItIs:
    def test_a_clone_has_the_bytes_and_an_id_and_name_of_its_own(self, library):
        made = clone(library, "macos", "copy")
        assert local_vms.contents(library, "copy") == local_vms.contents(library)
        assert (made.id, made.name) != (UUID, "macos")
        assert (made.values["uuid"], made.values["name"]) == (made.id, "copy")
        assert names.is_template_id(made.id)
        assert {path.name for path in made.folder.iterdir()} == {"config.yaml", "nvram", "policy.json"}
        assert library.ledger.tags(made.id) == {}

    def test_it_is_told_byte_for_byte_but_for_names(self, library):
        config = library.vm_lib / UUID / "config.yaml"
        config.write_bytes(config.read_bytes() + b"# a remark\nbridge: {mode: shared}\n")
        made = clone(library, "macos", "11.60", shared=Tops.ALL)
        expected = (
            config.read_bytes().replace(UUID.encode(), made.id.encode()).replace(b"name: macos", b'name: "11.60"')
        )
        assert made.config == expected

    def test_the_older_generations_config_is_called_after_the_new_id(self, library):
        make_vm(library, template=OTHER, name="old", images={"old.img": b"x"}, config_name=f"{OTHER}.yaml")
        made = clone(library, "old", "new")
        assert made.config_name == f"{made.id}.yaml"
        assert [path.name for path in made.folder.iterdir()] == [made.config_name]

    def test_a_config_that_leaves_the_id_to_its_folder_goes_on_doing_so(self, library):
        folder = make_vm(library, template=OTHER, images={})
        (folder / "config.yaml").write_text("name: bare\n")
        assert clone(library, "bare", "copy").config == b'name: "copy"\n'

    def test_a_suspended_vm_and_a_vm_without_drives_are_cloned(self, library):
        make_vm(library, template=OTHER, name="empty", images={}, state_file="s.state")
        (library.state_lib / "s.state").write_bytes(b"ram")
        made = clone(library, "empty", "copy")
        assert local_vms.contents(library, "copy") == [("config", b""), ("state", b"ram")]
        assert made.values["state_file"] != "s.state"

    def test_a_drive_that_another_drives_layer_stands_on_is_copied_and_kept(self, library):
        make_vm(library, template=OTHER, name="odd", images={"a.img": b"a", "b.img": b"b"})
        library.ledger.record(library.img_lib / "a.img", None, parent="b.img")
        clone(library, "odd", "copy")
        one, *rest = local_vms.layers(library, "copy")
        assert "b.img" in rest
        assert one != "a.img"
        assert local_vms.contents(library, "copy")[1:3] == [("image", b"a"), ("image", b"b")]


class TestWhatItShares:
    def layers_of(self, library, **how):
        return dict(zip(local_vms.layers(library), local_vms.layers(library, clone(library, "macos", "copy", **how).id),
                        strict=True))  # fmt: skip

    def test_of_a_tagged_vm_all_but_the_plain_disk(self, tagged):
        top, below, plain = local_vms.layers(tagged)
        shared = self.layers_of(tagged)
        assert (shared[top], shared[below]) == (top, below)
        assert shared[plain] != plain
        assert shared[plain].endswith(".img")

    def test_of_one_without_a_tag_only_what_lies_below(self, library):
        top, below, plain = local_vms.layers(library)
        shared = self.layers_of(library)
        assert shared[below] == below
        assert not {shared[top], shared[plain]} & {top, plain}
        assert library.find("copy").files[1].parent == below

    def test_of_one_whose_tag_was_deleted_only_what_lies_below(self, tagged):
        top, below, _ = local_vms.layers(tagged)
        removal.remove_tags(tagged, UUID, ["v1"])
        shared = self.layers_of(tagged)
        assert (shared[below], shared[top] != top) == (below, True)

    def test_of_one_that_changed_since_its_tag_only_what_lies_below(self, tagged):
        top, below, _ = local_vms.layers(tagged)
        (tagged.img_lib / top).write_bytes(b"ran")
        shared = self.layers_of(tagged)
        assert (shared[below], shared[top] != top) == (below, True)

    def test_a_copy_shares_no_layer_at_the_top(self, tagged):
        top, below, plain = local_vms.layers(tagged)
        shared = self.layers_of(tagged, shared=Tops.NONE)
        assert [shared[name] == name for name in (top, below, plain)] == [False, True, False]

    def test_if_told_so_all(self, library):
        assert all(old == new for old, new in self.layers_of(library, shared=Tops.ALL).items())

    def test_running_either_changes_nothing_of_the_other(self, tagged):
        clone(tagged, "macos", "copy")
        before = local_vms.contents(tagged, "copy")
        plain = tagged.img_lib / local_vms.layers(tagged)[2]
        plain.write_bytes(b"ran")
        local_vms.run_on_a_layer(tagged, b"ran")
        assert local_vms.contents(tagged, "copy") == before

    def test_shared_layers_outlive_the_source(self, tagged):
        clone(tagged, "macos", "copy")
        before = local_vms.contents(tagged, "copy")
        removal.remove_vm(tagged, UUID)
        assert local_vms.contents(tagged, "copy") == before
        assert local_vms.in_the_shared_folders(tagged) == set(local_vms.layers(tagged, "copy"))

    def test_what_is_hashed_of_one_is_known_of_the_other(self, library):
        clone(library, "macos", "copy")
        again = clone(library, "copy", "again")
        plain = [library.img_lib / local_vms.layers(library, vm)[2] for vm in (UUID, "copy", again.id)]
        assert [library.ledger.known(path) for path in plain] == [None] * 3
        digest = bytes_digest(b"plain" * 100)
        library.ledger.record(plain[0], digest)
        assert [library.ledger.known(path) for path in plain] == [digest] * 3

    def test_also_the_other_way_round_but_not_of_one_that_changed(self, library):
        plain = library.img_lib / local_vms.layers(library)[2]
        library.ledger.record(plain, None)
        copy = library.img_lib / local_vms.layers(library, clone(library, "macos", "copy").id)[2]
        library.ledger.record(copy, bytes_digest(b"plain" * 100))
        assert library.ledger.known(plain) == bytes_digest(b"plain" * 100)
        plain.write_bytes(b"ran")
        assert library.ledger.known(plain) is None


class TestATag:
    def test_its_clone_is_what_the_vm_was_then(self, tagged):
        before = local_vms.contents(tagged)
        local_vms.run_on_a_layer(tagged, b"ran")
        clone(tagged, "macos", "copy", tag="v1")
        assert local_vms.contents(tagged, "copy") == before
        assert local_vms.contents(tagged) != before

    def test_one_whose_plain_disk_changed_since_cannot_be_had(self, tagged):
        (tagged.img_lib / local_vms.layers(tagged)[2]).write_bytes(b"ran")
        with pytest.raises(NotLocal, match="v1"):
            clone(tagged, "macos", "copy", tag="v1")
        assert [vm.name for vm in tagged.vms()] == ["macos"]

    def test_one_that_is_not_there_is_said_so(self, tagged):
        with pytest.raises(LocalTagNotFound, match="v2"):
            clone(tagged, "macos", "copy", tag="v2")

    def test_a_tag_can_be_cloned_while_the_vm_runs_on_a_layer_of_its_own(self, tagged):
        layer = local_vms.run_on_a_layer(tagged, b"ran")
        with writing(layer):
            with pytest.raises(VmRunning):
                clone(tagged, "macos", "copy")
            clone(tagged, "macos", "copy", tag="v1")


def test_c15_a_clone_that_is_made_during_a_pull_waits_and_is_the_new_version_whole(tagged):
    name = f"{'1' * 32}.ank"
    config = f"name: macos\nuuid: {UUID}\nhard_drives:\n- file: {name}\n".encode()
    new = {(name, Role.IMAGE): b"pulled", ("config.yaml", Role.CONFIG): config}
    with ThreadPoolExecutor(1) as beside:
        with tagged.lock(f"pull-{UUID}"):
            cloning = beside.submit(clone, tagged, "macos", "copy")
            staging = Staging(tagged, UUID, version())
            for (file, role), data in new.items():
                staging.path(file, role).write_bytes(data)
            rows = [StagedFile(file, role, len(data), bytes_digest(data)) for (file, role), data in new.items()]
            staging.publish(rows, name="macos", tag="v2")
        cloning.result()
    assert local_vms.contents(tagged, "copy") == [("config", b""), ("image", b"pulled")]


class TestRefusals:
    @pytest.mark.parametrize("name", ["macos", "other", UUID])
    def test_a_name_that_is_taken_is_refused(self, library, name):
        make_vm(library, template=OTHER, name="other", images={})
        with pytest.raises(VmNameTaken):
            clone(library, "macos", name)
        assert len(library.vms()) == 2

    @pytest.mark.parametrize("name", ["", "a/b", "x" * 256, " x"])
    def test_a_name_that_is_none_is_refused(self, library, name):
        with pytest.raises(NameInvalid):
            clone(library, "macos", name)

    def test_a_vm_that_is_not_there_is_said_so(self, library):
        with pytest.raises(VmNotFound):
            clone(library, "nothing", "copy")

    def test_a_config_whose_name_cannot_be_replaced_leaves_nothing(self, library):
        config = library.vm_lib / UUID / "config.yaml"
        config.write_text(config.read_text().replace("name: macos", "name: |-\n  macos"))
        with pytest.raises(ConfigInvalid):
            clone(library, "macos", "copy")
        assert nothing_lies_about(library)

    def test_a_source_that_changes_meanwhile_is_noticed(self, library, monkeypatch):
        nvram = library.vm_lib / UUID / "nvram"

        def started(self):
            (nvram.parent / "policy.json").write_bytes(b"changed")
            return real(self)

        real = clones._Clone._config
        monkeypatch.setattr(clones._Clone, "_config", started)
        with pytest.raises(FileChanged, match="policy"):
            clone(library, "macos", "copy")
        assert nothing_lies_about(library)


def nothing_lies_about(library):
    recover(library)
    left = [path for name in ("staging", "trash") for path in (library.own / name).glob("*")]
    return not left and [vm.name for vm in library.vms()] == ["macos"]


def writing(path):
    """A process that has the file open for writing, until the block ends."""
    program = "import sys; f = open(sys.argv[1], 'r+b'); print(flush=True); sys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.readline()
    return process


def test_on_a_file_system_that_shares_blocks_a_copy_costs_none(reflinking):
    library = Library(reflinking / "clones")
    folder = make_vm(library, images={"disk.img": b"x" * 8 * 1024**2})
    before = blocks(reflinking)
    clone(library, "macos", "copy")
    assert blocks(reflinking) - before < 4 * 1024**2
    assert yaml.safe_load((folder / "config.yaml").read_text())["hard_drives"] == [{"file": "disk.img"}]


def blocks(folder):
    os.sync()
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize
