"""`s3reg vm`: the VMs of this node's library, for a node without the Anka application.

The shapes are those of `anka list`, `show`, `clone` and `delete`; what is told besides is added beside them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click
from rich.filesize import decimal

from s3reg import wire
from s3reg.cli import candidates, hardware, node, output, show
from s3reg.cli.options import OpenGroup
from s3reg.cli.output import Answer, Columns
from s3reg.client import cleaning, clones, inventory, localtags, platform, removal
from s3reg.client.clones import Tops
from s3reg.client.inventory import Status
from s3reg.client.staging import recover
from s3reg.errors import Invalid, LocalTagNotFound, S3regError
from s3reg.model import names
from s3reg.model.template import Role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from s3reg.cli.options import Asked
    from s3reg.client.inventory import Found
    from s3reg.client.library import Library, LocalVm
    from s3reg.model.names import TemplateId

_VM = click.argument("vm", shell_complete=candidates.local_vms)


@click.group(cls=OpenGroup)
def vm() -> None:
    """The VMs of this node's library: list, show, clone, delete, tag."""


# --- Looking ---------------------------------------------------------------------------------------------------------


@vm.command("list")
@click.argument("vms", nargs=-1, metavar="[VM]...", shell_complete=candidates.local_vms)
@click.option("-r", "--running", is_flag=True, help="Only those that run.")
@click.pass_obj
def list_(asked: Asked, vms: tuple[str, ...], running: bool) -> None:
    """List the VMs: the tag that each is, whether it changed since, whether it runs.

    A broken one is listed with what is wrong with it. No disk is read.
    """
    library = node.library_of(asked)
    found = [inventory.look(library, ref) for ref in vms] if vms else inventory.survey(library)
    if running:
        found = [one for one in found if one.status is Status.RUNNING]
    rows = [
        (one.name or "?", one.id, _told_tag(one), one.status.value, "" if one.problem is None else str(one.problem))
        for one in found
    ]
    table = Columns(("name", "id", "tag", "status", ""), rows)
    output.give(Answer([_row(one) for one in found], "", table), machine_readable=asked.machine_readable)


@vm.command("show")
@_VM
@click.argument("part", metavar="[PART]", required=False, type=click.Choice(list(show.PARTS)))
@click.argument("label", metavar="[NAME]", required=False)
@click.pass_obj
def show_(asked: Asked, *, vm: str, part: str | None, label: str | None) -> None:
    """Show a VM, or one part of it.

    PART is name, uuid, description, tag (the tags that this library has), cpu, ram, display, disk, network, port or label;
    NAME is a label's.
    """
    if label is not None and part != "label":
        raise Invalid(reason=f"{label!r} is one word too many: only the part label takes a name")
    library = node.library_of(asked)
    found = inventory.look(library, vm)
    if found.vm is None:
        raise _broken(found)
    answer = None if part is None else show.PARTS[part](_as_template(library, found.vm, label))
    output.give(answer or _whole(library, found, found.vm), machine_readable=asked.machine_readable)


def _row(one: Found) -> dict[str, Any]:
    row = {
        "name": one.name,
        "uuid": one.id,
        "creation_date": None if one.vm is None else _created(one.vm),
        "version": one.tag or "",
        "status": one.status.value,
        "image_size": None if one.vm is None else inventory.layer_bytes(one.vm),
        "changed": one.changed,
    }
    return row if one.problem is None else {**row, "reason": str(one.problem)}


def _whole(library: Library, one: Found, found: LocalVm) -> Answer:
    size, written = inventory.layer_bytes(found), [file.path.stat() for file in found.files]
    drives = _as_template(library, found, None).drives()
    stopped = None if one.status is Status.RUNNING else show.moment(int(max(seen.st_mtime for seen in written)))
    body = {
        **_row(one),
        "cpu_cores": hardware.cores(found.values),
        "ram": hardware.ram(found.values),
        "ram_size": hardware.ram_bytes(found.values),
        "hard_drive": sum(drive["image_size"] for drive in drives),
        "encrypted": bool(found.values.get("encrypted")),
        "stop_date": stopped,
        "access_date": show.moment(int(max(seen.st_atime for seen in written))),
        "arch": hardware.ARCHES.get(found.arch),
    }
    facts = [
        ("name", found.name),
        ("uuid", found.id),
        ("tag", _told_tag(one)),
        ("status", one.status.value),
        ("created", str(_created(found) or "")),
        ("arch", found.arch),
        ("ram", hardware.ram(found.values)),
        ("size", decimal(size)),
    ]
    layers = [file for file in found.files if file.role in {Role.IMAGE, Role.STATE}]
    rows = [(file.name, file.role.value, decimal(file.path.stat().st_size), file.parent or "") for file in layers]
    table = Columns(("layer", "", "size", "stands on"), rows)
    return Answer(body, "", (Columns(("", ""), [(name, told) for name, told in facts if told]), table))


