"""What registry tests push: tiny packs and maps, put where a node's signed uploads would put them, and a sweep in small."""

from __future__ import annotations

import array
import contextlib
import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import zstandard

from s3reg.errors import ObjectNotFound
from s3reg.model import format as fmt
from s3reg.model import maps, packs
from s3reg.model.chunks import chunk_digest
from s3reg.model.identity import EVERYONE
from s3reg.model.names import Digest, TemplateId, VersionId
from s3reg.model.packs import PackRef
from s3reg.model.template import Base, Head, MapRef, Marker, Role, Session, bytes_digest
from s3reg.registry import Committed, Limits, Opened, Opening, Proposal, ProposedFile, Registry, Swept
from s3reg.store import Match

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from s3reg.model.identity import Identity
    from s3reg.model.maps import FileMap
    from s3reg.store import ObjectStore

LOG2 = 16
CHUNK = 1 << LOG2
BASE = TemplateId("00000000-0000-4000-8000-000000000001")
OTHER = TemplateId("00000000-0000-4000-8000-000000000002")
CONFIG = b"name: vm\nuuid: 00000000-0000-4000-8000-000000000001\nhard_drives:\n- file: disk\n"


@dataclass(frozen=True)
class Placed:
    """A chunk and where its frame lies: what `maps.make` takes."""

    digest: bytes
    pack: PackRef
    offset: int
    length: int

    def row(self) -> tuple[bytes, PackRef, int, int]:
        return self.digest, self.pack, self.offset, self.length


