"""The records on the store: what a release wrote once is read for ever, and what is no record is said to be damage."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3reg.errors import FormatUnknown, NameInvalid, RecordDamaged
from s3reg.model import format as records
from s3reg.model import format_access
from s3reg.model.access import ApiKey, Group
from s3reg.model.bounded import LARGEST_RECORD, MOST_ENTRIES
from s3reg.model.format import StoreFormat
from s3reg.model.identity import Action
from s3reg.model.names import Digest, Domain, SessionId, TemplateId, VersionId
from s3reg.model.packs import LARGEST_PACK, PackRef
from s3reg.model.template import (
    Base,
    Entry,
    Event,
    EventKind,
    File,
    Head,
    MapRef,
    Marker,
    PackUse,
    Role,
    Session,
    SessionState,
    Version,
    bytes_digest,
)

GOLDEN = Path(__file__).parent.parent / "golden"
TEMPLATE = TemplateId("0f8fad5b-d9cb-469f-a165-70867728950e")
OTHER = TemplateId("7c9e6679-7425-40de-944b-e07fc1f90ae7")
V0, V1, V2 = (VersionId(f"{number:032x}") for number in (0xA0, 0xA1, 0xA2))
SID, SID2 = SessionId("0" * 31 + "1"), SessionId("0" * 31 + "2")
D1, D2, D3 = (Digest(letter * 64) for letter in "abc")
CONFIG = "name: bäse\n".encode()

STORE = StoreFormat("5d1c…ä", "https://s3.example/bucket", frozenset({"b", "a"}), frozenset(), frozenset({"packs-2"}))
HEAD = Head(
    id=TEMPLATE,
    name="macOS 14 — bäse",
    domain="main",
    arch="arm64",
    gen=7,
    operations=("op-1", "op-2"),
    size=123_456_789_012,
    versions=(
        Entry(V0, 0, "v1", "", 1, 1_700_000_000),
        Entry(V2, 3, "team/blue 👩‍🔧", "two\nlines", 2, 1_700_000_300, unknown={"pinned": [True]}),
    ),
    removed=(Entry(V1, 3, "team/blue 👩‍🔧", "", 2, 1_700_000_200, 1_700_000_300, "jo", 1_700_604_800),),
    unknown={"labels": {"team": "blue"}, "later": None},
)
VERSION = Version(
    id=V2,
    template=TEMPLATE,
    domain="main",
    session=SID,
    created=1_700_000_300,
    config={"name": "bäse", "hard_drives": [{"file": "disk.ank"}], "x": None},
    files=(
        File("bäse.yaml", Role.CONFIG, len(CONFIG), bytes_digest(CONFIG), inline=CONFIG),
        File("empty", Role.EXTRA, 0, bytes_digest(b""), inline=b""),
        File("base.ank", Role.IMAGE, 1 << 40, D1, 0, None, None, MapRef(SID2, D2, 335), ()),
        File("disk.ank", Role.IMAGE, 5, D2, 0, "base.ank", None, MapRef(SID, D3, 99),
             (PackUse(PackRef(SID, D1, LARGEST_PACK), 70), PackUse(PackRef(SID2, D2, 9), 0))),
        File("ram.ank", Role.STATE, 5, D3, None, "disk.ank", None, MapRef(SID, D1, 99),
             (PackUse(PackRef(SID, D1, 100), 100),)),
    ),
)  # fmt: skip
SESSION = Session(
    id=SID,
    state=SessionState.OPEN,
    owner="jo",
    template=TEMPLATE,
    version=V2,
    domain="main",
    bases=(Base(TEMPLATE, V0), Base(OTHER, V1)),
    usable=(Base(TEMPLATE, V0),),
    limit=1 << 41,
    signed=12,
    opened=None,
    unknown={"later": {"a": [1, 2.5, "x"]}},
)
MARKER = Marker(
    "gc-1",
    frozenset({("main", SID, D1), ("main", SID2, D2)}),
    frozenset({("team-1", SID, D3)}),
    frozenset({(TEMPLATE, V1)}),
)
EVENTS = (
    Event("a" * 32, 1_700_000_000, EventKind.AUDIT, "key:ci — 🔑", {"deed": "push", "tag": "v1", "status": 200}),
    Event(
        "b" * 32, 1_700_000_001, EventKind.REPORT, "everyone", {"content": 'it "works"\nä', "host": None, "up": True}
    ),
)
SECRET = bytes(range(32))
API_KEY = ApiKey(
    id="ci — 🔑",
    serial="5" * 32,
    public_key=bytes(range(256)),
    groups=("nodes", "team blue"),
    created=1_700_000_000.123456,
    expires=1_800_000_000.0,
    gen=3,
    unknown={"note": {"by": "jo"}},
)
GROUP = Group(
    name="team blue",
    permissions=frozenset({"list_vms", "pull_vm", "of a later release"}),
    templates={OTHER: frozenset(), TEMPLATE: frozenset({Action.PULL, Action.LIST})},
    domains={Domain("main"): frozenset({Action.LIST}), Domain("team-1"): frozenset(Action)},
    gen=12,
    unknown={"later": [None]},
)

RECORDS = {
    "format": (STORE, records.write_format, records.read_format),
    "head": (HEAD, records.write_head, lambda data: records.read_head(data, TEMPLATE)),
    "version": (VERSION, records.write_version, lambda data: records.read_version(data, TEMPLATE, V2)),
    "session": (SESSION, records.write_session, lambda data: records.read_session(data, SID)),
    "marker": (MARKER, records.write_marker, records.read_marker),
    "events": (EVENTS, records.write_events, lambda data: records.read_events(data, "events/x")),
    "signing": (SECRET, format_access.write_signing, format_access.read_signing),
    "api-key": (
        API_KEY,
        format_access.write_api_key,
        lambda data: format_access.read_api_key(data, format_access.api_key_key(API_KEY.id)),
    ),
    "group": (
        GROUP,
        format_access.write_group,
        lambda data: format_access.read_group(data, format_access.group_key(GROUP.name)),
    ),
}
every_record = pytest.mark.parametrize("name", RECORDS)


def golden(name):
    return (GOLDEN / f"{name}-v1.json").read_bytes()


@every_record
def test_a_record_of_the_first_release_is_read_for_ever(name):
    value, _, read = RECORDS[name]
    assert read(golden(name)) == value


@every_record
def test_a_record_is_written_as_in_the_first_release(name):
    value, write, _ = RECORDS[name]
    assert write(value) == golden(name)


@every_record
def test_a_record_of_a_later_version_is_refused_as_unknown(name):
    raw = json.loads(golden(name))
    for version in (2, 0, 99):
        raw["format" if name == "format" else "v"] = version
        with pytest.raises(FormatUnknown):
            RECORDS[name][2](json.dumps(raw).encode())


# --- Damage ---


def places(raw, path=()):
    """Every place in a JSON value, as the way to it."""
    items = raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def changed(raw, path, change):
    """A copy of `raw` in which `change(container, key)` was done at `path`."""
    raw = json.loads(json.dumps(raw))
    here = raw
    for key in path[:-1]:
        here = here[key]
    change(here, path[-1])
    return raw


FREE = {
    "head": {"labels", "later"},
    "session": {"later"},
    "version": {"config"},
    "api-key": {"note"},
    "group": {"later"},
}
"""Fields of the records below which anything is good."""
BY_NAME = {("templates",), ("domains",), ("events", 0, "said"), ("events", 1, "said")}
"""Objects of as many fields as there happen to be."""
WRONG = [
    None,
    True,
    False,
    -1,
    0,
    1,
    1.5,
    1 << 60,
    10**30,
    "",
    "x",
    "../x",
    "\0",
    "\ud800",
    "x" * 5000,
    [],
    [[]],
    [1, 2],
    {},
    {"a": 1},
]


def checked_places(name):
    raw = json.loads(golden(name))
    return raw, [
        path
        for path in places(raw)
        if path[0] not in FREE.get(name, ()) and path[-1] != "pinned" and "pinned" not in path
    ]


@every_record
def test_a_record_without_any_one_of_its_fields_is_damage(name):
    raw, paths = checked_places(name)
    for path in paths:
        if isinstance(path[-1], str) and path[:-1] not in BY_NAME:
            with pytest.raises(RecordDamaged):
                RECORDS[name][2](json.dumps(changed(raw, path, lambda here, key: here.pop(key))).encode())


@every_record
def test_a_field_of_another_type_is_damage_or_is_kept_as_it_is(name):
    _, write, read = RECORDS[name]
    raw, paths = checked_places(name)
    said = []
    for path in paths:
        for wrong in WRONG:
            bad = changed(raw, path, lambda here, key, wrong=wrong: here.__setitem__(key, wrong))
            try:
                value = read(json.dumps(bad).encode())
            except RecordDamaged as e:
                said.append(str(e))
                continue
            except FormatUnknown:
                assert path in {("v",), ("format",)}
                assert isinstance(wrong, int)
                continue
            assert canonical(write(value)) == canonical(json.dumps(bad)), (path, wrong)
    assert len(said) > len(paths) * len(WRONG) / 2
    assert max(map(len, said)) < 1000
    "".join(said).encode()


SETS = {"packs", "maps", "versions", "read", "write", "sweep", "permissions"}


def canonical(data):
    """A record's JSON value in which the order of what is a set does not count, and an integer is no truth."""

    def sets(value):
        if isinstance(value, dict):
            return {
                key: sorted(map(repr, inner)) if key in SETS
                and isinstance(inner, list) else sets(inner)
                for key, inner in value.items()
            }  # fmt: skip
        return [sets(inner) for inner in value] if isinstance(value, list) else repr(value)

    return sets(json.loads(data))