def _as_template(library: Library, found: LocalVm, label: str | None) -> show.Shown:
    """The VM and its tags as a registry would tell of them."""
    tags = library.ledger.tags(found.id)
    current = library.ledger.current(found.id)
    files = tuple(
        wire.FileEntry(file.name, file.role.value, file.path.stat().st_size, "", file.drive, file.parent)
        for file in found.files
    )
    versions = tuple(
        wire.VersionEntry(row.version, number, tag, "", 0, row.created, row.used)
        for number, (tag, row) in enumerate(sorted(tags.items(), key=lambda pair: pair[1].created))
    )
    row = tags.get(current or "")
    now = wire.VersionEntry("", 0, current or "", "", 0, row.created if row else 0, files=files)
    template = wire.TemplateEntry(found.id, found.name, found.arch, "", 0, versions)
    return show.Shown(template, now, found.values, versions, latest=False, label=label)


def _created(found: LocalVm) -> str | None:
    """When the VM was made: as its configuration says, else when that was written."""
    told = found.values.get("creation_date")
    return str(told) if told else show.moment(int((found.folder / found.config_name).stat().st_mtime))


def _told_tag(one: Found) -> str:
    if one.tag is None:
        return ""
    return f"{one.tag} (changed)" if one.changed else one.tag


def _broken(found: Found) -> S3regError:
    assert found.problem is not None
    return found.problem


# --- Making ----------------------------------------------------------------------------------------------------------


@vm.command("clone")
@_VM
@click.argument("name")
@click.option("-t", "--tag", help="Clone what the VM was under this tag of this library.")
@click.option("-c", "--copy", is_flag=True, help="Share no layer that a VM may write to, whatever its format.")
@click.option("--share", is_flag=True, help="Share plain disks too: whichever VM runs changes both.")
@click.pass_obj
def clone(asked: Asked, *, vm: str, name: str, tag: str | None, copy: bool, share: bool) -> None:
    """Make another VM of one, with an id of its own. It costs no layer bytes, here or in the store.

    Layers that nothing writes to are shared: those below others, and Anka's own that a tag has, because Anka gives a VM a
    fresh layer when it starts. A plain disk, and a layer that no tag has, is written to by its VM: of these the clone gets
    its own, sharing blocks where the file system can, else copied.
    """
    if copy and share:
        raise Invalid(reason="--copy and --share are opposites; give one of them")
    shared = Tops.NONE if copy else Tops.ALL if share else Tops.FROZEN
    made = clones.clone(node.library_of(asked), vm, name, tag=tag, shared=shared)
    body = {"uuid": made.id, "name": made.name}
    text = f"VM cloned successfully with uuid: {made.id}"
    output.give(Answer(body, "vm cloned successfully", text), machine_readable=asked.machine_readable)


@vm.command("tag")
@_VM
@click.argument("tag", required=False)
@click.option("--delete", "gone", metavar="TAG", help="Forget this tag, and the layers that nothing else stands on.")
@click.option("-f", "--force", is_flag=True, help="Give the tag to the VM as it is now, whatever has it.")
@click.pass_obj
def tag_(asked: Asked, *, vm: str, tag: str | None, gone: str | None, force: bool) -> None:
    """Tag a VM in this library only, as push --local does, or list its tags.

    pull --local goes back to a tag, as long as the layers are as they were: those of Anka's format are; a plain disk is
    not, once the VM has run on it.
    """
    library = _recovered(asked)
    if gone is not None:
        if tag is not None or force:
            raise Invalid(reason="--delete takes the tag; leave the rest out")
        output.give(_forget(library, *localtags.named(library, vm), gone), machine_readable=asked.machine_readable)
        return
    if tag is None:
        output.give(_tags(library, localtags.named(library, vm)[0]), machine_readable=asked.machine_readable)
        return
    found = library.find(vm)
    with node.telling(asked) as progress:
        localtags.note(library, found, tag, progress, force=force)
    message = f"{found.name}: tagged {tag} in this library only"
    told = Answer({"uuid": found.id, "name": found.name, "tag": tag}, message, message)
    output.give(told, machine_readable=asked.machine_readable)


