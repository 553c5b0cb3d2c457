"""A VM's configuration: a YAML mapping that names the VM, its drives, its suspended state and its nvram.

It travels as bytes. Its values are read with the bounds of `model/config.py`; names and ids are taken as they are spelled,
because a VM may be called `11.60`, which YAML takes for a number. Only two things are ever written: id, name and the names
of layers, in place, for --remote-vm and clones, and a whole configuration, for import.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from s3reg.errors import ConfigInvalid, NameInvalid
from s3reg.model import config, names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from s3reg.model.names import TemplateId

NVRAM = "nvram"
"""The file's name when the configuration only says that there is one."""

_ARCHES = {"arm64": "arm64", "aarch64": "arm64", "amd64": "amd64", "x86_64": "amd64", "x86-64": "amd64"}
_TIMESTAMP = "tag:yaml.org,2002:timestamp"


class _Dumper(yaml.SafeDumper):
    """Values as JSON has them: a text that looks like a date needs no quotes."""


_Dumper.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
    for first, resolvers in yaml.SafeDumper.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True, slots=True)
class VmConfig:
    """What a configuration says about a VM's files."""

    id: TemplateId | None
    name: str | None
    arch: str
    """`arm64`, `amd64`, or empty."""
    drives: tuple[tuple[int, str], ...]
    """(place in the list of drives, file name of the top layer); a drive without a file is left out."""
    state: str | None
    """The file that a suspended VM goes on from."""
    nvram: str | None
    nvram_named: bool
    """Whether the file's name is spelled out; else it may not exist yet."""
    values: dict[str, Any]
    """The whole configuration."""


def parse(data: bytes, file: str = "config.yaml") -> VmConfig:
    """The configuration read. Raises ConfigInvalid, naming it `file`."""
    values = config.parse(file, data)
    root = _composed(data.decode(), file)
    fields = {key.value: value for key, value in root.value if isinstance(key, yaml.ScalarNode)}
    try:
        return VmConfig(
            id=names.template_id(given) if (given := _scalar(fields, "uuid")) else None,
            name=names.template_name(given) if (given := _scalar(fields, "name")) else None,
            arch=_ARCHES.get((_scalar(fields, "arch") or "").lower(), ""),
            drives=_drives(fields.get("hard_drives")),
            state=names.file_name(given) if (given := _scalar(fields, "state_file")) else None,
            nvram=_nvram(values.get("nvram"), _scalar(fields, "nvram")),
            nvram_named=not isinstance(values.get("nvram"), bool),
            values=values,
        )
    except NameInvalid as e:
        raise ConfigInvalid(file=file, reason=str(e)) from e


def rewritten(
    data: bytes,
    *,
    uuid: TemplateId | None,
    name: str,
    layers: Mapping[str, str] | None = None,
    file: str = "config.yaml",
) -> bytes:
    """The configuration with another id and name; every other byte as it was.

    `uuid`: None leaves the id to the folder, for a configuration that has none. `layers`: other file names for the top
    layers of drives and for the state, by those they have. Raises ConfigInvalid where that cannot be done: no such field, or
    one spelled over several lines.
    """
    before = parse(data, file)
    text = data.decode()
    fresh = {"name": json.dumps(name, ensure_ascii=False), **({} if uuid is None else {"uuid": uuid})}
    spans = []
    for key, node in _replaceable(_composed(text, file, yaml.SafeLoader)):
        layer = node.value if isinstance(node, yaml.ScalarNode) else ""
        value = fresh.get(key, json.dumps(layers[layer]) if layers and layer in layers else None)
        if value is None:
            continue
        if not isinstance(node, yaml.ScalarNode) or node.style in {"|", ">"}:
            raise ConfigInvalid(file=file, reason=f"its {key} is not on one line")
        spans.append((node.start_mark.index, node.end_mark.index, value))
    for start, end, value in sorted(spans, reverse=True):
        text = text[:start] + value + text[end:]
    changed = text.encode()
    if _neutral(after := parse(changed, file)) != _neutral(before, layers or {}) or (after.id, after.name) != (
        uuid,
        name,
    ):
        raise ConfigInvalid(file=file, reason="its uuid and name cannot be replaced in place")
    return changed


