"""What leaves a library: what nothing stands on any more, and not a byte else."""

import shutil

import pytest

import local_vms
from s3reg.client import cleaning, removal
from s3reg.client.clones import Tops, clone
from s3reg.client.library import Library
from s3reg.client.localtags import check_out
from s3reg.client.staging import Staging, recover
from s3reg.errors import Busy, ConfigInvalid, LocalTagNotFound, VmRunning
from s3reg.model import names
from s3reg.model.template import Role
from vms import OTHER, UUID, make_vm, version

THIRD = names.template_id("6a1f2c3d-0000-4000-8000-000000000003")


@pytest.fixture
def library(in_memory):
    return local_vms.of_two_tags(in_memory / "library")


def records(library):
    """Everything of s3reg's own that is not a lock."""
    return [path for path in library.own.rglob("*") if path.is_file() and path.parent.name != "locks"]


class TestAVm:
    def test_s12_it_goes_with_its_tags_and_layers_and_records(self, library):
        assert removal.remove_vm(library, UUID) > 0
        assert library.vms() == []
        assert local_vms.in_the_shared_folders(library) == set()
        assert records(library) == []

    def test_changes_and_all(self, library):
        local_vms.run_on_a_layer(library, b"never tagged")
        removal.remove_vm(library, UUID)
        assert local_vms.in_the_shared_folders(library) == set()

    def test_s12_layers_that_another_vm_stands_on_stay(self, library):
        clone(library, "macos", "copy", shared=Tops.ALL)
        before = local_vms.contents(library, "copy")
        removal.remove_vm(library, UUID)
        assert local_vms.contents(library, "copy") == before

    def test_layers_that_another_templates_tag_stands_on_stay(self, library):
        made = clone(library, "macos", "copy", tag="v1")
        local_vms.tagged(library, "mine", made.id)
        was = local_vms.layers(library, made.id)
        local_vms.run_on_a_layer(library, b"ran", made.id)
        removal.remove_vm(library, UUID)
        assert set(was) < local_vms.in_the_shared_folders(library)

    def test_files_of_nobody_stay(self, library):
        (library.img_lib / "mine.ank").write_bytes(b"mine")
        removal.remove_vm(library, UUID)
        assert local_vms.in_the_shared_folders(library) == {"mine.ank"}

    @pytest.mark.parametrize("broken", ["layer", "config", "folder"])
    def test_a_broken_one_goes_too(self, library, broken):
        if broken == "layer":
            (library.img_lib / local_vms.layers(library)[1]).unlink()
        elif broken == "config":
            (library.vm_lib / UUID / "config.yaml").write_bytes(b"[")
        else:
            (library.vm_lib / UUID / "config.yaml").unlink()
        removal.remove_vm(library, UUID)
        assert not library.holds(UUID)
        assert library.ledger.templates() == []

    def test_a_layer_below_one_that_is_lost_is_still_somebodys(self, library):
        """The other VM lacks its lowest layer, and stands on the one in the middle all the same."""
        top, middle, lost = "t.ank", "m.ank", "gone.ank"
        make_vm(library, template=OTHER, name="other", images={top: b"t"})
        (library.img_lib / middle).write_bytes(b"m")
        for layer, parent in ((top, middle), (middle, lost)):
            library.ledger.record(library.img_lib / layer, None, parent=parent)
        assert set(library.users()) >= {top, middle}

    def test_what_lies_below_a_layer_that_is_lost_may_be_needed_again(self, library):
        below = local_vms.layers(library)[-2]
        make_vm(library, template=OTHER, name="other", images={"t.ank": b"t", "lost.ank": b"m"})
        config = library.vm_lib / OTHER / "config.yaml"
        config.write_text(config.read_text().replace("- file: lost.ank\n", ""))
        library.ledger.record(library.img_lib / "t.ank", None, parent="lost.ank")
        library.ledger.record(library.img_lib / "lost.ank", None, parent=below)
        (library.img_lib / "lost.ank").rename(library.root / "unplugged")
        removal.remove_vm(library, UUID)
        assert below in local_vms.in_the_shared_folders(library)

    def test_layers_that_a_tag_of_ankas_own_names_stay(self, library):
        """Anka notes a tag of its own as one more configuration in the VM's folder."""
        top, below, *_ = was = local_vms.layers(library)
        folder = make_vm(library, template=OTHER, name="other", images={})
        (folder / "v1.yaml").write_text(f"name: other\nuuid: {OTHER}\nhard_drives:\n- file: {top}\n")
        (folder / "policy.yaml").write_text("- not a VM's\n")
        removal.remove_vm(library, UUID)
        assert local_vms.in_the_shared_folders(library) == {top, below, was[2]}

    def test_layers_in_a_folder_that_is_another_librarys_stay(self, library):
        sharing = Library(library.root.parent / "sharing")
        sharing.create()
        for folder in (sharing.img_lib, sharing.state_lib):
            folder.rmdir()
            folder.symlink_to(library.root / folder.name)
        make_vm(sharing, template=OTHER, images={}, state_file=local_vms.layers(library)[0])
        before = local_vms.contents(library)
        removal.remove_vm(sharing, OTHER)
        cleaning.clean(sharing)
        assert sharing.vms() == []
        assert local_vms.contents(library) == before

    def test_of_one_that_is_gone_the_tags_go(self, library):
        """Anka removed the VM, and knows nothing of our tags."""
        shutil.rmtree(library.vm_lib / UUID)
        assert removal.remove_vm(library, UUID) > 0
        assert local_vms.in_the_shared_folders(library) == set()
        assert library.ledger.templates() == list((library.own / "kept").iterdir()) == []

    def test_beside_a_vm_that_cannot_be_read_nothing_goes(self, library):
        (make_vm(library, template=OTHER, images={}) / "config.yaml").write_bytes(b"[")
        before = local_vms.in_the_shared_folders(library)
        with pytest.raises(ConfigInvalid):
            removal.remove_vm(library, UUID)
        assert library.holds(UUID)
        assert local_vms.in_the_shared_folders(library) == before
        removal.remove_vm(library, OTHER)
        removal.remove_vm(library, UUID)

    def test_two_that_cannot_be_read_do_not_keep_each_other(self, library):
        (make_vm(library, template=OTHER, images={}) / "config.yaml").write_bytes(b"[")
        (library.vm_lib / UUID / "config.yaml").write_bytes(b"[")
        before = local_vms.in_the_shared_folders(library)
        removal.remove_vm(library, UUID)
        assert local_vms.in_the_shared_folders(library) == before, "the other one may stand on them"
        removal.remove_vm(library, OTHER)
        assert library.scan() == ([], {})

    def test_a_running_one_is_refused(self, library):
        (library.vm_lib / ".locks").mkdir()
        with library.lock("x"):
            (library.vm_lib / ".locks" / UUID).symlink_to(library.own / "locks" / "x")
            with pytest.raises(VmRunning):
                removal.remove_vm(library, UUID)
        removal.remove_vm(library, UUID)

    @pytest.mark.parametrize("lock", ["pull", "push"])
    def test_one_that_is_on_its_way_is_refused(self, library, lock):
        with library.lock(f"{lock}-{UUID}"), pytest.raises(Busy):
            removal.remove_vm(library, UUID)
        assert library.holds(UUID)

    def test_of_several_none_goes_if_one_is_refused(self, library):
        make_vm(library, template=OTHER, images={})
        with library.lock(f"push-{UUID}"), pytest.raises(Busy):
            removal.remove_vms(library, [OTHER, UUID])
        (make_vm(library, template=THIRD, images={}) / "config.yaml").write_bytes(b"[")
        with pytest.raises(ConfigInvalid):
            removal.remove_vms(library, [OTHER, UUID])
        assert len(library.vms()) == 2
        (library.vm_lib / OTHER / "config.yaml").write_bytes(b"[")
        with pytest.raises(ConfigInvalid):
            removal.remove_vms(library, [OTHER, UUID])
        assert library.holds(OTHER)
        assert removal.remove_vms(library, [OTHER, UUID, THIRD]).keys() == {OTHER, UUID, THIRD}
        assert local_vms.in_the_shared_folders(library) == set()


