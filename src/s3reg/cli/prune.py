"""`prune`: takes out of templates the versions that no rule keeps.

The rules are the caller's: the registry only tells what there is and takes out what it is told, version by version and each
by its id. So what was pushed, pulled or taken out since somebody looked is not touched: it is looked at again just before.
"""

from __future__ import annotations

import contextlib
import sys
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
from s3reg.errors import Invalid, Kind, RecordDamaged, S3regError, TemplateChanged, TemplateNotFound, VersionNotFound
from s3reg.wire import trash, usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from s3reg.cli.options import Asked
    from s3reg.client.connection import Connection
    from s3reg.wire.usage import UsedTemplate, UsesAnswer

TRIES = 4
"""Of a template that others change at the same time."""
_ITS_OWN = {Kind.CONFLICT, Kind.DAMAGED, Kind.FORBIDDEN, Kind.NOT_FOUND}
"""After these the next template may fare better."""
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


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
    failed: list[tuple[UsedTemplate, S3regError]]
    """Templates that were left as they were, or that not all went from that should have."""
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
    "--policy",
    metavar="FILE",
    type=_FILE,
    help="Rules for groups of templates, by patterns of names or by domain, as YAML, instead of these options.",
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
    Of a policy, the first clause that is for a template counts; one that no clause is for is left alone.
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
        done = _Done([])
        judged = _judged(connection, templates, clauses, done)
        going = sum(len(one.going) for one in judged)
        frees = _frees(connection, judged)
        if going and not dry_run:
            what = f"{_told(judged)} will be removed."
            output.confirm(what, yes=yes, machine_readable=asked.machine_readable)
            _apply(connection, judged, done)
    body = {
        "templates": [_body(one) for one in judged],
        "dry_run": dry_run,
        "going": going,
        "removed": done.removed,
        "frees": frees,
        "until": done.until,
        "failed": [_failure(template, error) for template, error in done.failed],
    }
    rows = _rows(judged, kept=dry_run)
    table = Columns(("template", "tag", "made", "pulled", "size", ""), rows)
    summary = _forecast(going, frees) if dry_run or not going else _summary(done, frees)
    text = (table, "", summary) if rows else summary
    code = done.failed[0][1].kind.exit_code if done.failed else 0
    output.give(Answer(body, "pruned", text), machine_readable=asked.machine_readable, code=code)
    if code:
        _tell(done.failed, quiet=asked.machine_readable)
        raise click.exceptions.Exit(code)


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
    return [Clause(rule)]


def _uses(connection: Connection, ref: str | None) -> UsesAnswer:
    found = connection.ask(usage.UsesAnswerSchema, "GET", f"{wire.PREFIX}/uses", query={"ref": ref})
    assert isinstance(found, usage.UsesAnswer)
    return found


def _judged(connection: Connection, templates: Sequence[str], clauses: Sequence[Clause], done: _Done) -> list[_Judged]:
    """Those that a clause is for, each once; nothing is done on a damaged record's word: that is noted."""
    found: dict[str, _Judged] = {}
    for ref in templates or (None,):
        uses = _uses(connection, ref)
        for one in uses.templates:
            clause = retention.clause_for(clauses, one)
            if clause is None:
                continue
            if one.damaged:
                what = f"the head of template {one.template}"
                done.failed.append((one, RecordDamaged(what=what, reason=one.damaged)))
                continue
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


def _apply(connection: Connection, judged: Sequence[_Judged], done: _Done) -> None:
    """Take out what goes still, template by template. One that fails is noted, and the others have their turn."""
    for one in judged:
        left = {verdict.version.version for verdict in one.going}
        if not left:
            continue
        try:
            _take_out(connection, one, left, done)
        except S3regError as e:
            done.failed.append((one.template, e))
            if e.kind not in _ITS_OWN:
                return
        else:
            done.stayed += len(left)


def _take_out(connection: Connection, one: _Judged, left: set[str], done: _Done) -> None:
    """Take these out of a template, as far as they go still: looked at again, and again if others change it meanwhile.

    In `left` stays what does not. Raises TemplateChanged, VersionNotFound.
    """
    for attempt in range(1, TRIES + 1):
        with contextlib.suppress(TemplateNotFound):
            uses = _uses(connection, one.template.template)
            now = retention.judged(uses.templates[0].versions, one.clause.rule, uses.now)
            try:
                for version in [each.version.version for each in now if each.goes and each.version.version in left]:
                    _untag(connection, one.template.template, version, now[-1].version.version, done)
                    left.remove(version)
            except (TemplateChanged, VersionNotFound):
                if attempt == TRIES:
                    raise
                continue
        return


def _untag(connection: Connection, template: str, version: str, newest: str, done: _Done) -> None:
    """Take it out while `newest` is the newest: else it could be the last one, which no rule takes."""
    wanted = trash.Untag(operation(), template, version=version, newest=newest)
    gone = connection.ask(wire.RevertedSchema, "POST", f"{wire.PREFIX}/untag", wire.write(wanted))
    done.until = max(filter(None, (done.until, gone.until)), default=None)
    done.removed += 1


def _body(one: _Judged) -> dict[str, Any]:
    versions = [{**wire.write(each.version), "kept": each.reason or None} for each in one.verdicts]
    return {"uuid": one.template.template, "name": one.template.name, "versions": versions}


def _failure(template: UsedTemplate, error: S3regError) -> dict[str, Any]:
    return {"uuid": template.template, "name": template.name, "code": error.code, "message": str(error)}


def _tell(failed: Sequence[tuple[UsedTemplate, S3regError]], *, quiet: bool) -> None:
    """A line for each, where people read."""
    for template, error in [] if quiet else failed:
        told = str(error) if str(error).startswith(template.name) else f"{template.name}: {error}"
        sys.stderr.write(output.plain(f"s3reg: {told}; {error.next_step}") + "\n")


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
