"""push, pull, check-download-size: the commands that move VMs, or say what moving them would cost.

Bodies and messages have the shapes that scripts written for the Anka CLI read; what is added is added beside them. Both
forms of its command lines are taken: `registry push VM TAG`, and `push VM REMOTE -t TAG`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.filesize import decimal

from s3reg import wire
from s3reg.cli import candidates, environment, output, rates
from s3reg.cli.failback import failing_back
from s3reg.cli.node import NUMBER, TAG, TRIES_TO_ASK, connected, library_of, telling, when
from s3reg.cli.output import Answer, Columns
from s3reg.cli.removal import comes_back
from s3reg.client import localtags, platform, pull, push, removal
from s3reg.client.library import LocalVm
from s3reg.client.pace import Pace
from s3reg.client.progress import Silent
from s3reg.client.pull import PullOptions
from s3reg.client.push import PushOptions
from s3reg.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3reg.cli.options import Asked
    from s3reg.client.estimate import DownloadSize, Estimate
    from s3reg.client.library import Library
    from s3reg.client.outlook import Outlook, Pushed
    from s3reg.client.progress import Progress

MOST_JOBS = 256
_JOBS = click.option(
    "--jobs",
    metavar="N",
    type=click.IntRange(1, MOST_JOBS),
    envvar=list(environment.JOBS.names),
    show_envvar=True,
    help="Requests to the store at once; default: what the line bears.",
)
_LIMIT_RATE = click.option(
    "--limit-rate",
    metavar="RATE",
    callback=rates.option_value,
    envvar=list(environment.LIMIT_RATE.names),
    show_envvar=True,
    help="The most to send or receive a second: bytes (500K, 10M, 1.5Gi) or bits (80Mbit); default: no limit.",
)
_QUIET = click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
_FROM = click.option(
    "--from",
    "folders",
    metavar="LIBRARY",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Build on the VMs of this library of the machine too; it is only read. Repeatable.",
)
_FORCE_NAME = click.option("--force-name", is_flag=True, help="Let two carry one name.")


@click.command("push")
@click.argument("vm", shell_complete=candidates.local_vms)
@click.argument("word", metavar="[TAG | REMOTE]", required=False)
@click.option("-t", "--tag", help="The tag of the new version; a word behind the VM names the registry then.")
@click.option("-d", "--description", default="", help="A word about it.")
@click.option(
    "-v",
    "--remote-vm",
    metavar="TEMPLATE",
    shell_complete=candidates.templates,
    help="Make it the next version of this template.",
)
@click.option("-l", "--local", is_flag=True, help="Note the tag in this library only; send nothing.")
@click.option("-f", "--force", is_flag=True, help="Replace the version that has the tag.")
@click.option("--base", "bases", metavar="TEMPLATE", multiple=True, help="Reuse what this template has too.")
@click.option("--domain", help="The domain of a new template; default: main, else the only one that you may use.")
@_FORCE_NAME
@click.option("--no-proof", is_flag=True, help="Send frames without decoding them again first: faster on a fast line.")
@click.option("-s", "--shallow", is_flag=True, help="Changes nothing: a version always has the layers of older ones.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
@_QUIET
@_JOBS
@_LIMIT_RATE
@click.pass_obj
def push_(
    asked: Asked,
    /,
    *,
    vm: str,
    word: str | None,
    tag: str | None,
    local: bool,
    force_name: bool,
    no_proof: bool,
    shallow: bool,
    dry_run: bool,
    quiet: bool,
    jobs: int | None,
    limit_rate: int | None,
    **more: Any,
) -> None:
    """Push a stopped or suspended VM as a new version of its template."""
    del shallow
    if tag is not None:
        _choose(asked, word)
    wanted = word if tag is None else tag
    if wanted is None:
        raise Invalid(reason="a version needs a tag: give one with -t")
    options = PushOptions(tag=wanted, same_name=force_name, proof=not no_proof, **more)
    library = library_of(asked)
    found = library.find(vm)
    if local:
        if dry_run:
            raise Invalid(reason="--local sends nothing; leave --dry-run out")
        _tag_locally(asked, library, found, options, quiet=quiet)
        return
    with connected(asked, Pace(limit_rate=limit_rate, jobs=jobs)) as connection, _progress(asked, quiet) as progress:
        if dry_run:
            answer = _outlook(push.foresee(connection, library, found, options, progress))
        else:
            answer = _pushed(push.push(connection, library, found, options, progress), found)
    output.give(answer, machine_readable=asked.machine_readable)


def _tag_locally(asked: Asked, library: Library, vm: LocalVm, options: PushOptions, *, quiet: bool) -> None:
    with _progress(asked, quiet) as progress, platform.refusals_named(library.root):
        localtags.note(library, vm, options.tag, progress, force=options.force)
    message = f"{vm.name}: tagged {options.tag} in this library only"
    told = Answer({"uuid": vm.id, "name": vm.name, "tag": options.tag}, message, message)
    output.give(told, machine_readable=asked.machine_readable)


def _pushed(pushed: Pushed, vm: LocalVm) -> Answer:
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
        "replaced": None if answer.replaced is None else wire.write(answer.replaced),
    }
    if pushed.already:
        came = "it was there already"
    else:
        new = f"{decimal(answer.size)}, of which {decimal(pushed.stored_raw)} were new"
        came = f"{decimal(pushed.sent)} were sent for {new}"
    text = (
        f"VM pushed successfully with uuid: {answer.template}\n"
        f"{answer.name}:{answer.tag} is version {answer.number}; {came}"
    )
    if answer.template == vm.id and answer.name != vm.name:
        text += (
            f"\nthe VM is called {vm.name!r} here, its template still {answer.name!r}: "
            "s3reg rename gives a template another name"
        )
    if answer.replaced is not None:
        back = comes_back(answer.name, options=("--version", answer.replaced.version, "--as", "TAG"))
        text += f"\nthe version that was replaced can be restored until {when(answer.replaced.until)}: {back}"
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
@click.argument("vm", shell_complete=candidates.templates)
@click.argument("remote", required=False, shell_complete=candidates.remotes)
@TAG
@NUMBER
@click.option("-l", "--local", is_flag=True, help="Only if all of it is in this library already.")
@click.option("-s", "--shrink", is_flag=True, help="Drop the template's other tags from this library.")
@click.option("-f", "--force", is_flag=True, help="Overwrite local changes.")
@_FORCE_NAME
@click.option("--fetch-only", is_flag=True, help="Bring it here for a later pull, and leave the VM as it is.")
@click.option("--no-sync", is_flag=True, help="Do not wait until the disk has it: faster, lost by a power cut.")
@click.option(
    "--failback",
    is_flag=True,
    envvar=list(environment.FAILBACK.names),
    show_envvar=True,
    help="If the registry does not answer, be content with what is here, if it is the tag asked for, and whole.",
)
@_FROM
@click.option("--check-download-size", "size_only", is_flag=True, help="Say what it would cost, and pull nothing.")
@click.option("--dry-run", is_flag=True, help="Say to the byte what would be received and written, and do neither.")
@_QUIET
@_JOBS
@_LIMIT_RATE
@click.pass_obj
def pull_(
    asked: Asked,
    /,
    *,
    vm: str,
    remote: str | None,
    local: bool,
    no_sync: bool,
    failback: bool,
    force_name: bool,
    folders: tuple[Path, ...],
    size_only: bool,
    dry_run: bool,
    quiet: bool,
    jobs: int | None,
    limit_rate: int | None,
    **more: Any,
) -> None:
    """Pull a version of a template into this node's library."""
    _choose(asked, remote)
    library = library_of(asked)
    options = PullOptions(durable=not no_sync, same_name=force_name, others=_others(folders), **more)
    if options.fetch_only and options.shrink:
        raise Invalid(reason="--fetch-only leaves the library as it is; leave --shrink out")

    def pulling() -> Answer:
        if local:
            senseless = {"--dry-run": dry_run, "--check-download-size": size_only, "--fetch-only": options.fetch_only}
            return _checked_out(library, vm, options, [name for name, given in senseless.items() if given])
        pace = Pace(limit_rate=limit_rate, jobs=jobs)
        with connected(asked, pace) as connection, _progress(asked, quiet) as progress:
            if size_only:
                size = pull.download_size(connection, library, vm, options)
                return _available(size.name) if size.already else _size(size, library)
            if dry_run:
                return _estimate(pull.estimate(connection, library, vm, options))
            return _pulled(pull.pull(connection, library, vm, options, progress), fetched=options.fetch_only)

    if failback and not local and options.number is None:
        found = failing_back(pulling, asked, library, vm, options.tag)
    else:
        found = pulling()
    output.give(
        _available(found.name) if isinstance(found, LocalVm) else found, machine_readable=asked.machine_readable
    )


