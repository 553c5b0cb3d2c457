"""The options that every command takes, before its name and after it.

`s3reg -j --library DIR list` and `s3reg list -j --library DIR` are the same call. They are declared once, here; adding a
command to an `OpenGroup` gives it all of them but the spellings that it has itself (`delete -a` means all). What is said
after the command's name wins over what is said before it, and that over the environment.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from s3reg.cli import candidates, environment
from s3reg.client.connection import Access
from s3reg.client.login import keepable
from s3reg.client.remotes import ADDRESS_VARIABLES, Remote, Remotes, remotes_path
from s3reg.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable

_WHOLE = 500
"""Characters of a sentence that is not to be cut."""
_FILE = click.Path(dir_okay=False, path_type=Path)
_NO = {"", "0", "f", "false", "n", "no", "off"}
_FOLDER = click.Path(file_okay=False, path_type=Path)


@dataclass(slots=True)
class Asked:
    """What the shared options asked for."""

    remote: str | None = None
    """A configured registry's name, or an address."""
    registry: str | None = None
    """An address."""
    certificate: Path | None = None
    key: Path | None = field(default=None, repr=False)
    ca_bundle: Path | None = None
    insecure: bool = False
    key_id: str | None = None
    api_key: str | None = field(default=None, repr=False)
    """The name of a file, or the key's text."""
    library: Path | None = None
    machine_readable: bool = False
    debug: bool = False
    log_level: str | None = None
    only_default: bool = False
    """Leave out of account which registry the environment names."""

    @property
    def talkative(self) -> bool:
        """Whether a defect is told with all its lines."""
        return self.debug or (self.log_level or "").lower() == "debug"

    def remotes(self) -> Remotes:
        """The registries that this node knows."""
        return Remotes(remotes_path(os.environ))

    def chosen(self) -> Remote:
        """The registry to talk to, reached as the options say. Raises RegistryUnknown, NoRegistry, Invalid."""
        if self.remote is not None and self.registry is not None:
            raise Invalid(reason="-r and -a name two registries; give one of them")
        unasked = ADDRESS_VARIABLES if self.only_default else ()
        variables = {name: value for name, value in os.environ.items() if name not in unasked}
        remote = self.remotes().chosen(remote=self.remote, address=self.registry, environment=variables)
        return Remote(remote.name, self.access(remote.access))

    def access(self, known: Access) -> Access:
        """`known`, with what the options say instead. Paths become absolute: a stored one must work from everywhere."""
        return Access(
            known.url,
            ca_bundle=_absolute(self.ca_bundle) or known.ca_bundle,
            certificate=_absolute(self.certificate) or known.certificate,
            key=_absolute(self.key) or known.key,
            insecure=self.insecure or known.insecure,
            user=known.user,
            password=known.password,
            key_id=self.key_id or known.key_id,
            api_key=keepable(self.api_key) if self.api_key else known.api_key,
        )


class _Option(click.Option):
    """Of a flag, anything in the environment but a no means yes.

    Anka's plugin for Buildkite exports `ANKA_DEBUG=--debug`, others a level; neither may end every command.
    """

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        value = super().resolve_envvar_value(ctx)
        if value is None or not self.is_flag:
            return value
        return "0" if value.strip().lower() in _NO else "1"


@dataclass(frozen=True, slots=True)
class _Shared:
    """One shared option."""

    asks: str
    """The field of Asked that it sets."""
    spellings: tuple[str, ...]
    help: str
    kind: Any = None
    """None for a flag."""
    metavar: str | None = None
    variable: environment.Variable | None = None
    complete: Callable[[click.Context, click.Parameter, str], list[str]] | None = None

    def option(self, taken: set[str], *, outermost: bool, hidden: bool) -> click.Option | None:
        """The option without the spellings that are taken, or None if none is left."""
        left = [spelling for spelling in self.spellings if spelling not in taken]
        if not any(spelling.startswith("--") for spelling in left):
            return None
        more: dict[str, Any] = {"is_flag": True} if self.kind is None else {"type": self.kind, "metavar": self.metavar}
        return _Option(
            [f"shared_{self.asks}", *left],
            # Only the outermost option looks at the environment: else it would overrule what stands before the command.
            envvar=list(self.variable.names) if outermost and self.variable else None,
            default=None,
            expose_value=False,
            callback=_keep(self.asks),
            help=self.help,
            hidden=hidden,
            shell_complete=self.complete,
            **more,
        )


