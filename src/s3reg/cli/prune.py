"""`prune`: takes out of templates the versions that no rule keeps.

The rules are the caller's: the registry only tells what there is and takes out what it is told, version by version and each
by its id. So what was pushed, pulled or taken out since somebody looked is not touched: it is looked at again just before.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.filesize import decimal

from s3reg import wire
from s3reg.cli import candidates, output
from s3reg.cli.du import check_named
from s3reg.cli.node import connected, when
from s3reg.cli.output import Answer, Columns
from s3reg.cli.removal import operation
from s3reg.client import retention
from s3reg.client.periods import period
from s3reg.client.retention import Clause, Rule, Verdict
from s3reg.errors import Invalid, TemplateNotFound, VersionNotFound
from s3reg.wire import trash, usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from s3reg.cli.options import Asked
    from s3reg.client.connection import Connection
    from s3reg.wire.usage import UsedTemplate, UsesAnswer

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_ALL = ("*",)


@dataclass(slots=True)
class _Judged:
    """A template and what becomes of its versions."""

    template: UsedTemplate
    clause: Clause
    verdicts: list[Verdict]

    @property
    def going(self) -> list[Verdict]:
        return [one for one in self.verdicts if one.goes]


@dataclass(slots=True)
class _Done:
    removed: int = 0
    stayed: int = 0
    """That should have gone, and were used, or taken out by somebody, meanwhile."""
    until: int | None = None


@click.command()
@click.argument("templates", nargs=-1, metavar="[TEMPLATE]...", shell_complete=candidates.templates)
@click.option("--keep-last", metavar="N", type=click.IntRange(1), help="Keep the newest N.")
@click.option("--keep-within", metavar="PERIOD", help="Keep what was made within this time: 12h, 30d, 2w.")
@click.option("--keep-tag", "keep_tags", metavar="GLOB", multiple=True, help="Keep tags like this; repeatable.")
@click.option("--unused-for", metavar="PERIOD", help="Keep what was made or pulled within this time.")
@click.option(
    "--policy", metavar="FILE", type=_FILE, help="Rules for each template, as YAML, instead of these options."
)
@click.option("--dry-run", is_flag=True, help="Show what would go, and why the rest stays; change nothing.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask. Without a terminal, and with -j, nobody is asked anyway.")
@click.pass_obj
def prune(
    asked: Asked,
    /,
    templates: tuple[str, ...],
    *,
    keep_last: int | None,
    keep_within: str | None,
    keep_tags: tuple[str, ...],
    unused_for: str | None,
    policy: Path | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Take out of templates, all or these, the versions that no rule keeps.

    A version stays if any rule keeps it, and the newest one always does. What went can be restored for a while: s3reg trash.
    """
    check_named(templates)
    rule = Rule(
        keep_last=keep_last,
        keep_within=None if keep_within is None else period(keep_within, "--keep-within"),
        keep_tags=keep_tags,
        unused_for=None if unused_for is None else period(unused_for, "--unused-for"),
    )
    clauses = _clauses(rule, policy)
    with connected(asked) as connection:
        judged = _judged(connection, templates, clauses)
        going = sum(len(one.going) for one in judged)
        frees = _frees(connection, judged)
        done = _Done()
        if going and not dry_run:
            what = f"{_told(judged)} will be removed."
            output.confirm(what, yes=yes, machine_readable=asked.machine_readable)
            for one in judged:
                _apply(connection, one, done)
    body = {
        "templates": [_body(one) for one in judged],
        "dry_run": dry_run,
        "going": going,
        "removed": done.removed,
        "frees": frees,
        "until": done.until,
    }
    rows = _rows(judged, kept=dry_run)
    table = Columns(("template", "tag", "made", "pulled", "size", ""), rows)
    summary = _forecast(going, frees) if dry_run or not going else _summary(done, frees)
    text = (table, "", summary) if rows else summary
    output.give(Answer(body, "pruned", text), machine_readable=asked.machine_readable)


