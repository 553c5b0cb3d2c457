"""The options that every command takes, before its name and after it.

`s3reg -j --library DIR list` and `s3reg list -j --library DIR` are the same call. They are declared once, here; adding a
command to an `OpenGroup` gives it all of them but the spellings that it has itself (`delete -a` means all). What is said
after the command's name wins over what is said before it, and that over the environment.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from s3reg.client.connection import Access
from s3reg.client.remotes import Remote, Remotes, remotes_path
from s3reg.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable

_FILE = click.Path(dir_okay=False, path_type=Path)
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
    library: Path | None = None
    machine_readable: bool = False
    debug: bool = False

    def remotes(self) -> Remotes:
        """The registries that this node knows."""
        return Remotes(remotes_path(os.environ))

    def chosen(self) -> Remote:
        """The registry to talk to, reached as the options say. Raises RegistryUnknown, NoRegistry, Invalid."""
        if self.remote is not None and self.registry is not None:
            raise Invalid(reason="-r and -a name two registries; give one of them")
        remote = self.remotes().chosen(remote=self.remote, address=self.registry, environment=os.environ)
        return Remote(remote.name, self.access(remote.access))

    def access(self, known: Access) -> Access:
        """`known`, with what the options say instead. Paths become absolute: a stored one must work from everywhere."""
        return Access(
            known.url,
            ca_bundle=_absolute(self.ca_bundle) or known.ca_bundle,
            certificate=_absolute(self.certificate) or known.certificate,
            key=_absolute(self.key) or known.key,
            insecure=self.insecure or known.insecure,
        )


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
    variable: tuple[str, ...] = ()

    def option(self, taken: set[str], *, outermost: bool, hidden: bool) -> click.Option | None:
        """The option without the spellings that are taken, or None if none is left."""
        left = [spelling for spelling in self.spellings if spelling not in taken]
        if not any(spelling.startswith("--") for spelling in left):
            return None
        more: dict[str, Any] = {"is_flag": True} if self.kind is None else {"type": self.kind, "metavar": self.metavar}
        return click.Option(
            [f"shared_{self.asks}", *left],
            # Only the outermost option looks at the environment: else it would overrule what stands before the command.
            envvar=list(self.variable) if outermost and self.variable else None,
            default=None,
            expose_value=False,
            callback=_keep(self.asks),
            help=self.help,
            hidden=hidden,
            **more,
        )


SHARED = (
    _Shared("remote", ("-r", "--remote"), "A configured registry, by name or address.", str, "NAME"),
    _Shared("registry", ("-a", "--registry-path"), "A registry by its address.", str, "URL"),
    _Shared("certificate", ("-c", "-i", "--cert", "--pem"), "Client certificate (PEM).", _FILE, "FILE"),
    _Shared("key", ("-k", "--key"), "The certificate's private key (PEM).", _FILE, "FILE"),
    _Shared("ca_bundle", ("--cacert", "--root-cert"), "Trust these authorities (PEM).", _FILE, "FILE"),
    _Shared("insecure", ("--insecure",), "Do not check the registry's certificate."),
    _Shared("library", ("--library",), "The folder with this node's VMs.", _FOLDER, "DIR", ("S3REG_LIBRARY",)),
    _Shared(
        "machine_readable",
        ("-j", "--machine-readable"),
        "One JSON object on stdout, last and without a newline behind it.",
        variable=("ANKA_MACHINE_READABLE",),
    ),
    _Shared("debug", ("--debug",), "Say more on stderr.", variable=("ANKA_DEBUG",)),
)


class OpenGroup(click.Group):
    """A group whose commands take the shared options too."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add `cmd`, with the shared options."""
        share(cmd)
        super().add_command(cmd, name)


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
