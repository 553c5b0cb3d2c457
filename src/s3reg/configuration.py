"""What a registry is told when it starts, by whom, and all that is wrong with it: flags, environment, and a file.

A flag wins over the environment and that over the file, each setting by itself. What is empty counts as absent, unless more
were open without it. An unknown name is refused, because a misspelt one would otherwise be a setting that silently does
nothing.
"""

from __future__ import annotations

import contextlib
import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3reg.configfile import Line, Unreadable, lines
from s3reg.errors import SettingInvalid
from s3reg.settings import CLOSING, ELSEWHERE, PREFIX, ROOT_TOKEN_SOURCES, Setting, Settings, table
from s3reg.telemetry import redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

NAME, FLAG, VARIABLE = "config", "--config", "S3REG_CONFIG"
"""What names the file, as a parameter, an option and a variable."""
_SECRET_PLACES = ", ".join(ROOT_TOKEN_SOURCES[1:])
_TESTS = "S3REG_TEST_"
_MOST_TOLD = 100
"""Characters of a wrong value."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a setting is, and who said so."""

    setting: Setting
    value: Any = field(repr=False)
    source: str | None
    """The flag, the variable, or FILE:LINE; None: nobody, it is the default."""
    named: str | None
    """The setting, for an error, as whoever said it calls it; None: nobody did."""


@dataclass(frozen=True, slots=True)
class Reading:
    """All that flags, environment and file say, and all that is wrong with it."""

    told: tuple[Told, ...]
    """In the order of `Settings`; one whose value is wrong has its default, and its name is in `wrong`."""
    wrong: frozenset[str]
    troubles: tuple[SettingInvalid, ...]

    def settings(self) -> Settings:
        """What a registry is told. Raises the first of the troubles."""
        if self.troubles:
            raise self.troubles[0]
        return self.known()

    def known(self) -> Settings:
        """The same as far as it is known: defaults stand for what is wrong."""
        return Settings(**{one.setting.name: one.value for one in self.told})

    def source(self, name: str) -> str | None:
        """Who said what this setting is; None: nobody."""
        return next(one.source for one in self.told if one.setting.name == name)

    def renamed(self, e: SettingInvalid) -> SettingInvalid:
        """The same error, with its setting named as whoever said it calls it: whoever found it knows values only."""
        name = e.detail.get("name")
        for one in self.told:
            row = one.setting
            # The adapter of S3 has those that are its own without the prefix.
            if one.named is not None and name in {row.name, row.name.removeprefix("s3_"), row.variable, row.flag}:
                return SettingInvalid(**{**e.detail, "name": one.named})
        return e

    @contextlib.contextmanager
    def renaming(self) -> Iterator[None]:
        """What is raised inside as SettingInvalid is `renamed` outside."""
        try:
            yield
        except SettingInvalid as e:
            raise self.renamed(e) from e


def read(environ: Mapping[str, str], **flags: str | None) -> Settings:
    """The settings that the flags (by field name; None: not given), the environment and the file spell.

    The file is the one that the flag `config` or its variable names. Raises SettingInvalid.
    """
    return gather(environ, **flags).settings()


def gather(environ: Mapping[str, str], **flags: str | None) -> Reading:
    """The same with all that is wrong instead of the first of it, and who said what. Of the file every line is looked at."""
    rows = {row.name: row for row in table()}
    known = {row.variable for row in rows.values()}
    troubles = list(_unknown(environ, known))
    wrong: set[str] = set()
    file: dict[str, _Spelling] = {}
    try:
        file = dict(_filed(rows, environ, flags.get(NAME), troubles, wrong))
    except SettingInvalid as e:
        troubles.append(e)
        wrong |= set(rows)
    told = []
    for row in rows.values():
        try:
            told.append(_told(row, [*_spelled(row, flags, environ), *([file[row.name]] if row.name in file else [])]))
        except SettingInvalid as e:
            troubles.append(e)
            wrong.add(row.name)
            told.append(Told(row, row.default, None, None))
    return Reading(tuple(told), frozenset(wrong), tuple(troubles))