class TestATag:
    def test_only_what_it_alone_stands_on_goes(self, library):
        was, kept = set(local_vms.layers(library)), len(list((library.own / "kept").iterdir()))
        layer = local_vms.layers(library)[0]
        local_vms.run_on_a_layer(library, b"more")
        local_vms.tagged(library, "v3")
        removal.remove_tags(library, UUID, ["v2"])
        assert set(library.ledger.tags(UUID)) == {"v1", "v3"}
        assert layer in local_vms.in_the_shared_folders(library), "the VM stands on it"
        removal.remove_tags(library, UUID, ["v3", "v1"])
        assert local_vms.in_the_shared_folders(library) == was | {local_vms.layers(library)[0]}
        assert kept > 0
        assert list((library.own / "kept").iterdir()) == []

    def test_a_layer_that_only_the_tag_has_goes_and_gives_room(self, library):
        layer = local_vms.layers(library)[0]
        check_out(library, UUID, "v1")
        assert removal.remove_tags(library, UUID, ["v2"]) >= 3
        assert layer not in local_vms.in_the_shared_folders(library)
        assert local_vms.contents(library)

    def test_one_that_is_not_there_is_said_so_and_nothing_goes(self, library):
        with pytest.raises(LocalTagNotFound, match="v9"):
            removal.remove_tags(library, UUID, ["v1", "v9"])
        assert set(library.ledger.tags(UUID)) == {"v1", "v2"}

    def test_forgetting_the_current_one_leaves_the_vm_as_it_is(self, library):
        before = local_vms.contents(library)
        removal.remove_tags(library, UUID, ["v2"])
        assert local_vms.contents(library) == before
        assert library.ledger.current(UUID) is None