def config_name_for(config_name: str, old: TemplateId, new: TemplateId) -> str:
    """What the configuration file is called under another id: `<uuid>.yaml` (Anka 2) follows the id, `config.yaml` stays."""
    return f"{new}.yaml" if names.folded(config_name) == f"{old}.yaml" else config_name


def generated(
    values: dict[str, Any],
    *,
    uuid: TemplateId,
    name: str,
    drives: list[str],
    state: str | None,
    nvram: str | None,
) -> bytes:
    """A configuration with these files; whatever else `values` says stays, what a drive says besides its file included."""
    given = values.get("hard_drives")
    old = given if isinstance(given, list) else []
    rows = [
        {**(old[i] if i < len(old) and isinstance(old[i], dict) else {}), "file": drive}
        for i, drive in enumerate(drives)
    ]
    gone = {"uuid", "name", "hard_drives", "state_file", "nvram"}
    body: dict[str, Any] = {"name": name, "uuid": uuid}
    body |= {key: value for key, value in values.items() if key not in gone}
    body["hard_drives"] = rows
    if state is not None:
        body["state_file"] = state
    body["nvram"] = False if nvram is None else (True if nvram == NVRAM else nvram)
    return yaml.dump(body, Dumper=_Dumper, sort_keys=False, allow_unicode=True).encode()


def _composed(text: str, file: str, loader: Any = config.LOADER) -> yaml.MappingNode:
    """The document as nodes. Its values were read before, with bounds.

    Of PyYAML's loaders only the one in Python tells where in the text each of them stands, in characters.
    """
    root = yaml.compose(text, Loader=loader)
    assert isinstance(root, yaml.MappingNode)
    keys = [key.value for key, _ in root.value if isinstance(key, yaml.ScalarNode)]
    if len(keys) != len(root.value) or len(set(keys)) != len(keys) or "<<" in keys:
        raise ConfigInvalid(file=file, reason="a key is no text, or stands there twice")
    return root


def _replaceable(root: yaml.MappingNode) -> Iterator[tuple[str, yaml.Node]]:
    """The fields that name the VM and its layers: key and value."""
    for key, value in root.value:
        if key.value in {"uuid", "name", "state_file"}:
            yield key.value, value
        elif key.value == "hard_drives" and isinstance(value, yaml.SequenceNode):
            drives = [row for row in value.value if isinstance(row, yaml.MappingNode)]
            yield from (("file", v) for row in drives for k, v in row.value if k.value == "file")


def _neutral(parsed: VmConfig, layers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The values without id and name, layers under their other names."""
    layers, values = layers or {}, {**parsed.values, "uuid": None, "name": None}
    rows = values.get("hard_drives")
    if isinstance(rows, list):
        fresh = {at: layers[top] for at, top in parsed.drives if top in layers}
        values["hard_drives"] = [{**row, "file": fresh[at]} if at in fresh else row for at, row in enumerate(rows)]
    if parsed.state and parsed.state in layers:
        values["state_file"] = layers[parsed.state]
    return values


def _scalar(fields: dict[str, yaml.Node], key: str) -> str | None:
    """A field as it is spelled; None if it is absent, null or empty."""
    node = fields.get(key)
    if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"):
        return None
    if not isinstance(node, yaml.ScalarNode):
        raise NameInvalid(what=key, text="", reason="it is not a single value")
    return str(node.value) or None


def _drives(node: yaml.Node | None) -> tuple[tuple[int, str], ...]:
    if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"):
        return ()
    if not isinstance(node, yaml.SequenceNode):
        raise NameInvalid(what="hard_drives", text="", reason="it is not a list")
    found = []
    for index, row in enumerate(node.value):
        if not isinstance(row, yaml.MappingNode):
            raise NameInvalid(what="hard_drives", text="", reason="a drive is not a mapping")
        file = _scalar({key.value: value for key, value in row.value if isinstance(key, yaml.ScalarNode)}, "file")
        if file:
            found.append((index, names.file_name(file)))
    return tuple(found)


def _nvram(value: object, spelled: str | None) -> str | None:
    if value is True:
        return NVRAM
    return names.file_name(spelled) if isinstance(value, str) and spelled else None