@dataclass(frozen=True, slots=True)
class _Spelling:
    """What somebody said of a setting."""

    source: str
    text: str = field(repr=False)
    named: str
    """The setting, for an error."""


def _spelled(row: Setting, flags: Mapping[str, str | None], environ: Mapping[str, str]) -> Iterator[_Spelling]:
    flag = flags.get(row.name)
    if flag is not None:
        name = str(row.flag)
        yield _Spelling(name, flag, name)
    if row.variable in environ:
        yield _Spelling(row.variable, environ[row.variable], row.variable)


def _told(row: Setting, said: Iterable[_Spelling]) -> Told:
    """The setting as the first that says anything says it. Raises SettingInvalid."""
    for one in said:
        if one.text:
            try:
                return Told(row, _value(row, one), one.source, one.named)
            except ValueError as e:
                raise SettingInvalid(name=one.named, reason=str(e)) from None
        if row.name in CLOSING:
            raise SettingInvalid(name=one.named, reason="it is empty; leave it out, if more is to be open")
    return Told(row, row.default, None, None)


def _value(row: Setting, said: _Spelling) -> Any:
    """Raises ValueError."""
    try:
        return row.parse(said.text)
    except ValueError as e:
        told = redact(said.text)
        raise ValueError(f"{told if len(told) <= _MOST_TOLD else told[:_MOST_TOLD] + '…'!r}: {e}") from None


def _filed(
    rows: Mapping[str, Setting],
    environ: Mapping[str, str],
    flag: str | None,
    troubles: list[SettingInvalid],
    wrong: set[str],
) -> Iterator[tuple[str, _Spelling]]:
    """What the file says, by setting; `troubles` and `wrong` get what is wrong there. Raises SettingInvalid if all is."""
    name, path = (VARIABLE, environ.get(VARIABLE)) if flag is None else (FLAG, flag)
    if path is None:
        return
    if not path:
        raise SettingInvalid(name=name, reason="it names no file; leave it out, if there is none")
    seen: dict[str, int] = {}
    try:
        found = lines(Path(path))
    except Unreadable as e:
        where = path if e.line is None else f"{path}:{e.line}"
        raise SettingInvalid(name=name, reason=f"{where}: {e}") from None
    for line in found:
        said = f"{path}:{line.number}"
        try:
            yield line.name, _line(line, rows, seen, said)
        except ValueError as e:
            troubles.append(SettingInvalid(name=f"{line.name} in {said}", reason=str(e)))
            wrong.add(line.name)
        seen.setdefault(line.name, line.number)


def _line(line: Line, rows: Mapping[str, Setting], seen: Mapping[str, int], source: str) -> _Spelling:
    """One setting of the file, whose value is right also if another counts. Raises ValueError."""
    row = rows.get(line.name)
    if row is None:
        told = line.name.lower().replace("-", "_").removeprefix(PREFIX.lower())
        near = _nearest(told, (row.name for row in rows.values() if not row.is_secret))
        raise ValueError(f"there is no such setting; {near} is the nearest")
    if row.is_secret:
        raise ValueError(f"a secret is not for this file; set {row.variable}, or say where it lies: {_SECRET_PLACES}")
    if line.name in seen:
        raise ValueError(f"line {seen[line.name]} has it already; leave one of them out")
    said = _Spelling(source, line.text(row.native), f"{line.name} in {source}")
    if said.text:
        _value(row, said)
    return said


def _unknown(environ: Mapping[str, str], known: set[str]) -> Iterator[SettingInvalid]:
    known = known | ELSEWHERE | {VARIABLE}
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known and not name.startswith(_TESTS):
            reason = f"there is no such setting; {_nearest(name, known)} is the nearest"
            yield SettingInvalid(name=name, reason=reason)


def _nearest(name: str, names: Iterable[str]) -> str:
    return difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.0)[0]