ALIASES = {"remove": "delete"}
"""What Anka 3 calls a command that is listed under the name that it has in Anka 2."""
SHARED = (
    _Shared(
        "remote",
        ("-r", "--remote", "--registry"),
        "A configured registry, by name or address.",
        str,
        "NAME",
        complete=candidates.remotes,
    ),
    _Shared("registry", ("-a", "--registry-path"), "A registry by its address.", str, "URL"),
    _Shared("certificate", ("-c", "-i", "--cert", "--pem"), "Client certificate (PEM).", _FILE, "FILE"),
    _Shared("key", ("-k", "--key"), "The certificate's private key (PEM).", _FILE, "FILE"),
    _Shared(
        "ca_bundle",
        ("--cacert", "--root-cert"),
        "Trust these authorities (PEM).",
        _FILE,
        "FILE",
        environment.CA_BUNDLE,
    ),
    _Shared("insecure", ("--insecure",), "Do not check the registry's certificate."),
    _Shared("key_id", ("--api-key-id",), "Log in with the API key of this id.", str, "ID"),
    _Shared("api_key", ("--api-key",), "The key itself: its file, or its text.", str, "FILE|KEY"),
    _Shared("library", ("--library",), "The folder with this node's VMs.", _FOLDER, "DIR", environment.LIBRARY),
    _Shared(
        "machine_readable",
        ("-j", "--machine-readable"),
        "One JSON object on stdout, last and without a newline behind it.",
        variable=environment.MACHINE_READABLE,
    ),
    _Shared("debug", ("--debug",), "Say more on stderr.", variable=environment.DEBUG),
    _Shared(
        "log_level",
        ("--log-level",),
        "debug: as --debug. A node writes no log: the other levels change nothing.",
        str,
        "LEVEL",
        environment.LOG_LEVEL,
    ),
)


class OpenGroup(click.Group):
    """A group whose commands take the shared options too, and that names the command that was probably meant."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add `cmd`, with the shared options."""
        share(cmd)
        super().add_command(cmd, name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command's name, in the order that they were added."""
        return list(self.commands) if ctx else []

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each command with its first sentence, however long."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, command.get_short_help_str(_WHOLE)) for name, command in found if command is not None]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, or of what Anka 3 calls it."""
        return super().get_command(ctx, cmd_name) or super().get_command(ctx, ALIASES.get(cmd_name, cmd_name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that `args` begin with. Raises UsageError that names the nearest."""
        if not (ctx.resilient_parsing or args[0].startswith("-") or self.get_command(ctx, args[0])):
            raise click.UsageError(f"there is no command {args[0]!r}{self._meant(ctx, args[0])}", ctx)
        return super().resolve_command(ctx, args)

    def _meant(self, ctx: click.Context, word: str) -> str:
        """What `word` was probably meant to be: a command of this name in another group, or one spelled much like it."""
        root = ctx.find_root()
        assert isinstance(root.command, click.Group)
        groups = [(name, root.command.get_command(root, name)) for name in root.command.list_commands(root)]
        meant = [
            f"{root.command_path} {name} {word}"
            for name, group in groups
            if isinstance(group, click.Group) and word in group.commands
        ]
        names = self.list_commands(ctx)
        near = difflib.get_close_matches(word, [*names, *(alias for alias in ALIASES if ALIASES[alias] in names)])
        meant += [f"{ctx.command_path} {name}" for name in near]
        return f"; did you mean {' or '.join(meant)}?" if meant else ""


def share(command: click.Command, *, outermost: bool = False, hidden: bool = False) -> click.Command:
    """`command` with the shared options added, and those of its subcommands; hidden: taken, but not in its help."""
    taken = {spelling for param in command.params for spelling in (*param.opts, *param.secondary_opts)}
    for shared in SHARED:
        option = shared.option(taken, outermost=outermost, hidden=hidden)
        if option is not None and not any(param.name == option.name for param in command.params):
            command.params.append(option)
    if isinstance(command, click.Group) and not isinstance(command, OpenGroup):
        for inner in command.commands.values():
            share(inner, hidden=hidden)
    return command


def _keep(asks: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        del parameter
        if value is not None:
            setattr(context.ensure_object(Asked), asks, value)

    return keep


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.expanduser().absolute())
