"""The options that every command takes, before its name and after it.

`s3reg -j --library DIR list` and `s3reg list -j --library DIR` are the same call. They are declared once, here; adding a
command to an `OpenGroup` gives it all of them but the spellings that it has itself (`delete -a` means all). What is said
after the command's name wins over what is said before it, that over the environment, and that over what is remembered of
a registry. An empty text (`--api-key-id ""`) says that there is none: `set` forgets by it.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from s3reg.cli import candidates, environment
from s3reg.client.login import ROOT, keepable, root_token, whole_path
from s3reg.client.remotes import ADDRESS_VARIABLES, Remote, Remotes, remotes_path, with_environment
from s3reg.client.requestids import RequestIds
from s3reg.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3reg.client.connection import Access

_WHOLE = 500
"""Characters of a sentence that is not to be cut."""
_FILE = click.Path(dir_okay=False)
_NO = {"", "0", "f", "false", "n", "no", "off"}
_FOLDER = click.Path(file_okay=False, path_type=Path)


@dataclass(slots=True)
class Asked:
    """What the shared options asked for."""

    remote: str | None = None
    """A configured registry's name, or an address."""
    registry: str | None = None
    """An address."""
    certificate: str | None = None
    """Of this and the next six, an empty text says that there is none."""
    key: str | None = field(default=None, repr=False)
    ca_bundle: str | None = None
    insecure: bool | None = None
    key_id: str | None = None
    api_key: str | None = field(default=None, repr=False)
    """The name of a file, or the key's text."""
    root_token: str | None = field(default=None, repr=False)
    """The token, or @ and the name of its file."""
    library: Path | None = None
    machine_readable: bool = False
    debug: bool = False
    log_level: str | None = None
    only_default: bool = False
    """Leave out of account which registry the environment names."""
    ids: RequestIds = field(default_factory=RequestIds)
    """What the command's requests are called."""

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

    def reached(self, known: Access, address: str | None) -> Access:
        """How a registry that is to be remembered so is reached now: as the environment says too."""
        return self.access(with_environment(known, os.environ, address))

    def access(self, known: Access) -> Access:
        """`known`, with what the options say instead. Raises Invalid, LocalDenied.

        Paths become absolute: a stored one must work from everywhere.
        """
        if self.ca_bundle is not None:
            known = replace(known, ca_bundle=_whole(self.ca_bundle))
        if self.insecure is not None:
            known = replace(known, insecure=self.insecure)
        if self.certificate is not None:
            # Without --key, the certificate's file has the key: the one that is known is another certificate's.
            known = replace(known, certificate=_whole(self.certificate), key=None)
        if self.key is not None:
            known = replace(known, key=_whole(self.key))
        return self._logged_in(known)

    def _logged_in(self, known: Access) -> Access:
        """`known`, with the credential that the options name instead of the one it has."""
        halves = [half for half in (self.key_id, self.api_key) if half is not None]
        if self.root_token and any(halves):
            raise Invalid(reason="--root-token and --api-key are two credentials; give one of them")
        if self.root_token is not None:
            token = root_token(self.root_token) or None
            known = replace(known, user=ROOT if token else None, password=token)
        if self.root_token or (halves and not any(halves)):
            return replace(known, key_id=None, api_key=None)
        if any(halves):
            known = replace(known, user=None, password=None)
        if self.key_id is not None:
            known = replace(known, key_id=self.key_id or None)
        if self.api_key is not None:
            known = replace(known, api_key=keepable(self.api_key) if self.api_key else None)
        return known


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
    off: str | None = None
    """What takes a flag back."""
    complete: Callable[[click.Context, click.Parameter, str], list[str]] | None = None

    @property
    def told(self) -> tuple[str, ...]:
        """Everything that may be written."""
        return (*self.spellings, *([self.off] if self.off else []))

    def option(self, taken: set[str], *, outermost: bool, hidden: bool) -> click.Option | None:
        """The option without the spellings that are taken, or None if none is left."""
        left = [spelling for spelling in self.spellings if spelling not in taken]
        if not any(spelling.startswith("--") for spelling in left):
            return None
        more: dict[str, Any] = {"is_flag": True} if self.kind is None else {"type": self.kind, "metavar": self.metavar}
        if self.off is not None:
            left[-1] += f"/{self.off}"
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


_ALWAYS_SHOWN = "machine_readable"
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
    _Shared(
        "certificate",
        ("-c", "-i", "--cert", "--pem"),
        "Client certificate (PEM), with its key unless --key names that.",
        _FILE,
        "FILE",
    ),
    _Shared("key", ("-k", "--key"), "The certificate's private key (PEM).", _FILE, "FILE"),
    _Shared(
        "ca_bundle",
        ("--cacert", "--root-cert"),
        "Trust these authorities (PEM).",
        _FILE,
        "FILE",
        environment.CA_BUNDLE,
    ),
    _Shared("insecure", ("--insecure",), "Do not check the registry's certificate.", off="--no-insecure"),
    _Shared("key_id", ("--api-key-id",), "Log in with the API key of this id.", str, "ID"),
    _Shared("api_key", ("--api-key",), "The key itself: its file, or its text.", str, "FILE|KEY"),
    _Shared(
        "root_token",
        ("--root-token",),
        "The registry's root token, or behind an @ the file that begins with it.",
        str,
        "TOKEN|@FILE",
    ),
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
    """`command` with the shared options added, and those of its subcommands.

    hidden: they are taken, and its help has only the one that says who reads the answer.
    """
    taken = {spelling for param in command.params for spelling in (*param.opts, *param.secondary_opts)}
    for shared in SHARED:
        option = shared.option(taken, outermost=outermost, hidden=hidden and shared.asks != _ALWAYS_SHOWN)
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


def _whole(name: str) -> str | None:
    return whole_path(name) if name else None