def _tags(library: Library, template: TemplateId) -> Answer:
    current = library.ledger.current(template)
    body, rows = [], []
    for name, row in sorted(library.ledger.tags(template).items(), key=lambda pair: pair[1].created):
        whole = localtags.is_whole(library, template, name)
        dates = {"creation_date": show.moment(row.created), "last_access": show.moment(row.used)}
        body.append({"tag": name, **dates, "current": name == current, "local": row.local, "whole": whole})
        marks = [
            word
            for word, holds in (("current", name == current), ("local", row.local), ("not whole", not whole))
            if holds
        ]
        rows.append((name, time.strftime("%Y-%m-%d %H:%M", time.localtime(row.created)), ", ".join(marks)))
    return Answer(body, "", Columns(("tag", "created", ""), rows))


# --- Removing --------------------------------------------------------------------------------------------------------


@vm.command("delete")
@click.argument("vms", nargs=-1, metavar="[VM]...", shell_complete=candidates.local_vms)
@click.option("-t", "--tag", help="Only this tag of this library; the VM stays as it is.")
@click.option("-a", "--all", "everything", is_flag=True, help="Every VM of this library.")
@click.option(
    "--cache", is_flag=True, help="What s3reg left and nothing needs: interrupted pulls, orphaned layers, maps."
)
@click.option("-y", "--yes", is_flag=True, help="Do not ask. Without a terminal, and with -j, nobody is asked anyway.")
@click.pass_obj
def delete(asked: Asked, *, vms: tuple[str, ...], tag: str | None, everything: bool, cache: bool, yes: bool) -> None:
    """Delete VMs of this library with their tags, or one tag; what a registry has stays there.

    Layers that another VM or tag stands on stay, and those of a layer folder that is a link to another library's.
    """
    if everything and (vms or tag is not None):
        raise Invalid(reason="--all names every VM; leave the VMs and --tag out")
    if not (vms or everything or cache):
        raise Invalid(reason="name a VM to delete, or --all, or --cache")
    if tag is not None and len(vms) != 1:
        raise Invalid(reason="--tag is a tag of one VM; name that one")
    library, json = _recovered(asked), asked.machine_readable
    going = list(dict.fromkeys(_found(library, ref) for ref in vms))
    if everything:
        going = [(one.id, one.name or one.id) for one in inventory.survey(library)]
    if tag is not None:
        output.confirm(f"The tag {tag} of {going[0][1]} will be forgotten here.", yes=yes, machine_readable=json)
        output.give(_forget(library, *going[0], tag), machine_readable=json)
        return
    if going:
        there = [(library.whatever(template), name) for template, name in going if library.holds(template)]
        only_here = [name for vm, name in there if not inventory.is_pushed(library, vm)]
        warning = f" Of {', '.join(only_here)}, no registry has all bytes." if only_here else ""
        what = f"{', '.join(name for _, name in going)} will be deleted from this library.{warning}"
        output.confirm(what, yes=yes, machine_readable=json)
    freed = removal.remove_vms(library, [template for template, _ in going]) if going else {}
    cleaned = cleaning.clean(library) if cache else None
    output.give(_deleted(going, freed, cleaned), machine_readable=json)


def _found(library: Library, ref: str) -> tuple[TemplateId, str]:
    """Id and name of a VM, which may be broken, or gone but for its tags."""
    if names.is_template_id(ref) and library.holds(template := names.template_id(ref)):
        return template, library.whatever(template).name
    return localtags.named(library, ref)


def _forget(library: Library, template: TemplateId, name: str, tag: str) -> Answer:
    tag = names.tag(tag)
    if tag not in library.ledger.tags(template):
        raise LocalTagNotFound(vm=name, tag=tag)
    freed = removal.remove_tags(library, template, [tag])
    text = f"{name}: tag {tag} forgotten here; {decimal(freed)} freed"
    return Answer({"uuid": template, "name": name, "tag": tag, "freed": freed}, "tag deleted successfully", text)


def _deleted(
    going: Sequence[tuple[TemplateId, str]], freed: dict[TemplateId, int], cleaned: cleaning.Cleaned | None
) -> Answer:
    body: dict[str, Any] = {"deleted": [{"uuid": template, "name": name} for template, name in going]}
    lines = [f"{name} deleted; {decimal(freed[template])} freed" for template, name in going]
    total = sum(freed.values())
    if cleaned is not None:
        parts = {"stagings": cleaned.stagings, "layers": cleaned.layers, "records": cleaned.records}
        body["cache"] = parts
        total += sum(parts.values())
        told = ", ".join(f"{decimal(size)} of {what}" for what, size in parts.items())
        lines.append(f"cache: {told}")
    return Answer({**body, "freed": total}, "deleted successfully", "\n".join(lines))


def _recovered(asked: Asked) -> Library:
    """The library, with what was interrupted finished: a removal that was killed half-way must not be seen half-way."""
    library = node.library_of(asked)
    with platform.refusals_named(library.root):
        recover(library)
    return library


COMMANDS = (vm,)
