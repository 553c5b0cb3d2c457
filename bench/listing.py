"""Lists of thousands of templates, over HTTP, cold and warm, on both stores; on MinIO beside the raw LIST below them."""

from __future__ import annotations

import functools
import hashlib
import random
import statistics
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import urllib3

from bench import measure, servers
from bench.corpus import say
from bench.table import Row
from s3reg import wire
from s3reg.model import format as fmt
from s3reg.model.names import Digest, Domain, SessionId, TemplateId, VersionId
from s3reg.model.packs import PackRef
from s3reg.model.template import Entry, File, Head, MapRef, PackUse, Role, Version, bytes_digest
from s3reg.store import paths, signing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.lab import Lab

_TAGS = 3
_DESCRIBED = 20
"""Templates whose versions are there too, to be described in turn."""
_ROUNDS = 15
_SIZE = 20 * 10**9
_PACK = 32 * 1024**2
_CONFIG = b"name: listed\nhard_drives:\n- file: disk\n"
_MOST_RATIO, _MOST_MS = 1.3, 20
_LISTS = {"v1 list": "/registry/vm", "v2 list": "/registry/v2/vm", "native list": f"{wire.PREFIX}/templates"}
_TOLD = {
    "raw": "raw LIST, 16 parts at once",
    "v1 list": "v1 list",
    "v2 list": "v2 list",
    "native list": "native list, with versions",
    "changed": "v2 list right after one changed",
    "detail": "detail of one",
    "cold": "a process's first list, cold",
}
_PARTS = "0123456789abcdef"


def rows(lab: Lab) -> list[Row]:
    """Lists of many templates, cold and warm, on MinIO and in a directory."""
    count = lab.asked.templates
    say(f"  {count} templates of {_TAGS} tags on both stores, by their records")
    made = Made(count)
    return [*_on_minio(lab, made), *_in_a_directory(lab, made)]


def _on_minio(lab: Lab, made: Made) -> list[Row]:
    bucket = lab.minio.bucket(lab.new("lists"))
    # Registries first: one that finds heads where it never was takes them for what is left of a store.
    with lab.registry_on(bucket) as url:
        records = lab.folder / "records"
        made.write(records, lambda key: key)
        command = lab.minio.s5cmd("cp", f"{records}/*", f"{bucket}/")
        measure.run([command[0], "--numworkers", 8, *command[1:]], servers.environment())

        def put(key: str, data: bytes) -> None:
            file = lab.folder / "record.json"
            file.write_bytes(data)
            measure.run(lab.minio.s5cmd("cp", file, f"{bucket}/{key}"), servers.environment())

        measure.settle("warm")
        found = _measured(Client(url, made), put, Raw(lab.minio.endpoint, bucket).parts)
    most = _MOST_RATIO * statistics.median(found["raw"])
    return _rows(f"{made.count} templates on MinIO", found, f"≤ {_MOST_RATIO} × raw LIST", most)


def _in_a_directory(lab: Lab, made: Made) -> list[Row]:
    folder = lab.folder / "lists"
    with servers.registry(str(folder), lab.folder / "registry.log") as url:
        made.write(folder, paths.of_key)

        def put(key: str, data: bytes) -> None:
            aside = lab.folder / "record.json"
            aside.write_bytes(data)
            aside.rename(folder / paths.of_key(key))

        measure.settle("warm")
        found = _measured(Client(url, made), put)
    return _rows(f"{made.count} templates in a directory", found, f"≤ {_MOST_MS} ms", _MOST_MS)


@dataclass
class Made:
    """The records of so many templates, as pushes leave them."""

    count: int
    heads: list[Head] = field(default_factory=list)

    def write(self, folder: Path, path: Callable[[str], str]) -> None:
        """All of them as files; `path` says where in the folder a key lies."""
        chance = random.Random(1)
        self.heads = [_head(chance, number) for number in range(self.count)]
        records = {fmt.head_key(head.id): fmt.write_head(head) for head in self.heads}
        for head in self.heads[:_DESCRIBED]:
            records |= {fmt.version_key(head.id, one.id): _version(chance, head, one) for one in head.versions}
        for key, data in records.items():
            file = folder / path(key)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)


def _head(chance: random.Random, number: int) -> Head:
    template = TemplateId(str(uuid.UUID(int=chance.getrandbits(128), version=4)))
    head = Head(template, f"template-{number:05}", Domain("main"), "arm64", size=_SIZE)
    for tag in range(_TAGS):
        entry = Entry(VersionId(f"{chance.getrandbits(128):032x}"), 0, f"v{tag}", "", _SIZE, 1_700_000_000 + number)
        head = head.add(entry, force=False, by="bench", keeps=0).wrote(f"{chance.getrandbits(128):032x}")
    return head