@every_record
@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b"1", b"null", b'"x"', b"\xff\xfe", b"\0", b"{}", b'{"v":1}', b'{"v":1}x', b"[" * 100_000,
        b'{"a":' * 100_000, b'{"v":' + b"9" * 10_000 + b"}", b'{"v":1,"a":"\\ud8', "{}".encode("utf-16"), b'{"v": NaN}',
    ],
    ids=lambda data: repr(data[:12]),
)  # fmt: skip
def test_what_is_no_record_is_damage(name, data):
    with pytest.raises(RecordDamaged):
        RECORDS[name][2](data)


@every_record
def test_any_truncation_is_damage(name):
    data = golden(name)
    for length in range(len(data)):
        with pytest.raises(RecordDamaged):
            RECORDS[name][2](data[:length])


@every_record
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_flipped_byte_is_damage_or_another_record(name, at, flip):
    data = bytearray(golden(name))
    data[at % len(data)] ^= flip
    try:
        value = RECORDS[name][2](bytes(data))
    except (RecordDamaged, FormatUnknown):
        return
    assert RECORDS[name][2](RECORDS[name][1](value)) == value


def damaged_head(raw, reason="because"):
    return records.read_damaged_head(json.dumps(raw).encode(), TEMPLATE, reason)


def test_s20_of_a_damaged_head_the_versions_before_the_damage_keep_their_numbers():
    raw = json.loads(golden("head"))
    bad = changed(raw, ("versions", 1, "size"), lambda here, key: here.pop(key))
    found = damaged_head(bad)
    assert (found.id, found.name, found.arch, found.size) == (TEMPLATE, HEAD.name, HEAD.arch, HEAD.size)
    assert (found.versions, found.removed, found.damaged) == (HEAD.versions[:1], (), "because")
    found = damaged_head(changed(raw, ("size",), lambda here, key: here.__setitem__(key, "9")))
    assert (found.size, found.versions) == (0, HEAD.versions)