class TestCleaning:
    def test_a_pull_that_was_given_up_goes_and_one_under_way_stays(self, library):
        given_up, under_way = Staging(library, OTHER, version()), Staging(library, UUID, version())
        for staging in (given_up, under_way):
            staging.path("a.img", Role.IMAGE).write_bytes(b"x" * 100_000)
        with library.lock(f"pull-{UUID}"):
            found = cleaning.clean(library)
        assert found.stagings >= 100_000
        assert not given_up.folder.exists()
        assert under_way.folder.exists()

    def test_an_import_at_work_stays(self, library):
        staging = Staging(library, OTHER, version())
        with staging.at_work():
            staging.path("a.img", Role.IMAGE).write_bytes(b"x")
            cleaning.clean(library)
            assert staging.path("a.img", Role.IMAGE).is_file()

    def test_orphans_that_s3reg_wrote_go_and_no_others(self, library):
        made = clone(library, "macos", "copy", shared=Tops.NONE)
        own = set(local_vms.layers(library, "copy")) - set(local_vms.layers(library))
        (library.vm_lib / made.id / "config.yaml").unlink()  # Anka removed the VM
        written_since = min(own)
        (library.img_lib / written_since).write_bytes(b"the VM ran")
        orphan = library.img_lib / "orphan.ank"
        orphan.write_bytes(b"Anka's")
        library.ledger.record(orphan, None)
        before = local_vms.in_the_shared_folders(library)
        assert cleaning.clean(library).layers > 0
        assert before - local_vms.in_the_shared_folders(library) == own - {written_since}

    def test_maps_of_nothing_go(self, library):
        library.ledger.keep_map("5" * 64, b"map")
        assert cleaning.clean(library).records > 0
        assert list((library.own / "maps").iterdir()) == []

    def test_vms_and_tags_stay_whole(self, library):
        before = local_vms.contents(library)
        cleaning.clean(library)
        assert local_vms.contents(library) == before
        assert set(library.ledger.tags(UUID)) == {"v1", "v2"}


def test_a_removal_that_cannot_be_finished_yet_waits(library, monkeypatch):
    class Killed(BaseException):
        pass

    def killed(*_, **__):
        raise Killed

    monkeypatch.setattr(removal, "_carry_out", killed)
    with pytest.raises(Killed):
        removal.remove_vm(library, UUID)
    monkeypatch.undo()
    config = make_vm(library, template=OTHER, images={}) / "config.yaml"
    good = config.read_bytes()
    config.write_bytes(b"[")
    assert [type(problem) for problem in recover(library)] == [ConfigInvalid]
    config.write_bytes(good)
    assert recover(library) == []
    assert local_vms.in_the_shared_folders(library) == set()
