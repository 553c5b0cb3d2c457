"""`s3reg shim`: an `anka` script, so that what calls Anka's command line reaches this registry without being changed.

The script is what other programs run instead of Anka, so it adds nothing to a call: builtins of the shell only, then one
exec, so that stdin, stdout, stderr, signals and the exit code are those of the program that answers.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from s3reg.cli import output
from s3reg.cli.output import Answer
from s3reg.client import platform
from s3reg.errors import ShimTaken

if TYPE_CHECKING:
    from s3reg.cli.options import Asked

NAME = "anka"
MARK = "# s3reg shim"
_MODE = 0o755
_SHEBANG = "#!/bin/sh"
_SCRIPT = r"""
# Written by `s3reg shim`: write it again instead of changing it.
#
# `anka registry …` is answered by s3reg. So are the commands that move, list and clone VMs, unless there is an Anka
# application further on in PATH or in /usr/local/bin. Everything else is the application's.

python=@PYTHON@

# The command's name, behind the options that may stand before it.
read_options() {
    word= json=
    while [ $# -gt 0 ]; do
        case $1 in
            -j | --machine-readable) json=yes ;;
            --debug | --log-level=*) ;;
            --log-level) [ $# -eq 1 ] || shift ;;
            *)
                word=$1
                return 0
                ;;
        esac
        shift
    done
}

# Whether a file is a script like this one: handing over to it, or to this one under another name, would never end.
is_shim() {
    first= second=
    { IFS= read -r first && case $first in '#!'*) IFS= read -r second ;; esac; } 2>/dev/null <"$1"
    [ "$second" = '@MARK@' ]
}

find_application() {
    application=
    left=$PATH:/usr/local/bin:
    while [ -n "$left" ]; do
        folder=${left%%:*}
        left=${left#*:}
        found=${folder:-.}/anka
        if [ -f "$found" ] && [ -x "$found" ] && ! is_shim "$found"; then
            application=$found
            return 0
        fi
    done
}

# Nobody can answer: said as Anka says its errors, with the exit code of a command that was not found.
refuse() {
    case ${json:-${ANKA_MACHINE_READABLE-}} in
        1 | true | yes | on)
            printf '{"status": "ERROR", "body": {}, "message": "%s", "code": 127, "exception_type": "NoApplication"}' "$1"
            ;;
        *) printf 'anka: %s\n' "$1" >&2 ;;
    esac
    exit 127
}

answer() {
    [ -x "$python" ] || refuse 's3reg is not where it was when this script was written: run s3reg shim again'
    # -P: a folder called s3reg where this is run is not the program.
    exec "$python" -P -m s3reg.cli.main "$@"
}

read_options "$@"
[ "$word" = registry ] || find_application
case $word,$application in
    registry,* | push, | pull,) answer "$@" ;;
    list, | show, | clone, | delete,) answer vm "$@" ;;
    , | -h, | --help,)
        echo 'anka: no Anka application is installed here; s3reg answers'
        echo '  anka registry ...'
        echo '  anka push, pull, list, show, clone, delete'
        ;;
    *,) refuse 'no Anka application is installed here; s3reg answers only registry, push, pull, list, show, clone, delete' ;;
    *) exec "$application" "$@" ;;
esac
"""


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("-f", "--force", is_flag=True, help="Replace whatever is called anka there.")
@click.pass_obj
def shim(asked: Asked, folder: Path, force: bool) -> None:
    """Write an anka script that answers Anka's registry commands.

    Where no Anka application is installed it answers push, pull, list, show, clone and delete too; everything else goes to
    the application.
    """
    folder = folder.expanduser().absolute()
    target = folder / NAME
    with platform.refusals_named(target):
        folder.mkdir(parents=True, exist_ok=True)
        _write(target, script(sys.executable).encode(), force=force)
    text = f"wrote {target}\nput {folder} first in PATH"
    output.give(Answer({"path": str(target)}, f"wrote {target}", text), machine_readable=asked.machine_readable)


def script(python: str) -> str:
    """The script that runs s3reg with this interpreter."""
    body = _SCRIPT.replace("@MARK@", MARK).replace("@PYTHON@", shlex.quote(python))
    return f"{_SHEBANG}\n{MARK}{body}"


def _write(target: Path, data: bytes, *, force: bool) -> None:
    """Put the script in its place in one step. Raises ShimTaken if something else is there."""
    handle, name = tempfile.mkstemp(prefix=f".{NAME}-", dir=target.parent)
    aside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            os.fchmod(handle, _MODE)
            file.flush()
            os.fsync(handle)
        if force or _is_shim(target):
            aside.replace(target)
        else:
            platform.rename_exclusive(aside, target)
    except FileExistsError:
        raise ShimTaken(file=str(target)) from None
    finally:
        aside.unlink(missing_ok=True)


def _is_shim(target: Path) -> bool:
    """Whether a script of ours is there. A link to one is somebody else's decision."""
    if target.is_symlink() or not target.is_file():
        return False
    with target.open("rb") as file:
        return file.read(len(_SHEBANG) + 1 + len(MARK) + 1) == f"{_SHEBANG}\n{MARK}\n".encode()


COMMANDS = (shim,)
