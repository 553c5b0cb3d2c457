"""`adopt`: makes the copy of a store a store of its own. Nothing needs to be served for that, and nothing should be yet."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click
from rich.filesize import decimal

from s3reg.api.wiring import registry_over
from s3reg.cli import flags, output
from s3reg.cli.output import Answer, counted
from s3reg.errors import AnotherPlace, S3regError
from s3reg.store.places import shows_there

if TYPE_CHECKING:
    from s3reg.cli.options import Asked
    from s3reg.model.format import StoreFormat
    from s3reg.registry.adopt import Adopted
    from s3reg.registry.damage import Checked
    from s3reg.settings import Settings
    from s3reg.store import ObjectStore


@flags.taking("store", "s3_", "log_")
@click.command()
@flags.WHERE
@click.option("--force", is_flag=True, help="Although something is missing or bad: what that leaves is adopted.")
@click.option(
    "--same", is_flag=True, help="It is no copy: the same store, reached by another name. Write to it by this one too."
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask. Without a terminal, and with -j, nobody is asked anyway.")
@click.pass_obj
def adopt(asked: Asked, /, url: str | None, *, force: bool, same: bool, yes: bool, **told: str | None) -> None:
    """Make the copy of a store a store of its own, which can be written.

    All that its templates need is looked for first. The original's logins and links are worth nothing here from then on, and
    its pushes go on at the original only. See that nothing copies to it any more; start its registries afterwards.
    """
    read = flags.read(told, url, quietly=True)
    store = flags.existing_store(read)
    if same:
        _note_same(asked, read, store, yes=yes)
        return

    def agreed(found: Checked) -> None:
        if not asked.machine_readable:
            click.echo(output.plain(f"{store.location} holds {_holding(found)}"), err=True)
        what = "It will be a store of its own, and no copy of another one any more."
        declined = "it is a copy as before"
        output.confirm(what, yes=yes, machine_readable=asked.machine_readable, declined=declined)

    done = registry_over(store, read).adopt(force=force, agreed=agreed)
    output.give(Answer(_body(done), "adopted", _text(done, store.location)), machine_readable=asked.machine_readable)


def _note_same(asked: Asked, read: Settings, store: ObjectStore, *, yes: bool) -> None:
    def agreed(found: StoreFormat) -> None:
        try:
            shows = shows_there(store, _named(read, found.made_as))
        except S3regError as e:
            click.echo(output.plain(f"whether they are the same cannot be tried from here: {e}"), err=True)
        else:
            if not shows:
                raise AnotherPlace(store=store.location, made_as=found.made_as)
        what = f"{store.location} is {found.made_as}, and no copy of it. If that is not so, both will lose templates."
        declined = "it is read-only as before"
        output.confirm(what, yes=yes, machine_readable=asked.machine_readable, declined=declined)

    noted = registry_over(store, read).note_same(agreed)
    body = {"store": noted.store, "made_as": noted.made_as, "also": list(noted.also)}
    text = f"{store.location} may be written like {noted.made_as}: it is the same store"
    output.give(Answer(body, "adopted", text), machine_readable=asked.machine_readable)


def _named(read: Settings, made_as: str) -> ObjectStore:
    """The store by the name that it was made under."""
    where, _, endpoint = made_as.partition(" at ")
    return flags.existing_store(replace(read, store=where, s3_endpoint=endpoint or None))


def _holding(found: Checked) -> str:
    orphans = sum(tally.count for tally in found.orphans.values())
    parts = [
        f"{counted(found.templates, 'template')} with {counted(found.versions, 'version')}, {decimal(found.bytes)} of packs",
        *([f"{counted(len(found.damage), 'thing')} missing or bad"] if found.damage else []),
        *([f"{counted(orphans, 'object')} that nobody needs"] if orphans else []),
    ]
    return "; ".join(parts)


def _body(done: Adopted) -> dict[str, object]:
    return {
        "store": done.store,
        "made_as": done.made_as,
        "templates": done.checked.templates,
        "versions": done.checked.versions,
        "damage": len(done.checked.damage),
        "sessions": done.sessions,
        "markers": done.markers,
    }


def _text(done: Adopted, location: str) -> str:
    lines = [f"{location} is a store of its own now: {done.store}, made as a copy of {done.made_as}"]
    if done.sessions:
        lines.append(f"given up here: {counted(done.sessions, 'push', 'pushes')} to the original")
    if done.checked.damage:
        lines.append("what is missing or bad, s3reg fsck names; a push of the same version puts it back")
    lines.append("a registry that serves it already has to be started anew: it knows the original's secret")
    return "\n".join(lines)
