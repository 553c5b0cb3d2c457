"""The commands that move VMs between this node's library and a registry.

Each parses its arguments, asks `client/`, and ends in an Answer whose body and message have the shapes that scripts
written for the Anka CLI read.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.filesize import decimal

from s3reg import wire
from s3reg.cli import output, rates
from s3reg.cli.output import Answer, Columns
from s3reg.client import images, localtags, platform
from s3reg.client.connection import Connection
from s3reg.client.library import Library
from s3reg.client.pace import Pace
from s3reg.client.platform import default_library
from s3reg.client.pull import PullOptions, download_size
from s3reg.client.pull import pull as run_pull
from s3reg.client.push import PushOptions
from s3reg.client.push import push as run_push
from s3reg.errors import Invalid, S3regError, TagNotFound, VersionNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3reg.cli.options import Asked
    from s3reg.client.progress import Progress

_TAG = click.option("-t", "--tag", help="The version's tag; default: the newest version.")
_NUMBER = click.option("-v", "--version", "number", type=click.IntRange(0), help="The version's number, from 0.")
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
MOST_JOBS = 256
_JOBS = click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(1, MOST_JOBS),
    envvar="S3REG_JOBS",
    show_envvar=True,
    help="Requests to the store at once; default: what the line bears.",
)
_LIMIT_RATE = click.option(
    "--limit-rate",
    metavar="RATE",
    callback=rates.option_value,
    envvar="S3REG_LIMIT_RATE",
    show_envvar=True,
    help="The most to send or receive a second: bytes (500K, 10M, 1.5Gi) or bits (80Mbit); default: no limit.",
)


@click.command()
@click.argument("vm")
@click.argument("tag_name", metavar="[TAG]", required=False)
@click.option("-t", "--tag", help="The tag of the new version.")
@click.option("-d", "--description", default="", help="A word about it.")
@click.option("-v", "--remote-vm", metavar="TEMPLATE", help="Make it the next version of this template.")
@click.option("-l", "--local", is_flag=True, help="Note the tag in this library only; send nothing.")
@click.option("-f", "--force", is_flag=True, help="Replace the version that has the tag.")
@click.option("--base", "bases", metavar="TEMPLATE", multiple=True, help="Reuse what this template has too.")
@click.option("--domain", help="Where a new template may share chunks; default: main.")
@click.option("--force-name", is_flag=True, help="Let two templates carry one name.")
@click.option("--no-proof", is_flag=True, help="Send frames without decoding them again first: faster on a fast line.")
@_JOBS
@_LIMIT_RATE
@click.pass_obj
def push(
    asked: Asked,
    *,
    vm: str,
    tag_name: str | None,
    tag: str | None,
    description: str,
    remote_vm: str | None,
    local: bool,
    force: bool,
    bases: tuple[str, ...],
    domain: str | None,
    force_name: bool,
    no_proof: bool,
    jobs: int | None,
    limit_rate: int | None,
) -> None:
    """Push a stopped or suspended VM as a new version of its template."""
    options = PushOptions(
        tag=_one_tag(tag_name, tag),
        description=description,
        remote_vm=remote_vm,
        force=force,
        same_name=force_name,
        domain=domain,
        bases=bases,
        proof=not no_proof,
    )
    library = library_of(asked)
    found = library.find(vm)
    if local:
        with telling(asked) as progress, platform.refusals_named(library.root):
            localtags.note(library, found, options.tag, progress, force=force)
        message = f"{found.name}: tagged {options.tag} in this library only"
        told = Answer({"uuid": found.id, "name": found.name, "tag": options.tag}, message, message)
        output.give(told, machine_readable=asked.machine_readable)
        return
    with connected(asked, Pace(limit_rate=limit_rate, jobs=jobs)) as connection, telling(asked) as progress:
        pushed = run_push(connection, library, found, options, progress)
    answer = pushed.answer
    body = {
        "uuid": answer.template,
        "name": answer.name,
        "tag": answer.tag,
        "version": answer.number,
        "size": answer.size,
        "stored": answer.stored,
        "sent": pushed.sent,
    }
    text = (
        f"VM pushed successfully with uuid: {answer.template}\n"
        f"{answer.name}:{answer.tag} is version {answer.number}; {decimal(pushed.sent)} were sent for {decimal(answer.size)}"
    )
    output.give(Answer(body, "vm pushed successfully", text), machine_readable=asked.machine_readable)


@click.command()
@click.argument("vm")
@_TAG
@_NUMBER
@click.option("-l", "--local", is_flag=True, help="Only if all of it is in this library already.")
@click.option("-s", "--shrink", is_flag=True, help="Drop the template's other tags from this library.")
@click.option("-f", "--force", is_flag=True, help="Overwrite local changes.")
@click.option("--no-sync", is_flag=True, help="Do not wait until the disk has it: faster, lost by a power cut.")
@_JOBS
@_LIMIT_RATE
@click.pass_obj
def pull(
    asked: Asked,
    *,
    vm: str,
    tag: str | None,
    number: int | None,
    local: bool,
    shrink: bool,
    force: bool,
    no_sync: bool,
    jobs: int | None,
    limit_rate: int | None,
) -> None:
    """Pull a version of a template into this node's library."""
    library = library_of(asked)
    if local:
        if number is not None:
            raise Invalid(reason="this library knows versions by their tags only; leave --version out")
        _available(asked, localtags.check_out(library, vm, tag).name)
        return
    options = PullOptions(tag=tag, number=number, shrink=shrink, force=force, durable=not no_sync)
    with connected(asked, Pace(limit_rate=limit_rate, jobs=jobs)) as connection, telling(asked) as progress:
        pulled = run_pull(connection, library, vm, options, progress)
    if pulled.already:
        _available(asked, pulled.name)
        return
    text = (
        f"VM pulled successfully with uuid: {pulled.template}\n"
        f"{pulled.name}:{pulled.tag}; {decimal(pulled.received)} were received for {decimal(pulled.size)}"
    )
    answer = Answer({"uuid": pulled.template}, "vm pulled successfully", text)
    output.give(answer, machine_readable=asked.machine_readable)


