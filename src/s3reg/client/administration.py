"""What an administrator asks of a registry: who may log in, what groups give, and what that comes to.

A change of a group is made to the group as it was read, and only if it is still that: whoever comes second reads it again
and makes the same change to what the first one left.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from s3reg import wire
from s3reg.client import keyfile
from s3reg.crypto import PublicKey, new_key
from s3reg.errors import (
    AnswerInvalid,
    Forbidden,
    GroupChanged,
    GroupNotFound,
    GroupTaken,
    KeyNotFound,
    KeyTaken,
    Kind,
    RecordDamaged,
    S3regError,
)
from s3reg.wire import access as messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from s3reg.client.connection import Connection
    from s3reg.wire.access import Explained, GroupEntry, Key, KeyChange, MadeKey, NewKey, WhoAmI

TRIES = 16
"""Of a change of a group that others change too."""
_UNSURE = {Kind.UNAVAILABLE, Kind.INTERNAL, Kind.DAMAGED}
"""After these the registry may have done what it was asked for."""


class Administration:
    """A registry's keys and groups. Everything here raises what `Connection.call` does, AccessOff and Forbidden included."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def who_am_i(self) -> WhoAmI:
        """Who asks, as the registry sees it."""
        who: WhoAmI = self._get(messages.WhoAmISchema, "/whoami")
        return who

    def explain(self, key_id: str, template: str) -> Explained:
        """What a key may do with a template, by its id or name. Raises KeyNotFound, TemplateNotFound, NameAmbiguous."""
        told: Explained = self._get(messages.ExplainedSchema, "/access", {"key": key_id, "ref": template})
        return told

    # --- Keys --------------------------------------------------------------------------------------------------------

    def all_keys(self) -> tuple[Key, ...]:
        """Every key, by id; those that have ended too."""
        answer: messages.KeysAnswer = self._get(messages.KeysAnswerSchema, "/keys")
        return tuple(answer.keys)

    def add_key(self, wanted: NewKey) -> Key:
        """Let whoever has the private half of `wanted.public_key` log in. Raises KeyTaken."""
        return self._made(wanted).key

    def make_key(self, wanted: NewKey, file: Path, *, on_server: bool = False) -> Key:
        """Make a pair of keys, its private half in `file`, which must not exist; gives the key.

        It is made here, and written before the registry is told, so that no crash loses it; or made `on_server`, which
        gives it once. The file goes again if the registry refuses, and stays if nobody knows whether it did.
        Raises KeyTaken, KeyFileTaken, LocalDenied.
        """
        # A registry that does not answer, or not to us, is met before there is a file.
        self.who_am_i()
        with keyfile.reserved(file, keeps=lambda e: not on_server and is_unsure(e)) as keep:
            if on_server:
                made = self._post_key(wanted)
                if made.private_key is None:
                    raise AnswerInvalid(url=self._connection.url, reason="it gives no private half of the key")
                keep(made.private_key)
                return made.key
            private, public = new_key()
            keep(private)
            return self._made(messages.NewKey(wanted.id, wanted.ttl, wanted.groups, public)).key

    def change_key(self, change: KeyChange) -> Key:
        """Give a key another end or other groups; gives it as it is then. Raises KeyNotFound."""
        made: MadeKey = self._post(messages.MadeKeySchema, "/keys/change", wire.write(change))
        return made.key

    def check_keys(self, ids: Iterable[str]) -> None:
        """Raise KeyNotFound for the first of these that there is not; one that is damaged may be any of them."""
        found = self.all_keys()
        known = {key.id for key in found}
        for key_id in ids:
            if key_id not in known and not any(key.damaged for key in found):
                raise KeyNotFound(key=key_id)

    def revoke_key(self, key_id: str) -> None:
        """Let nobody log in with this key any more, and end its logins; one that is gone is what was asked for."""
        with contextlib.suppress(KeyNotFound):
            self._connection.call("POST", f"{wire.PREFIX}/keys/revoke", wire.write(messages.KeyName(key_id)))

    def _made(self, wanted: NewKey) -> MadeKey:
        try:
            return self._post_key(wanted)
        except KeyTaken:
            found = self._ours(wanted)
            if found is None:
                raise
            return messages.MadeKey(found)

    def _ours(self, wanted: NewKey) -> Key | None:
        """The key that a first try made, whose answer was lost: only we have its other half."""
        fingerprint = PublicKey(wanted.public_key or b"").fingerprint
        with contextlib.suppress(Forbidden):
            for key in self.all_keys():
                if (key.id, key.fingerprint, set(key.groups)) == (wanted.id, fingerprint, set(wanted.groups)):
                    return key
        return None

    def _post_key(self, wanted: NewKey) -> MadeKey:
        made: MadeKey = self._post(messages.MadeKeySchema, "/keys", wire.write(wanted))
        return made

    # --- Groups ------------------------------------------------------------------------------------------------------

    def all_groups(self) -> tuple[GroupEntry, ...]:
        """Every group, by name."""
        answer: messages.GroupsAnswer = self._get(messages.GroupsAnswerSchema, "/groups")
        return tuple(answer.groups)

    def group(self, name: str) -> GroupEntry:
        """The group of this name. Raises GroupNotFound."""
        found = next((group for group in self.all_groups() if group.name == name), None)
        if found is None:
            raise GroupNotFound(group=name)
        return found

    def check_group(self, name: str) -> None:
        """Raise GroupNotFound if there is none of this name; one that is damaged may be it."""
        if not any(group.name == name or group.damaged for group in self.all_groups()):
            raise GroupNotFound(group=name)

    def create_group(self, wanted: GroupEntry) -> GroupEntry:
        """Make a group. Raises GroupTaken."""
        try:
            return self._write(wanted)
        except GroupChanged:
            found = next((group for group in self.all_groups() if group.name == wanted.name), None)
            if found is None or not alike(found, wanted):
                raise GroupTaken(group=wanted.name) from None
            return found

    def change_group(self, name: str, change: Callable[[GroupEntry], GroupEntry]) -> GroupEntry:
        """The group after `change`, which may be asked several times.

        Raises GroupNotFound, RecordDamaged, and GroupChanged in the end.
        """
        for _ in range(TRIES - 1):
            with contextlib.suppress(GroupChanged):
                return self._changed(name, change)
        return self._changed(name, change)

    def delete_group(self, name: str) -> None:
        """Nobody has anything from this group any more; one that is gone is what was asked for."""
        with contextlib.suppress(GroupNotFound):
            self._connection.call("POST", f"{wire.PREFIX}/groups/delete", wire.write(messages.GroupName(name)))

    def _changed(self, name: str, change: Callable[[GroupEntry], GroupEntry]) -> GroupEntry:
        old = self.group(name)
        if old.damaged:
            # What it gave is not known: a change would take the rest from everybody.
            raise RecordDamaged(what=f"the group {name}", reason=old.damaged)
        new = change(old)
        return old if alike(old, new) else self._write(new)

    def _write(self, group: GroupEntry) -> GroupEntry:
        written: GroupEntry = self._post(messages.GroupEntrySchema, "/groups", wire.write(group))
        return written

    # --- Calls -------------------------------------------------------------------------------------------------------

    def _get(self, schema: type[wire.Message], path: str, query: dict[str, str] | None = None) -> Any:
        return self._connection.ask(schema, "GET", wire.PREFIX + path, query=query)

    def _post(self, schema: type[wire.Message], path: str, body: dict[str, Any]) -> Any:
        return self._connection.ask(schema, "POST", wire.PREFIX + path, body)


def alike(one: GroupEntry, other: GroupEntry) -> bool:
    """Whether both give the same, in whatever order they say it."""
    return _given(one) == _given(other)


def is_unsure(error: BaseException) -> bool:
    """Whether the registry may have done what it was asked for, although this is what came of it."""
    return not isinstance(error, S3regError) or error.kind in _UNSURE


def _given(group: GroupEntry) -> tuple[object, ...]:
    templates = None if group.templates is None else {one.id: frozenset(one.permissions) for one in group.templates}
    domains = {one.name: frozenset(one.permissions) for one in group.domains}
    return group.name, frozenset(group.permissions), templates, domains
