"""A push by hand: every call of the native API as a node makes it, through Flask's test clients."""

from __future__ import annotations

import array
import base64
import hashlib
from dataclasses import dataclass, field

import zstandard

from s3reg.model import maps, packs
from s3reg.model.chunks import CHUNK_LOG2, chunk_digest
from s3reg.model.names import Digest, SessionId
from s3reg.model.template import bytes_digest

TEMPLATE = "11111111-aaaa-4bbb-8ccc-000000000001"
API = "/transfer/v1"


@dataclass
class Layer:
    """A disk layer or state as a node would push it."""

    name: str
    data: bytes
    parent: str | None = None
    drive: int | None = 0
    role: str = "image"


@dataclass
class Push:
    """One push, call by call. `http`s: the clients that its calls go to, in turn."""

    https: list
    tag: str = "v1"
    template: str = TEMPLATE
    name: str = "13.1-base"
    layers: list = field(default_factory=lambda: [Layer("a" * 32 + ".ank", b"disk" * 100_000)])
    config: bytes = b"name: base\nuuid: 11111111-aaaa-4bbb-8ccc-000000000001\nram: 4G\nnvram: true\n"
    sid: str = ""
    calls: int = 0

    def call(self, method, path, body=None, expect=200):
        http = self.https[self.calls % len(self.https)]
        self.calls += 1
        answer = http.open(API + path, method=method, json=body)
        assert answer.status_code == expect, answer.text
        return answer.json

    def open(self, **more):
        body = {"template": self.template, "name": self.name, "tag": self.tag, **more}
        answer = self.call("POST", "/sessions", body, 201)
        self.sid = answer["session"]
        return answer

    def put(self, kind, data):
        """Upload an object as a node does."""
        sha256 = hashlib.sha256(data).hexdigest()
        asked = {"objects": [{"kind": kind, "sha256": sha256, "size": len(data)}]}
        (link,) = self.call("POST", f"/sessions/{self.sid}/uploads", asked)["links"]
        answer = self.https[0].put(link["url"], data=data, headers=link["headers"])
        assert answer.status_code == 200, answer.text
        return sha256

    def upload(self, layer):
        """The entry of the layer in a commit, after its pack and its map were sent."""
        step = 1 << CHUNK_LOG2
        chunks = [layer.data[start : start + step] for start in range(0, len(layer.data), step)]
        frames = [zstandard.ZstdCompressor(level=3).compress(chunk) for chunk in chunks]
        lengths = array.array("I", map(len, frames))
        body = b"".join(frames) + packs.seek_table(lengths, array.array("I", map(len, chunks)))
        pack = packs.PackRef(SessionId(self.sid), Digest(self.put("pack", body)), len(body))
        digests = b"".join(map(chunk_digest, chunks))
        runs = (maps.Run(len(chunks), 0, 0),)
        found = maps.FileMap(len(layer.data), CHUNK_LOG2, (pack,), runs, lengths, digests)
        encoded = maps.encode(found)
        return {
            "name": layer.name,
            "role": layer.role,
            "size": len(layer.data),
            "digest": found.digest(),
            "drive": layer.drive,
            "parent": layer.parent,
            "map": {"sid": self.sid, "sha256": self.put("map", encoded), "size": len(encoded)},
        }

    def files(self):
        """The entries of a commit, after everything was sent."""
        config = {
            "name": f"{self.template}.yaml",
            "role": "config",
            "size": len(self.config),
            "digest": bytes_digest(self.config),
            "inline": base64.b64encode(self.config).decode(),
        }
        return [config, *map(self.upload, self.layers)]

    def commit(self, files=None, **more):
        body = {"tag": self.tag, "name": self.name, "files": self.files() if files is None else files, **more}
        return self.call("POST", f"/sessions/{self.sid}/commit", body)

    def run(self):
        self.open()
        return self.commit()


def link_to_put(web, url, size):
    """A session at the registry of this address, and a link for a pack of so many zeros."""
    body = {"template": TEMPLATE, "name": "base", "tag": "v1"}
    sid = web.request("POST", f"{url}{API}/sessions", json=body).json()["session"]
    asked = {"objects": [{"kind": "pack", "sha256": hashlib.sha256(bytes(size)).hexdigest(), "size": size}]}
    (link,) = web.request("POST", f"{url}{API}/sessions/{sid}/uploads", json=asked).json()["links"]
    return link
