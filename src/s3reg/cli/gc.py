"""`gc`: sweeps a store, of which nothing needs to be served for that; registries, pushes and pulls may run meanwhile."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.filesize import decimal

from s3reg.api.wiring import registry_over
from s3reg.cli import flags, output, stored
from s3reg.cli.interrupts import ENDING
from s3reg.cli.node import when
from s3reg.cli.output import Answer, Columns, counted
from s3reg.errors import Invalid, S3regError
from s3reg.model import names
from s3reg.registry import Swept

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from s3reg.cli.options import Asked
    from s3reg.registry import UnderWay

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def _ids(context: click.Context, option: click.Parameter, words: tuple[str, ...]) -> tuple[str, ...]:
    del context, option
    for word in words:
        if not names.is_template_id(word):
            # A template without its head has no name.
            raise Invalid(reason=f"--lost takes the id of a template, as s3reg fsck tells it, not {word!r}")
    return words


@flags.taking("store", "s3_", "log_", "event_")
@click.command()
@flags.WHERE
@click.option("--dry-run", is_flag=True, help="Write nothing; say what would go, and what stays for what.")
@click.option(
    "--lost",
    multiple=True,
    metavar="TEMPLATE-ID",
    callback=_ids,
    shell_complete=stored.lost,
    help="Its head is gone for good, as s3reg fsck tells: what is left of it goes. Again for more of them.",
)
@click.pass_obj
def gc(asked: Asked, /, url: str | None, *, dry_run: bool, lost: tuple[str, ...], **told: str | None) -> None:
    """Remove what nobody needs any more.

    Packs, maps and versions that neither a template, its trash nor a push under way names; what lies too long in the trash;
    pushes that nobody goes on with. Any number may run at once, from anywhere, while registries serve the store. Ctrl-C ends
    it between two steps; what is left, the next one removes. A registry over a directory does this by itself, once a day.

    How long the trash keeps a version was settled when it was removed. How long events are kept is said as to a registry;
    say the same to both.
    """
    read = flags.read(told, url, quietly=True)
    registry = registry_over(flags.existing_store(read), read)
    done = Swept(dry_run)

    def note(now: Swept) -> None:
        nonlocal done
        done = now
        show(now)
        check()

    try:
        with _ending_between_steps() as check, _shown(quiet=asked.machine_readable) as show:
            registry.sweep(dry_run=dry_run, lost=lost, told=note)
    except (KeyboardInterrupt, S3regError):
        _tell_so_far(done, asked)
        raise
    text = _forecast(done) if dry_run else _summary(done)
    output.give(Answer(_body(done), "swept", text), machine_readable=asked.machine_readable)


@contextlib.contextmanager
def _ending_between_steps() -> Iterator[Callable[[], None]]:
    """A signal that should end the process does so where the given function is called next; a second one, at once."""
    usual = {number: handler for number in ENDING if callable(handler := signal.getsignal(number))}
    came: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        usual[signal.Signals(number)](number, frame)

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1:
            end(number, frame)

    def check() -> None:
        if came:
            end(came[0], None)

    for number in usual:
        signal.signal(number, note)
    try:
        yield check
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _shown(*, quiet: bool) -> Iterator[Callable[[Swept], None]]:
    """Shows a person at a terminal how far it is."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    with Console(stderr=True).status("") as status:
        yield lambda done: status.update(_at(done))


def _at(done: Swept) -> str:
    match done.step:
        case "listing":
            return f"listing: {counted(done.listed, 'object')}, {decimal(done.listed_bytes)}"
        case "removing":
            return f"removing: {done.removed:,} of {done.unnamed:,} objects, {decimal(done.freed)}"
    return f"{done.step}: {counted(done.heads, 'template')}" if done.step else ""


def _tell_so_far(done: Swept, asked: Asked) -> None:
    """What was done before it ended early: a line in the talk, or one before a program's answer."""
    if asked.machine_readable:
        sys.stdout.write(json.dumps({"swept": _body(done)}) + "\n")
        sys.stdout.flush()
    elif not done.dry_run and (went := _went(done)):
        sys.stderr.write(f"until then: {'; '.join(went)}\n")


# --- Words ------------------------------------------------------------------------------------------------------------


def _summary(done: Swept) -> str:
    """One line."""
    objects, *besides = _went(done) or ["0 objects removed, 0 bytes"]
    return "; ".join((objects, _stays(done), *besides, *_ahead(done)))


def _stays(done: Swept) -> str:
    """How much is there for what: who asks why a store is so big should not have to ask again."""
    whys = [
        (done.live_bytes, done.templates, f"for {counted(done.templates, 'template')}"),
        (done.trash_bytes, done.trash_versions, "for the trash (s3reg trash list)"),
        (done.held, done.sessions, f"for {counted(done.sessions, 'push', 'pushes')} under way (s3reg sessions list)"),
    ]
    told = ", ".join(f"{decimal(size)} {why}" for size, count, why in whys if size or count)
    return f"stays: {told or 'nothing'}"


