"""Plain disks become a VM and a VM plain disks: byte for byte, in one step, or not at all."""

import os
import random
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from s3reg.client import copies
from s3reg.client.images import export_vm, import_vm
from s3reg.client.library import Library
from s3reg.client.staging import recover
from s3reg.client.tagbook import TagFile
from s3reg.errors import (
    ConfigInvalid,
    DiskFull,
    FileChanged,
    Invalid,
    LocalDenied,
    NameAmbiguous,
    NameInvalid,
    VmNotFound,
    VmRunning,
)
from s3reg.model.template import Role, bytes_digest
from servers import lacking
from vms import OTHER, UUID, make_vm, version

WAIT_SECONDS = 60

MIB = 1024**2


@pytest.fixture
def library(tmp_path):
    return Library(tmp_path / "library")


@pytest.fixture
def disk(tmp_path):
    """8 MiB with a hole of 6."""
    return sparse(tmp_path / "root.raw", 1)


def sparse(path, seed):
    with path.open("wb") as out:
        out.write(random.Random(seed).randbytes(MIB))
        out.seek(7 * MIB)
        out.write(random.Random(seed + 100).randbytes(MIB))
    return path


def layers(library):
    return sorted(path.name for folder in (library.img_lib, library.state_lib) for path in folder.iterdir())


def is_clean(library):
    return not any(path for name in ("staging", "trash") for path in (library.own / name).glob("*"))


