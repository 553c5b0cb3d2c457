"""What templates take on the store: of each version and template what is its own, what it shares, and what its end frees.

Counted are packs and maps, as versions' records name them; what no head names any more, and what pushes under way have sent,
only a sweep can count. Who may not list a template learns that something is shared, never with whom: packs are shared within
a domain only, so its neighbours there are counted too.

*Exclusive* to some versions is what they need and no other version does, in any head's versions or trash. What lies in the
trash by now leaves it before what is taken out today, so what taking versions out *frees* in the end is what they need and
no other version outside the trash does.
"""

from __future__ import annotations

import threading
from array import array
from dataclasses import dataclass
from itertools import islice
from logging import WARNING
from typing import TYPE_CHECKING, NamedTuple

from s3reg.errors import FormatUnknown, RecordDamaged
from s3reg.model import format as fmt
from s3reg.model.identity import Action
from s3reg.model.template import Base
from s3reg.registry import sessions
from s3reg.registry.recent import Recent
from s3reg.registry.sight import may_list, sees
from s3reg.registry.withheld import given
from s3reg.store.together import gather
from s3reg.telemetry import emit

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from s3reg.model.identity import Identity
    from s3reg.model.template import Entry, Head, Version
    from s3reg.registry.catalog import Catalog
    from s3reg.registry.records import Records

NEEDS_BYTES = 128 * 1024**2
"""Of what versions need, as it is kept: enough for five million packs."""
COST = 24
"""Bytes of one row of it."""
AT_ONCE = 512
"""Records whose values are held at one time."""
NOBODY, MANY = -1, -2


@dataclass(frozen=True, slots=True)
class VersionUsage:
    """What a version takes: `exclusive` and `shared` make its stored bytes."""

    entry: Entry
    exclusive: int = 0
    """Bytes that no other version needs: what it takes with it at once when it is untagged and purged."""
    shared: int = 0
    """Bytes that others need too, the trash's included."""
    live: int = 0
    """Of its stored bytes, those that it uses: its maps, and of its packs the frames of its chunks."""
    frees: int = 0
    """What untagging it frees in the end: bytes that no other version outside the trash needs."""
    damaged: str = ""
    """Why its record cannot be read; it counts for nothing then."""


@dataclass(frozen=True, slots=True)
class TemplateUsage:
    """What a template's versions take together, and its trash."""

    head: Head
    versions: tuple[VersionUsage, ...]
    exclusive: int
    """Bytes that its versions need, and neither another template nor any trash does."""
    shared: int
    """The rest of its versions' stored bytes."""
    live: int
    """Of its versions' stored bytes, those in use: of each pack as much as the version that uses most of it."""
    trash: int
    """Bytes that nothing but its trash needs: what purging that gives back at the next sweep."""
    frees: int
    """What deleting it frees in the end, its trash aside: bytes that no other template's versions need."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the templates take that were asked for, and all of them together."""

    templates: tuple[TemplateUsage, ...]
    stored: int
    """Bytes that their versions and their trash need, each counted once."""
    live: int
    """Of these, what versions outside the trash use: counted as a template's."""
    trash: int
    """Of these, what no version outside the trash needs, of theirs or of any other template."""
    uploading: int
    """Bytes, at most, that pushes under way have sent: of those that the asker may know of; 0 where one was asked for."""


class _Needs(NamedTuple):
    """The packs and maps of a version, each once: 64 bits of the key, size, and how much of it is used."""

    keys: array[int]
    sizes: array[int]
    live: array[int]


_NOTHING = _Needs(array("q"), array("Q"), array("Q"))


