"""Completion of the command line by the shell: click's machinery, without its ways to disturb a terminal."""

from __future__ import annotations

import contextlib
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click import shell_completion

from s3reg.cli import output
from s3reg.cli.options import Asked
from s3reg.cli.output import Answer

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

VARIABLE = "_S3REG_COMPLETE"
"""By it the shell's script asks."""
PROGRAM = "s3reg"
SHELLS = ("bash", "zsh", "fish")


class _Bash(shell_completion.BashComplete):
    """Bash as it is: it cuts words at colons and equals signs, and takes a candidate as it stands into the command line.

    So words are put together again, what is before the last colon is left out of a candidate, and a blank gets its quotes.
    """

    _before = 0
    """Characters of the word that bash keeps."""

    def get_completion_args(self) -> tuple[list[str], str]:
        args, incomplete = super().get_completion_args()
        *args, incomplete = _whole_words([*args, incomplete])
        value = incomplete.partition("=")[2] if incomplete.startswith("--") else incomplete
        self._before = value.rfind(":") + 1
        return args, incomplete

    def format_completion(self, item: CompletionItem[Any]) -> str:
        return f"{item.type},{shlex.quote(item.value[self._before :]) if item.type == 'plain' else item.value}"


def _whole_words(pieces: list[str]) -> list[str]:
    """The words of a command line that bash cut at colons and equals signs, which are pieces of their own then."""
    words: list[str] = []
    cut = False
    for piece in pieces:
        is_break = bool(piece) and not piece.strip(":=")
        if words and (is_break or cut):
            words[-1] += piece
        else:
            words.append(piece)
        cut = is_break
    return words


shell_completion.add_completion_class(_Bash)


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a shell's completion script.

    With it the shell completes commands, options, registries, VMs and tags, from its next start on:

    bash, in ~/.bashrc:  eval "$(s3reg completion bash)"

    zsh, in ~/.zshrc after compinit:  eval "$(s3reg completion zsh)"

    fish, once:  s3reg completion fish > ~/.config/fish/completions/s3reg.fish
    """
    found = shell_completion.get_completion_class(shell)
    assert found is not None
    script = found(context.find_root().command, {}, PROGRAM, VARIABLE).source()
    output.give(Answer(script, "", script), machine_readable=context.obj.machine_readable)


def answer(program: click.Command, instruction: str) -> int:
    """Print what the shell asked for in `instruction` and in its variables, or nothing; gives the exit code."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
        try:
            return shell_completion.shell_complete(program, {"obj": Asked()}, PROGRAM, VARIABLE, instruction)
        except Exception:  # noqa: BLE001 - whoever types a command is not to be told about anything else
            return 1


COMMANDS = (completion,)
