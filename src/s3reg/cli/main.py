"""The program `s3reg`: finds the command, and is the one place where a failure becomes a line and an exit code.

stderr gets what went wrong and the next thing to try; the exit code is the error's kind, 143 after SIGTERM, 141 when whoever
read our output went away. With `--machine-readable` stdout gets the same as a JSON object. Ctrl-C ends it within a second
(cli/interrupts.py).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from s3reg import __version__, telemetry
from s3reg.cli import (
    access,
    completion,
    du,
    environment,
    events,
    groups,
    keys,
    node,
    output,
    prune,
    registry,
    sessions,
    shim,
    trash,
    vm,
)
from s3reg.cli.interrupts import SHOW_CURSOR, Watchdog
from s3reg.cli.options import Asked, OpenGroup, share
from s3reg.client import platform
from s3reg.errors import Interrupted, S3regError, ServerMissing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

TERMINATED = 128 + signal.SIGTERM
PIPE_CLOSED = 128 + signal.SIGPIPE
SERVER_COMMANDS = ("serve", "config", "store", "gc", "adopt", "fsck")


class _Terminated(KeyboardInterrupt):
    """SIGTERM: whatever tidies up after Ctrl-C tidies up after this too."""


class Program(OpenGroup):
    """The commands; those of the server are looked for only when they are asked for: a node has no flask."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command's name, the node's first; in one order, whichever were looked for before."""
        return [*(name for name in super().list_commands(ctx) if name not in SERVER_COMMANDS), *SERVER_COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name. One of the server's that is not installed raises ServerMissing when it is run."""
        if cmd_name in SERVER_COMMANDS and cmd_name not in self.commands:
            self.add_command(share(_server_command(cmd_name), hidden=True), cmd_name)
        return super().get_command(ctx, cmd_name)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What is taken from the environment."""
        if ctx:
            with formatter.section("Environment, where no option says otherwise (the first name that is set wins)"):
                formatter.write_dl([(", ".join(row.names), row.meaning) for row in environment.VARIABLES])


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="s3reg %(version)s")
@click.pass_context
def program(context: click.Context) -> None:
    """Push and pull virtual-machine templates; keep them in object storage.

    The options below go before a command's name or after it.
    """
    watchdog = context.meta.get(Watchdog.__name__)
    if watchdog is not None and context.invoked_subcommand not in SERVER_COMMANDS:
        watchdog.arm()


share(program, outermost=True)
for _command in (
    *registry.COMMANDS,
    *node.FILE_COMMANDS,
    registry.registry,
    *trash.COMMANDS,
    *prune.COMMANDS,
    *du.COMMANDS,
    *vm.COMMANDS,
    *keys.COMMANDS,
    *groups.COMMANDS,
    *access.COMMANDS,
    *events.COMMANDS,
    *sessions.COMMANDS,
    *shim.COMMANDS,
    *completion.COMMANDS,
):
    program.add_command(_command)


def main() -> NoReturn:
    """Run the program with this process's arguments and end the process."""
    _open_streams()
    asking = os.environ.get(completion.VARIABLE)
    if asking:
        sys.exit(completion.answer(program, asking))
    arguments, asked = sys.argv[1:], Asked()
    watchdog = Watchdog(lambda number: _last_words(number, machine_readable=_wants_json(asked, arguments)))
    sys.exit(run(arguments, asked, watchdog))


def _open_streams() -> None:
    """Let a stream that the caller closed lead nowhere: the next file to be opened would get its number, and its words."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8"))


def run(arguments: Sequence[str], asked: Asked | None = None, watchdog: Watchdog | None = None) -> int:
    """Run the program with these arguments; gives its exit code. Everything there is to say has been printed.

    `watchdog` is armed for a node's commands; a registry sees to its end itself.
    """
    asked = Asked() if asked is None else asked
    signal.signal(signal.SIGTERM, _end)
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding lacks must not end the program.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    # The libraries' words too, without what may be used as a credential.
    telemetry.configure(level="warning")
    try:
        with platform.refusals_named(Path()):
            _invoke(arguments, asked, watchdog)
        _speak(watchdog)
    except click.exceptions.Exit as e:
        return e.exit_code
    except BaseException as e:  # noqa: BLE001 - the end of every error's journey; none is hidden here
        _speak(watchdog)
        asked.machine_readable = _wants_json(asked, arguments)
        return _told(e, asked)
    return 0


def _invoke(arguments: Sequence[str], asked: Asked, watchdog: Watchdog | None) -> None:
    try:
        with program.make_context("s3reg", list(arguments), obj=asked) as context:
            context.meta[Watchdog.__name__] = watchdog
            program.invoke(context)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has enough. The interpreter would complain when it flushes at its end: it may, nowhere.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(PIPE_CLOSED) from None


def _speak(watchdog: Watchdog | None) -> None:
    """Return if it is for this thread to say how it ended; else the watchdog is saying it, and ends the process."""
    while watchdog is not None and not watchdog.claim():
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


def _wants_json(asked: Asked, arguments: Sequence[str]) -> bool:
    """Also if the command line was not understood."""
    said = next(filter(None, map(os.environ.get, environment.MACHINE_READABLE.names)), "")
    return (
        asked.machine_readable
        or bool({"-j", "--machine-readable"} & set(arguments))
        or said.lower() in {"1", "true", "t", "yes", "y", "on"}
    )


def _last_words(number: int, *, machine_readable: bool) -> None:
    """What `_told` says of an interruption, past whatever the streams' buffers hold and a thread that is stuck may lock."""
    error = Interrupted()
    if machine_readable:
        told = output.failure(str(error), error.next_step, 128 + number, Interrupted.__name__)
        os.write(1, told.encode())
    else:
        cursor = SHOW_CURSOR if os.isatty(2) else ""
        os.write(2, f"{cursor}s3reg: {error}\n       {error.next_step}\n".encode())


def _told(error: BaseException, asked: Asked) -> int:
    """Say what went wrong; gives the exit code."""
    if asked.talkative and not isinstance(error, click.ClickException):
        sys.stderr.write(telemetry.redact("".join(traceback.format_exception(error))))
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, click.ClickException):
        return _misused(error, asked)
    if isinstance(error, KeyboardInterrupt | click.Abort):
        exit_code = TERMINATED if isinstance(error, _Terminated) else Interrupted.kind.exit_code
        return _failed(Interrupted(), exit_code, asked)
    if isinstance(error, S3regError):
        return _failed(error, error.kind.exit_code, asked)
    return _unexpected(error, asked)


