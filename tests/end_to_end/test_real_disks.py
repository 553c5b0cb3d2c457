"""Real file systems on the disks: made of real files, changed as a package manager would, checked after the pull."""

import random
import shutil
import subprocess

import machines
import servers
from machines import MIB


def tree(folder, *, seed, files=120):
    """Some thousand small files and a few large ones."""
    chance = random.Random(seed)
    for number in range(files):
        place = folder / f"d{number % 9}" / f"f{number}"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((b"%d " % number) * chance.randrange(20_000))
    (folder / "noise").write_bytes(chance.randbytes(8 * MIB))


def test_an_ext4_disk_comes_back_clean_and_its_update_is_small(baker, runner, tmp_path):
    mke2fs, debugfs, e2fsck = (servers.needs(program) for program in ("mke2fs", "debugfs", "e2fsck"))
    tree(tmp_path / "files", seed=1)
    disk = tmp_path / "disk.img"
    subprocess.run([mke2fs, "-q", "-t", "ext4", "-d", tmp_path / "files", disk, "64M"], check=True)
    baker.done("import", "linux", "--disk", disk)
    full = baker.done("-j", "push", "linux", "-t", "v1").answer["body"]["sent"]

    (tmp_path / "patch").write_bytes(random.Random(3).randbytes(MIB))
    commands = tmp_path / "commands"
    commands.write_text(f"rm d1/f1\nrm d2/f2\nwrite {tmp_path}/patch patched\n")
    subprocess.run([debugfs, "-w", "-f", commands, disk], check=True, capture_output=True)
    baker.done("import", "linux", "--disk", disk)
    update = baker.done("-j", "push", "linux", "-t", "v2").answer["body"]["sent"]
    runner.done("pull", "linux")

    (pulled,) = (runner.library / "img_lib").iterdir()
    assert pulled.read_bytes() == disk.read_bytes()
    assert update < full / 2
    subprocess.run([e2fsck, "-fn", pulled], check=True, capture_output=True)
    shutil.rmtree(baker.library)


def test_a_disk_without_a_single_byte_of_data_travels(baker, runner):
    machine = machines.make(baker.library, sizes=(0, 3 * MIB), state_size=0)
    with machine.disk(1).open("wb") as disk:
        disk.truncate(300 * MIB)
    pushed = baker.done("-j", "push", machine.name, "-t", "blank").answer["body"]
    runner.done("pull", machine.name)
    assert machines.contents(runner.library, machine) == machines.contents(baker.library, machine)
    assert pushed["sent"] < 1000
