"""A node in small, for the machine: VMs of words, pushes step by step, and a version read back byte for byte.

It does what s3reg's own half does: chunks that a usable base has are named again, others lie in a new pack; a file that a
base has whole keeps its map.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import zstandard

from registry import material
from s3reg.errors import PreconditionFailed
from s3reg.model import format as fmt
from s3reg.model import maps
from s3reg.model.chunks import chunk_digest
from s3reg.model.identity import EVERYONE
from s3reg.model.names import Digest, TemplateId
from s3reg.model.packs import PackRef
from s3reg.model.template import Base, MapRef, Role, Version
from s3reg.registry import Committed, Opened, Opening, Proposal, ProposedFile, Registry
from s3reg.store import ABSENT

if TYPE_CHECKING:
    from s3reg.model.maps import FileMap
    from s3reg.model.template import File, Session
    from s3reg.store import ObjectStore

HOLE = 0
TAIL = 100
"""Bytes of a disk's last chunk, which is shorter than the others."""


@functools.cache
def block(word: int, length: int = material.CHUNK) -> bytes:
    """A chunk's bytes; another word, another chunk."""
    return bytes(length) if word == HOLE else material.chunk(f"word {word}", length)


@dataclass(frozen=True)
class Vm:
    """What a VM is: the words of each of its disks; the last one is short."""

    disks: tuple[tuple[int, ...], ...]
    note: int = 0
    """What its config and its nvram tell."""
    called: str = "vm"

    def files(self) -> dict[str, bytes]:
        """Every byte, by name."""
        return {**{name: b"".join(blocks) for name, blocks in self.blocks().items()}, **self.small()}

    def blocks(self) -> dict[str, list[bytes]]:
        return {
            f"disk{number}": [
                block(word, material.CHUNK if at < len(words) - 1 else TAIL) for at, word in enumerate(words)
            ]
            for number, words in enumerate(self.disks)
        }

    def small(self) -> dict[str, bytes]:
        lines = [f"name: {self.called}", f"note: {self.note}", "nvram: true", "hard_drives:"]
        lines += [f"- file: disk{number}" for number in range(len(self.disks))]
        return {"config.yaml": "\n".join(lines).encode(), "nvram": b"variables %d" % self.note}


