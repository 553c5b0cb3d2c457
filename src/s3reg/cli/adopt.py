"""`adopt`: makes the copy of a store a store of its own. Nothing needs to be served for that, and nothing should be yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.filesize import decimal

from s3reg.api.wiring import registry_over
from s3reg.cli import flags, output
from s3reg.cli.output import Answer, counted

if TYPE_CHECKING:
    from s3reg.cli.options import Asked
    from s3reg.registry.adopt import Adopted
    from s3reg.registry.damage import Checked


@flags.taking("store", "s3_", "log_")
@click.command()
@flags.WHERE
@click.option("--force", is_flag=True, help="Although something is missing or bad: what that leaves is adopted.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask. Without a terminal, and with -j, nobody is asked anyway.")
@click.pass_obj
def adopt(asked: Asked, /, url: str | None, *, force: bool, yes: bool, **told: str | None) -> None:
    """Make the copy of a store a store of its own, which can be written.

    All that its templates need is looked for first. The original's logins and links are worth nothing here from then on, and
    its pushes go on at the original only. See that nothing copies to it any more; start its registries afterwards.
    """
    read = flags.read(told, url, quietly=True)
    store = flags.existing_store(read)

    def agreed(found: Checked) -> None:
        if not asked.machine_readable:
            click.echo(output.plain(f"{store.location} holds {_holding(found)}"), err=True)
        what = "It will be a store of its own, and no copy of another one any more."
        declined = "it is a copy as before"
        output.confirm(what, yes=yes, machine_readable=asked.machine_readable, declined=declined)

    done = registry_over(store, read).adopt(force=force, agreed=agreed)
    output.give(Answer(_body(done), "adopted", _text(done, store.location)), machine_readable=asked.machine_readable)


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
