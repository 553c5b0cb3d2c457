"""A registry as a dictionary: templates, what each shows and what lies in its trash, and what a verb makes of it.

It is written from docs/design.md §4 and §10, not from the code. It is told what was done, and never how.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from protocol.machine_node import Vm


@dataclass(frozen=True)
class Row:
    """A version."""

    id: str
    tag: str
    description: str
    created: int
    vm: Vm
    """What a pull gives."""
    needs: frozenset[str]
    """The keys that it stands on, its own record's included."""
    place: int = -1
    """Orders versions: what replaces another takes its place, what comes back returns to it."""
    until: int | None = None
    """When it may go for good, of one that was removed, once that is known."""

    def over(self, now: float) -> bool:
        """Whether it may go for good."""
        return self.until is not None and self.until <= now


@dataclass
class Template:
    """What a head says. Without a version that it shows, it is deleted."""

    name: str = ""
    shown: list[Row] = field(default_factory=list)
    trash: list[Row] = field(default_factory=list)

    def tagged(self, tag: str) -> Row | None:
        return next((row for row in self.shown if row.tag == tag), None)

    def commit(self, row: Row, name: str) -> None:
        """A push becomes visible: in the place of the version of its tag, or as the newest."""
        if not self.shown:
            self.name = name
        old = self.tagged(row.tag)
        if old is None:
            place = 1 + max((one.place for one in (*self.shown, *self.trash)), default=-1)
            self.shown.append(replace(row, place=place))
        else:
            self.shown[self.shown.index(old)] = replace(row, place=old.place)
            self.trash.append(old)

    def remove(self, gone: Collection[Row]) -> None:
        """What a revert, an untag or a delete takes out, oldest first."""
        self.shown = [row for row in self.shown if row not in gone]
        self.trash += gone

    def keeps(self, row: Row, until: int) -> None:
        """The trash keeps it until then."""
        self.trash[self.trash.index(row)] = replace(row, until=until)

    def restore(self, ids: Collection[str], as_tag: str | None) -> None:
        """Each back to its place; of one place, before what was made later. What went last comes first."""
        for row in [row for row in reversed(self.trash) if row.id in ids]:
            before = [one for one in self.shown if (one.place, one.created) < (row.place, row.created)]
            self.shown.insert(len(before), replace(row, tag=as_tag or row.tag, until=None))
            self.trash.remove(row)

    def retag(self, tag: str, new: str) -> None:
        self.shown = [replace(row, tag=new) if row.tag == tag else row for row in self.shown]

    def let_go(self, gone: Collection[Row]) -> None:
        self.trash = [row for row in self.trash if row not in gone]


@dataclass
class Model:
    """All templates."""

    templates: dict[str, Template] = field(default_factory=dict)

    def __getitem__(self, template: str) -> Template:
        return self.templates.setdefault(template, Template())

    def shown(self) -> list[tuple[str, Row]]:
        return [(id_, row) for id_, template in self._ordered() for row in template.shown]

    def trash(self) -> list[tuple[str, Row]]:
        return [(id_, row) for id_, template in self._ordered() for row in template.trash]

    def there(self) -> list[str]:
        """The templates that are listed."""
        return [id_ for id_, template in self._ordered() if template.shown]

    def name_taken(self, name: str, template: str) -> bool:
        return any(one.shown and one.name == name and id_ != template for id_, one in self.templates.items())

    def needed(self) -> set[str]:
        """The keys that versions, removed ones too, stand on."""
        return set().union(*(row.needs for _, row in (*self.shown(), *self.trash())))

    def _ordered(self) -> Iterator[tuple[str, Template]]:
        yield from sorted(self.templates.items())
