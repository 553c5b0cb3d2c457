"""The commands that look at a registry's templates, and that make VMs of plain files and plain files of VMs.

Each parses its arguments, asks `client/`, and ends in an Answer whose body and message have the shapes that scripts
written for the Anka CLI read. What commands of a node need first lies here too: its library, its registry, its progress.
"""

from __future__ import annotations

import contextlib
import time
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.filesize import decimal

from s3reg import wire
from s3reg.cli import candidates, hardware, output
from s3reg.cli.output import Answer, Columns
from s3reg.client import images
from s3reg.client.connection import TRIES, Connection
from s3reg.client.library import Library
from s3reg.client.platform import default_library
from s3reg.errors import S3regError, TagNotFound, VersionNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3reg.cli.options import Asked
    from s3reg.client.pace import Pace
    from s3reg.client.progress import Progress

TAG = click.option(
    "-t", "--tag", shell_complete=candidates.tags, help="The version's tag; default: the newest version."
)
NUMBER = click.option("-v", "--version", "number", type=click.IntRange(0), help="The version's number, from 0.")
TRIES_TO_ASK = 4
"""Of a call that changes nothing: whoever asks may have another registry to ask, and waits four seconds at most."""
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("list")
@click.argument("vms", nargs=-1, metavar="[VM]...", shell_complete=candidates.templates)
@click.pass_obj
def list_(asked: Asked, vms: tuple[str, ...]) -> None:
    """List the templates of the registry."""
    with connected(asked, tries=TRIES_TO_ASK) as connection:
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
@click.argument("vm", shell_complete=candidates.templates)
@TAG
@NUMBER
@click.pass_obj
def describe(asked: Asked, vm: str, tag: str | None, number: int | None) -> None:
    """Show a template's configuration and versions."""
    with connected(asked, tries=TRIES_TO_ASK) as connection:
        found = template(connection, vm)
        chosen = selected(found, tag, number)
        config = config_of(connection, found, chosen)
    versions = [_version_body(one) for one in found.versions]
    body = {**config, "uuid": found.id, "name": found.name, "versions": versions}
    facts = [
        ("name", found.name),
        ("id", found.id),
        ("arch", found.arch or "unknown"),
        ("domain", found.domain or "unknown"),
    ]
    shown = found.versions if tag is None and number is None else (chosen,)
    rows = [
        (str(one.number), one.tag, decimal(one.size), when(one.created), one.description.replace("\n", " "))
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
    """Make plain disk files a VM of this node's library.

    A VM that has the name already is updated.
    """
    library = library_of(asked)
    vm = images.import_vm(library, name, disks=disks, state=state, nvram=nvram, config=config)
    text = f"VM imported successfully with uuid: {vm.id}"
    output.give(Answer({"uuid": vm.id}, "vm imported successfully", text), machine_readable=asked.machine_readable)


@click.command()
@click.argument("vm", shell_complete=candidates.local_vms)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.pass_obj
def export(asked: Asked, vm: str, folder: Path) -> None:
    """Copy a VM of this library into plain files."""
    library = library_of(asked)
    written = images.export_vm(library, vm, folder)
    body = {"files": [str(path) for path in written]}
    text = "\n".join(body["files"])
    output.give(Answer(body, "vm exported successfully", text), machine_readable=asked.machine_readable)


@contextlib.contextmanager
def connected(asked: Asked, pace: Pace | None = None, *, tries: int = TRIES) -> Iterator[Connection]:
    """The registry that was asked for."""
    connection = Connection(asked.chosen().access, pace=pace, tries=tries, ids=asked.ids)
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


def selected(found: wire.TemplateEntry, tag: str | None = None, number: int | None = None) -> wire.VersionEntry:
    """The version asked for, the newest by default. Raises TagNotFound, VersionNotFound."""
    tag = None if tag is None else unicodedata.normalize("NFC", tag)
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


def config_of(connection: Connection, found: wire.TemplateEntry, version: wire.VersionEntry) -> dict[str, Any]:
    """The VM's configuration as it is in this version."""
    answer = connection.call("GET", "/registry/vm/info", query={"id": found.id, "version": version.number})
    return hardware.mapping(answer.get("body"))


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


def when(seconds: int | None) -> str:
    """Seconds since 1970 for a person, by this node's clock; empty if it never was."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds else ""


COMMANDS = (list_, describe)
FILE_COMMANDS = (import_, export)