def test_s20_a_damaged_head_is_shown_if_it_tells_its_name_and_no_damage_is_too_bad_to_tell_so():
    raw, paths = checked_places("head")
    for path in paths:
        for wrong in WRONG:
            found = damaged_head(changed(raw, path, lambda here, key, wrong=wrong: here.__setitem__(key, wrong)))
            if path[0] not in {"v", "id", "name"}:
                assert found.name == HEAD.name, (path, wrong)
                assert [one.id for one in found.versions] == [one.id for one in HEAD.versions][: len(found.versions)]
    for data in (b"", b"{", b"[" * 100_000, b'{"v":1}', b"null", golden("head")[:-1], golden("session")):
        assert records.read_damaged_head(data, TEMPLATE, "because") is None


def test_a_hostile_depth_inside_a_record_is_damage():
    for name in ("head", "session", "version", "api-key", "group"):
        deep = golden(name)[:-1] + b',"deep":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
        with pytest.raises(RecordDamaged):
            RECORDS[name][2](deep)


def test_a_record_larger_than_any_is_not_read():
    with pytest.raises(RecordDamaged):
        records.read_head(golden("head") + b" " * LARGEST_RECORD, TEMPLATE)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_a_number_that_json_does_not_have_is_damage_not_a_record_that_cannot_be_written(number):
    for name in ("head", "session", "version"):
        with pytest.raises(RecordDamaged):
            RECORDS[name][2](golden(name)[:-1] + b',"later2":' + number.encode() + b"}")


