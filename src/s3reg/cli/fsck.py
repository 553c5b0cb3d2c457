"""`fsck`: checks a store, of which nothing needs to be served for that; with a library, what it still has is put back."""

from __future__ import annotations

import contextlib
import difflib
import secrets
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.filesize import decimal

from s3reg.api import loopback
from s3reg.api.wiring import registry_over
from s3reg.cli import flags, output, stored
from s3reg.cli.node import connected
from s3reg.cli.output import Answer, Columns, counted
from s3reg.client import repair
from s3reg.client.connection import Access, Connection
from s3reg.client.library import Library
from s3reg.client.repair import Hurt, Outcome
from s3reg.errors import Invalid, Kind, SettingInvalid, TemplateNotFound, TemplateNotStored
from s3reg.model.identity import EVERYONE
from s3reg.registry.damage import What

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from s3reg.cli.options import Asked
    from s3reg.model.names import TemplateId
    from s3reg.registry import Checked, Damage
    from s3reg.settings import Settings
    from s3reg.store import ObjectStore

_ALL = "100"
RANGES_TOLD = 100
"""Of one file, to a program."""
NAMED = 5
"""Of the templates that there are, where another one was asked about."""


class _Command(click.Command):
    """`--read-data DIR` reads everything in DIR: a percentage is given with `=`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Say the percentage where it is left out: what follows is none."""
        return super().parse_args(ctx, [f"{arg}={_ALL}" if arg == "--read-data" else arg for arg in args])


def _percent(ctx: click.Context, option: click.Parameter, text: str | None) -> float:
    del ctx, option
    try:
        percent = float((text or "0").removesuffix("%"))
    except ValueError:
        percent = -1
    if not 0 <= percent <= float(_ALL) or (text is not None and not percent):
        raise Invalid(reason=f"--read-data takes a percentage up to 100, not {text!r}")
    return percent


@flags.taking("store", "s3_", "log_")
@click.command(cls=_Command)
@flags.WHERE
@click.option(
    "--read-data",
    metavar="[=PERCENT]",
    is_flag=False,
    flag_value=_ALL,
    callback=_percent,
    help="Read packs too, all or so many percent, chosen at random, and see that every chunk decodes to its digest.",
)
@click.option("--seed", metavar="N", type=click.IntRange(0), help="Choose the packs to read as the run that told this.")
@click.option(
    "-t",
    "--template",
    "templates",
    metavar="TEMPLATE",
    multiple=True,
    shell_complete=stored.templates,
    help="Only this one; repeatable.",
)
@click.option(
    "--repair-from",
    "library",
    metavar="LIBRARY",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Push again what this node's library has of damaged versions, under their tags and in their places.",
)
@click.option("--no-record", is_flag=True, help="Do not note what is bad: pushes may go on building on it.")
@click.pass_obj
def fsck(
    asked: Asked,
    /,
    url: str | None,
    *,
    read_data: float,
    seed: int | None,
    templates: tuple[str, ...],
    library: Path | None,
    no_record: bool,
    **told: str | None,
) -> None:
    """Check that all that templates need is there, and as it was.

    Names what is damaged by template, tag and file, and ends with 8 if anything outside the trash is. Changes nothing, but
    notes which packs and maps are bad, so that no push builds on them. Registries may serve the store meanwhile.
    """
    if library is not None and no_record:
        raise Invalid(reason="--repair-from builds on no bad pack, so these have to be noted; leave --no-record out")
    read = flags.read(told, url, quietly=True)
    registry = registry_over(flags.existing_store(read), read)
    if not registry.status().store:
        raise SettingInvalid(name="--store", reason=f"there is no store of s3reg in {read.store!r}")
    try:
        with _Shown(machine_readable=asked.machine_readable) as shown:
            done = registry.fsck(
                read_data=read_data,
                seed=secrets.randbits(32) if seed is None else seed,
                only=templates,
                record=not no_record,
                told=shown,
            )
    except TemplateNotFound as e:
        wanted, known = str(e.detail["template"]), [head.name for head in registry.templates(EVERYONE)]
        raise TemplateNotStored(template=wanted, store=registry.store.location, known=_near(wanted, known)) from e
    outcomes = [] if library is None else list(_repaired(asked, read, registry.store, library, done))
    called = {one.template: one.name for one in done.damage if one.template and one.name}
    replaced = {one.hurt.version for one in outcomes if one.version is not None}
    done.damage = [one for one in done.damage if one.version not in replaced]
    body = _body(done, read_data) | (
        {} if library is None else {"repairs": [_outcome(one, called) for one in outcomes]}
    )
    text = (*_text(done, read_data), *([_outcomes(outcomes, called)] if outcomes else []))
    answer = Answer(body, _summary(done), text)
    code = 0 if done.sound else Kind.DAMAGED.exit_code
    output.give(answer, machine_readable=asked.machine_readable, code=code)
    if code:
        raise click.exceptions.Exit(code)