class TestImporting:
    def test_a_vm_of_plain_files_has_their_bytes_and_their_holes(self, library, disk, tmp_path):
        second, state, nvram = sparse(tmp_path / "data.raw", 2), tmp_path / "memory", tmp_path / "vars.fd"
        state.write_bytes(b"ram" * 1000)
        nvram.write_bytes(b"nv")
        vm = import_vm(library, "macos", disks=[disk, second], state=state, nvram=nvram)
        assert vm == library.find("macos")
        assert [file.path.read_bytes() for file in vm.of_role(Role.IMAGE)] == [disk.read_bytes(), second.read_bytes()]
        assert vm.of_role(Role.STATE)[0].path.read_bytes() == state.read_bytes()
        assert vm.of_role(Role.NVRAM)[0].path.read_bytes() == b"nv"
        assert vm.of_role(Role.IMAGE)[0].path.stat().st_blocks * 512 < 4 * MIB
        assert all(file.parent is None for file in vm.files)
        assert is_clean(library)

    def test_layers_get_fresh_names_and_a_generated_configuration(self, library, disk):
        vm = import_vm(library, "11.60", disks=[disk])
        assert layers(library) == [vm.of_role(Role.IMAGE)[0].name]
        assert len(layers(library)[0]) == 36
        assert vm.values["hard_drives"] == [{"file": layers(library)[0]}]
        assert (vm.name, vm.values["uuid"]) == ("11.60", vm.id)
        assert {"cpu", "ram"} <= set(vm.values)

    def test_a_given_configuration_is_kept_but_for_its_files_and_names(self, library, disk, tmp_path):
        given = {"name": "x", "uuid": OTHER, "ram": "64G", "hard_drives": [{"controller": "ablk", "file": "old.ank"}],
                 "state_file": "gone.ank"}  # fmt: skip
        (tmp_path / "vm.yaml").write_text(yaml.safe_dump(given))
        vm = import_vm(library, "macos", disks=[disk], config=tmp_path / "vm.yaml")
        assert vm.values["ram"] == "64G"
        assert vm.values["hard_drives"] == [{"controller": "ablk", "file": layers(library)[0]}]
        assert "state_file" not in vm.values
        assert vm.id != OTHER

    def test_the_sources_are_left_as_they_are(self, library, disk):
        before = (disk.read_bytes(), disk.stat())
        import_vm(library, "macos", disks=[disk])
        after = disk.stat()
        assert (before[0], before[1].st_mtime_ns, before[1].st_ino) == (
            disk.read_bytes(),
            after.st_mtime_ns,
            after.st_ino,
        )

    def test_a_read_only_source_and_a_link_to_one_will_do(self, library, disk, tmp_path):
        disk.chmod(0o444)
        (tmp_path / "link").symlink_to(disk)
        vm = import_vm(library, "macos", disks=[tmp_path / "link"])
        assert vm.of_role(Role.IMAGE)[0].path.read_bytes() == disk.read_bytes()
        assert not vm.of_role(Role.IMAGE)[0].path.is_symlink()
        assert vm.of_role(Role.IMAGE)[0].path.stat().st_mode & 0o200

    def test_anka_is_not_asked_about_the_layers_of_an_import(self, library, disk, monkeypatch, tmp_path):
        program = tmp_path / "bin" / "anka_image"
        program.parent.mkdir()
        program.write_text("#!/bin/sh\nexit 1\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent))
        assert import_vm(library, "macos", disks=[disk]).of_role(Role.IMAGE)[0].parent is None


class TestUpdating:
    def test_an_existing_name_is_updated_under_its_id(self, library, disk, tmp_path):
        first = import_vm(library, "macos", disks=[disk])
        sparse(disk, 3)
        second = import_vm(library, "macos", disks=[disk])
        assert second.id == first.id
        assert second.of_role(Role.IMAGE)[0].name != first.of_role(Role.IMAGE)[0].name
        assert second.of_role(Role.IMAGE)[0].path.read_bytes() == disk.read_bytes()
        assert len(library.vms()) == 1
        assert is_clean(library)

    def test_its_id_will_do_as_its_name(self, library, disk):
        first = import_vm(library, "macos", disks=[disk])
        assert import_vm(library, first.id, disks=[disk]).name == "macos"

    def test_a_disk_that_did_not_change_keeps_its_layer(self, library, disk, tmp_path):
        data = sparse(tmp_path / "data.raw", 2)
        first = import_vm(library, "macos", disks=[disk, data])
        sparse(data, 4)
        second = import_vm(library, "macos", disks=[disk, data])
        names = [[file.name for file in vm.of_role(Role.IMAGE)] for vm in (first, second)]
        assert names[0][0] == names[1][0]
        assert names[0][1] != names[1][1]

    def test_nor_does_a_digest_get_lost(self, library, disk):
        layer = import_vm(library, "macos", disks=[disk]).of_role(Role.IMAGE)[0].path
        record = library.ledger.record_of(layer)
        library.ledger.record(layer, bytes_digest(b"x"), origin=record.origin)
        assert import_vm(library, "macos", disks=[disk]).of_role(Role.IMAGE)[0].path == layer
        assert library.ledger.known(layer) == bytes_digest(b"x")

    def test_a_layer_that_the_vm_wrote_to_is_not_taken_for_the_source(self, library, disk):
        layer = import_vm(library, "macos", disks=[disk]).of_role(Role.IMAGE)[0].path
        layer.write_bytes(b"the VM ran")
        second = import_vm(library, "macos", disks=[disk])
        assert second.of_role(Role.IMAGE)[0].path.read_bytes() == disk.read_bytes()
        assert layer.read_bytes() == b"the VM ran"

    def test_replaced_layers_go_unless_a_tag_or_a_vm_has_them(self, library, disk):
        tagged = import_vm(library, "macos", disks=[disk]).of_role(Role.IMAGE)[0].name
        members = [TagFile(tagged, Role.IMAGE, bytes_digest(b"x"))]
        library.ledger.set_tag(library.find("macos").id, "v1", version(), "macos", members)
        for seed in (5, 6, 7):
            sparse(disk, seed)
            last = import_vm(library, "macos", disks=[disk]).of_role(Role.IMAGE)[0].name
        assert layers(library) == sorted([tagged, last])

    def test_what_is_not_given_stays_but_for_the_state(self, library, disk, tmp_path):
        for name in ("nvram", "state", "vm.yaml"):
            (tmp_path / name).write_bytes(b"name: x\nram: 64G\n" if name == "vm.yaml" else name.encode())
        first = import_vm(library, "macos", disks=[disk], state=tmp_path / "state", nvram=tmp_path / "nvram",
                          config=tmp_path / "vm.yaml")  # fmt: skip
        (first.folder / "policy.json").write_bytes(b"{}")
        second = import_vm(library, "macos", disks=[disk])
        assert second.of_role(Role.STATE) == []
        assert second.of_role(Role.NVRAM)[0].path.read_bytes() == b"nvram"
        assert second.of_role(Role.EXTRA)[0].path.read_bytes() == b"{}"
        assert second.values["ram"] == "64G"
        assert [name for name in layers(library) if name.endswith(".state")] == []

    def test_a_new_nvram_takes_the_place_of_one_of_another_name(self, library, disk, tmp_path):
        folder = make_vm(library, nvram="vars.fd")
        (folder / "vars.fd").write_bytes(b"old")
        (tmp_path / "new").write_bytes(b"new")
        vm = import_vm(library, UUID, disks=[disk], nvram=tmp_path / "new")
        assert [(file.name, file.path.read_bytes()) for file in vm.of_role(Role.NVRAM)] == [("nvram", b"new")]

    def test_the_older_generation_becomes_the_newer(self, library, disk):
        make_vm(library, config_name=f"{UUID}.yaml")
        vm = import_vm(library, "macos", disks=[disk])
        assert (vm.id, vm.config_name) == (UUID, "config.yaml")
        assert vm.of_role(Role.EXTRA) == []

    def test_a_running_vm_is_left_alone(self, library, disk):
        first = import_vm(library, "macos", disks=[disk])
        with writing(first.of_role(Role.IMAGE)[0].path), pytest.raises(VmRunning):
            import_vm(library, "macos", disks=[disk])
        assert library.find("macos") == first

    def test_of_two_imports_under_one_name_the_second_is_an_update(self, library, disk, tmp_path):
        """However they meet: here the one waits while another makes the VM."""
        with ThreadPoolExecutor(1) as beside:
            with library.lock("clone-macos"):
                importing = beside.submit(import_vm, library, "macos", disks=[disk])
                make_vm(library)
            assert importing.result().id == UUID
        assert len(library.vms()) == 1

    def test_an_import_over_a_vm_that_is_deleted_meanwhile_is_a_vm_of_its_name(self, library, disk):
        make_vm(library)
        with ThreadPoolExecutor(1) as beside:
            with library.lock(f"pull-{UUID}"):
                importing = beside.submit(import_vm, library, UUID, disks=[disk])
                until = time.monotonic() + WAIT_SECONDS
                while not (library.own / "locks" / "clone-macos").exists():
                    assert not importing.done()
                    assert time.monotonic() < until, "it waits for nobody who makes VMs of this name"
                    time.sleep(0.001)
                shutil.rmtree(library.vm_lib / UUID)
            assert importing.result().name == "macos"

    def test_a_folder_in_the_old_vms_folder_is_not_lost(self, library, disk, tmp_path):
        mine = import_vm(library, "macos", disks=[disk]).folder / "mine"
        mine.mkdir()
        with pytest.raises(LocalDenied, match="move it away"):
            import_vm(library, "macos", disks=[sparse(tmp_path / "new.raw", 2)])
        assert mine.is_dir()

    def test_two_of_one_name_are_not_guessed_between(self, library, disk):
        make_vm(library)
        make_vm(library, template=OTHER)
        with pytest.raises(NameAmbiguous):
            import_vm(library, "macos", disks=[disk])


class writing:  # noqa: N801 - reads as a word
    """Another process has the file open for writing."""

    def __init__(self, path):
        program = "import sys; f = open(sys.argv[1], 'r+b'); print(flush=True); sys.stdin.read()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self):
        self.process.stdout.readline()

    def __exit__(self, *_):
        self.process.communicate()


class TestRefusing:
    @pytest.mark.parametrize("what", ["missing", "folder", "pipe", "loop", "device"])
    def test_what_is_no_plain_file_is_named(self, library, tmp_path, what):
        path = tmp_path / "bad"
        {
            "missing": lambda: None,
            "folder": path.mkdir,
            "pipe": lambda: os.mkfifo(path),
            "loop": lambda: path.symlink_to(path),
            "device": lambda: path.symlink_to("/dev/null"),
        }[what]()
        with pytest.raises(LocalDenied, match="bad"):
            import_vm(library, "macos", disks=[path])
        assert not library.root.exists()

    def test_no_disk_or_one_twice_is_no_vm(self, library, disk):
        for disks in ([], [disk, disk]):
            with pytest.raises(Invalid):
                import_vm(library, "macos", disks=disks)

    @pytest.mark.parametrize("name", ["", "a/b", "..", "a\nb", "x" * 300, "a\x00"])
    def test_a_name_that_is_none_is_refused(self, library, disk, name):
        with pytest.raises(NameInvalid):
            import_vm(library, name, disks=[disk])
        assert not library.root.exists()

    @pytest.mark.parametrize("text", [b"[", b"a: &a b\n", b"x" * (2 * MIB)])
    def test_a_configuration_that_is_none_is_refused(self, library, disk, tmp_path, text):
        (tmp_path / "vm.yaml").write_bytes(text)
        with pytest.raises(ConfigInvalid):
            import_vm(library, "macos", disks=[disk], config=tmp_path / "vm.yaml")
        assert not library.root.exists()

    def test_a_disk_in_use_is_not_copied(self, library, disk):
        with writing(disk), pytest.raises(VmRunning, match=r"root\.raw"):
            import_vm(library, "macos", disks=[disk])

    def test_a_disk_that_changes_underneath_is_not_taken(self, library, disk, monkeypatch):
        real = copies.platform.sync

        def slow(fd):
            disk.write_bytes(b"changed")
            real(fd)

        monkeypatch.setattr(copies.platform, "sync", slow)
        with pytest.raises(FileChanged, match=r"root\.raw"):
            import_vm(library, "macos", disks=[disk])
        assert (library.vms(), layers(library), is_clean(library)) == ([], [], True)

    def test_a_full_disk_leaves_nothing(self, tmp_path, disk):
        if sys.platform != "linux" or os.geteuid() != 0:
            lacking("small file systems (root)")
        small = tmp_path / "small"
        small.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", small], check=False).returncode:
            lacking("small file systems (root)")
        try:
            library = Library(small / "library")
            fits = import_vm(library, "fits", disks=[disk])
            with pytest.raises(DiskFull, match="small"):
                import_vm(library, "macos", disks=[sparse(tmp_path / "more.raw", 8)])
            assert library.vms() == [library.peek("fits")]
            assert layers(library) == [fits.of_role(Role.IMAGE)[0].name]
            assert is_clean(library)
        finally:
            subprocess.run(["umount", small], check=True)

    def test_a_disk_that_fills_up_half_way_leaves_nothing(self, library, disk, monkeypatch):
        calls = []

        def full(fd, offset, length):
            calls.append(offset)
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(copies.platform, "clone", lambda *_: False)
        monkeypatch.setattr(copies.platform, "start_writeback", full)
        with pytest.raises(DiskFull):
            import_vm(library, "macos", disks=[disk])
        assert calls
        assert (library.vms(), layers(library), is_clean(library)) == ([], [], True)

    def test_what_a_killed_import_left_is_swept_and_a_live_one_is_not(self, library, disk, tmp_path):
        program = (
            "import sys, pathlib; from s3reg.client import images, copies; from s3reg.client.library import Library\n"
            "def stop(*_): print(flush=True); sys.stdin.read()\n"
            "copies.copy = stop\n"
            "images.import_vm(Library(pathlib.Path(sys.argv[1])), 'macos', disks=[pathlib.Path(sys.argv[2])])"
        )
        command = [sys.executable, "-c", program, library.root, disk]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            assert recover(library) == []
            assert not is_clean(library)
            process.kill()
        assert recover(library) == []
        assert is_clean(library)


class TestExporting:
    @pytest.fixture
    def vm(self, library, disk, tmp_path):
        (tmp_path / "memory").write_bytes(b"ram")
        (tmp_path / "vars").write_bytes(b"nv")
        return import_vm(library, "macos", disks=[disk], state=tmp_path / "memory", nvram=tmp_path / "vars")

    def test_every_file_comes_out_under_its_name(self, library, vm, disk, tmp_path):
        written = export_vm(library, "macos", tmp_path / "deep" / "out")
        assert sorted(written) == sorted((tmp_path / "deep" / "out").iterdir())
        assert {path.name: path.read_bytes() for path in written} == {f.name: f.path.read_bytes() for f in vm.files}
        assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]

    def test_what_comes_out_goes_in_again(self, library, vm, disk, tmp_path):
        out = {path.suffix: path for path in export_vm(library, "macos", tmp_path / "out")}
        again = Library(tmp_path / "again")
        twin = import_vm(again, "macos", disks=[out[".img"]], state=out[".state"], nvram=out[""], config=out[".yaml"])
        assert [file.path.read_bytes() for file in twin.files[1:]] == [file.path.read_bytes() for file in vm.files[1:]]

    def test_a_chain_comes_out_as_its_layers(self, library, tmp_path):
        make_vm(library, images={"top.ank": b"t"})
        (library.img_lib / "base.ank").write_bytes(b"b")
        library.ledger.record(library.img_lib / "top.ank", None, parent="base.ank")
        assert {path.name for path in export_vm(library, UUID, tmp_path / "out")} == {
            "config.yaml",
            "top.ank",
            "base.ank",
        }

    @pytest.mark.parametrize("there", ["file", "folder"])
    def test_nothing_is_ever_overwritten(self, library, vm, tmp_path, there):
        (tmp_path / "out").mkdir() if there == "folder" else (tmp_path / "out").write_bytes(b"x")
        before = sorted(path.name for path in tmp_path.iterdir())
        with pytest.raises(LocalDenied, match="out"):
            export_vm(library, "macos", tmp_path / "out")
        assert sorted(path.name for path in tmp_path.iterdir()) == before

    def test_files_of_one_name_in_two_folders_do_not_fit_into_one(self, library, tmp_path):
        folder = make_vm(library)
        (folder / "DISK.img").write_bytes(b"extra")
        with pytest.raises(NameInvalid, match="two files"):
            export_vm(library, UUID, tmp_path / "out")

    def test_a_running_vm_is_not_exported(self, library, vm, tmp_path):
        with writing(vm.of_role(Role.IMAGE)[0].path), pytest.raises(VmRunning):
            export_vm(library, "macos", tmp_path / "out")

    def test_an_unknown_vm_is_said_so(self, library, tmp_path):
        with pytest.raises(VmNotFound):
            export_vm(library, "nobody", tmp_path / "out")

    def test_a_full_disk_leaves_nothing(self, library, vm, tmp_path, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(copies.platform, "sync", full)
        with pytest.raises(DiskFull):
            export_vm(library, "macos", tmp_path / "new" / "out")
        assert list((tmp_path / "new").iterdir()) == []