def chunk(word: str, length: int = CHUNK) -> bytes:
    """A chunk's bytes; another word, another chunk."""
    unit = f"{word} ".encode()
    return (unit * (length // len(unit) + 1))[:length]


def pack_bytes(chunks: Sequence[bytes]) -> tuple[bytes, list[tuple[bytes, int, int]]]:
    """A pack of these chunks, and (digest, offset, length) of each frame."""
    frames = [zstandard.ZstdCompressor(level=3).compress(data) for data in chunks]
    lengths = array.array("I", map(len, frames))
    table = packs.seek_table(lengths, array.array("I", map(len, chunks)))
    offsets = packs.SeekTable(lengths, lengths).offsets()
    places = [
        (chunk_digest(data), offset, length) for data, offset, length in zip(chunks, offsets, lengths, strict=True)
    ]
    return b"".join(frames) + table, places


def put_pack(store: ObjectStore, session: Session, chunks: Sequence[bytes]) -> list[Placed]:
    """A pack of these chunks under the session's prefix."""
    data, places = pack_bytes(chunks)
    sha256 = Digest(hashlib.sha256(data).hexdigest())
    store.put(fmt.pack_key(session.domain, session.id, sha256), data)
    return [Placed(digest, PackRef(session.id, sha256, len(data)), offset, length) for digest, offset, length in places]


def put_map(store: ObjectStore, session: Session, data: bytes) -> MapRef:
    """A map under the session's prefix."""
    sha256 = Digest(hashlib.sha256(data).hexdigest())
    store.put(fmt.map_key(session.domain, session.id, sha256), data)
    return MapRef(session.id, sha256, len(data))


def mapped(store: ObjectStore, session: Session, name: str, file_map: FileMap, **more) -> ProposedFile:
    """A file of this map, which is put."""
    ref = put_map(store, session, maps.encode(file_map))
    return ProposedFile(name, more.pop("role", Role.IMAGE), file_map.size, file_map.digest(), map=ref, **more)


def file_map(placed: Sequence[Placed | None], *, size: int | None = None) -> FileMap:
    """The map of a file of these chunks; None is a hole."""
    size = len(placed) * CHUNK if size is None else size
    return maps.make(size, LOG2, [one.row() if one else None for one in placed])


def image(store: ObjectStore, session: Session, name: str, words: Iterable[str], **more) -> ProposedFile:
    """An image of a hole and one chunk a word, all new, in one pack."""
    placed = put_pack(store, session, [chunk(word) for word in words])
    return mapped(store, session, name, file_map([None, *placed]), **more)


def inline(name: str, data: bytes, role: Role = Role.EXTRA) -> ProposedFile:
    return ProposedFile(name, role, len(data), bytes_digest(data), inline=data)


def config(data: bytes = CONFIG) -> ProposedFile:
    return inline("config.yaml", data, Role.CONFIG)


@dataclass
class Pusher:
    """A node, as far as the registry sees it."""

    registry: Registry
    store: ObjectStore
    """Where the signed uploads go: usually the registry's own, without what a test makes it suffer."""
    asker: Identity = field(default=EVERYONE)

    def open(self, template: TemplateId = BASE, tag: str = "v1", name: str = "sequoia", **more) -> Opened:
        return self.registry.open(self.asker, Opening(template, name, tag, **more))

    def files(self, session: Session, words: Iterable[str] = ("a", "b")) -> tuple[ProposedFile, ...]:
        return (image(self.store, session, "disk", words, drive=0), config())

    def commit(
        self, session: Session, files: tuple[ProposedFile, ...], tag: str = "v1", name: str = "sequoia", **more
    ) -> Committed:
        return self.registry.commit(self.asker, session.id, Proposal(tag, name, files, **more))

    def push(
        self, template: TemplateId = BASE, tag: str = "v1", words: Iterable[str] = ("a", "b"), **more
    ) -> Committed:
        """A whole push, nothing reused."""
        proposal = {key: more.pop(key) for key in ("description",) if key in more}
        opened = self.open(template, tag, **more)
        shared = {key: more[key] for key in ("name", "force", "same_name", "arch") if key in more}
        return self.commit(opened.session, self.files(opened.session, words), tag, **shared, **proposal)


def base(committed: Committed) -> Base:
    return Base(committed.head.id, committed.entry.id)


# --- Records, from behind the registry's back ------------------------------------------------------------------------


def read_head(store: ObjectStore, template: TemplateId = BASE) -> Head:
    return fmt.read_head(store.get(fmt.head_key(template)).data, template)


def change_head(store: ObjectStore, template: TemplateId = BASE, **changes) -> Head:
    """What another actor does to a head, with a generation of its own."""
    found = store.get(fmt.head_key(template))
    head = replace(fmt.read_head(found.data, template), **changes).wrote("another")
    store.put(fmt.head_key(template), fmt.write_head(head), only_if=Match(found.stat.etag))
    return head


def purge(store: ObjectStore, template: TemplateId = BASE) -> None:
    """Every version of the template out of its head, for good."""
    change_head(store, template, versions=(), removed=())


def end_trash(store: ObjectStore) -> None:
    """The time of all that lies in the trash is over."""
    for head in heads(store):
        if head.removed:
            change_head(store, head.id, removed=tuple(replace(entry, until=entry.removed) for entry in head.removed))


def change_session(store: ObjectStore, session: Session, **changes) -> None:
    found = store.get(fmt.session_key(session.id))
    new = replace(fmt.read_session(found.data, session.id), **changes)
    store.put(fmt.session_key(session.id), fmt.write_session(new), only_if=Match(found.stat.etag))


def sessions(store: ObjectStore) -> list[Session]:
    found = []
    for stat in store.list(fmt.SESSIONS):
        sid = stat.key.removeprefix(fmt.SESSIONS).removesuffix(".json")
        with contextlib.suppress(ObjectNotFound):  # committed between listing and reading
            found.append(fmt.read_session(store.get(stat.key).data, sid))
    return found


def heads(store: ObjectStore) -> list[Head]:
    return [read_head(store, fmt.template_of_head_key(stat.key)) for stat in store.list(fmt.HEADS)]


def put_marker(store: ObjectStore, gcid: str, keys: Iterable[str]) -> None:
    """A sweep's announcement that it removes these objects."""
    rows = [key.removesuffix(".json").split("/") for key in keys]
    marker = Marker(
        gcid,
        frozenset(tuple(row[1:]) for row in rows if row[0] == "packs"),
        frozenset(tuple(row[1:]) for row in rows if row[0] == "maps"),
        frozenset(tuple(row[1:]) for row in rows if row[0] == "versions"),
    )
    store.put(f"{fmt.MARKERS}{gcid}.json", fmt.write_marker(marker))


def needed_by(store: ObjectStore, template: TemplateId, vid: VersionId) -> set[str]:
    """The keys that a version stands on, its own included. A missing record stands on itself only."""
    key = fmt.version_key(template, vid)
    keys = {key}
    if any(stat.key == key for stat in store.list(key)):
        version = fmt.read_version(store.get(key).data, template, vid)
        for file in version.files:
            keys |= {fmt.pack_key(version.domain, use.pack.sid, use.pack.sha256) for use in file.packs}
            if file.map:
                keys.add(fmt.map_key(version.domain, file.map.sid, file.map.sha256))
    return keys


def check_sound(store: ObjectStore) -> None:
    """Whatever a head names, exists: the one thing that must always hold."""
    there = {stat.key for stat in store.list("")}
    for head in heads(store):
        for entry in (*head.versions, *head.removed):
            missing = needed_by(store, head.id, entry.id) - there
            assert not missing, f"version {entry.tag} of {head.name} lacks {missing}"


def swept(store: ObjectStore, *, expire: bool = False) -> Swept:
    """One sweep; `expire`: every push under way is too old."""
    limits = Limits(idle_seconds=-1) if expire else Limits()
    return Registry(store, limits=limits).sweep()
