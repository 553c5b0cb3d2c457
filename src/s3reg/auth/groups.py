"""Groups: written, deleted; and looked up by every call."""

from __future__ import annotations

from dataclasses import replace
from logging import WARNING
from typing import TYPE_CHECKING

from s3reg.auth.kept import Kept
from s3reg.errors import FormatUnknown, GroupChanged, GroupNotFound, Invalid, NameInvalid, RecordDamaged
from s3reg.model import format_access as fmt
from s3reg.model import names
from s3reg.model.access import PERMISSIONS, Group
from s3reg.store.together import gather
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from s3reg.auth.accessrecords import AccessRecords
    from s3reg.store import Object


class Groups:
    """The groups of one store. Safe to share between threads."""

    def __init__(self, records: AccessRecords, clock: Callable[[], float]) -> None:
        self._records = records
        self._kept: Kept[Group | None] = Kept(self._read, clock)

    # --- For people --------------------------------------------------------------------------------------------------

    def all(self) -> list[Group]:
        """Every group that was not deleted, by name, and what is left of damaged ones."""
        found = (_readable(key, one) for key, one in self._records.all(fmt.GROUPS))
        return sorted((group for group in found if not group.deleted), key=lambda group: group.name)

    def find(self, name: str) -> Group:
        """The group as it is now. Raises GroupNotFound, RecordDamaged."""
        name = names.group_name(name)
        found = self._records.read(fmt.group_key(name))
        group = None if found is None else fmt.read_group(found.data, fmt.group_key(name))
        if group is None or group.deleted:
            raise GroupNotFound(group=name)
        return group

    def write(self, group: Group, *, gen: int | None) -> Group:
        """Make the group, or put it in the place of the one that was read with this `gen`; 0: of none; None: of any.

        Raises GroupChanged, Invalid for a permission that there is not.
        """
        wanted = _checked(group)
        name = wanted.name
        wrote: Group | None = None

        def put(found: Object | None) -> tuple[bytes | None, Group]:
            nonlocal wrote
            old = None if found is None else _replaceable(fmt.group_key(name), found)
            if old is not None and old == wrote:
                return None, old
            if gen is not None and gen != (0 if old is None or old.deleted else old.gen):
                raise GroupChanged(group=name)
            _refuse_unknown(wanted, old)
            wrote = _after(old, wanted)
            return _data(wrote), wrote

        return self._change(name, put)

    def delete(self, name: str) -> None:
        """Nobody has anything from it any more. Raises GroupNotFound."""
        name = names.group_name(name)
        deleted = False

        def end(found: Object | None) -> tuple[bytes | None, Group]:
            nonlocal deleted
            old = None if found is None else _replaceable(fmt.group_key(name), found)
            if old is not None and old.deleted and deleted:
                return None, old
            if old is None or old.deleted:
                raise GroupNotFound(group=name)
            deleted = True
            new = _after(old, Group(name, templates={}, deleted=True))
            return _data(new), new

        self._change(name, end)

    # --- For calls ---------------------------------------------------------------------------------------------------

    def of(self, wanted: Iterable[str], *, anew: bool = False) -> list[Group]:
        """Those of the groups that there are, by what was known a moment ago, or `anew` as they are now.

        One whose record is damaged is none, and is logged: it takes nothing from what the others give.
        """
        asked = list(wanted)
        if not anew and all(map(self._kept.is_young, asked)):
            found = [self._kept.get(name) for name in asked]
        else:
            found = gather(lambda name: self._kept.get(name, lambda _: not anew), asked)
        return [group for group in found if group is not None]

    def _read(self, name: str) -> Group | None:
        try:
            return self.find(name)
        except (GroupNotFound, NameInvalid):
            return None
        except (RecordDamaged, FormatUnknown) as e:
            emit("group-unreadable", level=WARNING, group=name, reason=str(e))
            return None

    def _change(self, name: str, change: Callable[[Object | None], tuple[bytes | None, Group]]) -> Group:
        try:
            return self._records.change(fmt.group_key(name), f"group {name!r}", change)
        finally:
            self._kept.forget(name)


def _after(old: Group | None, new: Group) -> Group:
    """`new` as the record that follows `old`."""
    if old is None:
        return replace(new, gen=1, unknown={})
    return replace(new, gen=old.gen + 1, unknown=old.unknown)


def _checked(group: Group) -> Group:
    """The group with its names as they are spelled. Raises Invalid."""
    templates = None
    if group.templates is not None:
        templates = {names.template_id(name): actions for name, actions in group.templates.items()}
    domains = {names.domain(name): actions for name, actions in group.domains.items()}
    if max(len(templates or ()), len(domains)) > fmt.MOST_RESOURCES:
        raise Invalid(reason=f"a group tells apart at most {fmt.MOST_RESOURCES} templates, and so many domains")
    return Group(names.group_name(group.name), group.permissions, templates, domains)


def _refuse_unknown(group: Group, old: Group | None) -> None:
    """Raise Invalid for a permission that there is not, unless a later release gave it to the group."""
    known = PERMISSIONS.keys() | (frozenset() if old is None else old.permissions)
    for permission in sorted(group.permissions - known):
        raise Invalid(reason=f"there is no permission {permission!r}; there are {', '.join(PERMISSIONS)}")


def _data(group: Group) -> bytes:
    data = fmt.write_group(group)
    # What we could not read again would take from everybody what the group gives.
    fmt.read_group(data, fmt.group_key(group.name))
    return data


def _readable(key: str, found: Object) -> Group:
    try:
        return _replaceable(key, found)
    except FormatUnknown as e:
        return fmt.read_damaged_group(found.data, key, str(e))


def _replaceable(key: str, found: Object) -> Group:
    """The group, or what is left of it. Raises FormatUnknown: what a later release wrote is not ours to replace."""
    try:
        return fmt.read_group(found.data, key)
    except RecordDamaged as e:
        return fmt.read_damaged_group(found.data, key, str(e))