class Accounts:
    """Counts what is stored. What a version needs never changes, so it is kept, within a bound. Safe between threads."""

    def __init__(self, records: Records, catalog: Catalog) -> None:
        self._records = records
        self._catalog = catalog
        self._kept: Recent[Base, _Needs] = Recent(NEEDS_BYTES)
        self._turn = threading.Lock()
        """Whose count is under way: each takes memory for all objects, and what the first one has read the next one has."""

    def usage(self, asker: Identity, ref: str | None) -> Usage:
        """Of all templates that the asker may list, or of one by its id or name. Raises what `find` raises.

        Among all, one that is deleted counts where the asker may see its trash.
        """
        wanted = None if ref is None else self._catalog.find(asker, ref).id
        heads = self._catalog.heads()
        shown = {head.id for head in heads if _is_shown(asker, head) and wanted in {None, head.id}}
        domains = {head.domain for head in heads if head.id in shown}
        uploading = 0
        if wanted is None:
            under_way = sessions.listed(self._records, self._catalog, asker)
            uploading = sum(one.session.signed for one in under_way if one.session is not None)
        with self._turn:
            count = _Count()
            for head, entry, needs in self._all(heads, domains):
                count.add(head, entry, needs, shown=head.id in shown)
            return count.result([head for head in heads if head.id in shown], uploading)

    def frees(self, asker: Identity, going: Collection[Base]) -> int:
        """What taking these versions out frees in the end: bytes that they need and no other outside the trash does.

        What the asker may not list, or is no template's version any more, counts for nothing.
        """
        heads = self._catalog.heads()
        named = {base.template for base in going}
        listed = [head for head in heads if head.id in named and may_list(asker, head)]
        going = set(going)
        sizes: dict[int, int] = {}
        out: set[Base] = set()
        for head, entry, needs in self._all(listed, {head.domain for head in listed}, trash=False):
            if Base(head.id, entry.id) in going and isinstance(needs, _Needs):
                out.add(Base(head.id, entry.id))
                sizes.update(zip(needs.keys, needs.sizes, strict=True))
        for head, entry, needs in self._all(heads, {head.domain for head in listed}, trash=False):
            if Base(head.id, entry.id) not in out and isinstance(needs, _Needs):
                for key in needs.keys:
                    sizes.pop(key, None)
        return sum(sizes.values())

    def _all(
        self, heads: Iterable[Head], domains: Collection[str], *, trash: bool = True
    ) -> Iterator[tuple[Head, Entry, _Needs | str]]:
        """Each version of these domains with what it needs, or why that is not known; template by template."""
        rows = (
            (head, entry)
            for head in heads
            # One that is damaged may not tell its domain.
            if head.domain in domains or not head.domain
            for entry in (*head.versions, *(head.removed if trash else ()))
        )
        while some := list(islice(rows, AT_ONCE)):
            for (head, entry), needs in zip(some, gather(self._needs, some), strict=True):
                yield head, entry, needs

    def _needs(self, row: tuple[Head, Entry]) -> _Needs | str:
        base = Base(row[0].id, row[1].id)
        try:
            return self._kept.get(base, lambda: self._read(base))
        except (RecordDamaged, FormatUnknown) as e:
            emit("version-unreadable", level=WARNING, template=base.template, version=base.version, reason=str(e))
            return str(e)

    def _read(self, base: Base) -> tuple[_Needs, int]:
        """Past what is kept of whole versions: reading all of them would leave nothing there that a pull needs."""
        key = fmt.version_key(base.template, base.version)
        found = given(self._records.store, key, lambda: self._records.read(key))
        if found is None:
            raise RecordDamaged(
                what=f"version {base.version} of template {base.template}", reason="its record is missing"
            )
        needs = _needs_of(fmt.read_version(found.data, base.template, base.version))
        return needs, COST * len(needs.keys)


def _is_shown(asker: Identity, head: Head) -> bool:
    if not head.deleted:
        return sees(asker, head)
    return bool(head.removed) and sees(asker, head) and asker.may(Action.DELETE_REVERT, head.id, head.domain)


def _needs_of(version: Version) -> _Needs:
    rows: dict[int, tuple[int, int]] = {}
    for file in version.files:
        if file.map is not None:
            size = file.map.size
            rows[hash(fmt.map_key(version.domain, file.map.sid, file.map.sha256))] = (size, size)
        for use in file.packs:
            key = hash(fmt.pack_key(version.domain, use.pack.sid, use.pack.sha256))
            # Two files may use the same frames: more than the whole pack no version uses.
            rows[key] = (use.pack.size, min(use.pack.size, use.live + rows.get(key, (0, 0))[1]))
    sizes, live = zip(*rows.values(), strict=True) if rows else ((), ())
    return _Needs(array("q", rows), array("Q", sizes), array("Q", live))