def _failed(error: S3regError, exit_code: int, asked: Asked) -> int:
    output.give_error(error, exit_code, machine_readable=asked.machine_readable)
    return exit_code


def _misused(error: click.ClickException, asked: Asked) -> int:
    """A command line that makes no sense, or an empty one."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return error.exit_code
    context = error.ctx if isinstance(error, click.UsageError) else None
    output.tell_failure(
        error.format_message(),
        f"{context.command_path if context else 's3reg'} --help tells more",
        error.exit_code,
        type(error).__name__,
        machine_readable=asked.machine_readable,
    )
    return error.exit_code


def _unexpected(error: BaseException, asked: Asked) -> int:
    """A defect of ours: one line, the rest with --debug."""
    name = type(error).__name__
    reason = telemetry.redact(f"{name}: {error}" if str(error) else name)
    failure = S3regError(reason=reason)
    output.tell_failure(
        str(failure),
        "repeat it with --debug and report what it shows" if not asked.talkative else "report it with the lines above",
        failure.kind.exit_code,
        name,
        machine_readable=asked.machine_readable,
    )
    return failure.kind.exit_code


def _end(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    raise _Terminated


def _server_command(name: str) -> click.Command:
    try:
        # Not above: a node's install lacks what it imports.
        from s3reg.cli import server  # noqa: PLC0415
    except ImportError as e:
        if (e.name or "s3reg").partition(".")[0] == "s3reg":
            raise
        return _missing(name, e.name or "?")
    return server.commands[name]


def _missing(name: str, module: str) -> click.Command:
    def refuse() -> None:
        raise ServerMissing(command=name, module=module)

    return click.Command(
        name,
        callback=refuse,
        help="Not installed: pip install 's3reg[server]'.",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )


if __name__ == "__main__":
    main()
