"""The registry's own part: how long a pull's plan takes, and how few bytes pass through the API."""

from __future__ import annotations

import hashlib
import random
import statistics
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import urllib3

from bench import measure, servers
from bench.corpus import MIB, say
from bench.table import Row
from s3reg import wire
from s3reg.model import format as fmt
from s3reg.model.names import Digest, Domain, SessionId, TemplateId, VersionId
from s3reg.model.packs import PackRef
from s3reg.model.template import Entry, File, Head, MapRef, PackUse, Role, Version, bytes_digest

if TYPE_CHECKING:
    from bench.lab import Lab

_SIZE = 60 * 10**9
_PACK = 32 * MIB
_CALLS = 600
_CALLERS = 4
_CONFIG = b"name: large\nhard_drives:\n- file: disk\n"


def plan(lab: Lab) -> list[Row]:
    """The plan of 60 GB that do not compress, asked for many times: by one caller, then by several at once."""
    say(f"  templates of {_SIZE / 10**9:.0f} GB in {_SIZE // _PACK} packs, by their records; {_CALLS} calls, twice")
    bucket = lab.minio.bucket(lab.new("plans"))
    templates = [TemplateId(str(uuid.uuid4())) for _ in range(2)]
    with lab.registry_on(bucket) as url, urllib3.PoolManager(maxsize=_CALLERS) as http:
        for template in templates:
            _records(lab, bucket, template)

        def ask(template: TemplateId, headers: dict[str, str] | None = None) -> tuple[float, int]:
            began = time.perf_counter()
            path = f"{url}{wire.PREFIX}/plan"
            answer = http.request("GET", path, fields={"ref": template}, headers=headers, retries=False)
            took = time.perf_counter() - began
            if answer.status != 200:
                raise SystemExit(f"bench: a plan was answered {answer.status}: {answer.data[:500]!r}")
            return took, len(answer.data)

        with ThreadPoolExecutor(_CALLERS) as callers:
            # A worker's first call opens the store and reads the version.
            list(callers.map(ask, templates * _CALLERS))
            # Two in turn: a plan that was asked for a moment ago would come from memory.
            alone = [ask(template) for template in templates * (_CALLS // 2)]
            # Each over a connection of its own, as nodes come: one that stays belongs to one worker.
            at_once = list(callers.map(ask, templates[:1] * _CALLS, [{"Connection": "close"}] * _CALLS))
    return [
        _row("pull plan of a 60 GB template", alone),
        _row(f"pull plan of a 60 GB template, {_CALLERS} callers at once", at_once),
    ]


def _row(name: str, calls: list[tuple[float, int]]) -> Row:
    took = [seconds * 1000 for seconds, _ in calls]
    percentiles = statistics.quantiles(took, n=100)
    p50, p99 = percentiles[49], percentiles[98]
    told = f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, slowest {max(took):.0f} ms; {calls[-1][1] / 1000:.0f} kB"
    return Row(name, told, "", "p99 < 50 ms", p99 < 50)


def shares(lab: Lab) -> list[Row]:
    """Bytes through the API for a push and a pull, counted on its connections, beside those to and from the store."""
    with servers.counting(lab.registry) as counted:
        node, other = lab.node(counted.url).has(lab.corpus.base), lab.node(counted.url)
        told = node.push("v1").answer
        pushed, counted.bytes = counted.bytes, 0
        sent = int(told["body"]["sent"])
        other.pull(node.vm, "v1")
        pulled = counted.bytes
    node.forget()
    other.forget()
    lab.clear_store()
    return [
        Row(
            f"{name}: bytes through the API",
            f"{api / 1000:.0f} kB for {sent / 10**6:.0f} MB of packs and maps",
            f"{api / sent:.3%}",
            "< 0.1 %",
            api < sent / 1000,
        )
        for name, api in (("push", pushed), ("pull", pulled))
    ]


def _records(lab: Lab, bucket: str, template: TemplateId) -> None:
    """A head and a version as a push of such a disk leaves them; a plan reads nothing else."""
    sid, vid, domain = SessionId(uuid.uuid4().hex), VersionId(uuid.uuid4().hex), Domain("main")
    chance = random.Random(1)

    def digest() -> Digest:
        return Digest(hashlib.sha256(chance.randbytes(32)).hexdigest())

    packs = tuple(PackUse(PackRef(sid, digest(), _PACK), _PACK - 1000) for _ in range(_SIZE // _PACK))
    disk = File("disk", Role.IMAGE, _SIZE, digest(), drive=0, map=MapRef(sid, digest(), 8 * MIB), packs=packs)
    config = File("config.yaml", Role.CONFIG, len(_CONFIG), bytes_digest(_CONFIG), inline=_CONFIG)
    version = Version(vid, template, domain, sid, int(time.time()), {"name": "large"}, (disk, config))
    head = Head(template, "large", domain).wrote("bench")
    listed = head.add(Entry(vid, 0, "v1", "", _SIZE, version.created), force=False, by="bench", keeps=0)
    records = {
        fmt.version_key(template, vid): fmt.write_version(version),
        fmt.head_key(template): fmt.write_head(listed),
    }
    for key, data in records.items():
        file = lab.folder / "record.json"
        file.write_bytes(data)
        measure.run(lab.minio.s5cmd("cp", file, f"{bucket}/{key}"), servers.environment())
