"""push, pull, check-download-size: the commands that move VMs, or say what moving them would cost.

Bodies and messages have the shapes that scripts written for the Anka CLI read; what is added is added beside them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.filesize import decimal

from s3reg.cli import output, rates
from s3reg.cli.node import NUMBER, TAG, connected, library_of, telling
from s3reg.cli.output import Answer, Columns
from s3reg.client import localtags, platform, pull, push
from s3reg.client.pace import Pace
from s3reg.client.pull import PullOptions
from s3reg.client.push import PushOptions
from s3reg.errors import Invalid

if TYPE_CHECKING:
    from s3reg.cli.options import Asked
    from s3reg.client.estimate import Estimate
    from s3reg.client.library import Library, LocalVm
    from s3reg.client.outlook import Outlook

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


@click.command("push")
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
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
@_JOBS
@_LIMIT_RATE
@click.pass_obj
def push_(
    asked: Asked,
    /,
    *,
    vm: str,
    tag_name: str | None,
    tag: str | None,
    local: bool,
    force_name: bool,
    no_proof: bool,
    dry_run: bool,
    jobs: int | None,
    limit_rate: int | None,
    **more: Any,
) -> None:
    """Push a stopped or suspended VM as a new version of its template."""
    options = PushOptions(tag=_one_tag(tag_name, tag), same_name=force_name, proof=not no_proof, **more)
    library = library_of(asked)
    found = library.find(vm)
    if local:
        if dry_run:
            raise Invalid(reason="--local sends nothing; leave --dry-run out")
        _tag_locally(asked, library, found, options)
        return
    with connected(asked, Pace(limit_rate=limit_rate, jobs=jobs)) as connection, telling(asked) as progress:
        if dry_run:
            answer = _outlook(push.foresee(connection, library, found, options, progress))
        else:
            answer = _pushed(push.push(connection, library, found, options, progress))
    output.give(answer, machine_readable=asked.machine_readable)


def _tag_locally(asked: Asked, library: Library, vm: LocalVm, options: PushOptions) -> None:
    with telling(asked) as progress, platform.refusals_named(library.root):
        localtags.note(library, vm, options.tag, progress, force=options.force)
    message = f"{vm.name}: tagged {options.tag} in this library only"
    told = Answer({"uuid": vm.id, "name": vm.name, "tag": options.tag}, message, message)
    output.give(told, machine_readable=asked.machine_readable)


def _pushed(pushed: push.Pushed) -> Answer:
    answer = pushed.answer
    body = {
        "uuid": answer.template,
        "name": answer.name,
        "tag": answer.tag,
        "version": answer.number,
        "size": answer.size,
        "stored": answer.stored,
        "sent": pushed.sent,
        "new": pushed.stored_raw,
    }
    text = (
        f"VM pushed successfully with uuid: {answer.template}\n"
        f"{answer.name}:{answer.tag} is version {answer.number}; {decimal(pushed.sent)} were sent for "
        f"{decimal(answer.size)}, of which {decimal(pushed.stored_raw)} were new"
    )
    return Answer(body, "vm pushed successfully", text)


def _outlook(found: Outlook) -> Answer:
    body = {
        "uuid": found.template,
        "name": found.name,
        "tag": found.tag,
        "size": found.size,
        "chunks": found.chunks,
        "new": found.raw,
        "estimated": found.estimated,
        "files": [dataclasses.asdict(file) for file in found.files],
    }
    facts = [
        ("would be pushed", f"{found.name}:{found.tag}, {decimal(found.size)}"),
        ("new", f"{found.chunks} chunks, {decimal(found.raw)} before compression"),
        ("to send", f"about {decimal(found.estimated)}: an estimate, only a sample was compressed"),
    ]
    rows = [(file.name, file.role, decimal(file.size), str(file.chunks), decimal(file.raw)) for file in found.files]
    table = Columns(("file", "role", "size", "new chunks", "new"), rows)
    return Answer(body, "dry run: nothing was sent", (Columns(("", ""), facts), table))


@click.command("pull")
@click.argument("vm")
@TAG
@NUMBER
@click.option("-l", "--local", is_flag=True, help="Only if all of it is in this library already.")
@click.option("-s", "--shrink", is_flag=True, help="Drop the template's other tags from this library.")
@click.option("-f", "--force", is_flag=True, help="Overwrite local changes.")
@click.option("--no-sync", is_flag=True, help="Do not wait until the disk has it: faster, lost by a power cut.")
@click.option(
    "--from",
    "folders",
    metavar="LIBRARY",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Build on the VMs of this library of the machine too; it is only read. Repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Say to the byte what would be received and written, and do neither.")
@_JOBS
@_LIMIT_RATE
@click.pass_obj
def pull_(
    asked: Asked,
    *,
    vm: str,
    tag: str | None,
    number: int | None,
    local: bool,
    shrink: bool,
    force: bool,
    no_sync: bool,
    folders: tuple[Path, ...],
    dry_run: bool,
    jobs: int | None,
    limit_rate: int | None,
) -> None:
    """Pull a version of a template into this node's library."""
    library = library_of(asked)
    if local:
        if number is not None:
            raise Invalid(reason="this library knows versions by their tags only; leave --version out")
        if dry_run:
            raise Invalid(reason="--local receives nothing; leave --dry-run out")
        output.give(_available(localtags.check_out(library, vm, tag).name), machine_readable=asked.machine_readable)
        return
    others = tuple(folder.expanduser().absolute() for folder in folders)
    options = PullOptions(tag=tag, number=number, shrink=shrink, force=force, durable=not no_sync, others=others)
    with connected(asked, Pace(limit_rate=limit_rate, jobs=jobs)) as connection, telling(asked) as progress:
        if dry_run:
            answer = _estimate(pull.estimate(connection, library, vm, options))
        else:
            answer = _pulled(pull.pull(connection, library, vm, options, progress))
    output.give(answer, machine_readable=asked.machine_readable)


