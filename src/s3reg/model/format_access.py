"""The on-store format of access control, v1: every key under `auth/`, and every record there as JSON.

    auth/signing.json                     the secret of signed links and logins
    auth/keys/<sha256 of id>.json         mutable, compare-and-swap: an API key
    auth/groups/<sha256 of name>.json     mutable, compare-and-swap: a group
    auth/spent/<yyyymmddhh>/<nonce>       empty: a login's secret that was used; of the hour in which it ended

Names from outside never become keys: their digests do. A key or group that was deleted stays as a record that says so,
because a delete has no precondition. What is said in model/format.py of versions, damage and unknown fields holds here too.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import time
from typing import TYPE_CHECKING, Any, TypeVar

from s3reg.errors import AccessRecordDamaged, RecordDamaged
from s3reg.model import names
from s3reg.model.access import ApiKey, Group
from s3reg.model.bounded import (
    MISSHAPEN,
    RECORD_VERSION,
    count,
    dump,
    entries,
    fields,
    load,
    reading,
    record,
    string,
    truth,
)
from s3reg.model.identity import Action

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from s3reg.model.names import Domain, TemplateId

N = TypeVar("N", bound=str)

SIGNING_KEY = "auth/signing.json"
AUTH = "auth/"
KEYS, GROUPS, SPENT = "auth/keys/", "auth/groups/", "auth/spent/"
LARGEST_ACCESS_RECORD = 16 * 1024**2
"""Bytes of the largest record here: a group of MOST_RESOURCES."""
SECRET_BYTES = 32
"""Of the signing secret, at least."""
MOST_GROUPS = 1000
"""Of a key."""
MOST_PERMISSIONS = 1000
"""Of a group; more than there are, because a later release may know others."""
MOST_RESOURCES = 50_000
"""Templates, or domains, of a group."""
LARGEST_PUBLIC_KEY = 8192
LATEST = 253_402_300_799
"""The last second of the year 9999: no calendar here has a later one."""

_OURS = re.compile(rf"({KEYS}|{GROUPS})[0-9a-f]{{64}}\.json")
_SPENT = re.compile(rf"{SPENT}[0-9]{{10}}/[0-9a-f]{{24}}")
_KEY_FIELDS = {"v", "gen", "id", "serial", "public_key", "groups", "created", "expires", "deleted"}
_GROUP_FIELDS = {"v", "gen", "name", "permissions", "templates", "domains", "deleted"}


# --- Keys ------------------------------------------------------------------------------------------------------------


def api_key_key(key_id: str) -> str:
    """Where an API key lies."""
    return f"{KEYS}{_digest(key_id)}.json"


def group_key(name: str) -> str:
    """Where a group lies."""
    return f"{GROUPS}{_digest(name)}.json"


def spent_key(end: float, nonce: str) -> str:
    """Whose presence says that a login's secret, which ends at `end` in seconds since 1970, was used."""
    return f"{SPENT}{time.strftime('%Y%m%d%H', time.gmtime(end))}/{nonce}"


def first_spent_key(moment: float) -> str:
    """What no key of a secret that ended in this hour, or later, is smaller than."""
    return spent_key(moment, "")


def is_spent_key(key: str) -> bool:
    """Whether `key` is of a login's secret."""
    return _SPENT.fullmatch(key) is not None


def is_ours(key: str) -> bool:
    """Whether a record of ours may lie at `key`, below KEYS or GROUPS."""
    return _OURS.fullmatch(key) is not None


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


# --- The signing secret ----------------------------------------------------------------------------------------------


def write_signing(secret: bytes) -> bytes:
    """`auth/signing.json`."""
    return dump({"v": RECORD_VERSION, "secret": base64.b64encode(secret).decode()})


def read_signing(data: bytes) -> bytes:
    """The secret of signed links and logins. What is wrong with the record is said without quoting it."""
    try:
        secret = base64.b64decode(string(record(data)["secret"]), validate=True)
    except (KeyError, TypeError, ValueError, RecursionError):
        raise RecordDamaged(what=SIGNING_KEY, reason="it holds no secret") from None
    if len(secret) < SECRET_BYTES:
        raise RecordDamaged(what=SIGNING_KEY, reason="its secret is too short")
    return secret


# --- API keys --------------------------------------------------------------------------------------------------------


def write_api_key(key: ApiKey) -> bytes:
    """An API key as it lies on the store."""
    return dump(
        {
            **key.unknown,
            "v": RECORD_VERSION,
            "gen": key.gen,
            "id": key.id,
            "serial": key.serial,
            "public_key": base64.b64encode(key.public_key).decode(),
            "groups": list(key.groups),
            "created": key.created,
            "expires": key.expires,
            "deleted": key.deleted,
        }
    )