def _near(wanted: str, known: Sequence[str]) -> str:
    """Those that may have been meant; the first ones, where none is like it."""
    near = difflib.get_close_matches(wanted, known, n=NAMED) or list(known[:NAMED])
    more = f" and {len(known) - len(near)} more" if len(known) > len(near) else ""
    return f"{', '.join(near)}{more}" if near else "there is none"


def _repaired(asked: Asked, read: Settings, store: ObjectStore, folder: Path, done: Checked) -> Iterator[Outcome]:
    """What became of each damaged version that has a tag: pushed to the registry that was named, else to one of our own."""
    hurt = dict.fromkeys(
        Hurt(one.template, one.version, one.tag)
        for one in done.damage
        if one.template is not None and one.version is not None and not one.trash and not one.newer
    )
    library = Library(folder.expanduser().absolute())
    repair.clear(library)
    if not hurt:
        return
    avoid = frozenset(str(one.version) for one in done.damage if one.version is not None)
    with contextlib.ExitStack() as stack:
        if asked.registry is not None or asked.remote is not None:
            connection = stack.enter_context(connected(asked))
        else:
            served = stack.enter_context(loopback.served(read, store))
            access = Access(served.url, user="root", password=served.token)
            connection = stack.enter_context(contextlib.closing(Connection(access)))
        progress = output.progress(machine_readable=asked.machine_readable)
        stack.callback(progress.finish)
        yield from repair.repair(connection, library, hurt, avoid, progress)


class _Shown:
    """Shows how far a check is: a line at a terminal, and, where packs are read, what a transfer shows."""

    def __init__(self, *, machine_readable: bool) -> None:
        self._progress = output.progress(machine_readable=machine_readable)
        lively = sys.stderr.isatty() and not machine_readable
        self._status = Console(stderr=True).status("") if lively else None
        self._read: int | None = None

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.finish()
        if self._status is not None:
            self._status.stop()

    def __call__(self, done: Checked) -> None:
        if done.step == "reading":
            if self._read is None:
                if self._status is not None:
                    self._status.stop()
                self._progress.start("reading", done.to_read)
                self._read = 0
            self._progress.advance(done.read.bytes - self._read)
            self._read = done.read.bytes
        elif self._status is not None and self._read is None:
            self._status.update(_at(done))


def _at(done: Checked) -> str:
    if done.step == "checksums":
        return f"checksums: {done.looked:,} of {counted(done.packs, 'pack')}"
    return f"{done.step}: {counted(done.templates, 'template')}, {counted(done.versions, 'version')}"


# --- Words ------------------------------------------------------------------------------------------------------------


def _summary(done: Checked) -> str:
    held = f"{counted(done.templates, 'template')}, {counted(done.versions, 'version')}, {counted(done.packs, 'pack')}"
    bad, trash = [one for one in done.damage if not one.trash], [one for one in done.damage if one.trash]
    found = f"damaged: {_hurt(bad)}" if bad else "sound"
    return f"{held} of {decimal(done.bytes)}: {found}{f'; in the trash, damaged: {_hurt(trash)}' if trash else ''}"


def _hurt(damage: Sequence[Damage]) -> str:
    """What they are about, counted."""
    versions = {(one.template, one.version) for one in damage if one.version is not None}
    others = {(one.what, one.key) for one in damage if one.version is None}
    sorts = Counter("wrong size" if what is What.SIZE else what.value for what, _ in others)
    return ", ".join(
        [
            *([counted(len(versions), "version")] if versions else []),
            *(counted(count, sort) for sort, count in sorted(sorts.items())),
        ]
    )