def test_a_record_is_for_what_it_was_asked_for():
    with pytest.raises(RecordDamaged):
        records.read_head(golden("head"), OTHER)
    with pytest.raises(RecordDamaged):
        records.read_version(golden("version"), OTHER, V2)
    with pytest.raises(RecordDamaged):
        records.read_version(golden("version"), TEMPLATE, V1)
    with pytest.raises(RecordDamaged):
        records.read_session(golden("session"), SID2)


@pytest.mark.parametrize(
    ("name", "path", "wrong"),
    [
        ("head", ("versions", 0, "seq"), 4),
        ("head", ("removed", 0, "until"), 1_700_000_299),
        ("head", ("versions", 1, "tag"), "v1"),
        ("head", ("id",), TEMPLATE.upper()),
        ("version", ("files", 0, "size"), 5),
        ("version", ("files", 0, "inline"), "not base64!"),
        ("version", ("files", 0, "map"), {"sid": SID, "sha256": D1, "size": 1}),
        ("version", ("files", 2, "inline"), ""),
        ("version", ("files", 3, "packs", 0, 2), LARGEST_PACK + 1),
        ("version", ("files", 3, "packs", 0, 2), 0),
        ("version", ("files", 3, "packs", 1, 3), 10),
        ("version", ("files", 0, "name"), "../x"),
        ("head", ("gen",), -1),
        ("head", ("size",), (1 << 53) + 1),
        ("session", ("limit",), 1 << 64),
        ("session", ("signed",), True),
        ("version", ("created",), -1),
        ("signing", ("secret",), "AAAA"),
        ("api-key", ("id",), "ci"),
        ("api-key", ("public_key",), ""),
        ("api-key", ("public_key",), "A" * 12_000),
        ("api-key", ("groups", 0), "e\u0301"),
        ("api-key", ("expires",), 1 << 54),
        ("group", ("name",), "team"),
        ("group", ("templates",), {TEMPLATE.upper(): []}),
        ("group", ("templates",), {TEMPLATE: ["fly"]}),
        ("group", ("templates",), {TEMPLATE: {"list": True}}),
        ("group", ("domains",), {"Main": []}),
        ("format", ("features", "read"), "abc"),
    ],
)  # fmt: skip
def test_a_field_that_does_not_fit_the_others_is_damage(name, path, wrong):
    bad = changed(json.loads(golden(name)), path, lambda here, key: here.__setitem__(key, wrong))
    with pytest.raises(RecordDamaged):
        RECORDS[name][2](json.dumps(bad).encode())


def test_a_removed_version_says_when_by_whom_and_until_when():
    for field in ("removed", "removed_by", "until"):
        bad = changed(json.loads(golden("head")), ("removed", 0, field), lambda here, key: here.pop(key))
        with pytest.raises(RecordDamaged):
            RECORDS["head"][2](json.dumps(bad).encode())


def test_lists_have_a_longest_length():
    for name, path in (("head", ("ops",)), ("session", ("bases",)), ("version", ("files",)), ("marker", ("packs",))):
        raw = json.loads(golden(name))
        one = raw[path[0]][0]
        bad = changed(raw, path, lambda here, key, one=one: here.__setitem__(key, [one] * (MOST_ENTRIES + 1)))
        with pytest.raises(RecordDamaged, match="too long"):
            RECORDS[name][2](json.dumps(bad).encode())


def test_a_damaged_secret_is_not_quoted():
    raw = json.loads(golden("signing"))
    secret = raw["secret"]
    for bad in (raw | {"secret": secret[:-5]}, raw | {"secret": secret + "!"}, raw | {"secret": [secret]}):
        with pytest.raises(RecordDamaged) as damaged:
            format_access.read_signing(json.dumps(bad).encode())
        assert secret[:8] not in str(damaged.value)
        assert secret[:8] not in str(damaged.value.detail)


# --- Fields of a newer release ---


