"""`keys`: the API keys by which nodes and scripts log in."""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from s3reg.cli import candidates, output
from s3reg.cli.node import TRIES_TO_ASK, connected, when
from s3reg.cli.options import OpenGroup
from s3reg.cli.output import Answer, Columns
from s3reg.client import keyfile
from s3reg.client.administration import Administration, is_unsure
from s3reg.errors import Forbidden, Invalid, S3regError
from s3reg.model import names
from s3reg.wire.access import Key, KeyChange, NewKey

if TYPE_CHECKING:
    from s3reg.cli.options import Asked

FINGERPRINT = 16
"""Digits of one that a table shows: enough to tell keys apart."""
NEVER = "never"
ENDLESS = 0
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_SECONDS = {"": 1, "s": 1, "m": _MINUTE, "h": _HOUR, "d": _DAY, "w": 7 * _DAY, "y": 365 * _DAY}
_LIFE = re.compile(r"([0-9]{1,12}) ?([smhdwy]?)")
_FILE = click.Path(dir_okay=False, path_type=Path)


class Life(click.ParamType[int]):
    """How long a key is good for, in seconds, or ENDLESS."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """`90d` in seconds."""
        text = str(value).strip().lower()
        if text == NEVER:
            return ENDLESS
        found = _LIFE.fullmatch(text)
        seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
        if not seconds:
            self.fail(f"{value!r}: write 90d, 12h, 1y, a number of seconds, or {NEVER}", param, ctx)
        return seconds


_GROUPS = click.option(
    "-g",
    "--group",
    "groups",
    metavar="GROUP",
    multiple=True,
    shell_complete=candidates.groups,
    help="A group that it is in; repeatable.",
)


@click.group(cls=OpenGroup)
def keys() -> None:
    """The API keys by which nodes and scripts log in."""


@keys.command()
@click.argument("key_id", metavar="ID")
@_GROUPS
@click.option("--ttl", type=Life(), metavar="TIME", default="1y", help="For how long: 90d, 12h, never; default: 1y.")
@click.option("--out", type=_FILE, metavar="FILE", help="The new file for the key; default: ID.pem, in this folder.")
@click.option("--public-key", type=_FILE, metavar="FILE", help="Make none: this is the public half of yours (PEM).")
@click.option("--on-server", is_flag=True, help="Let the registry make it, and send it here.")
@click.pass_obj
def create(
    asked: Asked,
    key_id: str,
    *,
    groups: tuple[str, ...],
    ttl: int,
    out: Path | None,
    public_key: Path | None,
    on_server: bool,
) -> None:
    """Make an API key.

    It is made on this machine and lies in a new file that only you may read; the registry is told its public half.
    """
    if public_key is not None and (on_server or out is not None):
        raise Invalid(reason="with --public-key no key is made; leave --out and --on-server out")
    public = None if public_key is None else keyfile.public_half(public_key)
    wanted = NewKey(names.key_id(key_id), ttl or None, _groups(groups), public)
    file = (out or Path(keyfile.name_for(wanted.id))).expanduser().absolute()
    with connected(asked) as connection:
        administration = Administration(connection)
        if public is not None:
            made = administration.add_key(wanted)
        else:
            made = _made(administration, wanted, file, on_server=on_server)
        hints = _hints(administration, made)
        told = [_said(made), *hints]
        if public is None:
            told.insert(1, f"it is in {file}, and nowhere else")
        words = ["s3reg", "registry", "add", "NAME", connection.url, "--api-key-id", made.id, "--api-key"]
        told += ["", "on a node:", f"  {shlex.join(words)} {'FILE' if public else shlex.quote(str(file))}"]
    body = {**_body(made), "file": None if public else str(file)}
    output.give(Answer(body, "key created successfully", "\n".join(told)), machine_readable=asked.machine_readable)


@keys.command("list")
@click.pass_obj
def list_(asked: Asked) -> None:
    """List the API keys, those that have ended too."""
    with connected(asked, tries=TRIES_TO_ASK) as connection:
        found = Administration(connection).all_keys()
    rows = [
        (one.id, ", ".join(one.groups), _left(one), when(int(one.created)), one.fingerprint[:FINGERPRINT])
        for one in found
    ]
    table = Columns(("id", "groups", "ends", "created", "fingerprint"), rows)
    output.give(Answer([_body(one) for one in found], "", table), machine_readable=asked.machine_readable)


@keys.command()
@click.argument("key_id", metavar="ID", shell_complete=candidates.keys)
@_GROUPS
@click.option("--no-groups", is_flag=True, help="It is in no group any more.")
@click.option("--ttl", type=Life(), metavar="TIME", help="For how long from now on: 90d, 12h, 1y, never.")
@click.pass_obj
def change(asked: Asked, key_id: str, *, groups: tuple[str, ...], no_groups: bool, ttl: int | None) -> None:
    """Give an API key another end, or other groups instead of those that it has.

    Logins that there are have them within seconds.
    """
    if groups and no_groups:
        raise Invalid(reason="--group and --no-groups contradict each other")
    if not groups and not no_groups and ttl is None:
        raise Invalid(reason="say what to change: --ttl, --group or --no-groups")
    wanted = KeyChange(
        names.key_id(key_id),
        ttl=ttl or None,
        groups=_groups(groups) if groups or no_groups else None,
        endless=ttl == ENDLESS,
    )
    with connected(asked) as connection:
        administration = Administration(connection)
        changed = administration.change_key(wanted)
        told = [_said(changed), *_hints(administration, changed)]
    answer = Answer(_body(changed), "key changed successfully", "\n".join(told))
    output.give(answer, machine_readable=asked.machine_readable)


@keys.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...", shell_complete=candidates.keys)
@click.option("-y", "--yes", is_flag=True, help="Do not ask. Without a terminal, and with -j, nobody is asked anyway.")
@click.pass_obj
def revoke(asked: Asked, ids: tuple[str, ...], *, yes: bool) -> None:
    """Let nobody log in with these API keys any more, and end their logins within seconds.

    A push that is under way may go on with a key that is made anew under the same id.
    """
    ids = tuple(dict.fromkeys(names.key_id(key_id) for key_id in ids))
    with connected(asked) as connection:
        administration = Administration(connection)
        administration.check_keys(ids)
        output.confirm(f"{', '.join(ids)} will be revoked.", yes=yes, machine_readable=asked.machine_readable)
        for key_id in ids:
            administration.revoke_key(key_id)
    text = f"{', '.join(ids)} revoked"
    answer = Answer({"revoked": list(ids)}, "keys revoked successfully", text)
    output.give(answer, machine_readable=asked.machine_readable)


def ends(key: Key) -> str:
    """Until when a key is good, for a sentence."""
    if key.expires is None:
        return "good for ever"
    return f"{'ended' if _is_over(key) else 'good until'} {when(int(key.expires))}"


def _made(administration: Administration, wanted: NewKey, file: Path, *, on_server: bool) -> Key:
    try:
        return administration.make_key(wanted, file, on_server=on_server)
    except S3regError as e:
        if is_unsure(e) and file.exists():
            told = f"s3reg: {file} stays: the registry may have made the key; s3reg keys list tells"
            sys.stderr.write(output.plain(told) + "\n")
        raise


def _groups(given: tuple[str, ...]) -> tuple[str, ...]:
    """Groups as they are given: one by one, or several with commas between them."""
    return tuple(dict.fromkeys(names.group_name(name) for text in given for name in text.split(",")))


def _said(key: Key) -> str:
    return f"API key {key.id}, in {_named(key.groups)}, {ends(key)}"


def _named(groups: tuple[str, ...]) -> str:
    return f"group{'s' if len(groups) > 1 else ''} {', '.join(groups)}" if groups else "no group"


def _hints(administration: Administration, key: Key) -> list[str]:
    """What whoever made or changed a key may not have thought of."""
    if not administration.who_am_i().authorization:
        return []
    if not key.groups:
        return [f"without a group it may do nothing: s3reg keys change {shlex.quote(key.id)} --group GROUP"]
    with contextlib.suppress(Forbidden):
        known = {group.name for group in administration.all_groups()}
        return [
            f"there is no group {name} yet: s3reg groups create {shlex.quote(name)} --role pull"
            for name in key.groups
            if name not in known
        ]
    return []


def _is_over(key: Key) -> bool:
    return key.expires is not None and key.expires <= time.time()


def _left(key: Key) -> str:
    if key.damaged:
        return "damaged"
    if key.expires is None:
        return NEVER
    if _is_over(key):
        return "ended"
    left = int(key.expires - time.time())
    for seconds, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if left >= 2 * seconds:
            return f"in {round(left / seconds)} {unit}"
    return f"in {left} s"


def _body(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "groups": list(key.groups),
        "created": key.created,
        "expires": key.expires,
        "ended": _is_over(key),
        "fingerprint": key.fingerprint,
        "damaged": key.damaged,
    }


COMMANDS = (keys,)