def _version(chance: random.Random, head: Head, entry: Entry) -> bytes:
    def digest() -> Digest:
        return Digest(hashlib.sha256(chance.randbytes(32)).hexdigest())

    sid = SessionId(entry.id)
    packs = tuple(PackUse(PackRef(sid, digest(), _PACK), _PACK - 1000) for _ in range(_SIZE // _PACK))
    disk = File("disk", Role.IMAGE, _SIZE, digest(), drive=0, map=MapRef(sid, digest(), 1024), packs=packs)
    config = File("config.yaml", Role.CONFIG, len(_CONFIG), bytes_digest(_CONFIG), inline=_CONFIG)
    files = (disk, config)
    return fmt.write_version(Version(entry.id, head.id, head.domain, sid, entry.created, {"name": "listed"}, files))


class Raw:
    """The LIST of all heads, in 16 parts at once by their first hex digit, unread: what no list can be faster than."""

    def __init__(self, endpoint: str, bucket: str) -> None:
        where = signing.target(endpoint, bucket.removeprefix("s3://"), path_style=True)
        access, secret = servers.KEYS
        self._signer = signing.Signer(signing.Credentials(access, secret, None), where, "us-east-1")
        self._http = urllib3.PoolManager(maxsize=len(_PARTS))
        self._pool = ThreadPoolExecutor(len(_PARTS))

    def parts(self) -> None:
        """All of them."""
        list(self._pool.map(self._part, _PARTS))

    def _part(self, digit: str) -> None:
        query = {"list-type": "2", "encoding-type": "url", "max-keys": "1000", "prefix": f"{fmt.HEADS}{digit}"}
        while True:
            url, headers = self._signer.request("", query, now=time.time())
            answer = self._http.request("GET", url, headers=headers, retries=False)
            if answer.status != 200:
                raise SystemExit(f"bench: a LIST was answered {answer.status}: {answer.data[:500]!r}")
            _, more, rest = answer.data.decode().partition("<NextContinuationToken>")
            if not more:
                return
            query["continuation-token"] = rest.partition("<")[0]


class Client:
    """One connection to a registry: it stays with one worker, whose caches it meets."""

    def __init__(self, url: str, made: Made) -> None:
        self._url = url
        self._http = urllib3.PoolManager(maxsize=1)
        self.made = made

    def ask(self, path: str) -> bytes:
        """The answer, whole."""
        answer = self._http.request("GET", f"{self._url}{path}", retries=False)
        if answer.status != 200:
            raise SystemExit(f"bench: {path} was answered {answer.status}: {answer.data[:500]!r}")
        return answer.data

    def list_has(self, name: str) -> None:
        """A list that has this name."""
        if f'"{name}"'.encode() not in self.ask(_LISTS["v2 list"]):
            raise SystemExit(f"bench: a list lacks {name}, which was written before it was asked for")


def _measured(
    client: Client, put: Callable[[str, bytes], None], raw: Callable[[], None] | None = None
) -> dict[str, list[float]]:
    """Milliseconds of each, by name; those that are warm take turns."""
    client.ask(f"/registry/v2/vm?id={client.made.heads[-1].id}")  # opens the store; its versions are not there
    found = {"cold": [_took(lambda: client.ask(_LISTS["v1 list"]))]}
    say(f"  cold: {found['cold'][0] / 1000:.1f} s")
    for path in _LISTS.values():
        client.ask(path)
        client.ask(path)
    for turn in range(_ROUNDS):
        described = client.made.heads[turn % _DESCRIBED]
        changed = replace(described, name=f"changed-{turn}").wrote("bench")
        if raw is not None:
            found.setdefault("raw", []).append(_took(raw))
        for name, path in _LISTS.items():
            found.setdefault(name, []).append(_took(functools.partial(client.ask, path)))
        path = f"/registry/v2/vm?id={described.id}"
        found.setdefault("detail", []).append(_took(functools.partial(client.ask, path)))
        put(fmt.head_key(changed.id), fmt.write_head(changed))
        found.setdefault("changed", []).append(_took(functools.partial(client.list_has, changed.name)))
        client.ask(_LISTS["v1 list"])
    return found


def _took(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1000


def _told(took: list[float]) -> str:
    return f"p50 {statistics.median(took):.0f} ms, {min(took):.0f}–{max(took):.0f}"


def _rows(about: str, found: dict[str, list[float]], goal: str, most: float) -> list[Row]:
    """What was measured; the warm lists have a goal, which is so many milliseconds."""
    out = []
    for name, told in _TOLD.items():
        if not (took := found.get(name)):
            continue
        middle = statistics.median(took)
        ratio = _ratio(took, found["raw"]) if "raw" in found and name != "raw" else ""
        text = f"p50 {middle:.0f} ms, {min(took):.0f}–{max(took):.0f}" if len(took) > 1 else f"{middle / 1000:.1f} s"
        met = middle <= most if name in _LISTS else None
        out.append(Row(f"{about}: {told}", text, ratio, "" if met is None else goal, met))
    return out


def _ratio(ours: list[float], theirs: list[float]) -> str:
    if len(ours) < len(theirs):
        return ""
    each = [one / other for one, other in zip(ours, theirs, strict=True)]
    return f"{statistics.median(ours) / statistics.median(theirs):.2f} × ({min(each):.2f}–{max(each):.2f})"