@click.command("check-download-size")
@click.argument("vm")
@_TAG
@_NUMBER
@click.pass_obj
def check_download_size(asked: Asked, vm: str, tag: str | None, number: int | None) -> None:
    """Show how many bytes a pull would fetch."""
    library = library_of(asked)
    with connected(asked) as connection:
        found = download_size(connection, library, vm, PullOptions(tag=tag, number=number))
    # What Anka's clients subtract are raw sizes; `transfer` is what goes over the line.
    body = {
        "bytes": found.size - found.cached,
        "size": found.size,
        "cached": found.cached,
        "available": platform.free_bytes(library.root),
        "transfer": found.to_fetch,
    }
    text = f"{decimal(found.to_fetch)} to fetch; {decimal(found.cached)} of {decimal(found.size)} are here already"
    output.give(Answer(body, "", text), machine_readable=asked.machine_readable)


@click.command("list")
@click.argument("vms", nargs=-1, metavar="[VM]...")
@click.pass_obj
def list_(asked: Asked, vms: tuple[str, ...]) -> None:
    """List the templates of the registry."""
    with connected(asked) as connection:
        if vms:
            found = [template(connection, vm) for vm in vms]
        else:
            answer = connection.ask(wire.TemplatesAnswerSchema, "GET", f"{wire.PREFIX}/templates")
            found = list(answer.templates)
    body = [{"id": one.id, "uuid": one.id, "name": one.name, "latest": _latest(one)} for one in found]
    rows = [(one.name, one.id, _latest(one), decimal(one.size)) for one in found]
    table = Columns(("name", "id", "latest", "size"), rows)
    output.give(Answer(body, "", table), machine_readable=asked.machine_readable)


@click.command()
@click.argument("vm")
@_TAG
@_NUMBER
@click.pass_obj
def describe(asked: Asked, vm: str, tag: str | None, number: int | None) -> None:
    """Show a template's configuration and versions."""
    with connected(asked) as connection:
        found = template(connection, vm)
        chosen = _select(found, tag, number)
        config = connection.call("GET", "/registry/vm/info", query={"id": found.id, "version": chosen.number})
    versions = [_version_body(one) for one in found.versions]
    body = {**_mapping(config.get("body")), "uuid": found.id, "name": found.name, "versions": versions}
    facts = [("name", found.name), ("id", found.id), ("arch", found.arch or "unknown"), ("domain", found.domain)]
    shown = found.versions if tag is None and number is None else (chosen,)
    rows = [
        (str(one.number), one.tag, decimal(one.size), _when(one.created), one.description.replace("\n", " "))
        for one in shown
    ]
    table = Columns(("version", "tag", "size", "created", "description"), rows)
    output.give(Answer(body, "", (Columns(("", ""), facts), table)), machine_readable=asked.machine_readable)


