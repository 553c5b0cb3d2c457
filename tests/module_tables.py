"""The tables of variables and outputs in the READMEs of the Terraform modules, printed from them: `make reference`."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import hcl2

TERRAFORM = Path(__file__).parents[1] / "infra/terraform"
READMES = tuple(sorted([TERRAFORM / "README.md", *TERRAFORM.glob("modules/*/README.md")]))
BEGIN, END = "<!-- Printed from the .tf files by make reference. -->\n", "<!-- The end of what is printed. -->\n"


@functools.cache
def read(folder: Path) -> dict[str, list[Any]]:
    """All blocks of a module: kind → them, in the order of the files and of what stands in each."""
    found: dict[str, list[Any]] = {}
    for path in sorted(folder.glob("*.tf")):
        for kind, blocks in hcl2.loads(path.read_text()).items():
            found.setdefault(kind, []).extend(blocks)
    return found


def plain(value: Any) -> Any:
    """A value as Terraform has it: hcl2 leaves the quotes on text, and puts `${…}` around what is none."""
    if not isinstance(value, str):
        return value
    if value.startswith('"'):
        return json.loads(value)
    return re.sub(r"^\$\{(.*)\}$", r"\1", value, flags=re.DOTALL)


def named(blocks: list[Any]) -> list[tuple[str, dict[str, Any]]]:
    """Name and inside of blocks that have one label."""
    return [(plain(name), inside) for block in blocks for name, inside in block.items()]


def tables(folder: Path) -> str:
    """Both, as Markdown."""
    blocks = read(folder)
    lines = ["### Variables", "", "| name | what | type | default |", "|---|---|---|---|"]
    for name, inside in named(blocks.get("variable", [])):
        default = f"`{json.dumps(plain(inside['default']))}`" if "default" in inside else "has to be given"
        lines.append(f"| `{name}` | {_cell(inside['description'])} | `{_type(inside['type'])}` | {default} |")
    lines += ["", "### Outputs", "", "| name | what |", "|---|---|"]
    lines += [f"| `{name}` | {_cell(inside['description'])} |" for name, inside in named(blocks.get("output", []))]
    return "\n".join(lines) + "\n"


def text(readme: Path) -> str:
    """The README with its tables as they have to be."""
    before, _, rest = readme.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables(readme.parent)}\n{END}{after}"


def _cell(value: Any) -> str:
    return str(plain(value)).replace("|", "\\|")


def _type(value: Any) -> str:
    return " ".join(str(plain(value)).split())


if __name__ == "__main__":
    for readme in READMES:
        readme.write_text(text(readme))