@pytest.mark.parametrize("name", ["head", "session", "api-key", "group"])
def test_unknown_fields_of_a_mutable_record_are_kept(name):
    _, write, read = RECORDS[name]
    raw = json.loads(golden(name)) | {"new": {"deep": [1, "ä", None, 1e300, "\ud800"]}, "v2": 0}
    assert json.loads(write(read(json.dumps(raw).encode()))) == raw


def test_unknown_fields_of_an_entry_are_kept_too():
    raw = json.loads(golden("head"))
    raw["versions"][0]["pinned_until"] = 5
    raw["removed"][0]["why"] = {"a": "b"}
    head = RECORDS["head"][2](json.dumps(raw).encode())
    assert json.loads(records.write_head(head)) == raw
    forced = head.add(Entry(V1, 0, "v1", "", 0, 0), force=True, by="x", keeps=0)
    assert json.loads(records.write_head(forced))["removed"][1]["pinned_until"] == 5


def test_an_unknown_field_never_takes_the_place_of_a_known_one():
    session = Session(
        **{name: getattr(SESSION, name) for name in Session.__slots__} | {"unknown": {"state": "expired", "v": 9}}
    )
    assert records.read_session(records.write_session(session), SID).state is SessionState.OPEN


def test_unknown_fields_of_an_immutable_record_do_not_matter():
    for name in ("version", "marker", "format", "signing"):
        value, _, read = RECORDS[name]
        assert read(json.dumps(json.loads(golden(name)) | {"new": [1]}).encode()) == value


# --- Keys ---


def test_keys_are_derived_as_the_format_says():
    assert [
        records.FORMAT_KEY,
        format_access.SIGNING_KEY,
        records.head_key(TEMPLATE),
        records.version_key(TEMPLATE, V0),
        records.map_key("main", SID, D1),
        records.pack_key("team-1", SID, D1),
        records.packs_prefix("main", SID),
        records.session_key(SID),
        records.pull_key(TEMPLATE, V0),
        records.damaged_key(SID, D1),
    ] == [
        "format.json",
        "auth/signing.json",
        f"heads/{TEMPLATE}.json",
        f"versions/{TEMPLATE}/{V0}.json",
        f"maps/main/{SID}/{D1}",
        f"packs/team-1/{SID}/{D1}",
        f"packs/main/{SID}/",
        f"sessions/{SID}.json",
        f"pulls/{TEMPLATE}/{V0}",
        f"damaged/{SID}/{D1}",
    ]


def test_every_key_lies_under_the_prefix_of_its_kind():
    assert records.head_key(TEMPLATE).startswith(records.HEADS)
    assert records.version_key(TEMPLATE, V0).startswith(records.VERSIONS)
    assert records.map_key("main", SID, D1).startswith(records.MAPS)
    assert records.pack_key("main", SID, D1).startswith(records.packs_prefix("main", SID))
    assert records.packs_prefix("main", SID).startswith(records.PACKS)
    assert records.session_key(SID).startswith(records.SESSIONS)
    assert records.pull_key(TEMPLATE, V0).startswith(records.PULLS)
    assert records.damaged_key(SID, D1).startswith(records.DAMAGED)


def test_a_damaged_key_tells_its_pack():
    assert records.pack_of_damaged_key(records.damaged_key(SID, D1)) == (SID, D1)
    for foreign in ("damaged/.DS_Store", f"damaged/{D1}", f"damaged/{SID}/{D1}/x", f"damaged/{SID}/"):
        with pytest.raises(NameInvalid):
            records.pack_of_damaged_key(foreign)


def test_a_heads_key_tells_its_template():
    assert records.template_of_head_key(records.head_key(TEMPLATE)) == TEMPLATE


@pytest.mark.parametrize(
    "key",
    [
        "", "heads/", f"heads/{TEMPLATE}", f"heads/{TEMPLATE.upper()}.json", f"heads/{TEMPLATE.replace('-', '')}.json",
        f"{TEMPLATE}.json", f"heads/x/{TEMPLATE}.json", f"heads/heads/{TEMPLATE}.json", f"heads/{TEMPLATE}.json.json",
        f"versions/{TEMPLATE}.json", f"heads/{{{TEMPLATE}}}.json", "heads/x.json",
    ],
)  # fmt: skip
def test_a_foreign_key_under_heads_is_no_heads(key):
    with pytest.raises(NameInvalid):
        records.template_of_head_key(key)