@click.command("import")
@click.argument("name")
@click.option(
    "--disk", "disks", metavar="FILE", type=_FILE, multiple=True, required=True, help="A raw disk; repeatable."
)
@click.option("--state", metavar="FILE", type=_FILE, help="The memory of a suspended VM.")
@click.option("--nvram", metavar="FILE", type=_FILE, help="The firmware's variables.")
@click.option("--config", metavar="FILE", type=_FILE, help="The VM's configuration (YAML).")
@click.pass_obj
def import_(
    asked: Asked, *, name: str, disks: tuple[Path, ...], state: Path | None, nvram: Path | None, config: Path | None
) -> None:
    """Make plain disk files a VM of this node's library, or update the one that has the name."""
    library = library_of(asked)
    vm = images.import_vm(library, name, disks=disks, state=state, nvram=nvram, config=config)
    text = f"VM imported successfully with uuid: {vm.id}"
    output.give(Answer({"uuid": vm.id}, "vm imported successfully", text), machine_readable=asked.machine_readable)


@click.command()
@click.argument("vm")
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.pass_obj
def export(asked: Asked, vm: str, folder: Path) -> None:
    """Copy a VM of this node's library out into plain files."""
    library = library_of(asked)
    written = images.export_vm(library, vm, folder)
    body = {"files": [str(path) for path in written]}
    text = "\n".join(body["files"])
    output.give(Answer(body, "vm exported successfully", text), machine_readable=asked.machine_readable)


@contextlib.contextmanager
def connected(asked: Asked, pace: Pace | None = None) -> Iterator[Connection]:
    """The registry that was asked for."""
    connection = Connection(asked.chosen().access, pace=pace)
    try:
        yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def telling(asked: Asked) -> Iterator[Progress]:
    """What a transfer tells its progress to; the cursor comes back whatever happens."""
    progress = output.progress(machine_readable=asked.machine_readable)
    try:
        yield progress
    finally:
        progress.finish()


def library_of(asked: Asked) -> Library:
    """The library that was asked for, its folders made."""
    library = Library((asked.library or default_library()).expanduser().absolute())
    library.create()
    return library


def template(connection: Connection, ref: str) -> wire.TemplateEntry:
    """The template of this id or name, with its versions. Raises TemplateNotFound, NameAmbiguous."""
    found = connection.ask(wire.TemplateEntrySchema, "GET", f"{wire.PREFIX}/template", query={"ref": ref})
    assert isinstance(found, wire.TemplateEntry)
    return found


def _available(asked: Asked, name: str) -> None:
    """What Anka says when there is nothing to pull."""
    message = f"{name}: available locally"
    output.give(Answer({}, message, message), machine_readable=asked.machine_readable)


def _one_tag(argument: str | None, option: str | None) -> str:
    if argument is not None and option is not None and argument != option:
        raise Invalid(reason=f"two tags were given, {argument!r} and {option!r}")
    tag = argument if option is None else option
    if tag is None:
        raise Invalid(reason="a version needs a tag: give one with -t")
    return tag


def _select(found: wire.TemplateEntry, tag: str | None, number: int | None) -> wire.VersionEntry:
    """The version asked for, the newest by default."""
    fits = [
        one for one in found.versions if (tag is None or one.tag == tag) and (number is None or one.number == number)
    ]
    if fits:
        return fits[-1]
    missing: S3regError
    if tag is not None and number is None:
        missing = TagNotFound(template=found.name, tag=tag)
    else:
        missing = VersionNotFound(template=found.name, version="at all" if number is None else number)
    raise missing


def _latest(found: wire.TemplateEntry) -> str:
    return found.versions[-1].tag if found.versions else ""


def _version_body(one: wire.VersionEntry) -> dict[str, Any]:
    return {
        "number": one.number,
        "tag": one.tag,
        "description": one.description,
        "size": one.size,
        "created": one.created,
        "last_pull": one.last_pull,
    }


def _mapping(value: object) -> dict[str, Any]:
    return {str(key): inner for key, inner in value.items()} if isinstance(value, dict) else {}


def _when(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


COMMANDS = (push, pull, check_download_size, list_, describe, import_, export)