def _checked_out(library: Library, vm: str, options: PullOptions, senseless: list[str]) -> Answer:
    """What `pull --local` comes to. `senseless`: what was asked for besides, and means nothing without a registry."""
    if options.number is not None:
        raise Invalid(reason="this library knows versions by their tags only; leave --version out")
    if senseless:
        raise Invalid(reason=f"--local receives nothing; leave {senseless[0]} out")
    found = localtags.check_out(library, vm, options.tag, force=options.force)
    if options.shrink:
        removal.shrink(library, found.id)
    return _available(found.name)


def _pulled(pulled: pull.Pulled, *, fetched: bool) -> Answer:
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
    done = "fetched" if fetched else "pulled"
    text = (
        f"VM {done} successfully with uuid: {pulled.template}\n"
        f"{pulled.name}:{pulled.tag}; {decimal(pulled.received)} were received for {decimal(pulled.size)}, "
        f"{decimal(pulled.local)} were on this machine{earlier}"
    )
    return Answer(body, f"vm {done} successfully", text)


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
@click.argument("vm", shell_complete=candidates.templates)
@TAG
@NUMBER
@_FROM
@click.pass_obj
def check_download_size(asked: Asked, vm: str, tag: str | None, number: int | None, folders: tuple[Path, ...]) -> None:
    """Show how many bytes a pull would fetch, and how many it would write."""
    library = library_of(asked)
    options = PullOptions(tag=tag, number=number, others=_others(folders))
    with connected(asked, tries=TRIES_TO_ASK) as connection:
        found = pull.download_size(connection, library, vm, options)
    output.give(_size(found, library), machine_readable=asked.machine_readable)