def read_api_key(data: bytes, key: str) -> ApiKey:
    """The API key whose record lies at `key`. Raises AccessRecordDamaged, FormatUnknown."""
    with reading(f"the API key in {key}", AccessRecordDamaged):
        raw = record(data)
        key_id = _exact(names.key_id, raw["id"])
        if api_key_key(key_id) != key:
            raise ValueError("it is another key")
        public_key, deleted = base64.b64decode(string(raw["public_key"]), validate=True), truth(raw["deleted"])
        if len(public_key) > LARGEST_PUBLIC_KEY or not (public_key or deleted):
            raise ValueError("its public half has an impossible size")
        return ApiKey(
            id=key_id,
            serial=names.serial(raw["serial"]),
            public_key=public_key,
            groups=tuple(_exact(names.group_name, name) for name in entries(raw["groups"], MOST_GROUPS)),
            created=_time(raw["created"]),
            expires=None if raw["expires"] is None else _time(raw["expires"]),
            gen=count(raw["gen"]),
            deleted=deleted,
            unknown={name: value for name, value in raw.items() if name not in _KEY_FIELDS},
        )


def read_damaged_api_key(data: bytes, key: str, reason: str) -> ApiKey:
    """What is left of an API key that `read_api_key` refuses: its id, if the record tells that much, else where it lies."""
    try:
        key_id = names.key_id(load(data)["id"])
    except MISSHAPEN:
        key_id = ""
    if api_key_key(key_id) != key:
        key_id = key
    return ApiKey(key_id, "0" * 32, b"", (), 0.0, 0.0, damaged=reason)


# --- Groups ----------------------------------------------------------------------------------------------------------


def write_group(group: Group) -> bytes:
    """A group as it lies on the store."""
    return dump(
        {
            **group.unknown,
            "v": RECORD_VERSION,
            "gen": group.gen,
            "name": group.name,
            "permissions": sorted(group.permissions),
            "templates": None if group.templates is None else _actions_json(group.templates),
            "domains": _actions_json(group.domains),
            "deleted": group.deleted,
        }
    )


def read_group(data: bytes, key: str) -> Group:
    """The group whose record lies at `key`. Raises AccessRecordDamaged, FormatUnknown."""
    with reading(f"the group in {key}", AccessRecordDamaged):
        raw = record(data)
        name = _exact(names.group_name, raw["name"])
        if group_key(name) != key:
            raise ValueError("it is another group")
        templates: dict[TemplateId, frozenset[Action]] | None = None
        if raw["templates"] is not None:
            listed = fields(raw["templates"], MOST_RESOURCES)
            templates = {_exact(names.template_id, one): _actions(actions) for one, actions in listed.items()}
        domains: dict[Domain, frozenset[Action]] = {
            names.domain(domain): _actions(actions)
            for domain, actions in fields(raw["domains"], MOST_RESOURCES).items()
        }
        return Group(
            name=name,
            permissions=frozenset(string(one) for one in entries(raw["permissions"], MOST_PERMISSIONS)),
            templates=templates,
            domains=domains,
            gen=count(raw["gen"]),
            deleted=truth(raw["deleted"]),
            unknown={name: value for name, value in raw.items() if name not in _GROUP_FIELDS},
        )


def read_damaged_group(data: bytes, key: str, reason: str) -> Group:
    """What is left of a group that `read_group` refuses: its name, if the record tells that much, else where it lies.

    Its number is that of the record as far as it can be read, so that what replaces it is not taken for what it was.
    """
    name, gen = "", 0
    with contextlib.suppress(*MISSHAPEN):
        raw = load(data)
        name = names.group_name(raw["name"])
        gen = count(raw["gen"])
    if group_key(name) != key:
        name = key
    return Group(name, templates={}, gen=gen, damaged=reason)


def _actions_json(by_name: Mapping[Any, frozenset[Action]]) -> dict[str, list[str]]:
    return {name: sorted(action.value for action in actions) for name, actions in sorted(by_name.items())}


def _actions(raw: object) -> frozenset[Action]:
    return frozenset(Action(name) for name in entries(raw, len(Action)))


def _exact(parse: Callable[[object], N], text: object) -> N:
    """A name that is spelled as we spell it: two spellings would be two rows of one name."""
    name = parse(text)
    if name != text:
        raise ValueError(f"{name!r} is not spelled as we spell it")
    return name


def _time(value: object) -> float:
    """Seconds since 1970."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LATEST:
        raise ValueError(f"{str(value)[:40]!r} is not a time")
    return value