@dataclass
class Push:
    """A push of a node, as far as it has come."""

    template: TemplateId
    name: str
    tag: str
    vm: Vm
    description: str = ""
    force: bool = False
    bases: tuple[Base, ...] = ()
    usable: dict[Base, Version] = field(default_factory=dict)
    known: dict[bytes, tuple[bytes, PackRef, int, int]] = field(default_factory=dict)
    """The chunks of these, as `maps.make` takes them."""
    session: Session | None = None
    files: tuple[ProposedFile, ...] | None = None
    """None: not all is uploaded."""
    sent: set[str] = field(default_factory=set)
    """Keys that it put."""
    needs: set[str] = field(default_factory=set)
    """Keys that its version stands on."""

    @property
    def sid(self) -> str:
        assert self.session is not None
        return self.session.id

    def open(self, registry: Registry, store: ObjectStore) -> Opened:
        wanted = Opening(self.template, self.name, self.tag, force=self.force, bases=self.bases)
        return self._opened(registry.open(EVERYONE, wanted), store)

    def add(self, registry: Registry, store: ObjectStore, bases: tuple[Base, ...]) -> Opened:
        return self._opened(registry.add_bases(EVERYONE, self.sid, bases), store)

    def _opened(self, answer: Opened, store: ObjectStore) -> Opened:
        assert not answer.damaged
        self.session = answer.session
        for version in answer.bases:
            self.usable[Base(version.template, version.id)] = version
            for file in version.files:
                if file.map is not None:
                    self.known |= {
                        one.digest: (one.digest, one.pack, one.offset, one.length)
                        for one in map_of(store, version.domain, file).chunks()
                    }
        return answer

    def upload(self, registry: Registry, store: ObjectStore) -> None:
        """All that the version needs and no usable base has. `store` is where signed uploads go."""
        known, self.needs = dict(self.known), set()
        objects: list[tuple[str, bytes]] = []
        files = [self._mapped(name, blocks, known, objects) for name, blocks in self.vm.blocks().items()]
        rows = [(kind, Digest(hashlib.sha256(data).hexdigest()), len(data)) for kind, data in objects]
        registry.sign_uploads(EVERYONE, self.sid, rows)
        for (kind, sha256, _), (_, data) in zip(rows, objects, strict=True):
            key = (fmt.pack_key if kind == "pack" else fmt.map_key)(self._session.domain, self.sid, sha256)
            try:
                store.put(key, data, only_if=ABSENT)
            except PreconditionFailed:
                assert store.get(key).data == data
            self.sent.add(key)
        small = [
            material.inline(name, data, Role.CONFIG if "config" in name else Role.NVRAM)
            for name, data in self.vm.small().items()
        ]
        self.files = (*files, *small)
        self.needs.add(fmt.version_key(self.template, self.sid))

    def commit(self, registry: Registry) -> Committed:
        assert self.files is not None
        proposal = Proposal(self.tag, self.name, self.files, description=self.description, force=self.force)
        return registry.commit(EVERYONE, self.sid, proposal)

    @property
    def _session(self) -> Session:
        assert self.session is not None
        return self.session

    def _mapped(
        self,
        name: str,
        blocks: list[bytes],
        known: dict[bytes, tuple[bytes, PackRef, int, int]],
        objects: list[tuple[str, bytes]],
    ) -> ProposedFile:
        new = {chunk_digest(data): data for data in blocks if any(data)}
        new = {digest: data for digest, data in new.items() if digest not in known}
        if new:
            data, places = material.pack_bytes(list(new.values()))
            pack = PackRef(self._session.id, Digest(hashlib.sha256(data).hexdigest()), len(data))
            objects.append(("pack", data))
            known |= {digest: (digest, pack, offset, length) for digest, offset, length in places}
        size = sum(map(len, blocks))
        found = maps.make(size, material.LOG2, [known[chunk_digest(data)] if any(data) else None for data in blocks])
        domain, digest = self._session.domain, found.digest()
        whole = next(
            (one for version in self.usable.values() for one in version.files if one.map and one.digest == digest), None
        )
        if whole is not None:
            assert whole.map is not None
            ref = whole.map
            self.needs |= {fmt.pack_key(domain, use.pack.sid, use.pack.sha256) for use in whole.packs}
        else:
            data = maps.encode(found)
            objects.append(("map", data))
            ref = MapRef(self._session.id, Digest(hashlib.sha256(data).hexdigest()), len(data))
            self.needs |= {fmt.pack_key(domain, pack.sid, pack.sha256) for pack in found.packs}
        self.needs.add(fmt.map_key(domain, ref.sid, ref.sha256))
        drive = int(name.removeprefix("disk"))
        return ProposedFile(name, Role.IMAGE, size, digest, drive=drive, map=ref)


def map_of(store: ObjectStore, domain: str, file: File) -> FileMap:
    """A file's map as it lies on the store."""
    assert file.map is not None
    data = store.get(fmt.map_key(domain, file.map.sid, file.map.sha256)).data
    return maps.decode(data, size=file.size, digest=file.digest)


def read_back(store: ObjectStore, version: Version) -> dict[str, bytes]:
    """Every byte of a version, from its packs: each frame decoded, and compared with its chunk's digest."""
    found: dict[str, bytes] = {}
    packs: dict[PackRef, bytes] = {}
    for file in version.files:
        if file.inline is not None:
            found[file.name] = file.inline
            continue
        file_map, data = map_of(store, version.domain, file), bytearray(file.size)
        for one in file_map.chunks():
            if one.pack not in packs:
                packs[one.pack] = store.get(fmt.pack_key(version.domain, one.pack.sid, one.pack.sha256)).data
                assert hashlib.sha256(packs[one.pack]).hexdigest() == one.pack.sha256
            frame = packs[one.pack][one.offset : one.offset + one.length]
            raw = zstandard.ZstdDecompressor().decompress(frame, max_output_size=1 << file_map.chunk_log2)
            assert chunk_digest(raw) == one.digest
            at = one.position << file_map.chunk_log2
            data[at : at + len(raw)] = raw
        found[file.name] = bytes(data)
    return found
