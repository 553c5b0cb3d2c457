"""What lies under `auth/`: keys made of digests, records that come back as they were, and what is left of damaged ones."""

import hashlib
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3reg.errors import AccessRecordDamaged, FormatUnknown, NameInvalid
from s3reg.model import format_access as fmt
from s3reg.model import names
from s3reg.model.access import ApiKey, Group
from s3reg.model.bounded import RECORD_VERSION
from s3reg.model.identity import Action
from s3reg.store import check_key


def is_taken(parse, text):
    try:
        return parse(text) == text
    except NameInvalid:
        return False


ids = st.text(min_size=1, max_size=128).filter(lambda text: is_taken(names.key_id, text))
group_names = st.text(min_size=1, max_size=128).filter(lambda text: is_taken(names.group_name, text))
moments = st.floats(0, fmt.LATEST, allow_nan=False)
actions = st.frozensets(st.sampled_from(Action))
unknown = st.dictionaries(st.just("later"), st.none() | st.booleans() | st.text(max_size=5) | st.lists(st.integers()))
api_keys = st.builds(
    ApiKey,
    id=ids,
    serial=st.integers(0, (1 << 128) - 1).map(lambda number: f"{number:032x}"),
    public_key=st.binary(min_size=1, max_size=600),
    groups=st.lists(group_names, max_size=4).map(tuple),
    created=moments,
    expires=st.none() | moments,
    gen=st.integers(0, 1 << 53),
    deleted=st.booleans(),
    unknown=unknown,
)
groups = st.builds(
    Group,
    name=group_names,
    permissions=st.frozensets(st.text(max_size=20), max_size=5),
    templates=st.none() | st.dictionaries(st.uuids().map(str), actions, max_size=4),
    domains=st.dictionaries(st.from_regex(r"[a-z0-9][a-z0-9-]{0,10}", fullmatch=True), actions, max_size=4),
    gen=st.integers(0, 1 << 53),
    deleted=st.booleans(),
    unknown=unknown,
)


@given(api_keys)
def test_an_api_key_comes_back_as_it_was(key):
    assert fmt.read_api_key(fmt.write_api_key(key), fmt.api_key_key(key.id)) == key


@given(groups)
def test_a_group_comes_back_as_it_was(group):
    assert fmt.read_group(fmt.write_group(group), fmt.group_key(group.name)) == group


@given(ids)
def test_an_id_never_becomes_part_of_a_key(text):
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert check_key(fmt.api_key_key(text)) == f"auth/keys/{digest}.json"
    assert check_key(fmt.group_key(text)) == f"auth/groups/{digest}.json"
    assert fmt.is_ours(fmt.api_key_key(text))
    assert fmt.is_ours(fmt.group_key(text))


def test_keys_are_derived_as_the_format_says():
    assert fmt.SIGNING_KEY == "auth/signing.json"
    assert fmt.spent_key(1_700_000_000.9, "ab12") == "auth/spent/2023111422/ab12"
    assert fmt.spent_key(1_700_002_799.999, "ab12") == "auth/spent/2023111422/ab12"
    assert fmt.spent_key(1_700_002_800.0, "ab12") == "auth/spent/2023111423/ab12"


@pytest.mark.parametrize(
    "key",
    ["auth/keys/.DS_Store", "auth/keys/" + "a" * 64, "auth/keys/" + "A" * 64 + ".json", "auth/keys/x.json",
     "auth/keys/" + "a" * 64 + ".json.bak", "auth/other/" + "a" * 64 + ".json", "auth/keys/a/" + "a" * 64 + ".json"],
)  # fmt: skip
def test_what_somebody_else_left_there_is_no_record_of_ours(key):
    assert not fmt.is_ours(key)


KEY = ApiKey("ci", "0" * 32, b"public", ("a",), 1.5, None)
GROUP = Group("team", frozenset({"index"}), {}, {}, gen=7)


def test_a_record_under_the_key_of_another_is_damage():
    with pytest.raises(AccessRecordDamaged):
        fmt.read_api_key(fmt.write_api_key(KEY), fmt.api_key_key("cj"))
    with pytest.raises(AccessRecordDamaged):
        fmt.read_group(fmt.write_group(GROUP), fmt.group_key("teams"))


@pytest.mark.parametrize(("spoil", "told"), [({"serial": 1}, True), ({"v": 2}, True), ({"id": "other"}, False)])
def test_of_a_damaged_key_the_id_is_left_or_where_it_lies_and_it_opens_nothing(spoil, told):
    where = fmt.api_key_key("ci")
    left = fmt.read_damaged_api_key(json.dumps(json.loads(fmt.write_api_key(KEY)) | spoil).encode(), where, "why")
    assert left.id == ("ci" if told else where)
    assert (left.damaged, left.groups, left.ended(0)) == ("why", (), True)
    for data in (b"", b"{", b"[]", b"null", b'{"id":5}', b"[" * 100_000, fmt.write_group(GROUP)):
        assert fmt.read_damaged_api_key(data, where, "why").id == where


@pytest.mark.parametrize(
    ("spoil", "left"), [({"domains": 1}, ("team", 7)), ({"v": 2}, ("team", 7)), ({"gen": "x"}, ("team", 0))]
)
def test_of_a_damaged_group_name_and_number_are_left_and_it_gives_nothing(spoil, left):
    where = fmt.group_key("team")
    found = fmt.read_damaged_group(json.dumps(json.loads(fmt.write_group(GROUP)) | spoil).encode(), where, "why")
    assert (found.name, found.gen) == left
    assert (found.damaged, found.permissions, found.templates, found.domains) == ("why", frozenset(), {}, {})
    for data in (b"", b"{", b"[]", b"null", b'{"name":5}', b"[" * 100_000, fmt.write_api_key(KEY)):
        assert fmt.read_damaged_group(data, where, "why").name == where


def test_a_record_of_a_later_release_is_not_read():
    for data, read, where in (
        (fmt.write_api_key(KEY), fmt.read_api_key, fmt.api_key_key("ci")),
        (fmt.write_group(GROUP), fmt.read_group, fmt.group_key("team")),
    ):
        later = re.sub(rb'"v":\d+', b'"v":%d' % (RECORD_VERSION + 1), data)
        with pytest.raises(FormatUnknown):
            read(later, where)


@pytest.mark.parametrize("parse", [names.key_id, names.group_name])
def test_ids_and_group_names_are_what_can_be_seen(parse):
    for text in ("ci", "Team Blue", "a:b/c", "ünï", "🔑", "x" * 128, "../../format", "cert:ci", "'; --"):
        assert parse(text) == text
    assert parse("e\u0301") == "é"
    blank = ("", " ", " ci", "ci ", "\u2028", "a\nb", "a\0")
    for text in (*blank, "\ud800", "a\u200bb", "\u202eic", "x" * 129, None, 5, b"ci"):
        with pytest.raises(NameInvalid):
            parse(text)


def test_those_who_have_no_key_lend_their_name_to_none():
    for text in ("root", "everyone"):
        with pytest.raises(NameInvalid):
            names.key_id(text)
        assert names.group_name(text) == text
