"""Records that no version stands on, looked at by themselves: sessions, sweeps' markers, keys, groups, the secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3reg.errors import FormatUnknown, NameInvalid, RecordDamaged
from s3reg.model import format as fmt
from s3reg.model import format_access
from s3reg.registry import damage
from s3reg.registry.damage import Damage, What
from s3reg.registry.inventory import foreign
from s3reg.registry.walk import side_by_side

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3reg.registry.damage import Checked
    from s3reg.registry.records import Records

_READ: dict[What, Callable[[bytes, str], object]] = {
    What.SESSION: lambda data, key: fmt.read_session(data, fmt.session_of_key(key)),
    What.MARKER: lambda data, _: fmt.read_marker(data),
    What.KEY: format_access.read_api_key,
    What.GROUP: format_access.read_group,
    What.SECRET: lambda data, _: format_access.read_signing(data),
}


def look(records: Records, what: What, key: str) -> Damage | None:
    """What is wrong with the record there; one that is gone is nobody's loss."""
    try:
        if (found := records.read(key)) is not None:
            _READ[what](found.data, key)
    except (RecordDamaged, FormatUnknown) as e:
        return Damage(what, key, damage.reason(e), newer=isinstance(e, FormatUnknown))
    return None


def markers(records: Records, done: Checked) -> Iterator[Damage]:
    """What is wrong with the markers of sweeps."""
    keys = _ours(records, fmt.MARKERS, lambda key: What.MARKER if fmt.is_marker_key(key) else None, done)
    return (one for one in side_by_side(lambda row: look(records, *row), keys) if one is not None)


def credentials(records: Records, done: Checked) -> Iterator[Damage]:
    """What is wrong with API keys, groups, and the secret of links and logins."""
    keys = _ours(records, format_access.AUTH, _credential, done, passed_over=format_access.is_spent_key)
    return (one for one in side_by_side(lambda row: look(records, *row), keys) if one is not None)


def session_keys(records: Records, done: Checked) -> Iterator[str]:
    """Where sessions lie."""
    return (key for _, key in _ours(records, fmt.SESSIONS, _session, done))


def _ours(
    records: Records,
    prefix: str,
    sort: Callable[[str], What | None],
    done: Checked,
    *,
    passed_over: Callable[[str], bool] = lambda _: False,
) -> Iterator[tuple[What, str]]:
    for stat in records.store.list(prefix):
        what = sort(stat.key)
        if what is not None:
            yield what, stat.key
        elif not passed_over(stat.key):
            foreign(done, stat.key)


def _session(key: str) -> What | None:
    try:
        fmt.session_of_key(key)
    except NameInvalid:
        return None
    return What.SESSION


def _credential(key: str) -> What | None:
    if key == format_access.SIGNING_KEY:
        return What.SECRET
    if not format_access.is_ours(key):
        return None
    return What.KEY if key.startswith(format_access.KEYS) else What.GROUP
