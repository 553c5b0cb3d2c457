"""Commits that lie, one function each: an entry of a commit that its maps, packs or bases do not bear out.

Each is given the push that commits it and another one, both by hand (`push_calls.Push`), their sessions open.
"""

from __future__ import annotations

from dataclasses import replace

from registry.material import CHUNK, Placed, chunk, file_map, pack_bytes
from s3reg import wire
from s3reg.model import maps
from s3reg.model.packs import PackRef
from s3reg.model.template import bytes_digest


def placed(made, *words):
    """A pack of these chunks, uploaded; where each lies."""
    data, places = pack_bytes([chunk(word) for word in words])
    pack = PackRef(made.sid, made.put("pack", data), len(data))
    return [Placed(digest, pack, offset, length) for digest, offset, length in places]


def entry(made, found, **claim):
    """A disk of this map, which is uploaded; `claim`: what is said of it instead."""
    data = maps.encode(found)
    ref = {"sid": made.sid, "sha256": made.put("map", data), "size": len(data)}
    return {"name": "d", "role": "image", "size": found.size, "digest": found.digest(), "drive": 0, "map": ref} | claim


def foreign_pack(made, other):
    return entry(made, file_map(placed(other, "theirs")))


def pack_of_no_base(made, other):
    other.commit()
    plan = wire.read(wire.PlanAnswerSchema, other.call("GET", f"/plan?ref={other.template}"))
    theirs = next(file for file in plan.files if file.role == "image")
    read = maps.decode(other.https[0].get(theirs.map.url).data, size=theirs.size)
    return entry(made, read)


def foreign_map(made, other):
    return entry(other, file_map(placed(other, "theirs")))


def no_such_pack(made, other):
    (one,) = placed(made, "a")
    return entry(made, file_map([replace(one, pack=replace(one.pack, sha256="0" * 64))]))


def pack_of_another_size(made, other):
    (one,) = placed(made, "a")
    return entry(made, file_map([replace(one, pack=replace(one.pack, size=one.pack.size + 1))]))


def size_of_the_file(made, other):
    return entry(made, file_map(placed(made, "a")), size=CHUNK + 1)


def size_beyond_reason(made, other):
    return entry(made, file_map(placed(made, "a")), size=1 << 50)


def digest_of_the_file(made, other):
    return entry(made, file_map(placed(made, "a")), digest="0" * 64)


def offset_between_frames(made, other):
    one, _ = placed(made, "a", "b")
    return entry(made, file_map([replace(one, offset=1, length=one.length - 1)]))


def offset_behind_the_pack(made, other):
    (one,) = placed(made, "a")
    return entry(made, file_map([replace(one, offset=1 << 30)]))


def length_of_a_frame(made, other):
    (one,) = placed(made, "a")
    return entry(made, file_map([replace(one, length=one.length + 1)]))


def no_such_map(made, other):
    ref = {"sid": made.sid, "sha256": "0" * 64, "size": 100}
    return {"name": "d", "role": "image", "size": CHUNK, "digest": "0" * 64, "drive": 0, "map": ref}


def no_map_at_all(made, other):
    ref = {"sid": made.sid, "sha256": made.put("map", b"no map at all"), "size": 13}
    return {"name": "d", "role": "image", "size": CHUNK, "digest": "0" * 64, "drive": 0, "map": ref}


def inline_bytes(made, other):
    return {"name": "d", "role": "image", "size": 1, "digest": bytes_digest(b"other"), "drive": 0, "inline": "YQ=="}


LIES = [
    foreign_pack, pack_of_no_base, foreign_map, no_such_pack, pack_of_another_size, size_of_the_file, size_beyond_reason,
    digest_of_the_file, offset_between_frames, offset_behind_the_pack, length_of_a_frame, no_such_map, no_map_at_all,
    inline_bytes,
]  # fmt: skip
