"""A library that lives: clones, tags, switches, pulls, removals in any order, beside a dictionary of what VMs must be.

What may never happen: bytes of a VM or of a tag that differ from the dictionary's, a layer that is gone while something
stands on it, and anything of ours that is left when everything was deleted.
"""

import shutil
import tempfile
import uuid
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

import local_vms
from s3reg.client import cleaning, localtags, removal
from s3reg.client.arriving import StagedFile
from s3reg.client.clones import Tops, clone
from s3reg.client.library import Library
from s3reg.client.staging import Staging
from s3reg.errors import LocalChanges, LocalTagNotFound, NotLocal, TagTaken
from s3reg.model import names
from s3reg.model.template import Role, bytes_digest
from vms import make_vm, version

TAGS = st.sampled_from(["v1", "v2", "v3"])


class LibraryLives(RuleBasedStateMachine):
    """`is_now` and `was` are the dictionary: VM → contents, and VM → tag → contents."""

    vms = Bundle("vms")

    def __init__(self):
        super().__init__()
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self.library = Library(self.folder / "library")
        self.library.create()
        self.is_now, self.was = {}, {}
        self.count = 0

    def fresh(self):
        """Bytes that nothing had before."""
        self.count += 1
        return b"%d" % self.count * 50

    def saw(self, vm):
        self.is_now[vm] = local_vms.contents(self.library, vm)
        return vm

    @initialize(target=vms)
    def begin(self):
        return self.make(plain=False)

    @rule(vm=vms, tag=TAGS)
    def work(self, vm, tag):
        """Most of what happens on a node: a VM is tagged, and goes on."""
        self.tag(vm, tag)
        self.run(vm)

    @rule(target=vms, plain=st.booleans())
    def make(self, plain):
        """A VM on a plain disk, or on a layer of Anka's on another one."""
        vm, top = names.new_template_id(), f"{uuid.uuid4().hex}{'.img' if plain else '.ank'}"
        make_vm(self.library, template=vm, name=vm, images={top: self.fresh()}, nvram=True)
        (self.library.vm_lib / vm / "nvram").write_bytes(self.fresh())
        if not plain:
            below = self.library.img_lib / f"{uuid.uuid4().hex}.ank"
            below.write_bytes(self.fresh())
            self.library.ledger.record(below, None, ours=True)
            self.library.ledger.record(self.library.img_lib / top, None, parent=below.name, ours=True)
        self.was[vm] = {}
        return self.saw(vm)

    @rule(target=vms, source=vms, shared=st.sampled_from([Tops.FROZEN, Tops.NONE]), tag=st.none() | TAGS)
    def clone(self, source, shared, tag):
        name = f"clone {self.count}"
        self.count += 1
        expected = self.is_now[source] if tag is None else self.was[source].get(tag)
        try:
            made = clone(self.library, source, name, tag=tag, shared=shared).id
        except (LocalTagNotFound, NotLocal):
            assert expected is None
            return multiple()
        assert local_vms.contents(self.library, made) == expected
        self.was[made] = {}
        return self.saw(made)

    @rule(vm=vms)
    def run(self, vm):
        """Anka gives a VM whose layer a tag has another layer; on any other it writes to what is there."""
        top = self.library.find(vm).files[1].path
        known = self.library.ledger.known(top)
        frozen = any(row.files.get(top.name) == known for _, _, row in self.library.ledger.every_tag())
        if top.suffix == ".ank" and known and frozen:
            local_vms.run_on_a_layer(self.library, self.fresh(), vm)
        else:
            top.write_bytes(self.fresh())
            for tag, row in self.library.ledger.tags(vm).items():
                if top.name in row.files:
                    self.was[vm][tag] = None
        self.saw(vm)

    @rule(vm=vms, tag=TAGS)
    def tag(self, vm, tag):
        if tag in self.was[vm]:
            with pytest.raises(TagTaken):
                local_vms.tagged(self.library, tag, vm)
            return
        local_vms.tagged(self.library, tag, vm)
        self.was[vm][tag] = self.is_now[vm]

    @rule(vm=vms, tag=TAGS, force=st.booleans())
    def switch(self, vm, tag, force):
        wanted = self.was[vm].get(tag)
        try:
            localtags.check_out(self.library, vm, tag, force=force)
        except NotLocal:
            assert wanted is None
        except LocalChanges:
            assert not force
            assert self.is_now[vm] not in self.was[vm].values(), "a tag has all of it"
        else:
            assert wanted is not None
            self.is_now[vm] = wanted

    @rule(vm=vms, tag=TAGS)
    def pull(self, vm, tag):
        """A version as a pull brings it, on a layer of its own name."""
        layer, nvram = f"{uuid.uuid4().hex}.ank", self.fresh()
        files = {
            (layer, Role.IMAGE): self.fresh(),
            (
                "config.yaml",
                Role.CONFIG,
            ): f"name: {vm}\nuuid: {vm}\nhard_drives:\n- file: {layer}\nnvram: true\n".encode(),
            ("nvram", Role.NVRAM): nvram,
        }
        staging = Staging(self.library, vm, version())
        for (name, role), data in files.items():
            staging.path(name, role).write_bytes(data)
        rows = [StagedFile(name, role, len(data), bytes_digest(data)) for (name, role), data in files.items()]
        try:
            staging.publish(rows, name=vm, tag=tag)
        except LocalChanges:
            staging.discard()
            known = [was for other, was in self.was[vm].items() if other != tag]
            assert self.is_now[vm] not in known or tag in self.was[vm]
        else:
            self.was[vm][tag] = self.saw(vm) and self.is_now[vm]

    @rule(vm=vms, tag=TAGS)
    def delete_tag(self, vm, tag):
        if tag in self.was[vm]:
            removal.remove_tags(self.library, vm, [tag])
            del self.was[vm][tag]
        else:
            with pytest.raises(LocalTagNotFound):
                removal.remove_tags(self.library, vm, [tag])

    @rule(vm=consumes(vms))
    def delete(self, vm):
        removal.remove_vm(self.library, vm)
        del self.is_now[vm], self.was[vm]

    @rule()
    def clean(self):
        cleaning.clean(self.library)

    @invariant()
    def everything_is_as_it_must_be(self):
        assert {vm.id for vm in self.library.vms()} == set(self.is_now)
        for vm, contents in self.is_now.items():
            assert local_vms.contents(self.library, vm) == contents
            assert set(self.library.ledger.tags(vm)) == set(self.was[vm])
            for tag, was in self.was[vm].items():
                assert localtags.is_whole(self.library, vm, tag) == (was is not None), tag

    def teardown(self):
        for vm in self.is_now:
            removal.remove_vm(self.library, vm)
        cleaning.clean(self.library)
        try:
            assert [path for path, record in self.library.ledger.recorded() if record.ours] == []
            assert [path for name in ("kept", "tags") for path in (self.library.own / name).glob("*")] == []
        finally:
            shutil.rmtree(self.folder)


LibraryLives.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
TestLibraryLives = LibraryLives.TestCase