class _Count:
    """Who needs each object: a row each, of small numbers, because there may be a million."""

    def __init__(self) -> None:
        self._rows: dict[int, int] = {}
        self._sizes = array("Q")
        self._version = array("q")
        """The version outside the trash that needs it, by its place in `_versions`; NOBODY, MANY."""
        self._template = array("q")
        """The template whose versions outside the trash need it, by its place in `_templates`."""
        self._trash = array("q")
        """The template whose trash needs it."""
        self._last = array("q")
        """The template that was counted last for it."""
        self._live = array("Q")
        """How much of it versions that are shown use."""
        self._shown = bytearray()
        """Whether what is shown needs it, in its versions or its trash."""
        self._templates: dict[str, int] = {}
        self._versions: list[tuple[int, Entry, int, int, str]] = []
        """Of what is outside the trash: template, entry, bytes stored, bytes in use, damage."""
        self._stored: list[int] = []
        """Of each template's versions outside the trash."""
        self._lives: list[int] = []
        self._used: dict[int, int] = {}
        """How much of each object the versions of the template at hand use."""

    def add(self, head: Head, entry: Entry, needs: _Needs | str, *, shown: bool) -> None:
        """Count a version; those of one template one after the other."""
        if head.id not in self._templates:
            self._templates[head.id] = len(self._stored)
            self._stored.append(0)
            self._lives.append(0)
            self._used.clear()
        at = self._templates[head.id]
        known, damaged = (_NOTHING, needs) if isinstance(needs, str) else (needs, "")
        rows = [self._row(key, size) for key, size in zip(known.keys, known.sizes, strict=True)]
        if entry.removed is not None:
            for row in rows:
                self._trash[row] = at if self._trash[row] in (NOBODY, at) else MANY
        else:
            self._outside(at, rows)
            self._versions.append((at, entry, sum(known.sizes), sum(known.live), damaged))
            if shown:
                self._in_use(at, zip(rows, known.live, strict=True))
        if shown:
            for row in rows:
                self._shown[row] = True

    def _row(self, key: int, size: int) -> int:
        row = self._rows.setdefault(key, len(self._sizes))
        if row == len(self._sizes):
            self._sizes.append(size)
            for column in (self._version, self._template, self._trash, self._last):
                column.append(NOBODY)
            self._live.append(0)
            self._shown.append(False)
        return row

    def _outside(self, at: int, rows: Iterable[int]) -> None:
        """No version outside the trash is counted twice, so whoever needs a row already is another one."""
        version = len(self._versions)
        for row in rows:
            self._version[row] = version if self._version[row] == NOBODY else MANY
            self._template[row] = at if self._template[row] in (NOBODY, at) else MANY
            if self._last[row] != at:
                self._last[row] = at
                self._stored[at] += self._sizes[row]

    def _in_use(self, at: int, used: Iterable[tuple[int, int]]) -> None:
        for row, live in used:
            self._live[row] = max(self._live[row], live)
            more = live - self._used.get(row, 0)
            if more > 0:
                self._used[row] = live
                self._lives[at] += more

    def result(self, heads: Sequence[Head], uploading: int) -> Usage:
        """Of the templates that are shown."""
        own = [[0, 0] for _ in self._versions]
        of_template = [[0, 0, 0] for _ in self._stored]
        stored = trash = 0
        for row, size in enumerate(self._sizes):
            version, template, thrown = self._version[row], self._template[row], self._trash[row]
            kept = thrown != NOBODY
            if version >= 0:
                own[version][0] += 0 if kept else size
                own[version][1] += size
            if template >= 0:
                of_template[template][0] += 0 if kept else size
                of_template[template][1] += size
            if template == NOBODY and thrown >= 0:
                of_template[thrown][2] += size
            if self._shown[row]:
                stored += size
                trash += size if template == NOBODY else 0
        versions: dict[int, list[VersionUsage]] = {}
        for (at, entry, size, live, damaged), (exclusive, frees) in zip(self._versions, own, strict=True):
            one = VersionUsage(entry, exclusive, size - exclusive, live, frees, damaged)
            versions.setdefault(at, []).append(one)
        return Usage(
            tuple(self._of(head, versions, of_template) for head in heads), stored, sum(self._live), trash, uploading
        )

    def _of(self, head: Head, versions: dict[int, list[VersionUsage]], own: Sequence[Sequence[int]]) -> TemplateUsage:
        at = self._templates.get(head.id)
        if at is None:
            return TemplateUsage(head, (), 0, 0, 0, 0, 0)
        exclusive, frees, trash = own[at]
        found = tuple(versions.get(at, ()))
        return TemplateUsage(head, found, exclusive, self._stored[at] - exclusive, self._lives[at], trash, frees)
