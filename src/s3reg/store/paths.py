"""How a key is spelled as a path, so that two keys are two paths on any file system, APFS that ignores case included.

    heads/3f.json       heads.d/3f.json      directories end in `.d`: `a` and `a/b` lie side by side
    Ab, ABCd            %ab, %%abc%d         an upper-case letter behind %, three or more between %% and %
    .x                  %2ex                 what begins with a dot is never an object's
    a.d                 a.%64                nor is a file that ends in `.d`

The longest component that a key may have stays below the 255 bytes that file systems take, whatever its letters.
"""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[a-z0-9_@=+~-][a-z0-9._@=+~-]{0,127}")
"""A component that is its own spelling: nearly all are."""
_FOLDER = re.compile(r"(?:[A-Za-z0-9._@=+~-]{1,128}/)*")
_UPPER = re.compile(r"[A-Z]{3,}|[A-Z]")
_ESCAPED = re.compile(r"%%([a-z]{3,})%|%(2e|64)|%([a-z])")


def of_key(key: str) -> str:
    """The path of a key that `check_key` took, from the store's root."""
    *folders, name = key.split("/")
    spelled = _spelled(name)
    if spelled.endswith(".d"):
        spelled = spelled[:-1] + "%64"
    return "".join(f"{_spelled(folder)}.d/" for folder in folders) + spelled


def of_folder(folder: str) -> str:
    """The path, with its slash, of the directory for keys that begin with `folder`: empty, or up to a slash."""
    return "".join(f"{_spelled(part)}.d/" for part in folder.split("/")[:-1])


def is_folder(text: str) -> bool:
    """Whether `text` is empty or may be the beginning of a key up to a slash."""
    return _FOLDER.fullmatch(text) is not None


def name_of(entry: str) -> str:
    """The component that a directory entry spells, with a slash if it is a directory's; empty for what is not ours."""
    stem, slash = (entry[:-2], "/") if entry.endswith(".d") else (entry, "")
    if _PLAIN.fullmatch(stem):
        return stem + slash
    name = _ESCAPED.sub(_meant, stem)
    again = of_folder(name + "/")[:-1] if slash else of_key(name)
    return name + slash if again == entry and name and is_folder(name + "/") else ""


def _spelled(part: str) -> str:
    if _PLAIN.fullmatch(part):
        return part
    if part.startswith("."):
        part = "%2e" + part[1:]
    return _UPPER.sub(_lowered, part)


def _lowered(found: re.Match[str]) -> str:
    letters = found[0].lower()
    return f"%{letters}" if len(letters) == 1 else f"%%{letters}%"


def _meant(found: re.Match[str]) -> str:
    run, byte, letter = found.groups()
    return chr(int(byte, 16)) if byte else str(run or letter).upper()
