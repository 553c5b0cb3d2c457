"""A file of settings, in YAML: names, lines, and the text of each value as it stands there.

That text goes through the parsers of `settings.py`, as a variable's does: so a setting means the same whichever way it
comes, and YAML 1.1 has no say in what 010 (eight), 1:30 (ninety) or `no` (false) are. A value only has to be of its sort.

Nothing of a value is in any error from here: whoever writes a secret into the file gets it back from nowhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from s3reg.settings import Native

if TYPE_CHECKING:
    from pathlib import Path

LARGEST = 1024**2
"""Bytes."""
_DEEPEST = 8
_TAG = "tag:yaml.org,2002:"


_SCALARS = {Native.TEXT: "str", Native.WHOLE: "int", Native.TRUTH: "bool", Native.TEXTS: "str"}


class Unreadable(Exception):
    """The file cannot be read, or is no mapping in YAML; `args[0]` says why."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.line = line
        """From 1; None: it is not about one."""


@dataclass(frozen=True, slots=True)
class Line:
    """A setting as the file has it."""

    name: str
    number: int
    """From 1."""
    node: yaml.Node = field(repr=False)

    def text(self, native: Native) -> str:
        """The value as a variable would spell it, empty where there is none. Raises ValueError if it is of another sort."""
        if isinstance(self.node, yaml.SequenceNode) and native is Native.TEXTS:
            return ",".join(_item(one, native) for one in self.node.value)
        if self.node.tag == f"{_TAG}null":
            return ""
        return _scalar(self.node, native)


def _item(node: yaml.Node, native: Native) -> str:
    text = _scalar(node, native)
    if "," in text or not text:
        raise ValueError(f"write {native.value}")
    return text


def _scalar(node: yaml.Node, native: Native) -> str:
    if not isinstance(node, yaml.ScalarNode) or node.tag != _TAG + _SCALARS[native]:
        raise ValueError(f"write {native.value}")
    return str(node.value)


def lines(path: Path) -> list[Line]:
    """All settings of the file, in its order, a name as often as it is there. Raises Unreadable."""
    text = _contents(path)
    try:
        _refuse_depth(text)
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as e:
        raise Unreadable(f"this is no YAML: {_problem(e)}", _number(e.problem_mark or e.context_mark)) from None
    except yaml.reader.ReaderError as e:
        line = text.count("\n", 0, int(e.position)) + 1
        raise Unreadable("this is no YAML: it has a character that cannot be written so", line) from None
    if node is None or node.tag == f"{_TAG}null":
        return []
    if not isinstance(node, yaml.MappingNode):
        raise Unreadable("write NAME: VALUE in each line, like store: /var/lib/s3reg", _number(node.start_mark))
    return [_line(key, value) for key, value in node.value]


def _refuse_depth(text: str) -> None:
    """Raise Unreadable if it is nested deeper than any setting: of a thousand brackets PyYAML makes seconds of work."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            raise Unreadable("this is no file of settings: it is nested too deep", _number(event.start_mark))


def _line(key: yaml.Node, value: yaml.Node) -> Line:
    number = _number(key.start_mark)
    if not isinstance(key, yaml.ScalarNode):
        raise Unreadable("write NAME: VALUE; this is no name", number)
    return Line(str(key.value), number or 0, value)


def _contents(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as e:
        raise Unreadable(e.strerror or type(e).__name__) from None
    if len(data) > LARGEST:
        raise Unreadable(f"a file of settings has at most {LARGEST:,} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise Unreadable("this is no text in UTF-8", data.count(b"\n", 0, e.start) + 1) from None


def _problem(error: yaml.MarkedYAMLError) -> str:
    """What PyYAML says is wrong, without what it cites: a value could be in it. A single sign is none."""
    told = re.split(r",? but (?:found|got)", error.problem or error.context or "?")[0]
    return re.sub(r"'(.|\\t)'|['\"].*", lambda found: found[0] if found[1] else "", told).strip()


def _number(mark: Any) -> int | None:
    return None if mark is None else mark.line + 1