def _pulled(pulled: pull.Pulled) -> Answer:
    if pulled.already:
        return _available(pulled.name)
    body = {
        "uuid": pulled.template,
        "name": pulled.name,
        "tag": pulled.tag,
        "size": pulled.size,
        "received": pulled.received,
        "local": pulled.local,
        "staged": pulled.staged,
    }
    earlier = f", {decimal(pulled.staged)} from a pull that was interrupted" if pulled.staged else ""
    text = (
        f"VM pulled successfully with uuid: {pulled.template}\n"
        f"{pulled.name}:{pulled.tag}; {decimal(pulled.received)} were received for {decimal(pulled.size)}, "
        f"{decimal(pulled.local)} were on this machine{earlier}"
    )
    return Answer(body, "vm pulled successfully", text)


def _available(name: str) -> Answer:
    """What Anka says when there is nothing to pull."""
    message = f"{name}: available locally"
    return Answer({}, message, message)


def _estimate(found: Estimate) -> Answer:
    body = {
        "uuid": found.template,
        "name": found.name,
        "tag": found.tag,
        "size": found.size,
        "receive": found.receive,
        "write": found.write,
        "local": found.local,
        "staged": found.staged,
        "available": found.free,
        "files": [dataclasses.asdict(file) for file in found.files],
    }
    short = found.write - found.free
    facts = [
        ("would be pulled", f"{found.name}:{found.tag}, {decimal(found.size)}"),
        ("to receive", f"{decimal(found.receive)} ({found.receive} bytes)"),
        ("to write", decimal(found.write) + (f", {decimal(short)} more than is free" if short > 0 else "")),
        ("on this machine", decimal(found.local)),
    ]
    if found.staged:
        facts.append(("from an interrupted pull", decimal(found.staged)))
    rows = [
        (file.name, file.role, decimal(file.size), decimal(file.receive), decimal(file.write)) for file in found.files
    ]
    table = Columns(("file", "role", "size", "receive", "write"), rows)
    message = f"{found.name}: available locally" if found.already else "dry run: nothing was pulled"
    return Answer(body, message, (Columns(("", ""), facts), table))


@click.command("check-download-size")
@click.argument("vm")
@TAG
@NUMBER
@click.pass_obj
def check_download_size(asked: Asked, vm: str, tag: str | None, number: int | None) -> None:
    """Show how many bytes a pull would fetch."""
    library = library_of(asked)
    with connected(asked) as connection:
        found = pull.download_size(connection, library, vm, PullOptions(tag=tag, number=number))
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


def _one_tag(argument: str | None, option: str | None) -> str:
    if argument is not None and option is not None and argument != option:
        raise Invalid(reason=f"two tags were given, {argument!r} and {option!r}")
    tag = argument if option is None else option
    if tag is None:
        raise Invalid(reason="a version needs a tag: give one with -t")
    return tag


COMMANDS = (push_, pull_, check_download_size)
