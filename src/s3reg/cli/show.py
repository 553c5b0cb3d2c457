"""`show`: what a registry knows of one version of a template, whole or one part of it, with the parts of Anka 3."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from rich.filesize import decimal

from s3reg.cli import candidates, hardware, node, output
from s3reg.cli.output import Answer, Columns
from s3reg.errors import Invalid, LabelNotFound
from s3reg.model.template import Role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from s3reg import wire
    from s3reg.cli.options import Asked


@dataclass(frozen=True, slots=True)
class Shown:
    """What there is to show, and how much of it was asked for."""

    found: wire.TemplateEntry
    chosen: wire.VersionEntry
    config: dict[str, Any]
    tags: Sequence[wire.VersionEntry]
    latest: bool
    label: str | None

    def drives(self) -> list[dict[str, Any]]:
        """The drives as the configuration has them, with the names of their layers, the top one first, and their bytes."""
        images = {file.name: file for file in self.chosen.files if file.role == Role.IMAGE.value}
        found = []
        for number, drive in enumerate(hardware.rows(self.config, "hard_drives")):
            layers: dict[str, int] = {}
            here = images.get(str(drive.get("file")))
            while here is not None and here.name not in layers:
                layers[here.name] = here.size
                here = images.get(here.parent or "")
            found.append({"drive": number, **drive, "image_size": sum(layers.values()), "layers": list(layers)})
        return found


def _uuid(shown: Shown) -> Answer:
    return Answer(shown.found.id, "", shown.found.id)


def _name(shown: Shown) -> Answer:
    return Answer(shown.found.name, "", shown.found.name)


def _description(shown: Shown) -> Answer:
    return Answer(shown.chosen.description, "", shown.chosen.description)


def _tag(shown: Shown) -> Answer:
    body = [
        {"tag": one.tag, "creation_date": moment(one.created), "last_access": moment(one.last_pull)}
        for one in shown.tags
    ]
    if shown.latest:
        return Answer(body, "", shown.chosen.tag)
    rows = [(one.tag, node.when(one.created), node.when(one.last_pull)) for one in shown.tags]
    return Answer(body, "", Columns(("tag", "created", "last pull"), rows))


def _cpu(shown: Shown) -> Answer:
    return Answer(hardware.mapping(shown.config.get("cpu")), "", _told_cores(shown.config))


def _ram(shown: Shown) -> Answer:
    told = hardware.ram(shown.config)
    return Answer({"ram": told, "ram_size": hardware.ram_bytes(shown.config)}, "", told)


def _display(shown: Shown) -> Answer:
    frames = hardware.displays(shown.config)
    return Answer(frames, "", "\n".join(map(_told_display, frames)))


def _disk(shown: Shown) -> Answer:
    drives = shown.drives()
    rows = [
        (str(drive["drive"]), decimal(drive["image_size"]), str(len(drive["layers"])), str(drive.get("file", "")))
        for drive in drives
    ]
    return Answer(drives, "", Columns(("drive", "size", "layers", "file"), rows))


def _network(shown: Shown) -> Answer:
    cards = hardware.networks(shown.config)
    return Answer(cards, "", _table(cards, ("mode", "mac_address", "type")))


def _port(shown: Shown) -> Answer:
    rules = hardware.ports(shown.config)
    return Answer(rules, "", _table(rules, ("rule_name", "protocol", "host_ip", "host_port", "guest_port")))


def _label(shown: Shown) -> Answer:
    known = hardware.labels(shown.config)
    if shown.label is None:
        return Answer(known, "", Columns(("label", "value"), [(name, str(value)) for name, value in known.items()]))
    if shown.label not in known:
        raise LabelNotFound(template=shown.found.name, label=shown.label)
    return Answer(known[shown.label], "", str(known[shown.label]))


PARTS = {
    "name": _name,
    "uuid": _uuid,
    "description": _description,
    "tag": _tag,
    "cpu": _cpu,
    "ram": _ram,
    "display": _display,
    "disk": _disk,
    "network": _network,
    "port": _port,
    "label": _label,
}


@click.command()
@node.TAG
@click.option("--latest", is_flag=True, help="With the part tag: only the newest.")
@click.argument("vm", shell_complete=candidates.templates)
@click.argument("part", metavar="[PART]", required=False, type=click.Choice(list(PARTS)))
@click.argument("label", metavar="[NAME]", required=False)
@click.pass_obj
def show(asked: Asked, *, vm: str, part: str | None, label: str | None, tag: str | None, latest: bool) -> None:
    """Show a version of a template, or one part of it.

    PART is name, uuid, description, tag, cpu, ram, display, disk, network, port or label; NAME is a label's.
    """
    if latest and (part != "tag" or tag is not None):
        raise Invalid(reason="--latest is for the part tag, without -t: s3reg show VM tag --latest")
    if label is not None and part != "label":
        raise Invalid(reason=f"{label!r} is one word too many: only the part label takes a name")
    with node.connected(asked, tries=node.TRIES_TO_ASK) as connection:
        found = node.template(connection, vm)
        chosen = node.selected(found, tag)
        config = node.config_of(connection, found, chosen)
    tags = found.versions if tag is None and not latest else (chosen,)
    shown = Shown(found, chosen, config, tags, latest, label)
    output.give(_whole(shown) if part is None else PARTS[part](shown), machine_readable=asked.machine_readable)


def _whole(shown: Shown) -> Answer:
    found, chosen, config = shown.found, shown.chosen, shown.config
    sizes = [drive["image_size"] for drive in shown.drives()]
    body = {
        "uuid": found.id,
        "id": found.id,
        "name": found.name,
        "tag": chosen.tag,
        "number": chosen.number,
        "description": chosen.description,
        "creation_date": moment(chosen.created),
        "status": hardware.rest_state(config),
        "cpu_cores": hardware.cores(config),
        "ram": hardware.ram(config),
        "ram_size": hardware.ram_bytes(config),
        "image_size": sum(sizes),
        "size": chosen.size,
        "arch": hardware.ARCHES.get(found.arch),
    }
    facts = [
        ("name", found.name),
        ("uuid", found.id),
        ("tag", f"{chosen.tag} (version {chosen.number} of {len(found.versions)})"),
        ("description", chosen.description.replace("\n", " ")),
        ("created", node.when(chosen.created)),
        ("arch", found.arch),
        ("status", hardware.rest_state(config)),
        ("cpu", _told_cores(config)),
        ("ram", hardware.ram(config)),
        ("display", ", ".join(map(_told_display, hardware.displays(config)))),
        ("disk", ", ".join(map(decimal, sizes))),
        ("network", ", ".join(str(card.get("mode", "?")) for card in hardware.networks(config))),
        ("port", ", ".join(map(_told_port, hardware.ports(config)))),
        ("label", ", ".join(f"{name}={value}" for name, value in hardware.labels(config).items())),
        ("size", decimal(chosen.size)),
    ]
    return Answer(body, "", Columns(("", ""), [(name, told) for name, told in facts if told]))


def moment(seconds: int | None) -> str | None:
    """Seconds since 1970 as ISO 8601 in UTC; None if it never was."""
    return None if not seconds else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _table(rows: list[dict[str, Any]], keys: tuple[str, ...]) -> Columns:
    """The rows under those keys that any of them has."""
    used = tuple(key for key in keys if any(key in row for row in rows))
    headings = tuple(key.replace("_", " ") for key in used)
    return Columns(headings, [tuple(str(row.get(key, "")) for key in used) for row in rows])


def _told_cores(config: dict[str, Any]) -> str:
    found = hardware.cores(config)
    return "" if found is None else f"{found} core{'' if found == 1 else 's'}"


def _told_display(frame: dict[str, Any]) -> str:
    return f"{frame.get('width', '?')}x{frame.get('height', '?')}"


def _told_port(rule: dict[str, Any]) -> str:
    name = rule.get("rule_name")
    return f"{f'{name}: ' if name else ''}{rule.get('host_port', '?')} to {rule.get('guest_port', '?')}"


COMMANDS = (show,)