def _went(done: Swept) -> list[str]:
    """What was done: of objects, then besides; nothing if nothing was."""
    besides = [
        *(f"{text} left the trash" for text in _some(done.purged, "version")),
        *(f"{text} given up" for text in _some(done.given_up, "push", "pushes")),
        *(counted(count, kind.removesuffix("s"), kind) for kind, count in done.cleared.items()),
        *(f"{text} left alone" for text in _some(done.foreign_count, "foreign key")),
    ]
    if not done.removed and not besides:
        return []
    return [f"{counted(done.removed, 'object')} removed, {decimal(done.freed)}", *filter(None, [", ".join(besides)])]


def _forecast(done: Swept) -> tuple[Columns | str, ...]:
    """What would go, and what stays for what."""
    now = time.time()
    listed = f"for what {counted(done.templates, 'template lists', 'templates list')}"
    trash = f"what only the trash needs: {counted(done.trash_versions, 'version')}"
    if done.trash_until is not None:
        trash += f", the first until {when(done.trash_until)}"
    rows = [
        ("would go", f"{done.removed:,}", decimal(done.freed), "nobody needs it"),
        ("stays", f"{done.live:,}", decimal(done.live_bytes), listed),
        ("stays", f"{done.trash:,}", decimal(done.trash_bytes), trash),
        (
            "stays",
            f"{done.held_objects:,}",
            decimal(done.held),
            f"for {counted(done.sessions, 'push', 'pushes')} under way",
        ),
        *(("", "", decimal(one.stored), _push(one, now)) for one in done.pushes),
        *(("would leave the trash", "", "", text) for text in _some(done.purged, "version")),
        *(("would be given up", "", "", text) for text in _some(done.given_up, "push", "pushes")),
        *(("stays", "", "", text) for text in _ahead(done)),
        *(("would go", f"{count:,}", "", kind) for kind, count in done.cleared.items()),
        *(("left alone", "", "", key) for key in done.foreign),
    ]
    more = done.foreign_count - len(done.foreign)
    rows += [("left alone", f"{more:,}", "", "more such keys")] if more > 0 else []
    return (Columns(("", "objects", "size", ""), rows),)


def _push(one: UnderWay, now: float) -> str:
    assert one.session is not None, "a sweep that cannot read one stops"
    opened = one.beat if one.session.opened is None else one.session.opened
    template = one.name or f"new template {one.session.template}"
    heard = f"opened {_ago(now - opened)} ago, heard of {_ago(now - one.beat)} ago"
    return f"{template}, by {one.session.owner}, {heard}: {one.id}"


def _ago(seconds: float) -> str:
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= 2 * unit:
            return f"{seconds // unit:.0f} {name}"
    return f"{max(0, seconds):.0f} s"


def _ahead(done: Swept) -> list[str]:
    """Of pushes that no sweep gives up before that time has come, what a person may do."""
    why = "heard of at a time to come (the store's clock was set back): s3reg sessions abort ends what nobody goes on with"
    return [f"{text} {why}" for text in _some(done.ahead, "push", "pushes")]


def _some(count: int, one: str, many: str = "") -> list[str]:
    """So many of them; nothing if there are none."""
    return [counted(count, one, many)] if count else []


def _body(done: Swept) -> dict[str, Any]:
    return {
        "dry_run": done.dry_run,
        "removed": {"objects": done.removed, "bytes": done.freed},
        "listed": {"objects": done.listed, "bytes": done.listed_bytes},
        "stays": {
            "templates": {"count": done.templates, "objects": done.live, "bytes": done.live_bytes},
            "trash": {
                "versions": done.trash_versions,
                "objects": done.trash,
                "bytes": done.trash_bytes,
                "until": done.trash_until,
            },
            "pushes": {
                "count": done.sessions,
                "ahead": done.ahead,
                "objects": done.held_objects,
                "bytes": done.held,
                "sessions": [_push_body(one) for one in done.pushes],
            },
            "rescued": done.rescued,
        },
        "purged": done.purged,
        "given_up": done.given_up,
        "cleared": dict(done.cleared),
        "foreign": {"count": done.foreign_count, "keys": list(done.foreign)},
    }


def _push_body(one: UnderWay) -> dict[str, Any]:
    assert one.session is not None, "a sweep that cannot read one stops"
    return {
        "session": one.id,
        "uuid": one.session.template,
        "name": one.name,
        "owner": one.session.owner,
        "opened": one.session.opened,
        "beat": int(one.beat),
        "until": int(one.until),
        "bytes": one.stored,
    }