def _text(done: Checked, percent: float) -> tuple[Columns | str, ...]:
    rows = [
        (_named(one), one.file, _lost(one), f"{one.what.value}: {one.reason}", one.remedy, one.key)
        for one in done.damage
    ]
    lines = [_summary(done)]
    if percent:
        lines.append(_read(done, percent))
    if done.unsummed and percent < float(_ALL):
        lines.append(
            f"of {counted(done.unsummed, 'pack')} the store keeps no checksum: only --read-data tells about them"
        )
    if done.recorded or done.forgotten or done.unrecorded:
        lines.append(
            f"noted as bad: {counted(done.recorded, 'object')}; sound again: {done.forgotten}; not noted: {done.unrecorded}"
        )
    if orphans := [(sort.removesuffix("s"), tally) for sort, tally in done.orphans.items() if tally.count]:
        told = ", ".join(counted(tally.count, sort) for sort, tally in orphans)
        size = decimal(sum(tally.bytes for _, tally in orphans))
        if done.unreadable:
            lines.append(
                f"named by nothing that can be read: {told}, {size}; put back what is damaged before any sweep"
            )
        else:
            lines.append(f"nobody needs {told}, {size}: s3reg gc removes them")
    if done.foreign:
        more = "" if done.foreign_count == len(done.foreign) else f" and {done.foreign_count - len(done.foreign)} more"
        lines.append(f"not ours: {', '.join(done.foreign)}{more}")
    headings = ("template", "file", "lost", "what", "what to do", "object")
    table = Columns(headings, rows, below=("what", "what to do", "object"))
    return (*((table,) if rows else ()), "\n".join(lines))


def _read(done: Checked, percent: float) -> str:
    which = "all" if percent >= float(_ALL) else f"{percent:g} %, --seed {done.seed}"
    return f"read: {counted(done.read.count, 'pack')} of {decimal(done.read.bytes)} ({which})"


def _named(one: Damage) -> str:
    template = one.name or one.template or ""
    return f"{template}:{one.tag}{' (trash)' if one.trash else ''}" if one.tag else template


def _lost(one: Damage) -> str:
    if not one.lost:
        return "nothing yet" if one.file else ""
    first, last = one.lost[0], one.lost[-1]
    return f"{decimal(one.lost_bytes)} in {first[0]}-{last[0] + last[1] - 1}"


def _body(done: Checked, percent: float) -> dict[str, Any]:
    return {
        "templates": done.templates,
        "versions": done.versions,
        "packs": done.packs,
        "bytes": done.bytes,
        "without_checksum": done.unsummed,
        "read": {"percent": percent, "seed": done.seed, "packs": done.read.count, "bytes": done.read.bytes},
        "damage": _damage(done.damage),
        "orphans": {sort: {"count": tally.count, "bytes": tally.bytes} for sort, tally in done.orphans.items()},
        "foreign": done.foreign,
        "foreign_count": done.foreign_count,
        "noted_as_bad": {"objects": done.recorded, "sound_again": done.forgotten, "not_noted": done.unrecorded},
    }


def _outcome(one: Outcome, called: Mapping[TemplateId, str]) -> dict[str, Any]:
    return {
        "uuid": one.hurt.template,
        "name": called.get(one.hurt.template, ""),
        "tag": one.hurt.tag,
        "replaced": one.hurt.version,
        "version": one.version,
        "sent": one.sent,
        "problem": None if one.problem is None else str(one.problem),
        "remedy": None if one.problem is None else one.problem.next_step,
    }


def _outcomes(outcomes: list[Outcome], called: Mapping[TemplateId, str]) -> Columns:
    rows = [
        (
            called.get(one.hurt.template, one.hurt.template),
            one.hurt.tag,
            f"put back, {decimal(one.sent)} were sent" if one.problem is None else f"not put back: {one.problem}",
            "" if one.problem is None else one.problem.next_step,
        )
        for one in outcomes
    ]
    return Columns(("template", "tag", "repair", "what to do"), rows, below=("what to do",))


def _damage(damage: Sequence[Damage]) -> list[dict[str, Any]]:
    return [
        {
            "what": one.what.value,
            "object": one.key,
            "reason": one.reason,
            "remedy": one.remedy,
            "uuid": one.template,
            "name": one.name,
            "version": one.version,
            "tag": one.tag,
            "trash": one.trash,
            "file": one.file,
            "lost": [list(part) for part in one.lost[:RANGES_TOLD]],
            "lost_bytes": one.lost_bytes,
        }
        for one in damage
    ]
