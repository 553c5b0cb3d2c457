"""`config`: what a registry is told, and by whom; and whether it could start with it. Nothing is started or written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from s3reg import settings, telemetry
from s3reg.cli import flags, output, rehearsal
from s3reg.cli.output import Answer, Columns, counted
from s3reg.telemetry import WITHHELD, redact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from s3reg.cli.options import Asked
    from s3reg.cli.rehearsal import Step
    from s3reg.configuration import Reading, Told

DEFAULT = "default"


@click.group()
def config() -> None:
    """Look at what a registry is told: options, environment, file."""


@flags.taking("")
@config.command(epilog=flags.secrets())
@click.pass_obj
def show(asked: Asked, /, **told: str | None) -> None:
    """Show every setting, and who said it.

    An option, a variable, a line of the file, or nobody. With the options that serve gets, it shows what serve would go by.
    Secrets are not shown.
    """
    reading = flags.gather(told)
    reading.settings()
    rows = [(one.setting.name, _spelled(_shown(one)), _source(one, reading)) for one in reading.told]
    body = {one.setting.name: {"value": _shown(one), "source": _source(one, reading)} for one in reading.told}
    text = Columns(("setting", "value", "from"), rows)
    output.give(Answer(body, "settings", text), machine_readable=asked.machine_readable)


@flags.taking("")
@config.command(epilog=flags.secrets())
@click.pass_obj
def check(asked: Asked, /, **told: str | None) -> None:
    """Do all that serve does before it serves, and start nothing.

    Everything that stands in the way is named, with what to do, and it ends with the exit code of the first of it, or 0. An
    address at which somebody listens is told, and is no failure: it may be the registry that runs.
    """
    telemetry.configure(level="error")
    steps = rehearsal.rehearse(flags.gather(told))
    code = next((one.trouble.kind.exit_code for one in steps if one.trouble is not None and not one.advice), 0)
    body = [_body(one) for one in steps]
    text = (Columns(("", "", "", "what to do"), [_row(one) for one in steps], below=("what to do",)), _summary(steps))
    message = _summary(steps)
    output.give(Answer(body, message, text), machine_readable=asked.machine_readable, code=code)
    if code:
        raise click.exceptions.Exit(code)


def _shown(one: Told) -> Any:
    """The value as YAML and JSON have it; of a secret only that there is one."""
    value = one.value
    if one.setting.is_secret:
        return None if value is None else WITHHELD
    if isinstance(value, tuple):
        return [str(part) for part in value]
    return redact(value) if isinstance(value, str) else value


def _spelled(value: Any) -> str:
    """For people, as a file of settings has it."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case list():
            return ", ".join(value)
    return str(value)


def _source(one: Told, reading: Reading) -> str:
    if one.source is None and one.setting.name == "root_token":
        places = [name for name in settings.ROOT_TOKEN_SOURCES if reading.source(name) is not None]
        return places[0] if places else DEFAULT
    return one.source or DEFAULT


def _body(one: Step) -> dict[str, Any]:
    return {
        "step": one.name,
        "ok": one.trouble is None,
        "advice": one.advice,
        "said": one.said,
        "code": None if one.trouble is None else one.trouble.code,
        "remedy": None if one.trouble is None else one.trouble.next_step,
    }


def _row(one: Step) -> tuple[str, ...]:
    mark = "✓" if one.trouble is None and not one.advice else "!" if one.advice else "✗"
    return mark, one.name, one.said, "" if one.trouble is None else one.trouble.next_step


def _summary(steps: Sequence[Step]) -> str:
    wrong = sum(one.trouble is not None and not one.advice for one in steps)
    return f"{counted(wrong, 'thing')} in the way of a start" if wrong else "a registry could start with these settings"
