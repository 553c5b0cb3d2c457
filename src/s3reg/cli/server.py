"""The commands of whoever runs a registry: `serve`, and those that work on its store.

Importing this needs the `server` extra.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from s3reg import __version__, settings
from s3reg.api import traces, trial
from s3reg.api.wiring import Wiring, open_store
from s3reg.cli import flags, output, proxies, serving
from s3reg.cli.adopt import adopt
from s3reg.cli.config import config
from s3reg.cli.fsck import fsck
from s3reg.cli.gc import gc
from s3reg.cli.output import Answer, Columns
from s3reg.cli.tls import Tls
from s3reg.errors import SettingInvalid
from s3reg.store import check
from s3reg.store.files import FilesStore

if TYPE_CHECKING:
    from s3reg.cli.options import Asked


_OF_NODES = {
    "root_token": ("--root-token", "a registry has it from S3REG_ROOT_TOKEN, --root-token-file or --root-token-secret"),
    "certificate": ("--cert", "a registry's own is --tls-cert"),
    "key": ("--key", "a registry's own is --tls-key"),
}
"""What every command takes to say who it is. Whoever says it to a registry means another thing, and must get no open one."""


@flags.taking("")
@click.command(epilog=flags.secrets())
@click.pass_obj
def serve(asked: Asked, /, **told: str | None) -> None:
    """Serve a registry.

    Credentials for S3 are found where every AWS tool finds them: environment, profile, role. Over a directory, one of its
    processes sweeps once a day, as s3reg gc does; a bucket, which may have many registries, needs s3reg gc on a timer.
    """
    for name, (option, meant) in _OF_NODES.items():
        if getattr(asked, name) is not None:
            raise SettingInvalid(name=option, reason=f"it says who a node is; {meant}")
    reading = flags.gather(told)
    read = flags.settled(reading)
    with reading.renaming():
        settings.check(read)
        tls = Tls.named(read)
    proxies.ask_once([read.s3_endpoint, read.traces])
    with serving.listening(read) as sock, serving.listening_beside(read) as beside:
        # The store is opened here once, and let go before the fork: a missing bucket is told before anything is served.
        with reading.renaming():
            location = _tried(read)
        asks = "asks for credentials" if read.guarded else "everyone may do everything"
        line = f"s3reg {__version__} serves {location} at {serving.url_of(sock, read)} ({asks})"
        serving.serve(read, sock, tls, lambda: click.echo(line), beside)


def _tried(read: settings.Settings) -> str:
    """Where the store is, once it has answered."""
    traces.check(read.traces)
    probe = Wiring(read)
    if probe.gate is not None:
        probe.gate.check()
    probe.registry()
    return probe.store.location


@click.group()
def store() -> None:
    """Look after the store behind a registry."""


@flags.taking("store", "s3_", "log_")
@store.command("check")
@flags.WHERE
@click.pass_obj
def check_store(asked: Asked, /, url: str | None, **told: str | None) -> None:
    """Try everything that a registry relies on, on this very store.

    Writes and removes small objects under check/.
    """
    read = flags.read(told, url)
    opened = open_store(read)
    if isinstance(opened, FilesStore):
        opener = trial.opener(opened)
    else:
        opener = check.over_http(ca_bundle=read.s3_ca_bundle, verify=not read.s3_insecure)
    found = check.check(opened, opener=opener)
    if not asked.machine_readable:
        _give(found, opened.location, asked)
    check.require(found, opened)
    if asked.machine_readable:
        _give(found, opened.location, asked)


def _give(found: list[check.Promise], location: str, asked: Asked) -> None:
    rows = [(_mark(promise), promise.name, promise.reason) for promise in found]
    body = [dataclasses.asdict(promise) for promise in found]
    output.give(Answer(body, location, Columns(("", "promise", ""), rows)), machine_readable=asked.machine_readable)


def _mark(promise: check.Promise) -> str:
    return "!" if promise.advice else "✓" if promise.kept else "✗"


commands: dict[str, click.Command] = {
    "serve": serve,
    "config": config,
    "store": store,
    "gc": gc,
    "adopt": adopt,
    "fsck": fsck,
}