def _clauses(rule: Rule, policy: Path | None) -> Sequence[Clause]:
    if policy is not None:
        if rule.says_something:
            raise Invalid(reason="--policy has rules of its own; leave the other rules out")
        return retention.read_policy(policy.read_text(encoding="utf-8", errors="replace"), str(policy))
    if not all(pattern.strip() for pattern in rule.keep_tags):
        raise Invalid(reason="--keep-tag is blank: it keeps nothing; leave it out, or say which tags stay")
    if not rule.says_something:
        raise Invalid(
            reason="without a rule every version but the newest would go; "
            "say what stays: --keep-last, --keep-within, --keep-tag, --unused-for"
        )
    return [Clause(_ALL, rule)]


def _uses(connection: Connection, ref: str | None) -> UsesAnswer:
    found = connection.ask(usage.UsesAnswerSchema, "GET", f"{wire.PREFIX}/uses", query={"ref": ref})
    assert isinstance(found, usage.UsesAnswer)
    return found


def _judged(connection: Connection, templates: Sequence[str], clauses: Sequence[Clause]) -> list[_Judged]:
    """Those that a clause is for, each once; nothing is done on a damaged record's word."""
    found: dict[str, _Judged] = {}
    for ref in templates or (None,):
        uses = _uses(connection, ref)
        for one in uses.templates:
            clause = retention.clause_for(clauses, one)
            if clause is not None and not one.damaged:
                found[one.template] = _Judged(one, clause, retention.judged(one.versions, clause.rule, uses.now))
    return list(found.values())


def _frees(connection: Connection, judged: Sequence[_Judged]) -> int:
    """Bytes that go in the end with what goes; where that is more than one request holds, at least so many."""
    going = [wire.VersionRef(one.template.template, each.version.version) for one in judged for each in one.going]
    freed = 0
    for start in range(0, len(going), usage.MOST_GOING):
        asked = usage.Going(tuple(going[start : start + usage.MOST_GOING]))
        answer = connection.ask(usage.FreedSchema, "POST", f"{wire.PREFIX}/usage/frees", wire.write(asked))
        freed += answer.frees
    return freed


def _apply(connection: Connection, one: _Judged, done: _Done) -> None:
    """Take out of a template what goes still."""
    going = {verdict.version.version for verdict in one.going}
    if not going:
        return
    with contextlib.suppress(TemplateNotFound):
        uses = _uses(connection, one.template.template)
        now = [each for each in retention.judged(uses.templates[0].versions, one.clause.rule, uses.now) if each.goes]
        for version in [each.version.version for each in now if each.version.version in going]:
            with contextlib.suppress(TemplateNotFound, VersionNotFound):
                wanted = trash.Untag(operation(), one.template.template, version=version)
                gone = connection.ask(wire.RevertedSchema, "POST", f"{wire.PREFIX}/untag", wire.write(wanted))
                done.until = max(filter(None, (done.until, gone.until)), default=None)
                done.removed += 1
                going.remove(version)
    done.stayed += len(going)


def _body(one: _Judged) -> dict[str, Any]:
    versions = [{**wire.write(each.version), "kept": each.reason or None} for each in one.verdicts]
    return {"uuid": one.template.template, "name": one.template.name, "versions": versions}


def _rows(judged: Sequence[_Judged], *, kept: bool) -> list[tuple[str, ...]]:
    return [
        (
            one.template.name,
            each.version.tag,
            when(each.version.created),
            when(each.version.last_pull) or "never",
            decimal(each.version.size),
            f"stays: {each.reason}" if each.reason else "goes",
        )
        for one in judged
        for each in one.verdicts
        if kept or each.goes
    ]


def _told(judged: Sequence[_Judged]) -> str:
    going = [one for one in judged if one.going]
    tags = "; ".join(f"{', '.join(each.version.tag for each in one.going)} of {one.template.name}" for one in going)
    return (
        tags if len(tags) < _LONGEST else f"{sum(len(one.going) for one in going)} versions of {len(going)} templates"
    )


_LONGEST = 400
"""Characters that a person is asked about by name."""


def _forecast(going: int, frees: int) -> str:
    if not going:
        return "nothing goes: some rule keeps every version"
    return f"{going} would go: {decimal(frees)}, with the first sweep after their time in the trash"


def _summary(done: _Done, frees: int) -> str:
    stayed = f"; {done.stayed} used or taken out meanwhile were left alone" if done.stayed else ""
    until = f" after {when(done.until)}; until then s3reg trash restore brings them back" if done.until else ""
    return f"{done.removed} removed{stayed}: about {decimal(frees)} go with the first sweep{until}"


COMMANDS = (prune,)