def _size(found: DownloadSize, library: Library) -> Answer:
    """What Anka's agents subtract: they pull if `size` less `cached` is no more than what is `available` on the disk."""
    free, write = platform.free_bytes(library.root), found.size - found.cached
    body = {
        "bytes": write,
        "size": found.size,
        "cached": found.cached,
        "available": free,
        "transfer": found.to_fetch,
    }
    text = (
        f"{decimal(found.to_fetch)} to fetch; {decimal(write)} to write, of the {decimal(found.size)} that it takes up; "
        f"{decimal(free)} are free"
    )
    return Answer(body, "", text)


def _choose(asked: Asked, word: str | None) -> None:
    """Talk to the registry that the second word of a command line names, as in Anka 3."""
    if word is None:
        return
    if asked.registry is not None or asked.remote not in {None, word}:
        raise Invalid(reason=f"{word!r} names a registry, and an option another one: give one of them")
    asked.remote = word


def _others(folders: tuple[Path, ...]) -> tuple[Path, ...]:
    return tuple(folder.expanduser().absolute() for folder in folders)


@contextlib.contextmanager
def _progress(asked: Asked, quiet: bool) -> Iterator[Progress]:
    if quiet:
        yield Silent()
        return
    with telling(asked) as progress:
        yield progress


COMMANDS = (push_, pull_, check_download_size)
