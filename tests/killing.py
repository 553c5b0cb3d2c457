"""Dies at the n-th step that changes the file system, for every n or a sample of them: `survives(folder, prepare, most)`.

    python killing.py SCENARIO FOLDER MOST   one scenario of `SCENARIOS`, at MOST of its steps; ends with 0 if all its
                                             deaths were survived, and prints the number of its steps

Steps are seen by Python's own audit events, and the C library's renames by their names, so that the code under test knows
nothing of it. Each round runs in a fork that is ended without any clean-up, as by kill -9. It is a program of its own
because a fork wants a process without threads.
"""

from __future__ import annotations

import hashlib
import itertools
import mmap
import os
import random
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import local_vms
import vms
from s3reg.client import clones, images, localtags, platform, removal
from s3reg.client.library import Library
from s3reg.client.staging import StagedFile, Staging, recover
from s3reg.client.tagbook import TagFile
from s3reg.errors import S3regError
from s3reg.model import names
from s3reg.model.template import Role, bytes_digest

if TYPE_CHECKING:
    from collections.abc import Callable

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "os.chmod"}
KILLED = 9
VERSION = names.version_id("b" * 32)
OLD_VERSION = names.version_id("a" * 32)


def dies(act: Callable[[], object], step: int) -> bool:
    """Run `act` in a process of its own that dies before its `step`-th change; False if it came to its end."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _arm(step)
            act()
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in {0, KILLED}, f"step {step} ended with {status}"
    return status == KILLED


def steps_of(act: Callable[[], object]) -> int:
    """Run `act` to its end in a process of its own; how many changes it made."""
    with mmap.mmap(-1, 8) as seen:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                _arm(0, seen)
                act()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        return int.from_bytes(seen[:], "little")


def _arm(step: int, seen: mmap.mmap | None = None) -> None:
    """Die before the `step`-th change; `seen`: where the changes before it are counted."""
    left = itertools.count(1)

    def tick() -> None:
        at = next(left)
        if at == step:
            os._exit(KILLED)
        if seen is not None:
            seen[:] = at.to_bytes(8, "little")

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        flags = arguments[2] if event == "open" else 0
        if event in CHANGES or (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            tick()

    real = platform._libc_call

    def counted(name: str, *arguments: object) -> bool:
        tick()
        return real(name, *arguments)

    platform._libc_call = counted
    sys.addaudithook(hook)


def survives(folder: Path, prepare: Callable[[Library], Callable[[], object]], most: int) -> int:
    """Kill what `prepare` gives at `most` of its steps, in a fresh library each time; the number of all of them."""
    whole = Library(folder / "whole")
    steps = steps_of(prepare(whole))
    after = shows(whole)
    assert after is not None
    chance = random.Random(prepare.__name__)  # the same sample in every run
    for step in sorted(chance.sample(range(1, steps + 1), min(most, steps))):
        library = Library(folder / str(step))
        act = prepare(library)
        before = shows(library)
        assert dies(act, step), f"step {step} of {steps} was not reached"
        hidden = {vm: files for vm, files in before.items() if vm != "macos"}
        assert shows(library) in (before, hidden, after), f"step {step}: a mix"
        assert recover(library) == [], f"step {step}: not recovered"
        assert shows(library) in (before, after), f"step {step}: recovered to neither"
        if shows(library) != after:
            act()
        assert shows(library) == after, f"step {step}: the second try came to something else"
        check_tidy(library, step)
        if prepare in OF_THE_LIBRARY:
            check_whole(library, step)
        shutil.rmtree(library.root)
    return steps


def shows(library: Library) -> dict[str, list[tuple[str, str]]] | None:
    """What the library shows: for each VM the role and SHA-256 of its files. None if one is not whole.

    Of an import's random names and ids nothing: the configuration counts as the drives it names.
    """
    found = {}
    try:
        for vm in library.vms():
            files = [file for file in library.whole(vm).files if file.role is not Role.CONFIG or vm.id == vms.UUID]
            found[vm.name] = [(f.role.value, hashlib.sha256(f.path.read_bytes()).hexdigest()) for f in files]
    except S3regError:
        return None
    return found


def check_tidy(library: Library, step: int) -> None:
    """Every file of every VM is known, nothing lies about, and a second recovery has nothing to do."""
    assert recover(library) == []
    left = [path for name in ("staging", "trash") for path in (library.own / name).glob("*")]
    assert left == [], f"step {step} left {left}"
    for vm in library.vms():
        for file in library.whole(vm).files:
            assert library.ledger.is_as_recorded(file.path), f"step {step}: {file.name} is not recorded"


def check_whole(library: Library, step: int) -> None:
    """Every tag can be gone back to, and no layer lies there that neither a VM nor a tag stands on."""
    for template, tag, _ in library.ledger.every_tag():
        assert localtags.is_whole(library, template, tag), f"step {step}: {tag} is not whole"
    orphans = {name.casefold() for name in local_vms.in_the_shared_folders(library)} - removal.needed(library)
    assert not orphans, f"step {step} left {orphans}"


# --- Scenarios -------------------------------------------------------------------------------------------------------


def staged(
    library: Library, files: dict[tuple[str, Role], bytes], *, present: frozenset[str] = frozenset()
) -> Callable[[], object]:
    """What stages and publishes a version; the files that are `present` need no staging."""
    rows = [StagedFile(name, role, len(data), bytes_digest(data)) for (name, role), data in files.items()]

    def publish() -> None:
        staging = Staging(library, vms.UUID, VERSION)
        for (name, role), data in files.items():
            if name not in present:
                staging.path(name, role).write_bytes(data)
        staging.publish(rows, name="macos", tag="v2")

    return publish


def config(*images: str, state: str | None = None, note: str = "") -> bytes:
    drives = "".join(f"- file: {image}\n" for image in images)
    return f"name: macos\nuuid: {vms.UUID}\nhard_drives:\n{drives}state_file: {state or ''}\n# {note}\n".encode()


def neighbour(library: Library) -> None:
    """A VM that has nothing to do with it, and must not notice."""
    vms.make_vm(library, template=vms.OTHER, name="other", images={"other.img": b"other" * 100})
    for file in library.find(vms.OTHER).files:
        library.ledger.record(file.path, bytes_digest(file.path.read_bytes()))


def pushed_before(library: Library, files: dict[tuple[str, Role], bytes]) -> None:
    """The VM as an earlier version, known to the ledger as pushed."""
    library.create()
    members = []
    for (name, role), data in files.items():
        place = library.path_of(name, role, vms.UUID)
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(data)
        members.append(TagFile(name, role, bytes_digest(data)))
        library.ledger.record(place, bytes_digest(data))
    library.ledger.set_tag(vms.UUID, "v1", OLD_VERSION, "macos", members)


def fresh(library: Library) -> Callable[[], object]:
    """A template that the library has never seen."""
    neighbour(library)
    return staged(library, {
        ("a.img", Role.IMAGE): b"a" * 5000,
        ("s.ank", Role.STATE): b"s" * 3000,
        ("config.yaml", Role.CONFIG): config("a.img", state="s.ank"),
        ("nvram", Role.NVRAM): b"n" * 100,
    })  # fmt: skip


def same_names(library: Library) -> Callable[[], object]:
    """A raw disk and a state that change under their names, a drive more, an extra less."""
    neighbour(library)
    pushed_before(library, {
        ("disk.img", Role.IMAGE): b"1" * 5000,
        ("s.ank", Role.STATE): b"1" * 3000,
        ("config.yaml", Role.CONFIG): config("disk.img", state="s.ank"),
        ("policy.json", Role.EXTRA): b"{}",
    })  # fmt: skip
    return staged(library, {
        ("disk.img", Role.IMAGE): b"2" * 5000,
        ("more.img", Role.IMAGE): b"2" * 100,
        ("s.ank", Role.STATE): b"2" * 4000,
        ("config.yaml", Role.CONFIG): config("disk.img", "more.img", state="s.ank", note="2"),
        ("nvram", Role.NVRAM): b"n" * 100,
    })  # fmt: skip


def shared_layers(library: Library) -> Callable[[], object]:
    """A layer on top of one that the library has."""
    neighbour(library)
    pushed_before(library, {
        ("base.ank", Role.IMAGE): b"b" * 5000,
        ("config.yaml", Role.CONFIG): config("base.ank"),
    })  # fmt: skip
    return staged(library, {
        ("top.ank", Role.IMAGE): b"t" * 5000,
        ("base.ank", Role.IMAGE): b"b" * 5000,
        ("config.yaml", Role.CONFIG): config("top.ank", "base.ank"),
    }, present=frozenset({"base.ank"}))  # fmt: skip


def without_exclusive_rename(library: Library) -> Callable[[], object]:
    """`same_names` on a file system that knows no exclusive rename."""
    platform._libc_call = lambda *_: False
    return same_names(library)


def imported(library: Library) -> Callable[[], object]:
    """A plain disk that changed is imported over the VM it was before."""
    library.create()
    source = library.root.with_suffix(".raw")
    source.write_bytes(b"1" * 5000)
    images.import_vm(library, "macos", disks=[source])
    source.write_bytes(b"2" * 6000)
    return lambda: images.import_vm(library, "macos", disks=[source])


def two_tags(library: Library) -> None:
    """A VM that was v1, ran on a layer of its own, and is v2."""
    local_vms.layered(library)
    tagged(library, "v1", OLD_VERSION)
    local_vms.run_on_a_layer(library, b"ran")
    tagged(library, "v2", VERSION)


def tagged(library: Library, tag: str, version: names.VersionId) -> None:
    """What `localtags.note` comes to, without its looks at every process of the machine."""
    members = []
    for file in library.find(vms.UUID).files:
        digest = bytes_digest(file.path.read_bytes())
        library.ledger.record(file.path, digest, parent=file.parent)
        library.ledger.keep(digest, file.path)
        members.append(TagFile(file.name, file.role, digest))
    library.ledger.set_tag(vms.UUID, tag, version, "macos", members, local=True)


def cloned(library: Library) -> Callable[[], object]:
    """A clone of a tag: a layer that is shared, a disk that is copied."""
    local_vms.layered(library)
    tagged(library, "v1", OLD_VERSION)
    return lambda: clones.clone(library, "macos", "clone", tag="v1")


def vm_deleted(library: Library) -> Callable[[], object]:
    """A VM with two tags."""
    neighbour(library)
    two_tags(library)
    return lambda: removal.remove_vm(library, vms.UUID)


def tag_deleted(library: Library) -> Callable[[], object]:
    """A tag with a layer of its own: the VM is the other one."""
    two_tags(library)
    localtags.check_out(library, vms.UUID, "v1")
    return lambda: removal.remove_tags(library, vms.UUID, ["v2"])


def switched(library: Library) -> Callable[[], object]:
    """From one tag to another."""
    two_tags(library)
    return lambda: localtags.check_out(library, vms.UUID, "v1")


OF_THE_LIBRARY = (cloned, vm_deleted, tag_deleted, switched)
SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (fresh, same_names, shared_layers, without_exclusive_rename, imported, *OF_THE_LIBRARY)
}


if __name__ == "__main__":
    sys.stdout.write(str(survives(Path(sys.argv[2]), SCENARIOS[sys.argv[1]], int(sys.argv[3]))))
