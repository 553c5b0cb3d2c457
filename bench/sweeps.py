"""Sweeps of a store with a hundred packs for each template, a million in all, of which nobody names a tenth."""

from __future__ import annotations

import hashlib
import random
import sys
import urllib.request
import uuid
from typing import TYPE_CHECKING

from bench import measure, servers
from bench.corpus import MIB, say
from bench.table import Row
from s3reg.model import format as fmt
from s3reg.model.names import Digest, Domain, SessionId, TemplateId, VersionId
from s3reg.model.packs import PackRef
from s3reg.model.template import Entry, File, Head, MapRef, PackUse, Role, Version
from s3reg.registry import Registry
from s3reg.store import paths
from s3reg.store.files import FilesStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bench.lab import Lab

NAMED, ORPHANS = 90, 10
"""Packs for each template: its version's, and those that a push left behind."""
FEWER = 10
"""On MinIO there are so many times fewer: to put a million small objects takes it longer than an hour of sweeps."""
_PACK = 16 * 1024**2
_MOST_MEMORY = 512 * MIB
_DOMAIN = Domain("main")


def rows(lab: Lab) -> list[Row]:
    """Sweeps of a million packs: what would go, and a tenth of them gone; in a directory, and of fewer on MinIO."""
    return [*_in_a_directory(lab, lab.asked.templates), *_on_minio(lab, max(1, lab.asked.templates // FEWER))]


def _in_a_directory(lab: Lab, templates: int) -> list[Row]:
    folder = lab.folder / "swept"
    Registry(FilesStore(folder)).prepare()
    say(f"  {templates * (NAMED + ORPHANS):,} packs in a directory, by their names")
    fill(folder, paths.of_key, templates)
    return _swept(lab, f"{_packs(templates)} in a directory", [str(folder)])


def _on_minio(lab: Lab, templates: int) -> list[Row]:
    bucket = lab.minio.bucket(lab.new("swept"))
    with lab.registry_on(bucket) as url:
        urllib.request.urlopen(f"{url}/registry/status", timeout=60).close()  # which makes it a store
    say(f"  {templates * (NAMED + ORPHANS):,} packs on MinIO, by their names")
    aside = lab.folder / "aside"
    fill(aside, lambda key: key, templates)
    command = lab.minio.s5cmd("cp", f"{aside}/*", f"{bucket}/")
    measure.run([command[0], "--numworkers", 32, *command[1:]], servers.environment())
    return _swept(lab, f"{_packs(templates)} on MinIO", [bucket, "--s3-endpoint", lab.minio.endpoint])


def _packs(templates: int) -> str:
    return f"{templates * (NAMED + ORPHANS):,} packs, {templates:,} templates"


def _swept(lab: Lab, about: str, where: list[str]) -> list[Row]:
    found = []
    for told, more in (("what would go", ["--dry-run"]), ("a tenth removed", [])):
        measure.settle(lab.asked.settled)
        run = measure.run([sys.executable, "-m", "s3reg.cli.main", "-j", "gc", *where, *more], servers.environment())
        removed = run.answer["body"]["removed"]["objects"]
        text = f"{run.seconds:.1f} s, {removed:,} objects; {run.peak / MIB:.0f} MiB; cores {run.busy:.0%} busy"
        say(f"  {told}: {run.told()}")
        found.append(Row(f"gc of {about}: {told}", text, "", "≤ 512 MiB", run.peak <= _MOST_MEMORY))
    return found


def fill(folder: Path, path: Callable[[str], str], templates: int) -> None:
    """The objects as files; `path` says where in the folder a key lies. Packs and maps are empty: nobody reads them."""
    chance = random.Random(1)
    for number in range(templates):
        for key, data in _template(chance, number):
            file = folder / path(key)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)


def _template(chance: random.Random, number: int) -> Iterator[tuple[str, bytes]]:
    """A template of one version, and what a push to it left behind: keys, and what lies there."""
    template = TemplateId(str(uuid.UUID(int=chance.getrandbits(128), version=4)))
    sid, left = (SessionId(f"{chance.getrandbits(128):032x}") for _ in range(2))
    vid = VersionId(sid)
    packs = [PackRef(sid, _digest(chance), _PACK) for _ in range(NAMED)]
    disk = File(
        "disk",
        Role.IMAGE,
        NAMED * _PACK,
        _digest(chance),
        drive=0,
        map=MapRef(sid, _digest(chance), 1024),
        packs=tuple(PackUse(pack, _PACK - 1000) for pack in packs),
    )
    assert disk.map is not None
    entry = Entry(vid, 0, "v1", "", disk.size, 1_700_000_000 + number)
    head = Head(template, f"template-{number:05}", _DOMAIN, size=disk.size).add(entry, force=False, by="bench", keeps=0)
    yield fmt.head_key(template), fmt.write_head(head.wrote(sid))
    version = Version(vid, template, _DOMAIN, sid, entry.created, {"name": "swept"}, (disk,))
    yield fmt.version_key(template, vid), fmt.write_version(version)
    yield fmt.map_key(_DOMAIN, sid, disk.map.sha256), b""
    for pack in packs:
        yield fmt.pack_key(_DOMAIN, sid, pack.sha256), b""
    for _ in range(ORPHANS):
        yield fmt.pack_key(_DOMAIN, left, _digest(chance)), b""


def _digest(chance: random.Random) -> Digest:
    return Digest(hashlib.sha256(chance.randbytes(32)).hexdigest())
